//! What a sensor says when it cannot work.

use std::io;
use std::path::Path;

use crate::text::escape_path;

/// Why a sensor, or the watch of one file, does not work. Another sensor can stand in.
#[derive(Debug, thiserror::Error)]
pub enum SenseError {
    /// The kernel does not give us the sensor at all.
    #[error("{what} is refused: {source}; {remedy}")]
    Refused {
        /// The kernel's facility.
        what: &'static str,
        /// What a person can do.
        remedy: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// One path cannot be watched.
    #[error("{what} cannot watch {path}: {source}")]
    Watch {
        /// The kernel's facility.
        what: &'static str,
        /// The path, escaped.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SenseError {
    pub(super) fn watch(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Watch { what, path: escape_path(path), source }
    }
}
