//! Where steadfast does not go: what the kernel makes up, and what steadfast made for itself.

use std::ffi::OsStr;
use std::path::Path;

/// Why nothing at or below `path`, a canonical path, can be protected.
pub(super) fn forbidden(path: &Path, state: &Path) -> Option<&'static str> {
    if is_own(path, state) {
        return Some("is steadfast's own state, which it guards by itself");
    }
    let made_up = ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top));
    (made_up || is_made_up(path)).then_some("is made up by the kernel and cannot be kept")
}

/// Whether a directory begins a filesystem that shows kernel state.
fn is_made_up(path: &Path) -> bool {
    const MAGIC: [u32; 14] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x1cd1,      // devpts
        0xcafe_4a11, // bpf
        0x7363_6673, // securityfs
        0x6165_676c, // pstore
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x1980_0202, // mqueue
        0xf97c_ff8c, // selinuxfs
    ];
    let magic = |path: &Path| u32::try_from(rustix::fs::statfs(path).ok()?.f_type).ok();
    begins_mount(path) && magic(path).is_some_and(|magic| MAGIC.contains(&magic))
}

/// Whether `path` is the root of a mount (or of a btrfs subvolume).
fn begins_mount(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let place = |path: &Path| {
        let found = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
        Some((found.stx_dev_major, found.stx_dev_minor, found.stx_mnt_id))
    };
    match path.parent() {
        None => true,
        Some(parent) => match (place(path), place(parent)) {
            (Some(here), Some(above)) => here != above,
            _ => false,
        },
    }
}

/// Whether `path` is, or lies in, a directory that steadfast made for itself: the state
/// directory, given in canonical form, or `.steadfast` at the root of a mount.
#[must_use]
pub fn is_own(path: &Path, state: &Path) -> bool {
    path.starts_with(state)
        || path.ancestors().any(|above| {
            above.file_name() == Some(OsStr::new(".steadfast"))
                && above.parent().is_some_and(begins_mount)
        })
}
