//! File handles: how the kernel names an inode when no path does.
//!
//! A handle finds a directory wherever it was renamed to, and it is what a fanotify event
//! carries instead of a path.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::open::{component, self_path};

/// `MAX_HANDLE_SZ`: the kernel makes none that is longer.
const LONGEST: usize = 128;
/// Linux 6.5: a handle that names the inode but may not be opened; overlay and others that
/// cannot be exported have only this one. fanotify uses the same.
const AT_HANDLE_FID: libc::c_int = 0x200;

/// The kernel's name for an inode of one filesystem.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// `handle_type`: the filesystem's way of writing it.
    pub kind: i32,
    /// `f_handle`.
    pub bytes: Vec<u8>,
}

/// `struct file_handle` with room for the longest handle.
#[repr(C)]
struct Raw {
    length: u32,
    kind: i32,
    bytes: [u8; LONGEST],
}

/// The handle of `name` in `dir`, a final symlink not followed. It can be opened.
///
/// # Errors
/// `EOPNOTSUPP` where the filesystem has no handles that can be opened, as overlay has none;
/// `InvalidInput` for a name that is not one component.
pub fn handle_at(dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<Handle> {
    let name = CString::new(component(name)?.as_bytes())?;
    name_to_handle(dir, &name, 0)
}

/// The handle of what `fd` is open on; `O_PATH` suffices. It can be opened.
///
/// # Errors
/// As [`handle_at`].
pub fn handle_fd(fd: BorrowedFd<'_>) -> io::Result<Handle> {
    name_to_handle(fd, c"", libc::AT_EMPTY_PATH)
}

/// The handle by which fanotify names what `fd` is open on. Where [`handle_fd`] is refused it
/// may serve as a name only, and to open it is `ESTALE`.
///
/// # Errors
/// `EOPNOTSUPP` where the filesystem has neither.
pub fn identifier(fd: BorrowedFd<'_>) -> io::Result<Handle> {
    plain_or_fid(fd, c"", libc::AT_EMPTY_PATH)
}

fn plain_or_fid(
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    flags: libc::c_int,
) -> io::Result<Handle> {
    match name_to_handle(dir, name, flags) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            // An older kernel does not know the flag and says EINVAL; the first answer tells more.
            name_to_handle(dir, name, flags | AT_HANDLE_FID).map_err(|_| error)
        }
        other => other,
    }
}

fn name_to_handle(
    dir: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    flags: libc::c_int,
) -> io::Result<Handle> {
    let mut raw = Raw { length: LONGEST as u32, kind: 0, bytes: [0; LONGEST] };
    let mut mount_id = 0;
    // SAFETY: `raw` begins like `struct file_handle` and has the room that `length` promises;
    // `name` is a string and `mount_id` an integer that live for the call.
    let rc = unsafe {
        libc::name_to_handle_at(
            dir.as_raw_fd(),
            name.as_ptr(),
            (&raw mut raw).cast(),
            &raw mut mount_id,
            flags,
        )
    };
    if rc == -1 {
        return Err(io::Error::last_os_error());
    }
    let bytes = raw.bytes.get(..raw.length as usize).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Handle { kind: raw.kind, bytes: bytes.to_vec() })
}

/// The inode that `handle` names, as `O_PATH`. `mount` is a descriptor of anything on that
/// filesystem, `O_PATH` too.
///
/// # Errors
/// `ESTALE` where the inode no longer exists; `EPERM` without `CAP_DAC_READ_SEARCH`;
/// `InvalidInput` for a handle that is longer than any.
pub fn open_by_handle(mount: BorrowedFd<'_>, handle: &Handle) -> io::Result<OwnedFd> {
    let mut raw = Raw { length: handle.bytes.len() as u32, kind: handle.kind, bytes: [0; LONGEST] };
    let room = raw.bytes.get_mut(..handle.bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(&handle.bytes);
    let flags = libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    match open_raw(mount, &mut raw, flags) {
        // The kernel wants the mount's descriptor really open; a directory always can be.
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            let real = super::open::reopen_read(mount)?;
            open_raw(real.as_fd(), &mut raw, flags)
        }
        other => other,
    }
}

