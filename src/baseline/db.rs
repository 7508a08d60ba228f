//! The baseline's database: one SQLite file that a daemon writes while an audit reads.
//!
//! Write-ahead logging lets both work at once, and every commit is on the disk before it
//! returns. A [`Baseline`] is a handle: clones share one connection, and may go to other
//! threads. Paths are blobs, since a file name is bytes.
//!
//! The file carries the number of its layout. A file of a later layout is refused rather
//! than half understood; the version that wrote it stands in `meta`, where every later
//! layout has to keep it.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{BaselineError, explain};
use super::gone;
use super::meta;
use super::watch::Held;

/// The layout this program writes.
const LAYOUT: i64 = 1;

/// "stdf": marks the file as ours, in SQLite's header.
const APPLICATION_ID: i64 = 0x7374_6466;

/// How long one process waits while another one commits.
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE file (
        path BLOB PRIMARY KEY,
        kind TEXT NOT NULL,
        size INTEGER NOT NULL,
        sha256 BLOB,
        mode INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        gid INTEGER NOT NULL,
        mtime_sec INTEGER NOT NULL,
        mtime_nsec INTEGER NOT NULL,
        flags INTEGER,
        nlink INTEGER NOT NULL,
        target BLOB,
        dev INTEGER NOT NULL,
        ino INTEGER NOT NULL,
        xattrs TEXT NOT NULL,
        policy TEXT NOT NULL,
        origin TEXT NOT NULL,
        parents TEXT NOT NULL,
        mount_point BLOB NOT NULL,
        seal TEXT,
        replica TEXT,
        protected_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE journal (place TEXT PRIMARY KEY, seq INTEGER NOT NULL, hash BLOB NOT NULL)
        STRICT, WITHOUT ROWID;
    CREATE TABLE evidence (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        incident TEXT NOT NULL,
        path BLOB NOT NULL,
        location BLOB NOT NULL,
        kind TEXT NOT NULL,
        size INTEGER NOT NULL,
        blocks INTEGER NOT NULL,
        taken_at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX evidence_path ON evidence (path);
";

/// What is known to be good, for every protected path; where the journal stands; and what
/// lies in the quarantine.
#[derive(Clone)]
pub struct Baseline {
    connection: Arc<Mutex<Held>>,
    path: Arc<Path>,
}

impl Baseline {
    /// Opens the baseline in the directory `state` and makes both where they do not exist.
    ///
    /// # Errors
    ///
    /// See [`BaselineError`]; never [`BaselineError::Missing`].
    pub fn open(state: &Path) -> Result<Self, BaselineError> {
        if !gone::is_there(state)
            && let error @ BaselineError::Gone { .. } = gone::missing(state)
        {
            return Err(error);
        }
        let path = state.join("baseline.db");
        let io = |source| BaselineError::Io { path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(io)?;
        let path = state.canonicalize().map_err(io)?.join("baseline.db");
        make_private(&path).map_err(|source| BaselineError::Io { path: path.clone(), source })?;
        let baseline = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        if baseline.layout()? == 0 {
            baseline.create()?;
        }
        baseline.check_layout()?;
        baseline.settle()?;
        baseline.watch()?;
        Ok(baseline)
    }

    pub(super) fn settle(&self) -> Result<(), BaselineError> {
        self.with(|connection| {
            connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
            // What the daemon notes for itself it finds out again after a power cut; see
            // [`Baseline::durably`] for the rest.
            // KiB: the rows are read once, and then written one by one.
            connection.pragma_update(None, "cache_size", -256)?;
            connection.pragma_update(None, "synchronous", "normal")
        })
    }

    /// What all clones share, to one of them at a time.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere rolled its transaction back, so the connection is good to use.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with what `other` holds, which nobody else has; all clones do.
    pub(super) fn take_over(&self, other: Self) {
        let Some(new) = Arc::into_inner(other.connection) else { return };
        *self.held() = new.into_inner().unwrap_or_else(PoisonError::into_inner);
    }

    /// Opens an existing baseline to look at it, beside a daemon that writes it or without one.
    ///
    /// # Errors
    ///
    /// See [`BaselineError`].
    pub fn open_read_only(state: &Path) -> Result<Self, BaselineError> {
        let path = state.join("baseline.db");
        let explain = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => gone::missing(state),
            _ => BaselineError::Io { path: path.clone(), source },
        };
        let path = state.canonicalize().map_err(explain)?.join("baseline.db");
        let found = path.symlink_metadata().map_err(explain)?;
        if !found.is_file() {
            return Err(explain(not_a_file()));
        }
        if found.len() == 0 {
            return Err(gone::missing(state));
        }
        let baseline = Self::connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        baseline.check_layout()?;
        Ok(baseline)
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn connect(path: PathBuf, access: OpenFlags) -> Result<Self, BaselineError> {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|error| explain(&path, error))?;
        connection.busy_timeout(BUSY).map_err(|error| explain(&path, error))?;
        Ok(Self { connection: Arc::new(Mutex::new(Held::new(connection))), path: path.into() })
    }

    /// Lays out a new database; one that somebody else is laying out just now is left to them.
    pub(super) fn create(&self) -> Result<(), BaselineError> {
        self.with_mut(|connection| {
            let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let tables: i64 =
                work.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if tables > 0 {
                return Ok(());
            }
            work.execute_batch(SCHEMA)?;
            meta::set(&work, "written_by", env!("CARGO_PKG_VERSION"))?;
            work.pragma_update(None, "application_id", APPLICATION_ID)?;
            work.pragma_update(None, "user_version", LAYOUT)?;
            work.commit()
        })
    }

    fn layout(&self) -> Result<i64, BaselineError> {
        self.with(|connection| {
            connection.pragma_query_value(None, "user_version", |row| row.get(0))
        })
    }

    pub(super) fn check_layout(&self) -> Result<(), BaselineError> {
        let id: i64 = self.with(|connection| {
            connection.pragma_query_value(None, "application_id", |row| row.get(0))
        })?;
        if id != APPLICATION_ID {
            return Err(self.corrupted("it is not a steadfast baseline"));
        }
        let layout = self.layout()?;
        if layout > LAYOUT {
            let written_by = self.with(|connection| meta::get(connection, "written_by"));
            let path = self.path.to_path_buf();
            let written_by = written_by.ok().flatten().map_or_else(
                || "of a later version".to_owned(),
                |version| crate::text::escape(version.as_bytes()),
            );
            return Err(BaselineError::Newer { path, layout, known: LAYOUT, written_by });
        }
        let verdict: String = self.with(|connection| {
            connection.pragma_query_value(None, "quick_check", |row| row.get(0))
        })?;
        if verdict == "ok" { Ok(()) } else { Err(self.corrupted(verdict)) }
    }

    fn corrupted(&self, what: impl Into<String>) -> BaselineError {
        BaselineError::Corrupted { path: self.path.to_path_buf(), what: what.into() }
    }

    /// Runs `work` with the connection to itself.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        self.with_mut(|connection| work(connection))
    }

    /// The same, for what has to survive a power cut: it waits for the disk.
    pub(super) fn durably<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        self.with_mut(|connection| {
            connection.pragma_update(None, "synchronous", "full")?;
            let done = work(connection);
            connection.pragma_update(None, "synchronous", "normal")?;
            done
        })
    }

    /// The same, for a transaction.
    pub(super) fn with_mut<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, BaselineError> {
        let mut held = self.held();
        held.look(&self.path);
        let done = work(&mut held.connection).map_err(|error| explain(&self.path, error));
        held.remember(&self.path);
        done
    }
}

