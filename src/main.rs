//! The `steadfast` program.

fn main() -> std::process::ExitCode {
    steadfast::cli::main()
}
