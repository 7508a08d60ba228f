//! The filesystems that protected files are on: can they be locked and healed there?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Finding, Level};
use crate::baseline::{Baseline, BaselineError, Record};
use crate::config::{Config, resolve};
use crate::sense::MountTable;
use crate::sys::stat::stat;
use crate::text::{escape, escape_path};

/// Filesystems that are known to exchange two names in one step.
const EXCHANGE: [&str; 9] =
    ["ext4", "ext3", "ext2", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "bcachefs"];
/// Filesystems whose files change elsewhere, with no event here.
const REMOTE: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.sshfs", "9p", "virtiofs"];

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let finding = |level, says: String| Finding::new("files", level, says);
    let mut all = Vec::new();
    let resolution = resolve(config);
    for problem in &resolution.problems {
        all.push(finding(Level::Limit, problem.to_string()));
    }
    let records = match Baseline::open_read_only(&config.daemon.state).and_then(|b| b.all()) {
        Ok(records) => records,
        Err(BaselineError::Missing { .. }) => Vec::new(),
        Err(error) => {
            all.push(finding(Level::Problem, escape(error.to_string().as_bytes())));
            Vec::new()
        }
    };
    let mut paths: Vec<PathBuf> = records.iter().map(|record| record.path.to_path_buf()).collect();
    paths.extend(resolution.files.into_iter().map(|(path, _)| path));
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        let says = "no file is protected: 'steadfast protect PATH', or a [[protect]] table";
        all.push(finding(Level::Limit, says.to_owned()));
        return all;
    }
    all.extend(filesystems(&paths));
    all.extend(copies(&records));
    all
}

/// One finding for each filesystem, however many files are on it.
fn filesystems(paths: &[PathBuf]) -> Vec<Finding> {
    let table = MountTable::read().unwrap_or_default();
    let mut mounts: BTreeMap<PathBuf, (String, usize, bool)> = BTreeMap::new();
    for path in paths {
        let Some(mount) = table.mount_of(path) else { continue };
        let immutable = stat(path).ok().is_none_or(|stat| stat.immutable.is_some());
        let place = mounts.entry(mount.mount_point.clone());
        let (_, count, flags) = place.or_insert_with(|| (mount.fs_type.clone(), 0, true));
        *count += 1;
        *flags &= immutable;
    }
    let describe = |(point, (kind, count, flags)): (PathBuf, (String, usize, bool))| {
        let paths = if count == 1 { "path" } else { "paths" };
        let what = format!(
            "{} ({}; protected there: {count} {paths})",
            escape_path(&point),
            escape(kind.as_bytes())
        );
        filesystem(&what, &kind, flags, is_read_only(&point))
    };
    mounts.into_iter().map(describe).collect()
}

fn filesystem(what: &str, kind: &str, flags: bool, read_only: bool) -> Finding {
    let (level, says) = if read_only {
        (Level::Problem, "is mounted read-only: nothing can be healed there until it is remounted")
    } else if !flags {
        (
            Level::Limit,
            "has no immutable bit: its files are healed, but cannot be locked; \
             ext4, xfs and btrfs can",
        )
    } else if REMOTE.contains(&kind) {
        (Level::Limit, "is remote: what others change on it makes no event, and the sweep finds it")
    } else if !EXCHANGE.contains(&kind) {
        (
            Level::Limit,
            "may be unable to exchange two files in one step: a heal then writes in place",
        )
    } else {
        (Level::Good, "has the immutable bit, and a heal there exchanges two files in one step")
    };
    Finding::new("files", level, format!("{what} {says}"))
}

fn is_read_only(point: &Path) -> bool {
    rustix::fs::statvfs(point)
        .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Prepared copies that are not where they should be.
fn copies(records: &[Record]) -> Option<Finding> {
    let prepared: Vec<_> = records.iter().filter_map(|record| record.replica.as_ref()).collect();
    if prepared.is_empty() {
        return None;
    }
    let there = |path: &Path, ino| stat(path).is_ok_and(|stat| stat.ino == ino);
    let gone = prepared.iter().filter(|copy| !there(&copy.path, copy.ino)).count();
    let says = match gone {
        0 => format!(
            "a copy to heal with lies ready for {} of {} protected paths",
            prepared.len(),
            records.len()
        ),
        _ => format!(
            "{gone} of {} prepared copies are not where they were left: the daemon prepares \
             them again when it starts",
            prepared.len()
        ),
    };
    Some(Finding::new("files", if gone == 0 { Level::Good } else { Level::Limit }, says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_about_a_filesystem_is_what_is_said() {
        let level = |kind, flags, read_only| filesystem("/srv", kind, flags, read_only).level;
        assert_eq!(level("ext4", true, false), Level::Good);
        assert_eq!(level("ext4", true, true), Level::Problem);
        assert_eq!(level("vfat", false, false), Level::Limit);
        assert_eq!(level("nfs4", true, false), Level::Limit);
        assert_eq!(level("jfs", true, false), Level::Limit);
    }

    #[test]
    fn files_on_one_filesystem_make_one_finding() {
        let room = crate::sys::test::disk();
        let paths = ["a", "b"].map(|name| room.path().join(name));
        for path in &paths {
            std::fs::write(path, "x").unwrap();
        }
        let found = filesystems(&paths);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].says.contains("2 paths"), "{found:?}");
    }
}
