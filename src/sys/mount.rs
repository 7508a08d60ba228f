//! Taking a mount away from over a path.

use std::io;
use std::path::Path;

use nix::mount::{MntFlags, umount2};

/// Takes the topmost mount off `path`; what still uses it keeps it until it is done. A final
/// symlink is not followed.
///
/// # Errors
/// `EINVAL` where `path` is no mount point; `EPERM` without `CAP_SYS_ADMIN`.
pub fn detach(path: &Path) -> io::Result<()> {
    Ok(umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount};

    use super::*;
    use crate::sys::test::disk;

    #[test]
    fn a_bind_mount_over_a_file_is_taken_off_even_while_somebody_has_it_open() {
        let room = disk();
        let (good, bad) = (room.path().join("good"), room.path().join("bad"));
        std::fs::write(&good, "good").unwrap();
        std::fs::write(&bad, "bad").unwrap();
        mount(Some(&bad), &good, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        let open = std::fs::File::open(&good).unwrap();
        assert_eq!(std::fs::read(&good).unwrap(), b"bad");
        detach(&good).unwrap();
        assert_eq!(std::fs::read(&good).unwrap(), b"good");
        drop(open);
        assert_eq!(detach(&good).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
