//! What the black-box tests stand on: a sandbox that cleans up after itself, filesystems to
//! work on, a running daemon, and a way to say what a whole file is.
//!
//! Nothing here knows the inside of steadfast: the tests start the program, tamper, and look
//! at files and at what the commands print.

// Every test program compiles this module and uses its own part of it, and clippy's allowance
// for tests does not reach helpers.
#![allow(dead_code, unused_imports, unused_macros, clippy::unwrap_used)]

mod builder;
mod expect;
mod flags;
mod guard;
mod place;
mod route;
mod sandbox;
mod whole;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use builder::Builder;
pub use expect::{Incident, TAMPERING, incident_of};
pub use flags::{
    call_myself, chattr, clear_at_once, clear_everything, clear_through_descriptor,
    clear_through_file_setattr, clear_through_fssetxattr, is_immutable, run_before_the_guard,
    run_with_pid, set_flags, write_through_mapping, write_through_mapping_of,
};
pub use guard::Guard;
pub use place::{Place, fill_up};
pub use route::{GOOD, MARKER, Route, cleared_surely, exchange_surely, inode};
pub use sandbox::{Sandbox, assert_code};
pub use whole::Whole;

/// How long anything may take before a test gives up on it. Generous: it only costs time when
/// something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Ends the test as skipped, visibly, where `problem` is `Some(reason)`.
macro_rules! skip_unless {
    ($problem:expr) => {
        if let Some(reason) = $problem {
            $crate::common::report_skip(&reason);
            return;
        }
    };
}
pub(crate) use skip_unless;

/// Writes the line that `tests/run` collects. Past libtest's capture, which would hide it.
pub fn report_skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("SKIPPED {}: {reason}\n", thread.name().unwrap_or("a test"));
    if let Some(list) = std::env::var_os("STEADFAST_SKIPPED") {
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        list.write_all(line.as_bytes()).unwrap();
    }
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Why a test that needs root cannot run, or `None`.
pub fn not_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "needs root".to_owned())
}

/// Why a test that needs these programs cannot run, or `None`.
pub fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<_> = programs.iter().copied().filter(|name| !is_on_path(name)).collect();
    (!absent.is_empty()).then(|| format!("needs {} (tests/setup installs it)", absent.join(", ")))
}

fn is_on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(name).exists())
}

/// Asks until `check` answers, at most [`PATIENCE`]; `describe` says what was waited for.
pub fn poll<T>(mut check: impl FnMut() -> Option<T>, describe: impl FnOnce() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = check() {
            return answer;
        }
        assert!(Instant::now() < deadline, "gave up waiting: {}", describe());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program that has to succeed, quietly.
pub fn must(program: &str, args: &[&OsStr]) {
    let output = quiet(program, args);
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
}

/// Runs a program, whatever comes of it.
pub fn quiet(program: &str, args: &[&OsStr]) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new(program)
        .args(args)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} did not start: {error}"))
}

/// Bytes for a message.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A modification time long past, with nanoseconds, so that a heal that forgets it is caught.
pub fn long_ago() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789)
}

/// `content` under `path`, then the long-past modification time.
pub fn write_old(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(long_ago()).unwrap();
}
