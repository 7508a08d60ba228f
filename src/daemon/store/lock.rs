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

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::config::Daemon;

/// What a holder says of itself is never longer, in bytes.
const MOST: u64 = 8192;

/// A process that was killed has this long to be gone, and is looked for so often.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Why the state directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("the state in {} is in use by {holder}", crate::text::escape_path(.state))]
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

/// Who holds it, as it says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    /// What it is doing.
    role: String,
    pid: u32,
    since: Timestamp,
    /// Where it can be talked to, if it is a daemon.
    control: Option<PathBuf>,
}

impl Holder {
    /// This process. Only a daemon, whose role is `run`, answers on `control`.
    #[must_use]
    pub fn here(role: &str, control: &Path) -> Self {
        Self {
            role: role.to_owned(),
            pid: std::process::id(),
            since: Timestamp::now(),
            control: (role == "run").then(|| control.to_owned()),
        }
    }

    /// For a person, with what to do.
    fn told(&self, zone: TimeZone) -> String {
        let Self { role, pid, since, control } = self;
        let role = crate::text::escape(role.as_bytes());
        let since = since.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S");
        let what_to_do = match control {
            Some(control) => format!(
                "it answers on {}: name the --config with that `control`, or stop it first",
                crate::text::escape_path(control)
            ),
            None => "wait until it is done, and try again".to_owned(),
        };
        format!("steadfast {role}, pid {pid}, since {since}; {what_to_do}")
    }
}

/// Holds the state directory until it is dropped.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    holder: Holder,
}

impl StateLock {
    /// Whether the lock could be had.
    ///
    /// # Errors
    /// When another process holds it.
    pub fn probe(daemon: &Daemon) -> Result<(), LockError> {
        match daemon.state.join("lock").exists() {
            true => {
                Self::await_it(&daemon.state, &Holder::here("start", &daemon.control)).map(drop)
            }
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
    pub fn await_it(state: &Path, holder: &Holder) -> Result<Self, LockError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::take(state, holder) {
                Err(LockError::Held { .. }) if Instant::now() < end => {
                    std::thread::sleep(PAUSE);
                }
                taken => return taken,
            }
        }
    }

    /// The same lock again, at a place where its file was removed.
    ///
    /// # Errors
    /// When another process holds it, or the file cannot be used.
    pub fn renewed(&self, state: &Path) -> Result<Self, LockError> {
        Self::take(state, &self.holder)
    }

    /// Takes the lock of `state`, or says who holds it.
    ///
    /// # Errors
    /// When another process holds it, or the file cannot be used.
    fn take(state: &Path, new: &Holder) -> Result<Self, LockError> {
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
            let mut text = String::new();
            let _ = (&mut file).take(MOST).read_to_string(&mut text);
            let holder = match serde_json::from_str::<Holder>(&text) {
                Ok(holder) => holder.told(TimeZone::system()),
                Err(_) => "another process: wait, or stop it first".to_owned(),
            };
            return Err(LockError::Held { state: state.to_owned(), holder });
        }
        let line = serde_json::to_string(new).map_err(|e| failed(e.into()))? + "\n";
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(line.as_bytes()));
        match written {
            // The lock holds; only who has it is not told.
            Err(e) if e.kind() == io::ErrorKind::StorageFull => {}
            written => written.map_err(failed)?,
        }
        Ok(Self { file, holder: new.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: &str) -> Holder {
        Holder::here(role, Path::new("/run/own.sock"))
    }

    #[test]
    fn a_second_holder_is_refused_and_told_who_has_it_and_where_it_answers() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path(), &holder("run")).unwrap();
        let refused = StateLock::take(state.path(), &holder("command")).unwrap_err().to_string();
        for said in [&format!("pid {}, since 2", std::process::id()), "answers on /run/own.sock"] {
            assert!(refused.contains(said), "{refused}");
        }
        drop(held);
        let _held = StateLock::take(state.path(), &holder("command")).unwrap();
        let refused = StateLock::take(state.path(), &holder("run")).unwrap_err().to_string();
        assert!(refused.contains("wait until it is done"), "{refused}");
    }

    #[test]
    fn whoever_lets_go_of_it_meanwhile_is_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let held = StateLock::take(state.path(), &holder("run")).unwrap();
        std::thread::scope(|scope| {
            let next =
                scope.spawn(|| StateLock::await_it(state.path(), &holder("start")).map(drop));
            std::thread::sleep(PAUSE);
            drop(held);
            next.join().unwrap().unwrap();
        });
    }
}
