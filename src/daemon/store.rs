//! Everything that lies in the state directory, opened together and by one process.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::{LockError, StateLock};
use crate::alert::{Spool, SpoolError};
use crate::baseline::{Baseline, BaselineError, Vault, VaultError};
use crate::record::{Journal, JournalError, Recovery};
use crate::respond::{Quarantine, QuarantineError};

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
    /// The baseline is gone, and what is there now would pass for known good.
    #[error(
        "{} is gone, but {witness} beside it tells of protected files: restore it from a backup, \
         or, if what is there now is good, move journal and vault away and begin anew",
        crate::text::escape_path(.baseline)
    )]
    BaselineGone {
        /// Where it was.
        baseline: PathBuf,
        /// What is still there.
        witness: &'static str,
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
    /// Makes the directory where it is missing, locks it and opens what is in it. `role` says
    /// what for, to whoever finds it locked.
    ///
    /// # Errors
    /// When any part cannot be used; nothing is left half-open.
    pub fn open(state: &Path, role: &str) -> Result<Self, StoreError> {
        let state = make_private(state)
            .map_err(|source| StoreError::Directory { path: state.to_owned(), source })?;
        let lock = StateLock::await_it(&state, role)?;
        refuse_without_baseline(&state)?;
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

/// A journal or known-good copies without a baseline mean that somebody took the baseline away.
/// To go on would take what is there now for good, and clear the copies away as unused.
fn refuse_without_baseline(state: &Path) -> Result<(), StoreError> {
    let baseline = state.join("baseline.db");
    if baseline.exists() {
        return Ok(());
    }
    let holds = |dir: &str| fs::read_dir(state.join(dir)).is_ok_and(|mut all| all.next().is_some());
    let told = fs::metadata(state.join("journal/journal.jsonl")).is_ok_and(|meta| meta.len() > 0);
    let witness = match (told, holds("vault")) {
        (true, _) => "the journal",
        (false, true) => "the vault, which holds known-good copies,",
        (false, false) => return Ok(()),
    };
    Err(StoreError::BaselineGone { baseline, witness })
}

/// The directory, for its owner alone, as a path without symlinks.
fn make_private(state: &Path) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
    let state = state.canonicalize()?;
    if fs::metadata(&state)?.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::other(
            "others may write to it: give it to root with mode 0700, and check what is in it",
        ));
    }
    Ok(state)
}
