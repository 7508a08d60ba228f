//! Replicas: complete copies of the known-good file that lie ready for the exchange.
//!
//! Making one costs a read, a write and an `fsync`, so it is done before it is needed. The
//! digest is checked while the vault's copy is read: nothing damaged can ever be put in place.
//! A replica that was touched since shows it by its `ctime` and is not used.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};

use crate::baseline::snapshot::read_if_sized;
use crate::baseline::{NoRoom, Replica, Vault, VaultError, copy_sparse};
use crate::fault::{Point, reach};
use crate::judge::{FS_APPEND, FS_IMMUTABLE, Facts, FileKind, FileTime, Stat};
use crate::sys;

/// Why no replica could be made.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The vault has no good copy.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The file's disk is too full for a second copy.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The filesystem refused.
    #[error("cannot prepare a copy in {}: {source}", crate::text::escape_path(.slot))]
    Io {
        /// Where it was to lie.
        slot: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StageError {
    /// Whether it is for nothing but that the disk is full.
    #[must_use]
    pub fn is_for_room(&self) -> bool {
        match self {
            Self::NoRoom(_) => true,
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Vault(_) => false,
        }
    }
}

/// Makes a replica of the file that `facts` describe, in the directory `slot`.
///
/// With `durable` it has reached the disk on return.
///
/// # Errors
/// When the vault's copy is damaged or missing, or the filesystem refuses.
pub fn stage(
    facts: &Facts,
    vault: &Vault,
    slot: &Path,
    durable: bool,
) -> Result<Replica, StageError> {
    make(facts, Source::Vault(vault), slot, durable)
}

/// Makes a replica of what is at `path`, which has to be the file that `facts` describe: for when
/// the vault cannot be read.
///
/// # Errors
/// When something else is there, or the filesystem refuses.
pub fn stage_from_file(facts: &Facts, path: &Path, slot: &Path) -> Result<Replica, StageError> {
    make(facts, Source::File(path), slot, true)
}

/// Where the content comes from. That it is right is seen when it was written.
#[derive(Clone, Copy)]
enum Source<'a> {
    Vault(&'a Vault),
    File(&'a Path),
}

fn make(
    facts: &Facts,
    source: Source<'_>,
    slot: &Path,
    durable: bool,
) -> Result<Replica, StageError> {
    let failed = |source| StageError::Io { slot: slot.to_owned(), source };
    let dir = open_slot(slot).map_err(failed)?;
    let mut unfinished = OsString::from(UNFINISHED);
    unfinished.push(fresh_name());
    let made = fill(facts, source, slot, dir.as_fd(), &unfinished, durable);
    let made = made.and_then(|()| Ok(finish(facts, dir.as_fd(), &unfinished)?));
    if made.is_err() {
        let _ = remove(dir.as_fd(), &unfinished);
    }
    let name = made.map_err(|e| match e {
        Filling::Vault(e) => StageError::Vault(e),
        Filling::NoRoom(e) => StageError::NoRoom(e),
        Filling::Io(e) => failed(e),
    })?;
    let stat = proven(facts, &slot.join(&name)).map_err(failed)?;
    Ok(Replica { path: slot.join(&name), ino: stat.ino, size: stat.size, ctime: stat.ctime })
}

/// How the name of a copy begins that is not whole yet.
const UNFINISHED: &str = "unfinished-";
/// How the name of a copy begins that was made of tampered content before it was written over.
pub(super) const REWRITTEN: &str = "rewritten";

/// Gives a copy that is whole the name that says so. It tells the inode that the protected file
/// had at first, and the copy's own: what is found there later with another inode was exchanged
/// into its place.
fn finish(facts: &Facts, dir: BorrowedFd<'_>, unfinished: &OsStr) -> io::Result<OsString> {
    let ino = sys::stat::stat_at(dir, unfinished)?.ino;
    let mut name = fresh_name();
    name.push(format!("-{:x}-{ino:x}", facts.ino));
    sys::rename::place(dir, unfinished, dir, &name)?;
    reach(Point::StageNamed);
    Ok(name)
}

/// What something in a slot is, by its name and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// A copy of ours that was cut short while it was made.
    Unfinished,
    /// A copy of ours that was whole when it got its name.
    Copy,
    /// It was taken out of a protected place: of the file that has, or first had, this inode.
    Taken(Option<u64>),
}

/// What lies in a slot under `name`, with the inode `ino`.
#[must_use]
pub fn make_of(name: &OsStr, ino: u64) -> Make {
    let name = name.to_string_lossy();
    if name.starts_with(UNFINISHED) {
        return Make::Unfinished;
    }
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let parts: Vec<_> = name.split('-').collect();
    match parts.as_slice() {
        [_, _, _, _, own] if number(own) == Some(ino) => Make::Copy,
        [_, _, _, first, _] => Make::Taken(number(first)),
        [rewritten, _, of] if *rewritten == REWRITTEN => Make::Taken(number(of)),
        _ => Make::Taken(None),
    }
}

/// What a look says of a copy that was just made, once it is read again: somebody may have
/// written to it after us, and the `ctime` that is remembered has to be that of good content.
fn proven(facts: &Facts, path: &Path) -> io::Result<Stat> {
    let found = read_if_sized(path, facts.size).map_err(|e| io::Error::other(e.to_string()))?;
    match found.facts.sha256 == facts.sha256 && found.facts.kind == facts.kind {
        true => Ok(found.stat),
        false => Err(io::Error::other("somebody changed the copy while it was made")),
    }
}

/// Whether what lies in the slot is the replica as it was staged.
#[must_use]
pub fn is_untouched(replica: &Replica, dir: BorrowedFd<'_>, name: &OsStr) -> bool {
    sys::stat::stat_at(dir, name).is_ok_and(|stat| is_as_staged(replica, &stat))
}

/// Whether `stat` is what a look said of the replica when it was staged.
pub(super) fn is_as_staged(replica: &Replica, stat: &Stat) -> bool {
    (stat.ino, stat.size, stat.ctime) == (replica.ino, replica.size, replica.ctime)
}

/// Takes what lies at `from` into the slot, whatever it is, and returns where it is then.
///
/// # Errors
/// When it cannot be renamed.
pub fn take_out(from: &Path, slot: &Path) -> io::Result<std::path::PathBuf> {
    let name = from.file_name().unwrap_or_default();
    let source = sys::open::open_dir(from.parent().unwrap_or(Path::new("/")))?;
    let target = open_slot(slot)?;
    sys::flags::unlock(sys::open::open_path_at(source.as_fd(), name)?.as_fd())?;
    let to = fresh_name();
    sys::rename::place(source.as_fd(), name, target.as_fd(), &to)?;
    Ok(slot.join(to))
}

/// Removes a replica that is not needed any more.
///
/// # Errors
/// As `unlink` has them; one that is gone already is none.
pub fn discard(replica: &Replica) -> io::Result<()> {
    discard_at(&replica.path)
}

/// Removes a copy of ours from the slot it lies in.
///
/// # Errors
/// As [`discard`].
pub fn discard_at(path: &Path) -> io::Result<()> {
    let (Some(slot), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    match sys::open::open_dir(slot).and_then(|dir| remove(dir.as_fd(), name)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    reach(Point::ReplicaDiscarded);
    Ok(())
}

enum Filling {
    Vault(VaultError),
    NoRoom(NoRoom),
    Io(io::Error),
}

impl From<NoRoom> for Filling {
    fn from(e: NoRoom) -> Self {
        Self::NoRoom(e)
    }
}

impl From<io::Error> for Filling {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

impl From<rustix::io::Errno> for Filling {
    fn from(e: rustix::io::Errno) -> Self {
        Self::Io(e.into())
    }
}

fn fill(
    facts: &Facts,
    source: Source<'_>,
    slot: &Path,
    dir: BorrowedFd<'_>,
    name: &OsStr,
    durable: bool,
) -> Result<(), Filling> {
    match facts.kind {
        FileKind::Directory => rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?,
        FileKind::Symlink => {
            let target = OsStr::from_bytes(facts.target.as_deref().unwrap_or_default());
            rustix::fs::symlinkat(target, dir, name)?;
        }
        _ => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(fd);
            match (source, facts.sha256) {
                (Source::Vault(vault), Some(digest)) => {
                    vault.require_room(&digest, &file, slot)?;
                    vault.copy_verified(&digest, facts.size, &mut file).map_err(Filling::Vault)?;
                }
                (Source::File(path), Some(_)) => {
                    let parent = sys::open::open_dir(path.parent().unwrap_or(Path::new("/")))?;
                    let name = path.file_name().unwrap_or_default();
                    let from = File::from(sys::open::open_read_at(parent.as_fd(), name)?);
                    copy_sparse(&from, facts.size, &mut file)?;
                }
                (_, None) => {}
            }
            reach(Point::StageFilled);
            dress(facts, dir, name)?;
            reach(Point::StageDressed);
            if durable {
                file.sync_all()?;
                reach(Point::StageSynced);
            }
            return Ok(());
        }
    }
    dress(facts, dir, name)?;
    Ok(())
}

/// Gives the inode at `name` the owner, mode, attributes, times and flags of `facts`, but for
/// the flags that would forbid the exchange. The order matters: a new owner clears set-uid
/// bits and capabilities, and a new attribute moves no `mtime`.
fn dress(facts: &Facts, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let fd = sys::open::open_path_at(dir, name)?;
    if let Some(flags) = facts.flags {
        sys::flags::set(fd.as_fd(), flags & !(FS_IMMUTABLE | FS_APPEND))?;
    }
    set_metadata(facts, fd.as_fd())
}

/// Sets owner, mode, attributes and modification time on an inode held by descriptor.
pub(super) fn set_metadata(facts: &Facts, fd: BorrowedFd<'_>) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(facts.uid)), Some(Gid::from_raw(facts.gid)));
    rustix::fs::chownat(fd, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?;
    let path = sys::open::self_path(fd);
    if facts.kind != FileKind::Symlink {
        rustix::fs::chmod(&path, Mode::from_raw_mode(facts.mode.into()))?;
    }
    sys::xattr::replace_all(fd, &facts.xattrs)?;
    let times = Timestamps { last_access: omitted(), last_modification: timespec(facts.mtime) };
    match facts.kind {
        FileKind::Symlink => rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH)?,
        _ => rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty())?,
    }
    Ok(())
}

fn omitted() -> Timespec {
    Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT }
}

fn timespec(time: FileTime) -> Timespec {
    Timespec { tv_sec: time.sec, tv_nsec: i64::from(time.nsec) }
}

/// Opens the slot directory, and makes it, root only, where it is missing.
fn open_slot(slot: &Path) -> io::Result<OwnedFd> {
    match sys::open::open_dir(slot) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::DirBuilder::new().mode(0o700).create(slot)?;
            sys::open::open_dir(slot)
        }
        opened => opened.and_then(|dir| {
            let stat = sys::stat::stat_fd(dir.as_fd())?;
            if stat.uid == rustix::process::geteuid().as_raw() && stat.mode & 0o022 == 0 {
                return Ok(dir);
            }
            Err(io::Error::other(
                "the directory is open to others: remove it, or give it to root with mode 0700",
            ))
        }),
    }
}

