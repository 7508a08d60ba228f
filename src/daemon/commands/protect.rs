//! Taking a path under protection, and letting it go: the parts that a daemon and a command
//! without one do alike.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::baseline::{Origin, Record, SnapshotError, Vault, mount_point, parents, snapshot};
use crate::fault::{Point, reach};
use crate::judge::{FS_APPEND, FS_IMMUTABLE, Facts, FileKind, Policy, Stat};
use crate::record::{Event, Kind, Severity};
use crate::sys;

/// Why a path cannot be protected.
#[derive(Debug, thiserror::Error)]
pub enum ProtectError {
    /// It cannot be read, or is not the kind of file that can be protected.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It could not be put back, and not be locked.
    #[error(
        "cannot protect {}: its filesystem is mounted read-only; mount it read-write, or protect the file where it is written",
        crate::text::escape_path(.0)
    )]
    ReadOnly(PathBuf),
    /// The immutable bit cannot be set.
    #[error(
        "cannot set +i on {}: {source}; it needs root with CAP_LINUX_IMMUTABLE, or immutable = false in the configuration",
        crate::text::escape_path(.path)
    )]
    Immutable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot protect {}: {source}", crate::text::escape_path(.path))]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes the known-good copy of `path` and sets the immutable bit where the policy asks for
/// it. `path` is absolute and has no symlinks in its parents.
///
/// # Errors
/// When it cannot be read, stored or locked; the file is then as it was.
pub fn take(
    path: &Path,
    policy: Policy,
    origin: Origin,
    vault: &Vault,
    progress: &dyn Fn(u64),
) -> Result<Record, ProtectError> {
    refuse_read_only(path)?;
    let mut facts = snapshot::take_into(path, vault, progress)?;
    reach(Point::TakeKept);
    if policy.immutable && facts.kind == FileKind::File {
        set_immutable(path, &mut facts)
            .map_err(|source| ProtectError::Immutable { path: path.to_owned(), source })?;
    }
    reach(Point::TakeLocked);
    record(path, facts, policy, origin)
}

/// The same of a file of which no copy is kept and nothing is changed.
///
/// # Errors
/// When it cannot be read.
pub fn take_as_it_is(path: &Path, policy: Policy, origin: Origin) -> Result<Record, ProtectError> {
    record(path, snapshot::take(path, &|_| ())?, policy, origin)
}

fn record(
    path: &Path,
    facts: Facts,
    policy: Policy,
    origin: Origin,
) -> Result<Record, ProtectError> {
    let seal = sys::stat::stat(path)
        .map_err(|source| ProtectError::Io { path: path.to_owned(), source })?;
    Ok(Record {
        path: path.into(),
        policy,
        origin,
        parents: parents(path)?.into(),
        mount_point: mount_point(path)?.into(),
        seal: unchanged(&facts, &seal).then_some(seal),
        replica: None,
        protected_at: Timestamp::now(),
        facts,
    })
}

/// Sets the bit where the filesystem has one, and notes it among the facts.
pub(in crate::daemon) fn set_immutable(path: &Path, facts: &mut Facts) -> io::Result<()> {
    let Some(flags) = facts.flags else { return Ok(()) };
    let inode = hold(path)?;
    match sys::flags::set_immutable(inode.as_fd(), true) {
        Ok(()) => facts.flags = Some(flags | FS_IMMUTABLE),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY)) => {
            facts.flags = None;
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Clears the immutable bit and leaves everything else as it is. A file that is gone, or whose
/// filesystem has no flags, needs nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn unlock(path: &Path) -> io::Result<()> {
    let inode = match hold(path) {
        // Nothing of that name, or the name leads elsewhere by now.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)) => {
            return Ok(());
        }
        held => held?,
    };
    match sys::flags::get(inode.as_fd())? {
        Some(flags) if flags & (FS_IMMUTABLE | FS_APPEND) != 0 => {
            sys::flags::set(inode.as_fd(), flags & !FS_IMMUTABLE)?;
            reach(Point::ReleaseUnlocked);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is said when a path could not be taken. `accepted` is the reason, if it was to be accepted.
#[must_use]
pub fn refusal(error: &ProtectError, accepted: &Option<Option<String>>) -> String {
    match error {
        ProtectError::Snapshot(SnapshotError::Missing(_)) if accepted.is_some() => {
            super::acceptance::GONE.into()
        }
        error => error.to_string(),
    }
}

/// What is put on record when a path was taken: it was protected before or is so now, by
/// `accept`, with its reason, or by `protect`.
#[must_use]
pub fn taken_event(path: &Path, known: bool, accepted: &Option<Option<String>>) -> Event {
    let kind = if known { Kind::Accepted } else { Kind::Protected };
    let mut event = Event::new(Timestamp::now(), kind, Severity::Info).about(path);
    event.note = match accepted {
        Some(None) if !known => Some("accepted in a protected directory".into()),
        accepted => accepted.clone().flatten(),
    };
    event
}

/// What is said of a path that was taken.
#[must_use]
pub fn taken_message(record: &Record, known: bool) -> String {
    let immutable = record.facts.keeps_immutable();
    let done = match (known, immutable, record.facts.kind) {
        (true, ..) => "what is there now is known good",
        (false, true, _) => "is protected, and immutable",
        (false, false, FileKind::File) => "is protected, without the immutable bit",
        (false, false, _) => "is protected",
    };
    let passed_by = match record.facts.kind {
        FileKind::Directory => crate::daemon::guard::strangers::passed_by(&record.path),
        _ => None,
    };
    passed_by.map_or_else(|| done.to_owned(), |passed_by| format!("{done}; {passed_by}"))
}

/// What is said of a path that stays protected, since its bit could not be cleared.
#[must_use]
pub fn still_locked(path: &Path, error: &io::Error) -> String {
    let shown = crate::text::escape_path(path);
    match error.raw_os_error() {
        Some(libc::EROFS) => format!(
            "{shown} stays protected: its filesystem is mounted read-only, so +i cannot be \
             cleared; mount it read-write and release it again"
        ),
        Some(libc::EPERM | libc::EACCES) => format!(
            "{shown} stays protected: the kernel does not let +i be cleared; it needs root with \
             CAP_LINUX_IMMUTABLE"
        ),
        _ => format!("{shown} stays protected: +i cannot be cleared: {error}"),
    }
}

fn hold(path: &Path) -> io::Result<std::os::fd::OwnedFd> {
    let parent = sys::open::open_dir(path.parent().unwrap_or(Path::new("/")))?;
    sys::open::open_path_at(parent.as_fd(), path.file_name().unwrap_or_default())
}

/// Whether the file that was read is still the one that was locked.
fn unchanged(facts: &Facts, seal: &Stat) -> bool {
    (facts.ino, facts.kind, facts.mtime) == (seal.ino, seal.kind, seal.mtime)
        && (facts.kind != FileKind::File || facts.size == seal.size)
}

fn refuse_read_only(path: &Path) -> Result<(), ProtectError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(parent) {
        Ok(fs) if fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) => {
            Err(ProtectError::ReadOnly(path.to_owned()))
        }
        _ => Ok(()),
    }
}
