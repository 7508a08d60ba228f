//! The polling watcher, for filesystems that notify nobody: on those a change comes from
//! another machine, or from a program that plays the filesystem, and the kernel here has
//! nothing to tell.
//!
//! notify's comparison is only a trigger: it sees a modification time that is later by a whole
//! second, a name that is gone and one that is back. What it misses the sweep finds.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use notify::event::{EventKind, ModifyKind};
use notify::{Config, PollWatcher, RecursiveMode, Watcher};

use super::{By, FileId, Hint, Observation, SenseError, Sensor};

const WHAT: &str = "the polling watcher";

/// `f_type` of filesystems whose changes can happen behind the kernel's back.
const ELSEWHERE: [u32; 15] = [
    0x6969,      // nfs
    0x517b,      // smb
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x0102_1997, // 9p
    0x6573_5546, // fuse
    0x5346_414f, // afs
    0x6b41_4653, // kafs
    0x00c3_6400, // ceph
    0x7375_7245, // coda
    0x564c,      // ncp
    0x0bd0_0bd0, // lustre
    0x1983_0326, // fhgfs (beegfs)
    0x2003_0528, // pvfs2 (orangefs)
    0x786f_4256, // vboxsf
];

/// Whether `path` is on a filesystem that changes without the kernel hearing of it.
///
/// # Errors
/// Where `path` cannot be reached.
pub fn notifies_nobody(path: &Path) -> io::Result<bool> {
    let magic = rustix::fs::statfs(path)?.f_type;
    // Every magic has 32 bits; some architectures keep it in a signed word.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let magic = magic as u32;
    Ok(ELSEWHERE.contains(&magic))
}

/// Looks at files every so often, on a thread of its own.
#[derive(Debug)]
pub struct PollSensor {
    watcher: PollWatcher,
    files: Arc<Mutex<HashMap<PathBuf, Vec<FileId>>>>,
}

impl PollSensor {
    /// Looks every `interval` and hands over what it notices.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn new(
        interval: Duration,
        observe: impl Fn(Observation) + Send + 'static,
    ) -> Result<Self, SenseError> {
        let files = Arc::new(Mutex::new(HashMap::new()));
        let known = Arc::clone(&files);
        let on_event = move |event: notify::Result<notify::Event>| {
            // An error is of one path and one moment; the sweep looks there anyway.
            let Ok(event) = event else { return };
            for file in event.paths.iter().flat_map(|path| ids(&lock(&known), path)) {
                let (at, hint) = (Instant::now(), hint(&event.kind));
                observe(Observation {
                    at,
                    sensor: Sensor::Poll,
                    file,
                    hint,
                    by: By::Nobody,
                    retired: false,
                });
            }
        };
        let config = Config::default().with_poll_interval(interval).with_follow_symlinks(false);
        let watcher = PollWatcher::new(on_event, config).map_err(|error| SenseError::Refused {
            what: WHAT,
            remedy: "the sweep goes on",
            source: io::Error::other(error),
        })?;
        Ok(Self { watcher, files })
    }

    /// Looks at `path` too.
    ///
    /// # Errors
    /// Where there is nothing, or nothing that can be looked at: notify would forget it.
    pub fn watch(&mut self, id: FileId, path: &Path) -> Result<(), SenseError> {
        self.unwatch(id);
        crate::sys::stat::stat(path).map_err(|e| SenseError::watch(WHAT, path, e))?;
        let new = {
            let mut files = lock(&self.files);
            let ids: &mut Vec<FileId> = files.entry(path.to_owned()).or_default();
            ids.push(id);
            ids.len() == 1
        };
        if !new {
            return Ok(());
        }
        self.watcher
            .watch(path, RecursiveMode::NonRecursive)
            .map_err(|error| SenseError::watch(WHAT, path, io::Error::other(error)))
    }

    /// Looks at `id` no longer.
    pub fn unwatch(&mut self, id: FileId) {
        let mut unused = Vec::new();
        lock(&self.files).retain(|path, ids| {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                unused.push(path.clone());
            }
            !ids.is_empty()
        });
        for path in unused {
            // It fails only where it was never watched.
            let _ = self.watcher.unwatch(&path);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

fn ids(files: &HashMap<PathBuf, Vec<FileId>>, path: &Path) -> Vec<FileId> {
    files.get(path).cloned().unwrap_or_default()
}

fn hint(kind: &EventKind) -> Hint {
    match kind {
        EventKind::Create(_) => Hint::Arrived,
        EventKind::Remove(_) => Hint::Removed,
        EventKind::Modify(ModifyKind::Metadata(_)) => Hint::Metadata,
        _ => Hint::Written,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::sys::test::rooms;

    #[test]
    fn local_filesystems_notify() {
        for room in rooms() {
            assert!(!notifies_nobody(room.path()).unwrap());
        }
        notifies_nobody(Path::new("/no/such/path")).unwrap_err();
    }

    #[test]
    fn a_change_is_noticed_without_any_event() {
        for room in rooms() {
            let path = room.path().join("f");
            std::fs::write(&path, "good").unwrap();
            let (send, receive) = mpsc::channel();
            let send = move |seen| send.send(seen).unwrap_or(());
            let mut sensor = PollSensor::new(Duration::from_millis(20), send).unwrap();
            sensor.watch(FileId(7), &path).unwrap();
            let later = std::time::SystemTime::now() + Duration::from_secs(1000);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
            let seen: Observation = receive.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!((seen.file, seen.sensor), (FileId(7), Sensor::Poll));
            std::fs::remove_file(&path).unwrap();
            let gone = || receive.recv_timeout(Duration::from_secs(10)).unwrap().hint;
            while gone() != Hint::Removed {}
            sensor.unwatch(FileId(7));
        }
    }
}