/// A name that no replica of this or an earlier run has.
fn fresh_name() -> OsString {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_microsecond();
    OsString::from(format!("{now:x}-{:x}-{count:x}", std::process::id()))
}

fn remove(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let stat = sys::stat::stat_at(dir, name)?;
    let flags = match stat.kind {
        FileKind::Directory => AtFlags::REMOVEDIR,
        _ => AtFlags::empty(),
    };
    if stat.immutable == Some(true) {
        sys::flags::set_immutable(sys::open::open_path_at(dir, name)?.as_fd(), false)?;
    }
    Ok(rustix::fs::unlinkat(dir, name, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_copy_tells_whether_it_still_lies_there() {
        let make = |name: &str| make_of(OsStr::new(name), 0x2f);
        assert_eq!(make("64a1f0-1c-0-e-2f"), Make::Copy);
        assert_eq!(make("64a1f0-1c-0-e-30"), Make::Taken(Some(0xe)));
        assert_eq!(make("64a1f0-1c-2f"), Make::Taken(None), "a stranger that was taken out");
        assert_eq!(make("rewritten-64a1f0-2f"), Make::Taken(Some(0x2f)));
        assert_eq!(make("unfinished-64a1f0-1c-0"), Make::Unfinished);
        assert_eq!(make_of(OsStr::from_bytes(b"\xff-\n---2f"), 0x2f), Make::Copy);
        assert_eq!(make(""), Make::Taken(None));
    }
}
