//! The command line: what a person or a script types, and what it prints.
//!
//! The only module that prints. Results go to stdout, everything else to stderr; colour only
//! to a terminal. Each command ends in an [`Outcome`] or in one sentence that says what
//! happened, to what, and what to do. A reader that goes away (`| head`) is no trouble.

mod args;
mod audit;
mod change;
mod check;
mod client;
mod diff;
mod doctor;
mod events;
mod look;
mod progress;
mod run;
mod screen;
mod selftest;
mod status;
mod strangers;
#[cfg(test)]
mod tests;
mod who;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use self::args::{Cli, Command, ConfigCommand, DEFAULT_CONFIG, JournalCommand};
use self::screen::Screen;
use crate::config::{Config, LoadError, socket_in};
use crate::daemon::api;

/// How a command ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
enum Outcome {
    /// All is well. Exit code 0.
    Fine,
    /// Drift or another problem was found. Exit code 1.
    Found,
    /// A part could not be done, and was said to be. Exit code 2.
    Undone,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Fine => 0,
            Outcome::Found => 1,
            Outcome::Undone => 2,
        })
    }
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match args::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(usage) => {
            // Help and version are no errors and go to stdout; clap knows.
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let screen = Screen::new();
    match dispatch(cli, &screen) {
        Ok(outcome) => outcome.into(),
        Err(_) if screen.reader_is_gone() => ExitCode::SUCCESS,
        Err(error) => {
            screen.complain(&sentence(&error));
            Outcome::Undone.into()
        }
    }
}

/// The error and what is behind it, each said once: many an error names its cause by itself.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

fn dispatch(cli: Cli, screen: &Screen) -> anyhow::Result<Outcome> {
    let file = cli.config.as_deref();
    run::log(matches!(cli.command, Command::Run { .. } | Command::Deliver));
    // The one command that wants to hear what is wrong with the configuration.
    if let Command::Config { command: ConfigCommand::Check { file: named } } = &cli.command {
        return check::config(screen, named.as_deref().or(file));
    }
    if let Command::Tamper { route, path } = &cli.command {
        return selftest::tamper(screen, route, path);
    }
    if matches!(cli.command, Command::StandIn) {
        crate::sense::stand_in()?;
        return Ok(Outcome::Fine);
    }
    let config = match load(file) {
        Err(wrong) => {
            let Command::Status { output } = cli.command else { return Err(wrong) };
            let socket = socket_in(file.unwrap_or(Path::new(DEFAULT_CONFIG)));
            return status::despite(screen, &socket, wrong, output);
        }
        right => right?,
    };
    let change = |command, paths, reason| change::change(screen, &config, command, paths, reason);
    match cli.command {
        Command::Run { protect, no_deliver } => {
            run::run(screen, &config, cli.config, protect, !no_deliver)
        }
        Command::Deliver => run::deliver(&config),
        Command::Protect(paths) => change(api::Command::Protect, paths, None),
        Command::Release(paths) => change(api::Command::Release, paths, None),
        Command::Restore(paths) => change(api::Command::Restore, paths, None),
        Command::Accept { paths, reason } => change(api::Command::Accept, paths, reason),
        Command::Audit { paths, output } => audit::audit(screen, &config, &paths, output),
        Command::Status { output } => status::status(screen, &config, output),
        Command::Events { path, since, follow, output } => {
            events::events(screen, &config, events::Question { path, since, follow }, output)
        }
        Command::Who { path, output } => who::who(screen, &config, &path, output),
        Command::Diff { path, last, output } => diff::diff(screen, &config, &path, last, output),
        Command::Doctor { who_could, output } => doctor::doctor(screen, &config, who_could, output),
        Command::Journal { command: JournalCommand::Verify { output } } => {
            check::journal(screen, &config, output)
        }
        Command::Selftest { output } => selftest::selftest(screen, &config, output),
        Command::Config { .. } | Command::Tamper { .. } | Command::StandIn => Ok(Outcome::Fine),
    }
}

/// The configuration. The usual file may be missing; one that was named may not.
fn load(named: Option<&Path>) -> anyhow::Result<Config> {
    match Config::load(named.unwrap_or(Path::new(DEFAULT_CONFIG))) {
        Ok(config) => Ok(config),
        Err(LoadError::Unreadable { missing: true, .. }) if named.is_none() => {
            Ok(Config::default())
        }
        Err(LoadError::Wrong(problems)) => {
            let (name, count) = (problems.name.clone(), problems.all.len());
            let what = if count == 1 { "a problem" } else { "problems" };
            anyhow::bail!(
                "the configuration {name} has {what}; correct it and try again\n\n{problems}"
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// `path` from the root on. Nothing is looked up.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    if path.as_os_str().is_empty() {
        anyhow::bail!("a path is empty: name a file or directory");
    }
    std::path::absolute(path).context("the current directory is gone: change to another one")
}

/// Refuses whoever is not root, before anything is touched.
fn require_root(what: &str) -> anyhow::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    anyhow::bail!("only root can {what}: use sudo")
}
