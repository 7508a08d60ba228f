//! What was seen of processes while they were alive, kept for when an event names one.
//!
//! The permission thread writes here, the engine's thread reads; one mutex, held for moments
//! and never over I/O, so neither can make the other wait for a disk.
//!
//! **Never a wrong process.** An event carries a pid, and a pid is used again. What was
//! captured under it is believed only on one of these grounds:
//!
//! 1. The event came with a pidfd: the process was alive when the event was read. On Linux 6.9
//!    and later a pidfd's inode number is the process's own for ever, so equal numbers prove
//!    it. Before that, the start time in `/proc` is compared, and afterwards the pidfd must
//!    still show the process alive, so that what was read was its.
//! 2. The process is gone, but its pid cannot have been given away in between. Pids are handed
//!    out in a circle: the number after the last one given, round to the beginning at
//!    `pid_max`. `/proc/loadavg` shows the last one. If the way from its place at the capture
//!    to its place now does not lead over the pid, and less time has passed than a whole round
//!    could take, nobody has been given the number. A root that restores checkpoints can choose
//!    numbers out of turn (`clone3` with `set_tid`); nobody else can.
//!
//! Otherwise the process counts as gone.

mod opens;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use self::opens::Open;
use self::opens::Opens;
use super::circle::{Circle, fastest_round};
use super::procfs::{Image, Process};
use super::{Actor, Lineage, Source, users};
use crate::judge::{FileTime, Stat};
use crate::sense::By;
use crate::sys::clock;

/// Processes that are remembered.
const PROCESSES: usize = 1024;
/// Descriptors that are older than the watch.
const HELD: usize = 4096;

/// An inode, as `statx` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InodeKey {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

impl InodeKey {
    /// The one that was looked at.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        Self { dev: stat.dev, ino: stat.ino }
    }
}

/// An inode that was opened, and when.
pub type Opened = (InodeKey, Instant);

/// Processes by pid, and who opened what when. Bounded: the oldest goes first.
#[derive(Debug, Default)]
pub struct Captures {
    tables: Mutex<Tables>,
    lineage: Arc<Lineage>,
}

#[derive(Debug, Default)]
struct Tables {
    processes: HashMap<u32, Captured>,
    /// Pids in the order in which they were captured; one may stand there twice.
    order: VecDeque<u32>,
    opens: Opens,
    /// Descriptors that are older than the watch.
    held: Vec<Open>,
}

#[derive(Clone, Debug)]
struct Captured {
    actor: Arc<Actor>,
    image: Option<Image>,
    identity: Option<u64>,
    circle: Option<Circle>,
}

