//! The vault: known-good content, one plain file for each, named by its SHA-256.
//!
//! A file gets its name only when it is whole and on the disk, and is made immutable then. So
//! what has a name is complete, and what has a temporary name is of no use to anybody and is
//! removed when the vault is opened. A digest is checked whenever content leaves the vault:
//! damage is found before it is ever put in place. Where much comes in at once, it is waited for
//! the disk once: until then nothing refers to it, and after a power cut the digest tells.
//!
//! Where the filesystem has no immutable bit, or the process may not set it, the vault works
//! without it.

mod error;
mod incoming;

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FlockOperation};

use super::NoRoom;
use super::copy::{Before, CopyError, copy_over, occupied, require_room};
use crate::fault::{Point, reach};
use crate::judge::{Digest, FileKind, FileTime};
use crate::sys::flags;
use crate::sys::open::{open_dir, open_path_at, open_read_at, reopen_read, self_path};

pub use error::VaultError;

/// What a file is called until it is whole.
const INCOMING: &str = ".incoming-";

/// The directory of known-good copies.
pub struct Vault {
    /// Another one after [`Vault::renew`].
    dir: Mutex<Arc<OwnedFd>>,
    path: PathBuf,
    /// Somebody waits for the disk later.
    put_off: AtomicBool,
}

