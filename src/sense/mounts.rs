//! The mount table: what covers a protected path without touching the file.
//!
//! `/proc/self/mountinfo` is parsed as a tree, because a list of prefixes cannot tell which of
//! two mounts on one path is seen, nor that a mount on a parent hides one below it.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No sane host has a table this long; a bound for one that a tamperer made.
const LIMIT: u64 = 16 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number, which is used again. Not the one of [`crate::judge::Stat::mount`].
    pub id: u64,
    /// The mount it is mounted on.
    pub parent: u64,
    /// Device number of the filesystem.
    pub dev: u64,
    /// Which part of the filesystem: `/` for all of it, a file for a bind mount of one file.
    pub root: PathBuf,
    /// Where, as seen from our root.
    pub mount_point: PathBuf,
    /// Such as `ext4`.
    pub fs_type: String,
}

/// The mounts of a namespace, in the order of the kernel's list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// Our own namespace's.
    pub fn read() -> io::Result<Self> {
        read_table(&mut File::open("/proc/self/mountinfo")?)
    }

    /// What a `mountinfo` file says. Lines that make no sense are passed over.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        Self { mounts: text.split(|byte| *byte == b'\n').filter_map(parse_line).collect() }
    }

    /// The mount that `path` is seen through. `path` is absolute and without symlinks.
    #[must_use]
    pub fn mount_of(&self, path: &Path) -> Option<&Mount> {
        self.chain(path).last().copied()
    }

    /// Where that mount is mounted.
    #[must_use]
    pub fn mount_point_of(&self, path: &Path) -> Option<&Path> {
        Some(&self.mount_of(path)?.mount_point)
    }

    /// The device and the path inside the filesystem: what a mount of just this file has as its
    /// root, in any namespace.
    #[must_use]
    pub fn in_filesystem(&self, path: &Path) -> Option<(u64, PathBuf)> {
        let mount = self.mount_of(path)?;
        let below = path.strip_prefix(&mount.mount_point).ok()?;
        let empty = below.as_os_str().is_empty();
        Some((mount.dev, if empty { mount.root.clone() } else { mount.root.join(below) }))
    }

    /// How many mounts lie one over the other, on the way to `path`, at `mount_point` and
    /// below: 1 where nothing covers it.
    #[must_use]
    pub fn layers(&self, path: &Path, mount_point: &Path) -> usize {
        self.at_or_below(path, mount_point).count()
    }

    /// The mounts that cover `path` beyond the `expected` ones, of which
    /// [`MountTable::layers`] told when the baseline was taken. The last one is the topmost, and
    /// has to be taken off first.
    #[must_use]
    pub fn covering(&self, path: &Path, mount_point: &Path, expected: usize) -> Vec<&Mount> {
        self.at_or_below(path, mount_point).skip(expected).collect()
    }

    fn at_or_below(&self, path: &Path, mount_point: &Path) -> impl Iterator<Item = &Mount> {
        self.chain(path).into_iter().filter(move |mount| mount.mount_point.starts_with(mount_point))
    }

    /// The mounts that are entered on the way from the root to `path`, each on the one before.
    fn chain(&self, path: &Path) -> Vec<&Mount> {
        let mut chain: Vec<&Mount> = Vec::new();
        let mut next = self.root();
        while let Some(mount) = next {
            chain.push(mount);
            // A table that goes in circles is no table.
            if chain.len() > self.mounts.len() {
                break;
            }
            let on_it = self.mounts.iter().filter(|m| m.parent == mount.id && m.id != mount.id);
            let on_the_way = on_it.filter(|m| path.starts_with(&m.mount_point));
            next = on_the_way.min_by_key(|m| m.mount_point.components().count());
        }
        chain
    }

    fn root(&self) -> Option<&Mount> {
        let known: BTreeSet<u64> = self.mounts.iter().map(|mount| mount.id).collect();
        let mut at_root = self.mounts.iter().filter(|m| m.mount_point == Path::new("/"));
        at_root.rfind(|m| !known.contains(&m.parent) || m.parent == m.id)
    }
}

/// Our mount table, and a descriptor that becomes urgent (`POLLPRI`) when it changes.
#[derive(Debug)]
pub struct MountsSensor {
    file: File,
}

