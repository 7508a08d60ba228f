//! What can go wrong with the baseline, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Why the baseline could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    /// Nothing has been protected with this state directory.
    #[error(
        "nothing is protected, there is no baseline at {}: protect a file first (steadfast \
         protect PATH), or name the right configuration (--config FILE)",
        crate::text::escape_path(.0)
    )]
    Missing(PathBuf),
    /// It is gone, and what is there now would pass for known good.
    #[error(
        "the baseline {} is gone, but {witness} beside it tells of protected files: restore it \
         from a backup, or, if what is there now is good, move journal and vault away and begin \
         anew", crate::text::escape_path(.path)
    )]
    Gone {
        /// Where it was.
        path: PathBuf,
        /// What is still there.
        witness: &'static str,
    },
    /// A later program wrote it.
    #[error(
        "the baseline {} was written by a newer steadfast, {written_by} (layout {layout}; this program \
         knows layout {known}): run that version or a later one, or restore the older \
         baseline from a backup", crate::text::escape_path(.path)
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its layout.
        layout: i64,
        /// The latest layout that this program knows.
        known: i64,
        /// The version of the program that wrote it, as it says itself.
        written_by: String,
    },
    /// It is damaged, or something else altogether.
    #[error(
        "the baseline {} is damaged ({what}): restore it from a backup, or move it and its \
         -wal file away and protect the files again; the copies in the vault are not affected",
        crate::text::escape_path(.path)
    )]
    Corrupted {
        /// The database.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The state directory or the file in it could not be made or opened.
    #[error(
        "cannot open the baseline {}: {source}; it needs root and a state directory that \
         can be written", crate::text::escape_path(.path)
    )]
    Io {
        /// The database or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("the baseline {}: {source}; check the disk for space and errors",
        crate::text::escape_path(.path)
    )]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Tells damage from other trouble.
pub(super) fn explain(path: &Path, source: rusqlite::Error) -> BaselineError {
    let path = path.to_path_buf();
    match (&source, source.sqlite_error_code()) {
        (_, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        | (
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..),
            _,
        ) => BaselineError::Corrupted { path, what: source.to_string() },
        _ => BaselineError::Database { path, source },
    }
}
