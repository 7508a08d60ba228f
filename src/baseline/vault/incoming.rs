//! Content on its way into the vault: written under a temporary name, and named by its digest
//! once it is whole and on the disk.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation};

use super::{Digest, INCOMING, Vault, VaultError, tolerate};
use crate::baseline::copy::{CopyError, copy, occupied, require_room};
use crate::fault::{Point, reach};
use crate::sys::open::self_path;
use crate::sys::{flags, rename};

impl Vault {
    /// Keeps the content of a file, `limit` bytes at most and with its holes, and returns its
    /// digest and length in bytes. Content that is here already is not kept twice; a damaged copy
    /// of it is replaced. `progress` is called with the bytes that were read since the last time.
    ///
    /// # Errors
    ///
    /// [`VaultError::Source`], [`VaultError::NoRoom`] or [`VaultError::Io`]; then nothing was
    /// added.
    pub fn store(
        &self,
        content: &File,
        limit: u64,
        progress: &dyn Fn(u64),
    ) -> Result<(Digest, u64), VaultError> {
        let need = occupied(content).map_err(VaultError::Source)?;
        if let Err(full) = require_room(self.dir(), &self.path, need) {
            // What is here already needs none.
            let (digest, size) = copy(content, limit, None, progress)
                .map_err(|(CopyError::Read(e) | CopyError::Write(e))| VaultError::Source(e))?;
            return match self.verify(&digest) {
                Ok(found) if found == size => Ok((digest, size)),
                _ => Err(full.into()),
            };
        }
        let mut incoming = self.incoming()?;
        reach(Point::VaultMade);
        let copied = copy(content, limit, Some(&mut incoming.file), progress);
        let (digest, size) = copied.map_err(|error| match error {
            CopyError::Read(source) => VaultError::Source(source),
            CopyError::Write(source) => self.unwritten(source, need),
        })?;
        reach(Point::VaultCopied);
        if matches!(self.verify(&digest), Ok(found) if found == size) {
            return Ok((digest, size));
        }
        incoming.file.sync_all().map_err(|source| self.unwritten(source, need))?;
        reach(Point::VaultSynced);
        self.admit(incoming, &digest)?;
        Ok((digest, size))
    }

    /// A new file that nobody else has. It is locked, so that [`Vault::open`] in another
    /// process knows it to be in use.
    pub(super) fn incoming(&self) -> Result<Incoming<'_>, VaultError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{INCOMING}{}-{count}", std::process::id());
        let make = || {
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o400)
                .custom_flags(libc::O_NOFOLLOW)
                .open(self_path(self.dir().as_fd()).join(&name))?;
            rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            Ok(file)
        };
        let file = make().map_err(|source| self.failed("make a file in", "", source))?;
        Ok(Incoming { vault: self, name, file })
    }

    /// Gives a whole file its name, in the place of a damaged one if need be.
    fn admit(&self, incoming: Incoming<'_>, digest: &Digest) -> Result<(), VaultError> {
        let name = digest.to_string();
        let held = self.dir();
        let dir = held.as_fd();
        self.unlock(&name)
            .and_then(|()| rename::rename(dir, OsStr::new(&incoming.name), dir, OsStr::new(&name)))
            .map_err(|source| self.failed("add", &name, source))?;
        reach(Point::VaultNamed);
        lock(&incoming.file).map_err(|source| self.failed("set +i on", &name, source))?;
        reach(Point::VaultLocked);
        self.sync()
    }

    /// A copy of `need` bytes could not be written.
    fn unwritten(&self, source: io::Error, need: u64) -> VaultError {
        match (source.kind(), require_room(self.dir(), &self.path, need)) {
            (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, Err(full)) => full.into(),
            _ => self.failed("write a copy to", "", source),
        }
    }
}

/// A file on its way in; what has not been renamed by then is removed on drop.
pub(super) struct Incoming<'a> {
    vault: &'a Vault,
    pub(super) name: String,
    file: File,
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::unlinkat(self.vault.dir(), &self.name, AtFlags::empty());
    }
}

fn lock(file: &File) -> io::Result<()> {
    tolerate(flags::set_immutable(file.as_fd(), true))
}
