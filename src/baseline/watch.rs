//! Noticing that somebody else writes to the database while a daemon has it.
//!
//! Whatever is done to a file moves its `ctime`, and nothing sets that back; of the log only the
//! time of the last write tells, which whoever means to can set back. So after each use of
//! our own it is remembered what a look says of the database and its log, and before the next a
//! look that says something else means somebody else. What is in the files then is not to be
//! believed any more; all that matters is in the daemon's memory, too, and is written anew.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::db::{Baseline, make_private};
use super::error::BaselineError;
use super::evidence::Evidence;
use super::record::Record;
use super::renew::remove_beside;
use crate::judge::{Digest, FileTime, Stat};
use crate::sys;

/// Where the journal stands, by the name of the place.
pub(super) type Places = BTreeMap<&'static str, (u64, Digest)>;

/// What all clones of a [`Baseline`] share.
pub(super) struct Held {
    pub(super) connection: Connection,
    /// What was read or written last of the journal's place.
    pub(super) places: Places,
    /// The patterns that are in force, as they are written.
    pub(super) patterns: Option<String>,
    /// When the run began that is under way.
    pub(super) run: Option<Timestamp>,
    /// After our own last use; `None` where nobody watches.
    mark: Option<Mark>,
    touched: bool,
}

/// What a look says of a file.
type Look = Option<(u64, u64, FileTime)>;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark {
    database: Look,
    log: Look,
}

impl Mark {
    fn of(path: &Path) -> Self {
        let look = |path: &Path| sys::stat::stat(path).ok();
        let database = |Stat { ino, size, ctime, .. }| (ino, size, ctime);
        // Whoever opens the database to read it as root gives the log its owner again, which
        // moves its `ctime`.
        let log = |Stat { ino, size, mtime, .. }| (ino, size, mtime);
        Self { database: look(path).map(database), log: look(&log_of(path)).map(log) }
    }

    /// Somebody wrote to the database, or did anything to its log. Another file under its name,
    /// or none, is another matter.
    fn is_touched(&self, now: &Self) -> bool {
        let ino = |look: &Look| look.map(|(ino, ..)| ino);
        ino(&self.database) == ino(&now.database) && self != now
    }
}

impl Held {
    pub(super) fn new(connection: Connection) -> Self {
        let (places, mark) = (Places::new(), None);
        Self { connection, places, patterns: None, run: None, mark, touched: false }
    }

    pub(super) fn look(&mut self, path: &Path) {
        self.touched |= self.mark.is_some_and(|mark| mark.is_touched(&Mark::of(path)));
    }

    pub(super) fn is_touched(&self) -> bool {
        self.touched
    }

    pub(super) fn remember(&mut self, path: &Path) {
        if let Some(mark) = &mut self.mark {
            *mark = Mark::of(path);
        }
    }
}

impl Baseline {
    /// Begins to watch.
    pub(super) fn watch(&self) -> Result<(), BaselineError> {
        // The log is there from the first write on.
        self.with(|connection| connection.execute("UPDATE meta SET value = value", []).map(drop))?;
        self.journal_head()?;
        self.journal_anchor()?;
        self.held().mark = Some(Mark::of(self.path()));
        Ok(())
    }

    /// Whether somebody else wrote to it since it was opened or written anew. Cheap enough for
    /// once a second.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        let mut held = self.held();
        held.look(self.path());
        held.touched
    }

    /// Writes a new file at the database's place, where nothing may be, with these records and
    /// this evidence and where the journal stands, and goes on with that.
    ///
    /// # Errors
    ///
    /// Where the place cannot be written; then it is to be tried again.
    pub fn write_anew(
        &self,
        records: &[Record],
        evidence: &[Evidence],
    ) -> Result<(), BaselineError> {
        let path = self.path();
        let io = |source: io::Error| BaselineError::Io { path: path.to_owned(), source };
        for suffix in ["-wal", "-shm"] {
            remove_beside(path, suffix).map_err(io)?;
        }
        make_private(path).map_err(io)?;
        let new = Self::connect(path.to_owned(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        new.create()?;
        new.settle()?;
        new.put_all(records)?;
        for piece in evidence {
            new.add_evidence(piece)?;
        }
        let (places, patterns, run) = {
            let held = self.held();
            (held.places.clone(), held.patterns.clone(), held.run)
        };
        if let Some(patterns) = patterns {
            new.write_patterns(&patterns)?;
        }
        new.note_run(run)?;
        for (place, (seq, hash)) in places {
            new.set_journal_place(place, seq, hash)?;
        }
        new.check_layout()?;
        new.watch()?;
        self.take_over(new);
        Ok(())
    }
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::baseline::Heartbeat;

    fn beat(baseline: &Baseline) {
        let at = Timestamp::now();
        baseline.set_heartbeat(&Heartbeat { at, except: Vec::new() }).unwrap();
    }

    #[test]
    fn our_own_writing_and_others_reading_touch_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        for seq in 0..2_000 {
            assert!(!baseline.is_touched(), "{seq}");
            baseline.set_journal_head(seq, Digest([1; 32])).unwrap();
            beat(&baseline);
            if seq % 500 == 0 {
                let reader = Baseline::open_read_only(dir.path()).unwrap();
                reader.all().unwrap();
            }
        }
        assert!(!baseline.is_touched());
    }

    #[test]
    fn whoever_writes_to_the_database_or_its_log_is_noticed_even_between_writes_of_our_own() {
        for name in ["baseline.db", "baseline.db-wal"] {
            let dir = tempfile::tempdir().unwrap();
            let baseline = Baseline::open(dir.path()).unwrap();
            baseline.set_journal_head(7, Digest([7; 32])).unwrap();
            beat(&baseline);
            let file = std::fs::File::options().write(true).open(dir.path().join(name)).unwrap();
            file.write_all_at(b"X", 1000).unwrap();
            beat(&baseline);
            assert!(baseline.is_touched(), "{name}");

            std::fs::rename(dir.path().join("baseline.db"), dir.path().join("away")).unwrap();
            baseline.write_anew(&[], &[]).unwrap();
            assert!(!baseline.is_touched());
            beat(&baseline);
            assert!(!baseline.is_touched());
            let reader = Baseline::open_read_only(dir.path()).unwrap();
            assert_eq!(reader.journal_head().unwrap(), Some((7, Digest([7; 32]))));
        }
    }
}
