//! One writer a state directory.
//!
//! The lock is an `flock` on a file of the state, so it goes with the process that holds it,
//! however that ends: a stale one never blocks. It is on the inode, so two daemons in two
//! mount or pid namespaces exclude each other too.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// A process that was killed has this long to be gone, and is looked for so often.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Why the state directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "the state in {} is in use by {holder}; if 'steadfast status' finds no daemon, that one was \
         started with another --config: name the same, or stop it first",
        crate::text::escape_path(.state)
    )]
    Held {
        /// The state directory.
        state: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}: {source}", crate::text::escape_path(.path))]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Holds the state directory until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

impl StateLock {
    /// Whether the lock of `state` could be had.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn probe(state: &Path) -> Result<(), LockError> {
        match state.join("lock").exists() {
            true => Self::await_it(state, "start").map(drop),
            false => Ok(()),
        }
    }

    /// Device and inode of the lock file.
    #[must_use]
    pub fn identity(&self) -> Option<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().ok().map(|found| (found.dev(), found.ino()))
    }

    /// [`StateLock::take`], but waits a little: whoever was killed just now lets go of it only
    /// when the kernel has cleared it away.
    ///
    /// # Errors
    /// When another process holds it for longer, or the file cannot be used.
    pub fn await_it(state: &Path, role: &str) -> Result<Self, LockError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::take(state, role) {
                Err(LockError::Held { .. }) if Instant::now() < end => {
                    std::thread::sleep(PAUSE);
                }
                taken => return taken,
            }
        }
    }

    /// Takes the lock of `state`, or says who holds it. `role` is what the holder is doing.
    ///
    /// # Errors
    /// When another process holds it, or the file cannot be used.
    pub fn take(state: &Path, role: &str) -> Result<Self, LockError> {
        let path = state.join("lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(failed(e.into()));
            }
            let mut holder = String::new();
            let _ = (&mut file).take(256).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                holder => crate::text::escape(holder.as_bytes()),
            };
            return Err(LockError::Held { state: state.to_owned(), holder });
        }
        let since = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S UTC");
        let line = format!("steadfast {role}, pid {}, since {since}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(line.as_bytes()))
            .map_err(failed)?;
        Ok(Self { file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path(), "run").unwrap();
        let refused = StateLock::take(state.path(), "protect").unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", std::process::id())), "{refused}");
        drop(held);
        StateLock::take(state.path(), "protect").unwrap();
    }

    #[test]
    fn whoever_lets_go_of_it_meanwhile_is_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path(), "run").unwrap();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| StateLock::await_it(state.path(), "start").map(drop));
            std::thread::sleep(PAUSE);
            drop(held);
            next.join().unwrap().unwrap();
        });
    }
}