fn open_raw(mount: BorrowedFd<'_>, raw: &mut Raw, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: `raw` begins like `struct file_handle` and holds `length` bytes of handle.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut *raw).cast(), flags) };
    if fd == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Where the inode behind `fd` is now, as seen from our root.
///
/// # Errors
/// `NotFound` where it has no name any more or none that can be reached from here.
pub fn current_path(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let bytes = std::fs::read_link(self_path(fd))?.into_os_string().into_vec();
    // A file may well be called "x (deleted)"; only the link count tells it from the mark.
    if bytes.ends_with(b" (deleted)") && !is_reached_by(fd, &bytes) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no name any more"));
    }
    if !bytes.starts_with(b"/") {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it cannot be reached from here"));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn is_reached_by(fd: BorrowedFd<'_>, path: &[u8]) -> bool {
    let key = |stat: crate::judge::Stat| (stat.dev, stat.ino, stat.mount);
    let there = super::stat::stat(OsStr::from_bytes(path).as_ref());
    matches!((super::stat::stat_fd(fd), there), (Ok(a), Ok(b)) if key(a) == key(b))
}

/// The filesystem id that a fanotify event carries for what `fd` is open on.
pub fn fsid(fd: BorrowedFd<'_>) -> io::Result<[i32; 2]> {
    let id = rustix::fs::fstatfs(fd)?.f_fsid;
    const { assert!(size_of::<rustix::fs::Fsid>() == size_of::<[i32; 2]>()) };
    // SAFETY: both are two C integers; libc keeps the fields of its type private.
    Ok(unsafe { std::mem::transmute_copy(&id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::open::{open_dir, open_path_at};
    use crate::sys::stat::stat_fd;
    use crate::sys::test::{file, rooms};

    #[test]
    fn a_handle_finds_a_directory_wherever_it_was_renamed_to() {
        // The disk may be an overlay, which has no handles to open.
        let room = crate::sys::test::memory();
        let old = room.path().join("old");
        std::fs::create_dir(&old).unwrap();
        let dir = open_dir(room.path()).unwrap();
        let handle = handle_at(dir.as_fd(), OsStr::new("old")).unwrap();
        let held = open_dir(&old).unwrap();
        assert_eq!(handle_fd(held.as_fd()).unwrap(), handle);
        assert_eq!(identifier(held.as_fd()).unwrap(), handle);
        std::fs::create_dir(room.path().join("deep")).unwrap();
        let new = room.path().join("deep/new (deleted)");
        std::fs::rename(&old, &new).unwrap();
        let found = open_by_handle(dir.as_fd(), &handle).unwrap();
        assert_eq!(current_path(found.as_fd()).unwrap(), new);
        assert_eq!(stat_fd(found.as_fd()).unwrap().ino, stat_fd(held.as_fd()).unwrap().ino);
        drop((found, held));
        std::fs::remove_dir(&new).unwrap();
        let gone = open_by_handle(dir.as_fd(), &handle).unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ESTALE));
    }

    #[test]
    fn every_filesystem_has_at_least_identifiers() {
        for room in rooms() {
            let dir = open_dir(room.path()).unwrap();
            let one = identifier(dir.as_fd()).unwrap();
            assert_eq!(handle_fd(dir.as_fd()).unwrap_or_else(|_| one.clone()), one);
        }
    }

    #[test]
    fn what_has_lost_its_name_has_no_path() {
        for room in rooms() {
            let (dir, path) = file(room.path(), "f", b"x");
            let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
            assert_eq!(current_path(held.as_fd()).unwrap(), path);
            std::fs::remove_file(&path).unwrap();
            let gone = current_path(held.as_fd()).unwrap_err();
            assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_handle_longer_than_any_is_refused() {
        let dir = open_dir("/".as_ref()).unwrap();
        let handle = Handle { kind: 1, bytes: vec![0; LONGEST + 1] };
        let refused = open_by_handle(dir.as_fd(), &handle).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn filesystems_differ_in_their_id() {
        let [disk, memory] = rooms();
        let id = |room: &tempfile::TempDir| fsid(open_dir(room.path()).unwrap().as_fd()).unwrap();
        assert_ne!(id(&disk), id(&memory));
        assert_eq!(id(&disk), id(&disk));
    }
}
