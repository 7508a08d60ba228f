//! The database again at its place, after somebody took it away.
//!
//! The connection still has the file open, whatever became of its name, so all that it holds is
//! written out anew. Every clone of the [`Baseline`] goes on with the new file.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::OpenFlags;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::db::Baseline;
use super::error::BaselineError;
use crate::sys;

impl Baseline {
    /// Device and inode of what has the database's name; `None` where nothing has.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn identity(&self) -> Result<Option<(u64, u64)>, BaselineError> {
        match sys::stat::stat(self.path()) {
            Ok(found) => Ok(Some((found.dev, found.ino))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BaselineError::Io { path: self.path().to_owned(), source }),
        }
    }

    /// Writes everything to a new file at the database's place, where nothing may be, and goes
    /// on with that.
    ///
    /// # Errors
    ///
    /// Where the place cannot be written; then the old file is still the one in use.
    pub fn renew(&self) -> Result<(), BaselineError> {
        let path = self.path();
        let io = |source| BaselineError::Io { path: path.to_owned(), source };
        // A log that belongs to another file would be taken for the new one's.
        for suffix in ["-wal", "-shm"] {
            remove_beside(path, suffix).map_err(io)?;
        }
        super::db::make_private(path).map_err(io)?;
        // Text, as SQLite wants a name, whatever bytes it is made of.
        let name = ToSqlOutput::Borrowed(ValueRef::Text(path.as_os_str().as_bytes()));
        self.with(|old| old.execute("VACUUM INTO ?1", [name]).map(drop))?;
        let new = Self::connect(path.to_owned(), OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        new.check_layout()?;
        new.settle()?;
        new.watch()?;
        self.take_over(new);
        Ok(())
    }
}

pub(super) fn remove_beside(path: &Path, suffix: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    let dir = sys::open::open_dir(path.parent().unwrap_or(Path::new("/")))?;
    match rustix::fs::unlinkat(dir.as_fd(), &name, rustix::fs::AtFlags::empty()) {
        Err(rustix::io::Errno::NOENT) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Digest;

    #[test]
    fn what_a_removed_database_held_is_in_the_new_one_and_so_is_what_comes_later() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        let clone = baseline.clone();
        baseline.set_journal_head(7, Digest([7; 32])).unwrap();
        let before = baseline.identity().unwrap().unwrap();
        for name in ["baseline.db", "baseline.db-wal", "baseline.db-shm"] {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        assert_eq!(baseline.identity().unwrap(), None);
        baseline.renew().unwrap();
        assert_ne!(baseline.identity().unwrap(), Some(before));
        let reader = Baseline::open_read_only(dir.path()).unwrap();
        assert_eq!(reader.journal_head().unwrap(), Some((7, Digest([7; 32]))));
        clone.set_journal_head(8, Digest([8; 32])).unwrap();
        assert_eq!(reader.journal_head().unwrap(), Some((8, Digest([8; 32]))));
        assert!(dir.path().join("baseline.db").metadata().is_ok_and(|found| {
            use std::os::unix::fs::PermissionsExt;
            found.permissions().mode() & 0o777 == 0o600
        }));
    }
}
