//! Reading a small file of somebody else's: bounded, and never through a symlink.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;

use super::open::{open_dir, open_read_at};

/// The regular file `name` in `dir`, whole.
///
/// # Errors
/// As [`open_dir`] and [`open_read_at`]; `FileTooLarge` for one that is longer than `limit`.
pub fn read_bounded(dir: &Path, name: &OsStr, limit: usize) -> io::Result<Vec<u8>> {
    let dir = open_dir(dir)?;
    let file = File::from(open_read_at(dir.as_fd(), name)?);
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::test::{disk, file};

    #[test]
    fn what_is_too_long_or_behind_a_symlink_is_not_read() {
        let room = disk();
        file(room.path(), "f", b"12345");
        let read = |name: &str, limit| read_bounded(room.path(), OsStr::new(name), limit);
        assert_eq!(read("f", 5).unwrap(), b"12345");
        assert_eq!(read("f", 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::os::unix::fs::symlink("f", room.path().join("l")).unwrap();
        assert!(read("l", 9).is_err());
        assert_eq!(read("none", 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
