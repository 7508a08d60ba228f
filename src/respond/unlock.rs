//! Taking away the flags that stand in the way of a heal, first of all our own `+i`.

use std::io;
use std::os::fd::BorrowedFd;

use crate::judge::{FS_APPEND, FS_IMMUTABLE};
use crate::sys::flags;

/// Clears the flags that forbid changing and renaming an inode.
pub(super) fn unlock_fd(fd: BorrowedFd<'_>) -> io::Result<()> {
    match flags::get(fd)? {
        Some(found) if found & (FS_IMMUTABLE | FS_APPEND) != 0 => {
            flags::set(fd, found & !(FS_IMMUTABLE | FS_APPEND))
        }
        _ => Ok(()),
    }
}
