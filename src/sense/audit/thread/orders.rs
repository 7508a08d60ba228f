//! What the daemon wants of the thread.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, TryRecvError};

use super::super::{Order, PATIENCE};
use super::Listener;
use crate::attribute::{InodeKey, procfs};
use crate::sense::{FileId, MountTable};
use crate::sys::open::{open_dir, open_path_at};

/// So many inodes are tagged by themselves; of further files only the directories are. The kernel
/// searches all tags, in 128 lists, for each directory of each path that anybody uses.
const MOST_TAGGED: usize = 512;

impl Listener {
    /// False when it is time to stop.
    pub(super) fn obey(&mut self, orders: &Receiver<Order>) -> bool {
        let mut rung = [0; 8];
        let _ = rustix::io::read(&self.shared.bell, &mut rung);
        loop {
            match orders.try_recv() {
                Ok(Order::Tag { file, path }) => self.tag(file, &path),
                Ok(Order::Forget { file }) => {
                    self.shared.state().forget(file);
                }
                Ok(Order::Scan(done)) => {
                    self.scan();
                    // Whoever asked may have gone on without.
                    let _ = done.send(());
                }
                Ok(Order::Ask(question)) => self.signal(Some(question), PATIENCE),
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn tag(&mut self, file: FileId, path: &Path) {
        let Some((number, key)) = inode_at(path) else { return };
        self.shared.state().know(file, path, number, key);
        let by_itself = self.tagged.len() < MOST_TAGGED;
        let path = if by_itself { path } else { path.parent().unwrap_or(path) };
        let key = if by_itself { Some(key) } else { inode_at(path).map(|(_, key)| key) };
        let is_new = key.is_none_or(|key| self.tagged.insert(key));
        // A file may have the inode number of one that is gone, and the tag went with that.
        if !is_new && !by_itself {
            return;
        }
        if let Err(error) = self.setup.tag(&self.anchor, path) {
            let path = crate::text::escape_path(path);
            tracing::debug!("{path}: what is done to it is not recorded: {error}");
        }
    }

    /// Who has something protected open already: those descriptors were never asked about.
    fn scan(&mut self) {
        let mut inodes: HashMap<u64, Vec<InodeKey>> = HashMap::new();
        for (key, _) in self.shared.state().inodes.values() {
            inodes.entry(key.ino).or_default().push(*key);
        }
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != self.us) {
            let mut held: Vec<InodeKey> = Vec::new();
            procfs::held(pid, |ino, _| held.extend(inodes.get(&ino).into_iter().flatten()));
            for key in held {
                self.captures.held(pid, key);
            }
        }
    }
}

/// The inode that has this name now: as audit numbers it, and as `statx` does.
fn inode_at(path: &Path) -> Option<(super::super::Number, InodeKey)> {
    let dir = open_dir(path.parent()?).ok()?;
    let fd = open_path_at(dir.as_fd(), path.file_name()?).ok()?;
    let stat = crate::sys::stat::stat_fd(fd.as_fd()).ok()?;
    // btrfs shows a device of its own for each subvolume; audit has the filesystem's.
    const BTRFS: rustix::fs::FsWord = 0x9123_683e;
    let on_btrfs = rustix::fs::fstatfs(&fd).is_ok_and(|fs| fs.f_type == BTRFS);
    let dev = match on_btrfs {
        true => MountTable::read().ok()?.in_filesystem(path)?.0,
        false => stat.dev,
    };
    let number = ((rustix::fs::major(dev), rustix::fs::minor(dev)), stat.ino);
    Some((number, InodeKey { dev: stat.dev, ino: stat.ino }))
}