impl MountsSensor {
    /// From now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self { file: File::open("/proc/self/mountinfo")? })
    }

    /// Has `POLLPRI` once for every change; the poll that reports it takes it away.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The table as it is now.
    pub fn read(&mut self) -> io::Result<MountTable> {
        self.file.rewind()?;
        read_table(&mut self.file)
    }
}

/// The parts of filesystems that mounts show, over every mount namespace that a process lives
/// in: where a container was given a single file, that file is among them, and after an
/// exchange the container would go on showing the old inode.
///
/// Looks at every process once, so this is for the slow sweep. A process that goes meanwhile is
/// passed over, and so is a namespace that no process lives in.
#[derive(Debug, Default)]
pub struct MountRoots {
    roots: HashSet<(u64, PathBuf)>,
}

impl MountRoots {
    /// Reads the tables of all namespaces.
    ///
    /// # Errors
    /// When `/proc` cannot be listed.
    pub fn scan() -> io::Result<Self> {
        let mut seen = BTreeSet::new();
        let mut found = Self::default();
        for process in std::fs::read_dir("/proc")? {
            let Ok(process) = process else { continue };
            if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let Ok(namespace) = std::fs::metadata(process.path().join("ns/mnt")) else { continue };
            if !seen.insert(namespace.ino()) {
                continue;
            }
            let table =
                File::open(process.path().join("mountinfo")).and_then(|mut f| read_table(&mut f));
            let Ok(table) = table else {
                // It went before it could be read; another may live in the same namespace.
                seen.remove(&namespace.ino());
                continue;
            };
            let partial = table.mounts.into_iter().filter(|mount| mount.root != Path::new("/"));
            found.roots.extend(partial.map(|mount| (mount.dev, mount.root)));
        }
        Ok(found)
    }

    /// The paths in `table` of what they show.
    pub fn seen_in<'a>(&'a self, table: &'a MountTable) -> impl Iterator<Item = PathBuf> + 'a {
        self.roots.iter().flat_map(|(dev, root)| {
            let same = table.mounts.iter().filter(|mount| mount.dev == *dev);
            same.filter_map(|mount| {
                let below = root.strip_prefix(&mount.root).ok()?;
                let empty = below.as_os_str().is_empty();
                let point = &mount.mount_point;
                let path = if empty { point.clone() } else { point.join(below) };
                // Another mount may lie over it.
                let (seen, inside) = table.in_filesystem(&path)?;
                (seen == *dev && inside == *root).then_some(path)
            })
        })
    }

    /// Whether some mount shows just this file. `dev` and `path_in_fs` are those of
    /// [`MountTable::in_filesystem`].
    #[must_use]
    pub fn show(&self, dev: u64, path_in_fs: &Path) -> bool {
        self.roots.contains(&(dev, path_in_fs.to_owned()))
    }
}

fn read_table(file: &mut File) -> io::Result<MountTable> {
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    Ok(MountTable::parse(&text))
}

/// `id parent major:minor root mount-point options [fields…] - type source options`.
fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let dev = str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let fs_type = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount {
        id,
        parent,
        dev: rustix::fs::makedev(dev.0.parse().ok()?, dev.1.parse().ok()?),
        root,
        mount_point,
        fs_type: crate::text::escape(fs_type),
    })
}

fn number(field: &[u8]) -> Option<u64> {
    str::from_utf8(field).ok()?.parse().ok()
}