/// Makes the file if need be and sees to it that only its owner can read it. SQLite gives
/// the files beside it the same mode.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(not_a_file());
    }
    if found.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn only_the_owner_can_read_the_database_and_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let baseline = Baseline::open(&state).unwrap();
        baseline.set_journal_head(1, crate::judge::Digest([0; 32])).unwrap();
        assert_eq!(mode(&state), 0o700);
        assert_eq!(mode(&state.join("baseline.db")), 0o600);
        assert_eq!(mode(&state.join("baseline.db-wal")), 0o600);

        std::fs::set_permissions(baseline.path(), Permissions::from_mode(0o644)).unwrap();
        drop(baseline);
        Baseline::open(&state).unwrap();
        assert_eq!(mode(&state.join("baseline.db")), 0o600);
    }

    #[test]
    fn a_reader_sees_what_was_committed_while_another_transaction_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Baseline::open(dir.path()).unwrap();
        daemon.set_journal_head(1, crate::judge::Digest([1; 32])).unwrap();
        let audit = Baseline::open_read_only(dir.path()).unwrap();
        daemon
            .with_mut(|connection| {
                let work = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                work.execute("UPDATE journal SET seq = 2", [])?;
                assert_eq!(audit.journal_head().unwrap().map(|head| head.0), Some(1));
                work.commit()
            })
            .unwrap();
        assert_eq!(audit.journal_head().unwrap().map(|head| head.0), Some(2));
        let refused = audit.set_journal_head(3, crate::judge::Digest([1; 32]));
        assert!(matches!(refused, Err(BaselineError::Database { .. })));
    }

    #[test]
    fn a_baseline_of_a_later_version_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        baseline
            .with(|connection| {
                connection.execute("UPDATE meta SET value = '9.1.0'", [])?;
                connection.pragma_update(None, "user_version", LAYOUT + 1)
            })
            .unwrap();
        drop(baseline);
        for refused in [Baseline::open(dir.path()), Baseline::open_read_only(dir.path())] {
            let error = refused.err().unwrap();
            assert!(error.to_string().contains("newer steadfast, 9.1.0 (layout 2"), "{error}");
        }
    }

    #[test]
    fn rubbish_and_foreign_databases_are_called_damaged_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline.db");
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        let error = Baseline::open(dir.path()).err().unwrap();
        assert!(matches!(error, BaselineError::Corrupted { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 5000]);

        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
        let error = Baseline::open(dir.path()).err().unwrap();
        assert!(matches!(error, BaselineError::Corrupted { .. }), "{error}");
    }

    #[test]
    fn a_damaged_page_is_found_when_the_baseline_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        let path = baseline.path().to_path_buf();
        drop(baseline);
        let mut content = std::fs::read(&path).unwrap();
        for byte in content.iter_mut().skip(4096) {
            *byte = 0xee;
        }
        std::fs::write(&path, content).unwrap();
        let error = Baseline::open_read_only(dir.path()).err().unwrap();
        assert!(matches!(error, BaselineError::Corrupted { .. }), "{error}");
    }

    #[test]
    fn where_nothing_is_protected_a_reader_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        for state in [dir.path().to_path_buf(), dir.path().join("missing")] {
            let error = Baseline::open_read_only(&state).err().unwrap();
            assert!(matches!(error, BaselineError::Missing(_)), "{error}");
        }
    }

    #[test]
    fn a_link_or_a_pipe_in_the_place_of_the_database_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline.db");
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(Baseline::open(dir.path()), Err(BaselineError::Io { .. })));
        assert!(matches!(Baseline::open_read_only(dir.path()), Err(BaselineError::Io { .. })));

        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(Baseline::open(dir.path()), Err(BaselineError::Io { .. })));
        assert!(matches!(Baseline::open_read_only(dir.path()), Err(BaselineError::Io { .. })));
    }
}