impl Vault {
    /// Opens the vault in the directory `state`, makes it where there is none, and tidies up
    /// after a crash: what was not whole is removed, what was not immutable yet becomes so.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`].
    pub fn open(state: &Path) -> Result<Self, VaultError> {
        let wanted = state.join("vault");
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&wanted)?;
            let path = state.canonicalize()?.join("vault");
            let dir = Mutex::new(Arc::new(reopen_read(open_dir(&path)?.as_fd())?));
            let vault = Self { dir, path, put_off: AtomicBool::new(false) };
            vault.tidy()?;
            Ok(vault)
        };
        open().map_err(|source| VaultError::Io { doing: "open", path: wanted.clone(), source })
    }

    /// Goes on in the directory that is at the vault's place now: the one before is gone.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`].
    pub fn renew(&self) -> Result<(), VaultError> {
        let open = || reopen_read(open_dir(&self.path)?.as_fd());
        let new = open().map_err(|source| self.failed("open", "", source))?;
        *self.dir.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }

    /// Content that is stored from now on may not have reached the disk before
    /// [`Vault::settle`]. Nothing may be made to refer to it until then.
    pub fn put_off(&self) {
        self.put_off.store(true, Ordering::Relaxed);
    }

    fn is_put_off(&self) -> bool {
        self.put_off.load(Ordering::Relaxed)
    }

    /// Waits until everything has reached the disk, and from now on each time.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`].
    pub fn settle(&self) -> Result<(), VaultError> {
        self.put_off.store(false, Ordering::Relaxed);
        rustix::fs::syncfs(self.dir()).map_err(|errno| self.failed("sync", "", errno.into()))
    }

    /// Changes whenever content comes or goes.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`].
    pub fn stamp(&self) -> Result<FileTime, VaultError> {
        let found = crate::sys::stat::stat_fd(self.dir().as_fd());
        found.map(|stat| stat.ctime).map_err(|source| self.failed("look at", "", source))
    }

    /// Whether there is content of this digest, `size` bytes long. It is not read.
    #[must_use]
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        let name = digest.to_string();
        crate::sys::stat::stat_at(self.dir().as_fd(), OsStr::new(&name))
            .is_ok_and(|found| found.kind == FileKind::File && found.size == size)
    }

    fn dir(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.dir.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where the content of this digest is, or would be.
    #[must_use]
    pub fn path_of(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.to_string())
    }

    /// Checks that the disk of `target`, which is known as `dir`, has room for the content of
    /// `digest` in the place of what `target` holds.
    ///
    /// # Errors
    ///
    /// [`NoRoom`]; content that is missing needs none.
    pub fn require_room(&self, digest: &Digest, target: &File, dir: &Path) -> Result<(), NoRoom> {
        let need = self.reader(digest).ok().and_then(|file| occupied(&file).ok());
        let held = occupied(target).unwrap_or(0);
        require_room(target, dir, need.unwrap_or(0).saturating_sub(held))
    }

    /// The content of `digest`, for reading. It is not checked; see [`Vault::copy_verified`].
    ///
    /// # Errors
    ///
    /// [`VaultError::Missing`] or [`VaultError::Io`].
    pub fn reader(&self, digest: &Digest) -> Result<File, VaultError> {
        let name = digest.to_string();
        let opened = open_read_at(self.dir().as_fd(), OsStr::new(&name)).map(File::from);
        let file = opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.missing(digest),
            _ => self.failed("open", &name, source),
        })?;
        let found = file.metadata().map_err(|source| self.failed("look at", &name, source))?;
        if found.is_file() { Ok(file) } else { Err(self.damaged(digest)) }
    }

    /// Writes the content of `digest`, which is `size` bytes long, to `target`, from where
    /// that stands. Only after `Ok` is it known to be right: until then `target` must not be
    /// in anybody's reach.
    ///
    /// # Errors
    ///
    /// [`VaultError::Damaged`] where the content is not what it should be, and the others.
    pub fn copy_verified(
        &self,
        digest: &Digest,
        size: u64,
        target: &mut File,
    ) -> Result<(), VaultError> {
        self.copy_over(digest, size, target, &mut |_, _| ())
    }

    /// [`Vault::copy_verified`] over content that is not to go unseen: `before` has a look at it.
    ///
    /// # Errors
    ///
    /// As [`Vault::copy_verified`].
    pub fn copy_over(
        &self,
        digest: &Digest,
        size: u64,
        target: &mut File,
        before: Before<'_>,
    ) -> Result<(), VaultError> {
        self.check(digest, Some(size), Some(target), before).map(|_| ())
    }

    /// Reads the content of `digest` to its end and returns its length in bytes.
    ///
    /// # Errors
    ///
    /// [`VaultError::Damaged`] where the content is not what it should be, and the others.
    pub fn verify(&self, digest: &Digest) -> Result<u64, VaultError> {
        self.check(digest, None, None, &mut |_, _| ())
    }

    /// Removes the content of `digest`; says whether it was there.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<bool, VaultError> {
        let name = digest.to_string();
        self.unlock(&name).map_err(|source| self.failed("unlock", &name, source))?;
        reach(Point::VaultUnlocked);
        match rustix::fs::unlinkat(self.dir(), &name, AtFlags::empty()) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.failed("remove", &name, errno.into())),
        }
        self.sync()?;
        Ok(true)
    }

    /// Every content that is here.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`].
    pub fn digests(&self) -> Result<Vec<Digest>, VaultError> {
        let names = self.names().map_err(|source| self.failed("list", "", source))?;
        Ok(names.iter().filter_map(|name| digest_of(name)).collect())
    }

    /// Removes all content that `wanted` does not want, and returns how many files that were:
    /// what was released, and what came in with a change that was given up half way. Whoever
    /// stores content that nothing refers to yet must not be doing so meanwhile.
    ///
    /// # Errors
    ///
    /// [`VaultError::Io`]; what was not removed by then stays.
    pub fn retain(&self, wanted: impl Fn(&Digest) -> bool) -> Result<usize, VaultError> {
        let mut removed = 0;
        for digest in self.digests()?.iter().filter(|digest| !wanted(digest)) {
            removed += usize::from(self.remove(digest)?);
        }
        Ok(removed)
    }

    fn check(
        &self,
        digest: &Digest,
        size: Option<u64>,
        target: Option<&mut File>,
        before: Before<'_>,
    ) -> Result<u64, VaultError> {
        let name = digest.to_string();
        let reading = |source| self.failed("read", &name, source);
        let file = self.reader(digest)?;
        let length = file.metadata().map_err(reading)?.len();
        if size.is_some_and(|size| size != length) {
            return Err(self.damaged(digest));
        }
        // No more than was there at first, should somebody make it longer meanwhile.
        let (found, copied) =
            copy_over(&file, length, target, before, &|_| ()).map_err(|error| match error {
                CopyError::Read(source) => reading(source),
                CopyError::Write(source) => VaultError::Target(source),
            })?;
        if found == *digest && copied == length { Ok(length) } else { Err(self.damaged(digest)) }
    }

    fn unlock(&self, name: &str) -> io::Result<()> {
        let held = match open_path_at(self.dir().as_fd(), OsStr::new(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        tolerate(flags::set_immutable(held.as_fd(), false))
    }

    fn tidy(&self) -> io::Result<()> {
        for name in self.names()? {
            if name.starts_with(INCOMING) {
                self.remove_abandoned(&name)?;
            } else if digest_of(&name).is_some() {
                let held = open_path_at(self.dir().as_fd(), OsStr::new(&name))?;
                tolerate(flags::set_immutable(held.as_fd(), true))?;
            }
        }
        Ok(())
    }

    fn remove_abandoned(&self, name: &str) -> io::Result<()> {
        // What is no regular file was not made here, and does no harm.
        let Ok(file) = open_read_at(self.dir().as_fd(), OsStr::new(name)) else { return Ok(()) };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            rustix::fs::unlinkat(self.dir(), name, AtFlags::empty())?;
        }
        Ok(())
    }

    /// Names that are not UTF-8 are not ours.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self_path(self.dir().as_fd()))? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn sync(&self) -> Result<(), VaultError> {
        rustix::fs::fsync(self.dir()).map_err(|errno| self.failed("sync", "", errno.into()))
    }

    fn missing(&self, digest: &Digest) -> VaultError {
        VaultError::Missing { digest: *digest, path: self.path_of(digest) }
    }

    fn damaged(&self, digest: &Digest) -> VaultError {
        VaultError::Damaged { digest: *digest, path: self.path_of(digest) }
    }

    fn failed(&self, doing: &'static str, name: &str, source: io::Error) -> VaultError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        VaultError::Io { doing, path, source }
    }
}

fn digest_of(name: &str) -> Option<Digest> {
    Digest::parse(name).filter(|digest| digest.to_string() == name)
}

/// No such bit, or no right to set it: the vault works without.
fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
pub(super) mod tests;
