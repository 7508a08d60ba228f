//! Everything that lies in the state directory, opened together and by one process.

pub(super) mod held;
pub(super) mod lock;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::scribe::reserve;
use crate::alert::{Spool, SpoolError};
use crate::baseline::{Baseline, BaselineError, Vault, VaultError};
use crate::config::Daemon;
use crate::record::{Journal, JournalError, Recovery};
use crate::respond::{Quarantine, QuarantineError};
use lock::{Holder, LockError, StateLock};

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or is open to others.
    #[error("cannot use the state directory {}: {source}", crate::text::escape_path(.path))]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The database.
    #[error(transparent)]
    Baseline(#[from] BaselineError),
    /// The copies.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The quarantine.
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// The state, locked.
pub struct Store {
    /// Where it is, without symlinks.
    pub state: PathBuf,
    /// What is known to be good.
    pub baseline: Baseline,
    /// The known-good copies.
    pub vault: Arc<Vault>,
    /// What happened.
    pub journal: Journal,
    /// What opening the journal had to mend.
    pub recovery: Recovery,
    /// The evidence.
    pub quarantine: Arc<Quarantine>,
    /// The messages.
    pub spool: Spool,
    /// The lock, let go last.
    pub lock: StateLock,
}

impl Store {
    /// Everything for which it could not be opened, as far as that can be told without touching
    /// anything: another process has it, or a directory cannot be used.
    #[must_use]
    pub fn probe(daemon: &Daemon) -> Vec<StoreError> {
        let state = &daemon.state;
        let directory = |path: &Path, source| StoreError::Directory { path: path.into(), source };
        let mut found: Vec<StoreError> = Vec::new();
        found.extend(StateLock::probe(daemon).err().map(StoreError::from));
        found.extend(usable(state).err().map(|source| directory(state, source)));
        for part in ["vault", "quarantine", "journal", "spool"].map(|name| state.join(name)) {
            // What is done about a link is for whoever opens it.
            if part.symlink_metadata().is_ok_and(|m| !m.is_dir() && !m.is_symlink()) {
                found.push(directory(&part, io::ErrorKind::NotADirectory.into()));
            }
        }
        found
    }

    /// Makes the directory where it is missing, locks it and opens what is in it. `role` says
    /// what for, to whoever finds it locked.
    ///
    /// # Errors
    /// When any part cannot be used; nothing is left half-open.
    pub fn open(daemon: &Daemon, role: &str) -> Result<Self, StoreError> {
        let store = reserve::with(&daemon.state, || Self::open_once(daemon, role))?;
        reserve::keep(&store.state);
        Ok(store)
    }

    fn open_once(daemon: &Daemon, role: &str) -> Result<Self, StoreError> {
        let state = make_private(&daemon.state)
            .map_err(|source| StoreError::Directory { path: daemon.state.clone(), source })?;
        let lock = StateLock::await_it(&state, &Holder::here(role, &daemon.control))?;
        let baseline = Baseline::open(&state)?;
        let (journal, recovery) = Journal::open(&state, &baseline)?;
        Ok(Self {
            vault: Arc::new(Vault::open(&state)?),
            quarantine: Arc::new(Quarantine::open(&state)?),
            spool: Spool::open(&state)?,
            baseline,
            journal,
            recovery,
            state,
            lock,
        })
    }
}

/// The directory, for its owner alone, as a path without symlinks.
fn make_private(state: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let state = state.canonicalize()?;
    refuse_open(&state)?;
    Ok(state)
}

fn refuse_open(state: &Path) -> io::Result<()> {
    if fs::metadata(state)?.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "others may write to it: give it to root with mode 0700, and check what is in it",
        ));
    }
    Ok(())
}

/// Whether the directory is there and private, or could be made.
fn usable(state: &Path) -> io::Result<()> {
    let Some(there) = state.ancestors().find(|path| path.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    if !fs::metadata(there)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let disk = rustix::fs::statvfs(there)?;
    if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    if there == state { refuse_open(state) } else { Ok(()) }
}
