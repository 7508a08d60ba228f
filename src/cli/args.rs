//! The command line as it is typed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

/// The configuration file where none is named.
pub(super) use crate::config::USUAL_FILE as DEFAULT_CONFIG;

/// Keeps critical files as they should be, and names whoever changed them.
///
/// Exit codes: 0 all is well; 1 drift or another problem was found; 2 it could not do its work.
#[derive(Debug, Parser)]
#[command(name = "steadfast", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// The configuration file [default: /etc/steadfast/steadfast.toml, if it exists]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "STEADFAST_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// What was typed. What is hidden is no tip for a slip of the fingers.
///
/// # Errors
/// As clap tells them.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words).map_err(|mut error| {
        let Some(ContextValue::Strings(mut tips)) = error.remove(ContextKind::SuggestedSubcommand)
        else {
            return error;
        };
        let command = Cli::command();
        tips.retain(|tip| !command.find_subcommand(tip).is_some_and(clap::Command::is_hide_set));
        if !tips.is_empty() {
            error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(tips));
        }
        error
    })
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground
    Run {
        /// Protect this too, besides what the configuration names
        #[arg(long, value_name = "PATH", num_args = 1..)]
        protect: Vec<PathBuf>,
        /// Do not start 'steadfast deliver': steadfast-deliver.service runs it
        #[arg(long)]
        no_deliver: bool,
    },
    /// Deliver messages from the spool; 'run' starts this by itself
    Deliver,
    /// Take the known-good copy, add to the baseline, set +i
    Protect(Paths),
    /// Stop protecting: +i is cleared, the file stays as it is
    Release(Paths),
    /// Put the known-good copy back now
    Restore(Paths),
    /// Make what is there now known good
    Accept {
        #[command(flatten)]
        paths: Paths,
        /// Why, for the journal
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Compare everything, or these paths, with the baseline, once
    Audit {
        /// What to compare [default: everything]
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// What is protected, which sensors work, what is degraded and why
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// What happened, from the journal
    Events {
        /// Only about this path and what is below it
        #[arg(value_name = "PATH")]
        path: Option<PathBuf>,
        /// Only the last 30m, 24h, 7d …
        #[arg(long, value_name = "DURATION", value_parser = crate::config::parse_duration)]
        since: Option<Duration>,
        /// Go on as more happens
        #[arg(long, short)]
        follow: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Who touched a path: culprits ranked, a timeline, the hours of the day
    Who {
        /// A protected path, or a directory above some
        #[arg(value_name = "PATH")]
        path: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// The known-good copy against what is there now
    Diff {
        /// A protected path
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// Against what the last incident left in the quarantine
        #[arg(long)]
        last: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Is this host set up so that the watchdog can do its work?
    Doctor {
        /// Instead: who holds CAP_LINUX_IMMUTABLE and so could clear +i
        #[arg(long)]
        who_could: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Tamper with a canary by every route: was it seen, its process named, and healed?
    ///
    /// The running daemon does it: a file of its own is tampered with by other processes, by each
    /// way to clear +i and each way to change a file, and nobody is alerted of it. It does so by
    /// itself, too, after its start and every hour; 'steadfast status' has the last result.
    ///
    /// A route passes if it was seen and healed and the very process that did it was named. Where
    /// only Linux audit could name it, and the daemon has no audit, that is a limit of this host:
    /// it is told, and counts as passed.
    ///
    /// Exit codes: 0 every route passed; 1 one failed; 2 it could not be carried out, for example
    /// since no daemon runs.
    Selftest {
        #[command(flatten)]
        output: Output,
    },
    /// The process that a self-test starts for each route
    #[command(hide = true)]
    Tamper { route: String, path: PathBuf },
    /// The process that answers openers while the daemon stands still
    #[command(hide = true)]
    StandIn,
    /// About the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// About the journal
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Find every problem in the file, with line and column
    Check {
        /// The file [default: the one that is in force]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// What to do with the journal.
#[derive(Debug, Subcommand)]
pub(super) enum JournalCommand {
    /// Is the chain whole?
    Verify {
        #[command(flatten)]
        output: Output,
    },
}

/// Paths to change something about.
#[derive(Debug, Args)]
pub(super) struct Paths {
    /// Files or directories
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_contract_are_understood() {
        for line in [
            "run",
            "run --protect /a --protect /b",
            "deliver --config /c",
            "protect /a /b",
            "release /a --json",
            "restore /a",
            "accept /a --reason deploy",
            "audit",
            "audit /a --json",
            "--config /c status --json",
            "events",
            "events /a --since 24h --follow --json",
            "who /a --json",
            "diff /a --last",
            "selftest",
            "selftest --json",
            "doctor",
            "doctor --who-could --json",
            "config check",
            "config check /f",
            "journal verify",
        ] {
            let words = ["steadfast"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in ["", "protect", "who", "diff", "config", "events --since soon", "lock /a"] {
            let words = ["steadfast"].into_iter().chain(line.split_whitespace());
            assert_eq!(Cli::try_parse_from(words).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_mistyped_command_leads_to_no_hidden_one() {
        let said = |words: &[&str]| {
            let words = ["steadfast"].iter().chain(words).map(OsString::from);
            parse(words).unwrap_err().to_string()
        };
        let command = Cli::command();
        let hidden: Vec<&str> =
            command.get_subcommands().filter(|c| c.is_hide_set()).map(|c| c.get_name()).collect();
        assert!(hidden.contains(&"tamper"));
        for name in &hidden {
            let told = said(&[&name[1..], "/a"]);
            assert!(told.contains("unrecognized subcommand"), "{told}");
            assert!(!hidden.iter().any(|name| told.contains(&format!("'{name}'"))), "{told}");
        }
        let told = said(&["stand"]);
        assert!(told.contains("'status'") && !told.contains("stand-in"), "{told}");
        assert!(said(&["restor", "/a"]).contains("a similar subcommand exists: 'restore'"));
        assert!(said(&["config", "chek"]).contains("a similar subcommand exists: 'check'"));
    }
}
