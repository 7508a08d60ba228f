//! `protect`, `release`, `restore`, `accept`: through the daemon where one runs, else directly.

use std::path::PathBuf;

use super::args::Paths;
use super::client::{self, ClientError};
use super::progress::Progress;
use super::screen::{Screen, count};
use super::{Outcome, absolute, require_root};
use crate::config::{Config, canonical_path, resolve_path};
use crate::daemon::api;
use crate::daemon::commands::offline;
use crate::record::PathText;
use crate::text::{escape, escape_path};

/// Up to this many paths are told one by one.
const LISTED: usize = 20;

pub(super) fn change(
    screen: &Screen,
    config: &Config,
    command: api::Command,
    paths: Paths,
    reason: Option<String>,
) -> anyhow::Result<Outcome> {
    require_root(command.name())?;
    let asked = prepare(config, command, &paths.paths)?;
    let request = api::Request { paths: asked.iter().map(|p| PathText::new(p)).collect(), reason };
    let report = carry_out(config, command, request)?;
    if paths.output.json {
        screen.json(&report)?;
    } else {
        tell(screen, &report)?;
    }
    Ok(match report.paths.iter().all(|path| path.done) {
        true if report.strangers.is_empty() => Outcome::Fine,
        true => Outcome::Found,
        false => Outcome::Undone,
    })
}

/// The paths as the daemon has them. What cannot be protected is found before anything is done,
/// so that no command ends half-way for a slip of the fingers.
fn prepare(
    config: &Config,
    command: api::Command,
    paths: &[PathBuf],
) -> anyhow::Result<Vec<PathBuf>> {
    let mut asked = Vec::with_capacity(paths.len());
    for path in paths {
        let path = absolute(path)?;
        if command == api::Command::Protect {
            resolve_path(&path, &config.daemon.state)?;
            // The link that was named is part of what is protected, so it is not followed here.
        }
        let path = canonical_path(&path);
        if !asked.contains(&path) {
            asked.push(path);
        }
    }
    Ok(asked)
}

fn carry_out(
    config: &Config,
    command: api::Command,
    request: api::Request,
) -> anyhow::Result<api::Report> {
    let progress = Progress::new(command.name());
    match client::command(&config.daemon.control, command, &request, &progress) {
        Err(ClientError::NoDaemon(_)) => {
            offline::perform(config, command, &request, &|so_far| progress.tell(so_far))
        }
        answer => Ok(answer?),
    }
}

/// What was done goes to stdout, what was not to stderr. Many alike are only counted.
fn tell(screen: &Screen, report: &api::Report) -> anyhow::Result<()> {
    let (done, undone): (Vec<_>, Vec<_>) = report.paths.iter().partition(|path| path.done);
    for path in done.iter().take(LISTED) {
        screen.line(sentence(path))?;
    }
    if let Some(more) = done.len().checked_sub(LISTED).filter(|more| *more > 0) {
        screen.line(format!("and {}", count(more, "more path", "more paths")))?;
    }
    for path in undone.iter().take(LISTED) {
        screen.complain(&sentence(path));
    }
    if let Some(more) = undone.len().checked_sub(LISTED).filter(|more| *more > 0) {
        screen.complain(&format!("and {}", count(more, "more path", "more paths")));
    }
    if !report.strangers.is_empty() {
        screen.complain(&tell_strangers(&report.strangers));
    }
    Ok(())
}

fn tell_strangers(strangers: &[PathText]) -> String {
    let named: Vec<_> =
        strangers.iter().take(LISTED).map(|path| escape_path(path.to_path())).collect();
    let more = match strangers.len().checked_sub(LISTED) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    let does = if strangers.len() == 1 { "does" } else { "do" };
    format!(
        "{} {does} not belong in a protected directory and stayed: {}{more}; \
         'steadfast accept PATH' takes one in, removing it is up to you",
        count(strangers.len(), "name", "names"),
        named.join(", ")
    )
}

/// The message, with the path before it unless it names the path itself.
fn sentence(report: &api::PathReport) -> String {
    let path = escape_path(report.path.to_path());
    let message = escape(report.message.as_bytes());
    if message.contains(&path) { message } else { format!("{path} {message}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_path_is_named_once() {
        let report = |message: &str| api::PathReport {
            path: PathText::new(Path::new("/srv/a\n")),
            message: message.to_owned(),
            done: true,
        };
        assert_eq!(sentence(&report("is protected")), "/srv/a\\n is protected");
        assert_eq!(sentence(&report("cannot read /srv/a\\n")), "cannot read /srv/a\\n");
    }
}