impl Captures {
    /// Nothing captured yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Arc::default())
    }

    /// The same, beside what is known of who started whom.
    #[must_use]
    pub fn with(lineage: Arc<Lineage>) -> Self {
        users::refresh();
        Self { lineage, ..Self::default() }
    }

    pub(super) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Notes that process `pid`, which waits in `open` at this moment, opens the inode `key`.
    /// A process that is known, and still runs the same program, is not looked at again. Once it
    /// was looked at, which may have taken long, `at` tells from when on it can do something.
    ///
    /// Opens nothing outside `/proc` and may run on the permission thread.
    pub fn opening(
        &self,
        pid: u32,
        pidfd: Option<BorrowedFd<'_>>,
        (key, ctime): (InodeKey, FileTime),
        at: impl FnOnce() -> Instant,
    ) {
        let Some(process) = Process::open(pid) else { return };
        let identity = pidfd.and_then(crate::sys::pidfd::identity);
        let actor = match self.known(pid, identity, &process) {
            Some(actor) => actor,
            None => match self.look(&process, pid, identity) {
                Some(actor) => actor,
                None => return,
            },
        };
        self.tables().opens.add(Open { key, ctime, at: at(), actor });
    }

    /// Who has opened the inode since then, the latest first, each once.
    #[cfg(test)]
    pub(crate) fn openers_since(&self, key: InodeKey, since: Instant) -> Vec<Arc<Actor>> {
        let mut once: Vec<Arc<Actor>> = Vec::new();
        for open in self.opens(key, &(since..=Instant::now())) {
            if !once.iter().any(|known| known.is_same(&open.actor)) {
                once.push(open.actor);
            }
        }
        once
    }

    /// How the inode was opened in that time, the latest first.
    #[must_use]
    pub fn opens(&self, key: InodeKey, time: &RangeInclusive<Instant>) -> Vec<Open> {
        let within = |open: &&Open| open.key == key && time.contains(&open.at);
        let mut opens: Vec<Open> = self.tables().opens.iter().filter(within).cloned().collect();
        opens.sort_by_key(|open| Reverse(open.at));
        opens
    }

    /// Notes that `pid` had the inode open when the watch began.
    pub fn held(&self, pid: u32, key: InodeKey) {
        let Some(process) = Process::open(pid) else { return };
        let Some(actor) = self.look(&process, pid, None) else { return };
        let (ctime, at) = (FileTime::default(), Instant::now());
        let mut tables = self.tables();
        if tables.held.len() < HELD {
            tables.held.push(Open { key, ctime, at, actor });
        }
    }

    /// Which inodes this process had opened by then, and when, and which its parents, as far as
    /// is remembered.
    #[must_use]
    pub fn opened_by(&self, actor: &Actor, then: FileTime) -> (Vec<Opened>, Vec<Opened>) {
        // Of a process without a start time only the pid is known, which may have been another's.
        let keeps = if actor.start_time == 0 { fastest_round() } else { Duration::MAX };
        let ago = clock::since(then);
        let same = |open: &Open| {
            open.actor.is_same(actor) && open.at.elapsed().saturating_sub(ago) < keeps
        };
        let tables = self.tables();
        let parent = |other: &Actor| {
            other.pid == actor.ppid || actor.ancestry.iter().any(|above| above.may_be(other))
        };
        let parents = actor.ancestry.iter().map(|above| above.pid);
        let pids: BTreeSet<u32> = parents.chain([actor.pid, actor.ppid]).collect();
        let (mut own, mut above) = (Vec::new(), Vec::new());
        for open in tables.held.iter().chain(pids.into_iter().flat_map(|pid| tables.opens.by(pid)))
        {
            if same(open) {
                own.push((open.key, open.at));
            } else if parent(&open.actor) {
                above.push((open.key, open.at));
            }
        }
        (own, above)
    }

    /// Processes older than that tick which opened the inode by the end of that time, each once,
    /// and whether they did so within it. The others matter only if they have it open still.
    #[must_use]
    pub fn older_openers(
        &self,
        key: InodeKey,
        tick: u64,
        time: &RangeInclusive<Instant>,
    ) -> Vec<(Arc<Actor>, bool)> {
        let mut older: Vec<(Arc<Actor>, bool)> = Vec::new();
        let tables = self.tables();
        let opens = |open: &&Open| open.key == key && open.at <= *time.end();
        for open in tables.held.iter().chain(tables.opens.iter()).filter(opens) {
            if open.actor.start_time >= tick {
                continue;
            }
            let lately = time.contains(&open.at);
            match older.iter_mut().find(|(actor, _)| actor.is_same(&open.actor)) {
                Some((_, known)) => *known |= lately,
                None => older.push((Arc::clone(&open.actor), lately)),
            }
        }
        older
    }

    /// The process of an event that was read just now. See the module for when it is believed.
    ///
    /// Reads `/proc` and `/etc/passwd`: never on the permission thread.
    #[must_use]
    pub fn by_event(&self, pid: u32, pidfd: Option<BorrowedFd<'_>>) -> By {
        if pid == 0 {
            return By::Nobody;
        }
        let found = match pidfd {
            Some(pidfd) => self.alive(pid, pidfd),
            None => None,
        };
        let found = found.or_else(|| Some((self.captured_and_gone(pid)?, Source::OpenPermission)));
        match found {
            Some((actor, source)) => By::Process { actor, source },
            None => By::Gone { pid },
        }
    }

    /// The process of an event that waited for long. What was captured under its pid since may be
    /// another; only a pidfd of its own tells.
    #[must_use]
    pub fn by_late_event(&self, pid: u32, pidfd: Option<OwnedFd>) -> By {
        if pid == 0 {
            return By::Nobody;
        }
        match pidfd.and_then(|pidfd| self.alive(pid, pidfd.as_fd())) {
            Some((actor, source)) => By::Process { actor, source },
            None => By::Gone { pid },
        }
    }

    fn alive(&self, pid: u32, pidfd: BorrowedFd<'_>) -> Option<(Arc<Actor>, Source)> {
        let identity = crate::sys::pidfd::identity(pidfd);
        let captured = self.captured(pid);
        if let Some(captured) = &captured
            && identity.is_some()
            && captured.identity == identity
        {
            self.still_alive(pid, Circle::now(), pidfd);
            return Some((Arc::clone(&captured.actor), Source::OpenPermission));
        }
        let process = Process::open(pid)?;
        // Alive after the directory was opened: so the directory is this process's.
        if !crate::sys::pidfd::is_alive(pidfd) {
            return None;
        }
        let start_time = process.start_time()?;
        if let Some(captured) = captured
            && identity.is_none()
            && captured.actor.start_time == start_time
        {
            return Some((captured.actor, Source::OpenPermission));
        }
        users::refresh();
        Some((self.look(&process, pid, identity)?, Source::Pidfd))
    }

    /// What was captured under this pid, if nobody else can have had it since.
    pub(super) fn captured_and_gone(&self, pid: u32) -> Option<Arc<Actor>> {
        let captured = self.captured(pid)?;
        let lives = || Process::open(pid)?.start_time();
        let same = match lives() {
            Some(start_time) => start_time == captured.actor.start_time,
            None => !captured.circle?.may_have_given(pid, &Circle::now()?),
        };
        same.then_some(captured.actor)
    }

    /// What was captured last under this pid, whoever has it now.
    pub(super) fn captured_as(&self, pid: u32) -> Option<Arc<Actor>> {
        Some(self.captured(pid)?.actor)
    }

    fn captured(&self, pid: u32) -> Option<Captured> {
        self.tables().processes.get(&pid).cloned()
    }

    /// The actor as captured before, if `process` is that process and has not become another
    /// program by `execve` since.
    fn known(&self, pid: u32, identity: Option<u64>, process: &Process) -> Option<Arc<Actor>> {
        let captured = self.captured(pid)?;
        let circle = Circle::now();
        let same = match identity {
            Some(_) => captured.identity == identity,
            None => process.start_time() == Some(captured.actor.start_time),
        };
        if !same || captured.image != process.image() {
            return None;
        }
        self.seen_alive(pid, circle);
        Some(captured.actor)
    }

    /// If it lives now, it had its pid when `circle` was taken.
    fn still_alive(&self, pid: u32, circle: Option<Circle>, pidfd: BorrowedFd<'_>) {
        if crate::sys::pidfd::is_alive(pidfd) {
            self.seen_alive(pid, circle);
        }
    }

    /// The captured process `pid` had its pid when `circle` was taken.
    fn seen_alive(&self, pid: u32, circle: Option<Circle>) {
        if let Some(known) = self.tables().processes.get_mut(&pid) {
            known.circle = circle;
        }
    }

    fn look(&self, process: &Process, pid: u32, identity: Option<u64>) -> Option<Arc<Actor>> {
        let circle = Circle::now();
        let image = process.image();
        let actor = Arc::new(process.capture()?);
        let captured = Captured { actor: Arc::clone(&actor), image, identity, circle };
        self.tables().captured(pid, captured);
        Some(actor)
    }

    /// Keeps everybody else waiting, as no code outside tests may.
    #[cfg(test)]
    pub(crate) fn hold(&self) -> impl Drop + '_ {
        self.tables()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No code panics while it holds the lock, and a half-made entry would harm nobody.
        self.tables.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Tables {
    fn captured(&mut self, pid: u32, captured: Captured) {
        self.processes.insert(pid, captured);
        self.order.push_back(pid);
        while self.order.len() > PROCESSES {
            let Some(oldest) = self.order.pop_front() else { break };
            if !self.order.contains(&oldest) {
                self.processes.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