/// The kernel writes space, tab, line end and backslash as a backslash and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        if let (b'\\', Some(byte)) = (*first, after.get(..3).and_then(octal)) {
            out.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            out.push(*first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

fn octal(digits: &[u8]) -> Option<u8> {
    digits
        .iter()
        .try_fold(0_u32, |sum, digit| {
            (b'0'..=b'7').contains(digit).then(|| sum * 8 + u32::from(digit - b'0'))
        })?
        .try_into()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::mount::{MsFlags, mount};
    use proptest::prelude::*;
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;
    use crate::sys::mount::detach;
    use crate::sys::test::disk;

    fn bind(from: &Path, to: &Path) {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    }

    const TABLE: &[u8] = b"\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
30 22 0:25 / /srv rw - tmpfs tmpfs rw\n\
31 30 8:2 / /srv/data\\040x rw master:3 propagate_from:1 - xfs /dev/sdb rw\n\
32 22 8:1 /etc/shadow /etc/passwd rw - ext4 /dev/sda1 rw\n\
33 32 8:1 /tmp/evil\\134 /etc/passwd rw - ext4 /dev/sda1 rw\n\
rubbish\n";

    #[test]
    fn the_table_is_a_tree_and_escapes_are_undone() {
        let table = MountTable::parse(TABLE);
        assert_eq!(table.mounts.len(), 5);
        let point = |path: &str| table.mount_point_of(Path::new(path)).unwrap().to_owned();
        assert_eq!(point("/srv/data x/f"), Path::new("/srv/data x"));
        assert_eq!(point("/srv/data"), Path::new("/srv"));
        assert_eq!(point("/etc/passwd-"), Path::new("/"));
        assert_eq!(
            table.mount_of(Path::new("/etc/passwd")).unwrap().root,
            Path::new("/tmp/evil\\")
        );
        let (dev, path) = table.in_filesystem(Path::new("/srv/data x/a/b")).unwrap();
        assert_eq!((dev, path), (rustix::fs::makedev(8, 2), PathBuf::from("/a/b")));
    }

    #[test]
    fn what_covers_a_path_beyond_what_was_there_is_told_topmost_last() {
        let table = MountTable::parse(TABLE);
        let path = Path::new("/etc/passwd");
        assert_eq!(table.layers(path, Path::new("/")), 3);
        let ids = |expected| {
            table.covering(path, Path::new("/"), expected).iter().map(|m| m.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(1), [32, 33]);
        assert_eq!(ids(3), [0_u64; 0]);
        assert_eq!(table.layers(path, path), 2);
    }

    #[test]
    fn a_mount_on_a_parent_hides_the_one_below() {
        let table = MountTable::parse(
            b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /a/b rw - ext4 b rw\n3 1 8:3 / /a rw - ext4 c rw\n",
        );
        assert_eq!(table.mount_of(Path::new("/a/b/f")).unwrap().id, 3);
    }

    #[test]
    fn a_bind_mount_wakes_the_sensor_and_stands_in_the_table() {
        let room = disk();
        let (good, bad) = (room.path().join("a b"), room.path().join("bad"));
        std::fs::write(&good, "good").unwrap();
        std::fs::write(&bad, "bad").unwrap();
        let mut sensor = MountsSensor::new().unwrap();
        let before = sensor.read().unwrap();
        let at = before.mount_point_of(&good).unwrap().to_owned();
        let expected = before.layers(&good, &at);
        let (dev, in_fs) = before.in_filesystem(&bad).unwrap();
        assert!(before.covering(&good, &at, expected).is_empty());
        assert!(!MountRoots::scan().unwrap().show(dev, &in_fs));
        bind(&bad, &good);
        let mut wait = [PollFd::new(&sensor.file, PollFlags::PRI)];
        let woken = poll(&mut wait, Some(&Duration::from_secs(10).try_into().unwrap()));
        let after = sensor.read().unwrap();
        let elsewhere = MountRoots::scan().map(|roots| roots.show(dev, &in_fs));
        let covering: Vec<_> = after.covering(&good, &at, expected).into_iter().cloned().collect();
        detach(&good).unwrap();
        assert_eq!(woken, Ok(1));
        assert_eq!(covering.len(), 1);
        assert_eq!((&covering[0].mount_point, &covering[0].root), (&good, &in_fs));
        assert!(elsewhere.unwrap());
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = MountTable::parse(&bytes).mount_of(Path::new("/a/b"));
        }

        #[test]
        fn a_table_that_goes_in_circles_ends(
            lines in proptest::collection::vec((0_u8..6, 0_u8..6, 0_usize..3), 0..12)
        ) {
            let text: String = lines.iter().map(|(id, parent, at)| {
                format!("{id} {parent} 8:1 / {} rw - ext4 x rw\n", ["/", "/a", "/a/b"][*at])
            }).collect();
            let _ = MountTable::parse(text.as_bytes()).mount_of(Path::new("/a/b/c"));
        }
    }
}
