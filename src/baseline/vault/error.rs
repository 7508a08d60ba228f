//! What can go wrong with the vault, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::baseline::NoRoom;
use crate::judge::Digest;

/// Why the vault could not keep or give content.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The content is not what its name says.
    #[error(
        "the known-good copy {} is damaged: restore that file of the vault from a backup, or \
         accept the protected file again once it is right (steadfast accept PATH)",
        crate::text::escape_path(.path)
    )]
    Damaged {
        /// What it should be.
        digest: Digest,
        /// The file in the vault.
        path: PathBuf,
    },
    /// There is no such content.
    #[error(
        "the known-good copy {} is missing: restore that file of the vault from a backup, or \
         accept the protected file again once it is right (steadfast accept PATH)",
        crate::text::escape_path(.path)
    )]
    Missing {
        /// Which.
        digest: Digest,
        /// Where it should be.
        path: PathBuf,
    },
    /// The disk is too full for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// What should have been stored could not be read.
    #[error("the content to keep could not be read: {0}")]
    Source(#[source] io::Error),
    /// The copy could not be written where it was wanted.
    #[error(
        "the known-good copy could not be written out: {0}; check that disk for room and \
        errors"
    )]
    Target(#[source] io::Error),
    /// The vault itself could not be read or written.
    #[error(
        "cannot {doing} {} in the vault: {source}; it needs root, and a disk with room and \
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
}
