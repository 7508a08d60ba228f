//! What was queued while nobody read: the groups of an earlier run, kept open meanwhile.
//!
//! They are read to their end and closed. By then every file is marked in a group of our own, so
//! nothing falls between the two; what both tell is told twice, which harms nobody. Marks that
//! nobody wants any more go with the old group.
//!
//! An event has no time, and may have waited for long: who it was is told by its pidfd alone,
//! for the number may be another's by now. What an earlier run of ours did itself is dropped.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::super::{By, Observation, Sensor};
use super::{FanotifySensor, Inode};
use crate::attribute::Captures;
use crate::sys::fanotify::{Event, MaskFlags, Notifier, ObjectKey};

/// Events that are kept until every file is known. A queue holds a quarter of that.
const MOST: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Bygone {
    groups: Vec<Notifier>,
    /// The processes that had them.
    runs: Vec<u32>,
    events: Vec<Old>,
    lost: bool,
}

#[derive(Debug)]
struct Old {
    mask: MaskFlags,
    object: Option<ObjectKey>,
    dir: Option<(ObjectKey, Vec<u8>)>,
    by: By,
}

impl Bygone {
    /// Takes up the group of the process `run`.
    ///
    /// # Errors
    /// Where it is none; it is closed then.
    pub fn take_up(&mut self, run: u32, group: OwnedFd) -> std::io::Result<()> {
        self.groups.push(Notifier::of(group)?);
        self.runs.push(run);
        Ok(())
    }

    /// Whether there was anything to take up.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Whether events are missing.
    #[must_use]
    pub fn has_lost(&self) -> bool {
        self.lost
    }

    /// Reads what waits. To be called early, as long as those live who did it, and again.
    pub fn read(&mut self, captures: &Captures) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            loop {
                match group.read() {
                    Ok(events) if events.is_empty() => break,
                    Ok(events) => events.into_iter().for_each(|event| self.keep(event, captures)),
                    Err(error) => {
                        tracing::warn!(%error, "what was queued for the run before cannot be read");
                        self.lost = true;
                        break;
                    }
                }
            }
        }
        self.groups = groups;
    }

    fn keep(&mut self, event: Event, captures: &Captures) {
        self.lost |= event.is_overflow() || self.events.len() >= MOST;
        if event.is_overflow() || self.events.len() >= MOST || event.pid == std::process::id() {
            return;
        }
        let by = captures.by_late_event(event.pid, event.pidfd);
        if matches!(by, By::Gone { pid } if self.runs.contains(&pid)) {
            return;
        }
        let Event { mask, object, dir, .. } = event;
        self.events.push(Old { mask, object, dir, by });
    }
}

impl FanotifySensor {
    /// What was queued, as it concerns the files that are watched by now.
    pub fn recall(&self, bygone: &Bygone, at: Instant, out: &mut Vec<Observation>) {
        for old in &bygone.events {
            let object = old.object.as_ref().and_then(|key| self.known(key));
            let dir =
                old.dir.as_ref().and_then(|(key, name)| Some((self.known(key)?, name.clone())));
            let hints = self.index.hints(old.mask, object.as_ref(), dir.as_ref());
            out.extend(hints.into_iter().map(|(file, hint)| {
                let (sensor, by) = (Sensor::Fanotify, old.by.clone());
                Observation { at, sensor, file, hint, by, retired: false }
            }));
        }
    }

    /// The inode of that key; `None` where nobody needs it, or where filesystems without an id
    /// have two of it.
    fn known(&self, key: &ObjectKey) -> Option<Inode> {
        let all = (0..self.groups.len()).filter_map(|group| self.groups.known(group, key));
        let mut needed = all.filter(|inode| !self.index.mask(inode).is_empty());
        needed.next().filter(|_| needed.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::sense::{FileId, Hint, Watched};
    use crate::sys::test::disk;

    const A: FileId = FileId(1);

    /// What was queued for the group of `run`, as a later sensor recalls it.
    fn recalled(before: FanotifySensor, run: u32, path: &std::path::Path) -> Vec<Observation> {
        let group = before.fds().next().unwrap().try_clone_to_owned().unwrap();
        drop(before);
        let mut bygone = Bygone::default();
        bygone.take_up(run, group).unwrap();
        let captures = Captures::new();
        bygone.read(&captures);
        assert!(!bygone.has_lost());
        let mut sensor = FanotifySensor::new().unwrap();
        let mut seen = Vec::new();
        sensor.recall(&bygone, Instant::now(), &mut seen);
        assert!(seen.is_empty(), "no file is known yet");
        sensor.watch(A, &path.into(), Watched::File).unwrap();
        sensor.recall(&bygone, Instant::now(), &mut seen);
        seen
    }

    fn shell(script: &str, path: &std::path::Path) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        shell.spawn().unwrap()
    }

    #[test]
    fn what_was_queued_is_recalled_with_whom_a_pidfd_still_tells() {
        let room = disk();
        let path = room.path().join("f");
        assert!(shell("echo good >$0", &path).wait().unwrap().success());
        let mut before = FanotifySensor::new().unwrap();
        before.watch(A, &path.as_path().into(), Watched::File).unwrap();
        let mut gone = shell("echo evil >>$0", &path);
        assert!(gone.wait().unwrap().success());
        // It says that it has, and lives on.
        let mut alive = shell("chmod 600 $0; echo evil >>$0; echo; read end", &path);
        std::io::Read::read_exact(alive.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let seen = recalled(before, 0, &path);
        let written: Vec<&By> =
            seen.iter().filter(|one| one.hint == Hint::Written).map(|one| &one.by).collect();
        let pid_of = |child: &Child| child.id();
        assert!(matches!(written[0], By::Gone { pid } if *pid == pid_of(&gone)), "{seen:?}");
        let named =
            |by: &&By| matches!(by, By::Process { actor, .. } if actor.pid == pid_of(&alive));
        assert!(written.iter().any(named), "{seen:?}");
        drop(alive.stdin.take());
        alive.wait().unwrap();
    }

    #[test]
    fn what_an_earlier_run_did_itself_is_dropped() {
        let room = disk();
        let path = room.path().join("f");
        assert!(shell("echo good >$0", &path).wait().unwrap().success());
        let mut before = FanotifySensor::new().unwrap();
        before.watch(A, &path.as_path().into(), Watched::File).unwrap();
        let mut run = shell("echo healed >$0", &path);
        assert!(run.wait().unwrap().success());
        let seen = recalled(before, run.id(), &path);
        assert!(seen.is_empty(), "{seen:?}");
    }

    #[test]
    fn what_is_no_group_of_ours_is_not_taken_up() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut bygone = Bygone::default();
        assert!(bygone.take_up(1, file.as_fd().try_clone_to_owned().unwrap()).is_err());
        assert!(!bygone.is_there());
    }
}
