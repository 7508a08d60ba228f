//! Extended attributes, POSIX ACLs and file capabilities among them.
//!
//! They are read and set through `/proc/self/fd`, so an `O_PATH` descriptor suffices and a
//! symlink shows its own. No name is left out but XFS's own copy of an ACL, which it shows to
//! root besides the ACL and keeps in step with it.
//!
//! The kernel keeps one value, and the list of names, below 64 KiB; a filesystem may allow
//! thousands of values, so what one file may cost is bounded by [`LIMIT`].

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use super::open::self_path;
use crate::judge::Xattrs;

/// Names and values of one file together, bytes. No honest file comes near it.
pub const LIMIT: usize = 4 << 20;

/// `XATTR_SIZE_MAX` and `XATTR_LIST_MAX`: with a buffer of this size nothing can be too long,
/// and so no size has to be asked for first, to be wrong a moment later.
const LONGEST: usize = 65_536;

const XFS_ACL: &[u8] = b"trusted.SGI_ACL_";

/// Every extended attribute of the inode behind `fd`. Empty where the filesystem has none.
///
/// # Errors
/// `FileTooLarge` past [`LIMIT`].
pub fn list_all(fd: BorrowedFd<'_>) -> io::Result<Xattrs> {
    let path = self_path(fd);
    let mut all = Xattrs::new();
    let mut buffer = vec![0; LONGEST];
    let mut total = 0;
    for name in names(&path)? {
        let length = match getxattr(&path, OsStr::from_bytes(&name), &mut buffer) {
            // It was removed since it was listed.
            Err(Errno::NODATA) => continue,
            other => other?,
        };
        let value = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?.to_vec();
        total += name.len() + value.len();
        if total > LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {} MiB of extended attributes", LIMIT >> 20),
            ));
        }
        all.insert(name, value);
    }
    Ok(all)
}

/// Gives the inode behind `fd` exactly these: extra ones are removed, differing ones set.
///
/// Setting an ACL changes the mode and changing the owner drops capabilities, so this belongs
/// after `chown` and before `chmod`.
///
/// # Errors
/// The first one; the other attributes are put right all the same. `Unsupported` where the
/// filesystem has none, unless none are wanted.
pub fn replace_all(fd: BorrowedFd<'_>, wanted: &Xattrs) -> io::Result<()> {
    let path = self_path(fd);
    let mut first = Ok(());
    let there = names(&path)?;
    for name in there.iter().filter(|name| !wanted.contains_key(*name)) {
        match removexattr(&path, OsStr::from_bytes(name)) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(error) => first = first.and(Err(error)),
        }
    }
    let mut buffer = vec![0; LONGEST];
    for (name, value) in wanted {
        let key = OsStr::from_bytes(name);
        let same = there.contains(name)
            && getxattr(&path, key, &mut buffer)
                .is_ok_and(|length| buffer.get(..length) == Some(value.as_slice()));
        if !same && let Err(error) = setxattr(&path, key, value, XattrFlags::empty()) {
            first = first.and(Err(error));
        }
    }
    Ok(first?)
}

fn names(path: &Path) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut buffer = vec![0_u8; LONGEST];
    let length = match listxattr(path, &mut buffer) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let list = buffer.get(..length).ok_or(io::ErrorKind::InvalidData)?;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter(|name| !name.starts_with(XFS_ACL)).map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::open::{open_dir, open_path_at};
    use crate::sys::test::{disk, file, rooms};

    fn xattrs(pairs: &[(&str, &[u8])]) -> Xattrs {
        pairs.iter().map(|(k, v)| (k.as_bytes().to_vec(), v.to_vec())).collect()
    }

    #[test]
    fn what_was_listed_is_put_back_exactly() {
        for room in rooms() {
            let (dir, _) = file(room.path(), "f", b"x");
            let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
            let good = xattrs(&[("trusted.a", b"1"), ("user.b", b""), ("user.c", &[0, 255])]);
            replace_all(held.as_fd(), &good).unwrap();
            assert_eq!(list_all(held.as_fd()).unwrap(), good);
            let bad = xattrs(&[("trusted.a", b"2"), ("user.planted", b"x")]);
            replace_all(held.as_fd(), &bad).unwrap();
            assert_eq!(list_all(held.as_fd()).unwrap(), bad);
            replace_all(held.as_fd(), &good).unwrap();
            assert_eq!(list_all(held.as_fd()).unwrap(), good);
            replace_all(held.as_fd(), &Xattrs::new()).unwrap();
            assert!(list_all(held.as_fd()).unwrap().is_empty());
        }
    }

    #[test]
    fn an_acl_and_a_capability_are_attributes_like_any_other() {
        let room = disk();
        let (dir, _) = file(room.path(), "f", b"x");
        let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
        // u::rw- u:1000:r-- g::r-- m::r-- o::---, and cap_net_bind_service=ep.
        let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\
            \x04\0\x04\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let good = xattrs(&[("system.posix_acl_access", acl), ("security.capability", capability)]);
        replace_all(held.as_fd(), &good).unwrap();
        assert_eq!(list_all(held.as_fd()).unwrap(), good);
    }

    #[test]
    fn a_symlink_has_its_own_and_its_target_is_left_alone() {
        let room = disk();
        let (dir, _) = file(room.path(), "f", b"x");
        std::os::unix::fs::symlink("f", room.path().join("l")).unwrap();
        let link = open_path_at(dir.as_fd(), OsStr::new("l")).unwrap();
        let good = xattrs(&[("trusted.a", b"1")]);
        replace_all(link.as_fd(), &good).unwrap();
        assert_eq!(list_all(link.as_fd()).unwrap(), good);
        let target = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
        assert!(list_all(target.as_fd()).unwrap().is_empty());
    }

    #[test]
    fn one_attribute_that_is_refused_does_not_stop_the_others() {
        let room = disk();
        let (dir, _) = file(room.path(), "f", b"x");
        let held = open_path_at(dir.as_fd(), OsStr::new("f")).unwrap();
        let mixed = xattrs(&[("nonsense.a", b"1"), ("user.b", b"2")]);
        replace_all(held.as_fd(), &mixed).unwrap_err();
        assert_eq!(list_all(held.as_fd()).unwrap(), xattrs(&[("user.b", b"2")]));
    }

    #[test]
    fn a_filesystem_without_attributes_has_none() {
        let proc = open_dir(Path::new("/proc")).unwrap();
        let held = open_path_at(proc.as_fd(), OsStr::new("version")).unwrap();
        assert!(list_all(held.as_fd()).unwrap().is_empty());
        replace_all(held.as_fd(), &Xattrs::new()).unwrap();
        replace_all(held.as_fd(), &xattrs(&[("user.a", b"1")])).unwrap_err();
    }
}
