//! Whether the known-good copies and the journal are where they stay.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Finding, Level};
use crate::sense::MountTable;
use crate::sys::open::open_dir;
use crate::text::{escape, escape_path};

/// Less room than this, in bytes, soon stops the journal.
const ROOM: u64 = 64 << 20;
/// Filesystems that forget.
const FORGETFUL: [&str; 4] = ["tmpfs", "ramfs", "zram", "devtmpfs"];

pub(super) fn examine(state: &Path) -> Vec<Finding> {
    let shown = escape_path(state);
    let finding = |level, says: String| Finding::new("state", level, says);
    let dir = match open_dir(state) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let says = format!(
                "{shown} is not there yet: 'steadfast protect' or 'steadfast run' makes it"
            );
            return vec![finding(Level::Limit, says)];
        }
        Err(error) => {
            let why = escape(error.to_string().as_bytes());
            let says = format!(
                "{shown} cannot be used ({why}): it has to be a directory, with no symlink on the way"
            );
            return vec![finding(Level::Problem, says)];
        }
    };
    let mut all = Vec::new();
    if let Ok(found) = std::fs::symlink_metadata(state)
        && (found.uid() != 0 || found.permissions().mode() & 0o077 != 0)
    {
        let says = format!("{shown} is not root's alone: 'chown root: {shown}; chmod 700 {shown}'");
        all.push(finding(Level::Problem, says));
    }
    let table = MountTable::read().unwrap_or_default();
    let kind = table.mount_of(state).map(|mount| escape(mount.fs_type.as_bytes()));
    if let Some(kind) = kind.filter(|kind| FORGETFUL.contains(&kind.as_str())) {
        let says = format!(
            "{shown} is on {kind} and gone after a reboot, with every known-good copy: set \
             `state` to a directory on a disk"
        );
        all.push(finding(Level::Problem, says));
    }
    if let Ok(room) = rustix::fs::fstatvfs(dir.as_fd()) {
        let free = room.f_bavail.saturating_mul(room.f_frsize);
        let level = if free < ROOM { Level::Problem } else { Level::Good };
        let advice = if free < ROOM { ": make room, or move `state`" } else { "" };
        all.push(finding(
            level,
            format!("the disk of {shown} has {} MiB left{advice}", free >> 20),
        ));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::test::memory;

    fn worst(path: &Path) -> Level {
        examine(path).into_iter().map(|one| one.level).max().unwrap()
    }

    #[test]
    fn a_state_directory_in_memory_or_open_to_others_is_a_problem() {
        // Where the temporary directory is in memory, this one is not.
        let (disk, memory) = (tempfile::tempdir_in("/var/tmp").unwrap(), memory());
        let allow = |mode| {
            std::fs::set_permissions(disk.path(), PermissionsExt::from_mode(mode)).unwrap();
        };
        allow(0o700);
        assert_eq!(worst(disk.path()), Level::Good, "{:?}", examine(disk.path()));
        assert_eq!(worst(memory.path()), Level::Problem);
        assert_eq!(worst(&disk.path().join("none")), Level::Limit);
        allow(0o755);
        assert_eq!(worst(disk.path()), Level::Problem);
    }
}
