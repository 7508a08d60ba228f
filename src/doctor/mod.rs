//! Is this host set up so that the watchdog can do its work, and who else could clear `+i`?
//!
//! Looks, and changes nothing: no mark is left, no rule is set, no file is made. Each part asks
//! one thing and answers in findings, one sentence each, with what to do where something is
//! wrong. What runs is `status`'s to tell; this is about the host.
//!
//! Limits: of the audit system the lock is asked for, and else only seen what files and `/proc`
//! show of it; a filesystem's ability to exchange names is known from its type.

mod audit;
mod files;
pub mod holders;
mod kernel;
mod mail;
mod state;
pub mod units;

use std::path::Path;

use serde::Serialize;

use crate::config::Config;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Good,
    /// It works with less than it could have.
    Limit,
    /// A promise cannot be kept.
    Problem,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, such as `kernel`.
    pub about: &'static str,
    /// How bad it is.
    pub level: Level,
    /// One sentence, safe to print.
    pub says: String,
}

impl Finding {
    fn new(about: &'static str, level: Level, says: impl Into<String>) -> Self {
        Self { about, level, says: says.into() }
    }
}

/// Everything that is to be said of this host, in the order in which a person would ask.
#[must_use]
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut all = kernel::examine();
    all.extend(audit::examine(Path::new("/"), audit::locked()));
    all.extend(files::examine(config));
    all.extend(state::examine(&config.daemon.state));
    all.extend(mail::examine(config.email.as_ref()));
    all
}

/// A small file, as text; what cannot be read is as if it were not there.
fn text_of(path: &Path) -> Option<String> {
    let (dir, name) = (path.parent()?, path.file_name()?);
    let bytes = crate::sys::read::read_bounded(dir, name, 1 << 20).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
