//! What can go wrong with the journal, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::baseline::BaselineError;

/// Why the journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is none, where there should be one.
    #[error(
        "the journal {} is gone: restore it from a backup, or start the daemon, which begins a \
         new one and puts on record that lines are missing", crate::text::escape_path(.0)
    )]
    Missing(PathBuf),
    /// Another process writes it.
    #[error(
        "the journal {} is being written by another steadfast process: stop that one, or let \
         the daemon do it", crate::text::escape_path(.0)
    )]
    Busy(PathBuf),
    /// The kernel refused. Nothing of what was to be appended is in the journal.
    #[error("cannot {doing} the journal {}: {source}; it needs root, and a disk with room and \
        without errors", crate::text::escape_path(.path)
    )]
    Io {
        /// What was tried: `open`, `write` and so on.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is no entry. Reading can go on after it.
    #[error(
        "line {line} of {} cannot be read ({why}): steadfast journal verify tells more",
        crate::text::escape_path(.segment)
    )]
    BadLine {
        /// The segment's file name.
        segment: String,
        /// Number of the line in it, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// An event that JSON cannot hold.
    #[error("an event cannot be written as JSON: {0}; please report this as a bug")]
    Unserialisable(#[from] serde_json::Error),
    /// The database that remembers where the journal stands.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
}
