//! Linux audit: who made the system call. The only sensor that sees flags changed through
//! `file_setattr(2)` and through old descriptors, and that names a process which has exited.
//!
//! One thread owns everything. It sets up our rules ([`setup`]), reads the records beside
//! whoever else does, takes them apart ([`record`], [`call`]), and keeps what was done
//! ([`Deeds`]) for when somebody asks who did it.
//!
//! Silence proves something only if nothing is missing. So before it answers, the thread makes
//! a system call that one of our own rules records, and waits for that record: all earlier
//! ones have come in then. The kernel's counter of lost records, gaps in their numbers and an
//! overrun of the socket are watched, and what was done at such a time is never proof.
//!
//! Audit records no process that is older than the first use of audit since the boot, and none
//! that was started while a rule forbade it. Where that may be so, see
//! [`Records::first_recorded`].

mod act;
mod call;
#[cfg(fuzzing)]
mod fuzz;
mod inodes;
mod record;
mod register;
mod setup;
mod tags;
mod thread;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::{FileId, Health, SenseError};
use crate::attribute::{Captures, Deed, Deeds, InodeKey};
use crate::judge::FileTime;
use crate::sys::audit::{Control, Stream};
use crate::sys::clock;
#[cfg(fuzzing)]
pub use fuzz::fuzz;
use inodes::Inodes;
use tags::Tags;
use thread::Listener;

/// Whoever asks is answered within this time, whether all records have come in or not. Where so
/// much is recorded that they come seconds late, a late name is better than none.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The start waits this long until all files are known.
const SCAN: Duration = Duration::from_secs(10);
/// The first record has to come within this time.
const FIRST: Duration = Duration::from_secs(5);
/// Looking at processes takes longer than this only if one of them makes it.
const HANGS: Duration = Duration::from_secs(2);

/// What the thread tells whoever started it.
#[derive(Debug)]
pub enum Told {
    /// Some files should be looked at: see [`AuditSensor::to_look_at`].
    Look,
    /// Any file should be looked at: some flags were changed, and nobody knows which.
    LookEverywhere,
    /// Records are missing: any file should be looked at, and a person told.
    Lost,
    /// The answer to [`AuditSensor::ask`]: all records up to then have come in, or will not.
    Caught {
        /// The number that was asked with.
        question: u64,
        /// Nothing is missing.
        complete: bool,
    },
    /// It got worse or better: see [`AuditSensor::health`].
    Health,
}

/// See the module. Dropping it takes our rules away.
#[derive(Debug)]
pub struct AuditSensor {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    stream: OwnedFd,
}

/// What both threads use.
#[derive(Debug)]
struct Shared {
    deeds: Deeds,
    state: Mutex<State>,
    /// For having inodes recorded; beside the state, as the kernel may take its time.
    tags: Mutex<Tags>,
    anchor: PathBuf,
    bell: OwnedFd,
    /// Processes that started before this clock tick may not be recorded.
    first_recorded: AtomicU64,
}

#[derive(Debug)]
struct State {
    inodes: Inodes,
    /// A storm of records about one file calls for no more looks than somebody has time for.
    looks: BTreeSet<FileId>,
    health: Health,
    /// When the thread last went round, to notice one that hangs.
    alive: Instant,
    busy: bool,
}

/// Has replicas recorded, on any thread. See [`AuditSensor::registrar`].
#[derive(Clone, Debug)]
pub struct Registrar(Arc<Shared>);

/// What was recorded, for any thread. See [`AuditSensor::records`].
#[derive(Clone, Debug)]
pub struct Records(Arc<Shared>);

#[derive(Debug)]
enum Order {
    Tag { file: FileId, path: Arc<Path> },
    Had { file: FileId, key: InodeKey },
    Forget { file: FileId },
    Scan(Sender<()>),
    Ask(u64),
    Leave,
    Stop,
}

impl AuditSensor {
    /// Adds our rules, turns audit on and listens. `anchor` is a directory of ours in which
    /// nothing happens; `past` are the sockets of earlier runs, whose records are heard first.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn start(
        captures: Arc<Captures>,
        anchor: &Path,
        past: Vec<Stream>,
        tell: impl Fn(Told) + Send + 'static,
    ) -> Result<Self, String> {
        let failed = |source| {
            let remedy = "raise the limits of the service";
            SenseError::Refused { what: "the audit sensor", remedy, source }.to_string()
        };
        let refused = |e| setup::Refused::Kernel(e).to_string();
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            deeds: Deeds::default(),
            state: Mutex::new(State {
                inodes: Inodes::default(),
                looks: BTreeSet::new(),
                health: Health::Working,
                alive: Instant::now(),
                busy: false,
            }),
            tags: Mutex::new(Tags::new(Control::open().map_err(refused)?, anchor)),
            anchor: anchor.to_owned(),
            bell: bell.map_err(|e| failed(e.into()))?,
            first_recorded: AtomicU64::new(0),
        });
        std::fs::create_dir_all(anchor).map_err(failed)?;
        let (listener, stream) =
            Listener::set_up(Arc::clone(&shared), captures, past, Box::new(tell))?;
        let (orders, inbox) = channel();
        let (ready, wait) = channel();
        // Made after audit is on: an older thread would not be recorded.
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || listener.listen(&inbox, &ready)).map_err(failed)?;
        let sensor = Self { shared, orders, thread: Some(thread), stream };
        // Where none comes it goes on trying, and says so by its health.
        let _ = wait.recv_timeout(FIRST + HANGS);
        Ok(sensor)
    }

    /// Has what is at `path` now recorded: of it, and of all below it.
    pub fn watch(&self, file: FileId, path: &Arc<Path>) {
        self.order(Order::Tag { file, path: Arc::clone(path) });
    }

    /// This inode had the path when the run before last saw to it.
    pub fn had(&self, file: FileId, key: InodeKey) {
        self.order(Order::Had { file, key });
    }

    /// Where the records come in, for whoever keeps it open while the daemon starts again.
    #[must_use]
    pub fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Leaves our rules in force at the end: another run follows at once.
    pub fn leave(&self) {
        self.order(Order::Leave);
    }

    /// For whoever wants to know what was done.
    #[must_use]
    pub fn records(&self) -> Records {
        Records(Arc::clone(&self.shared))
    }

    /// For whoever makes replicas.
    #[must_use]
    pub fn registrar(&self) -> Registrar {
        Registrar(Arc::clone(&self.shared))
    }

    /// Files that should be looked at, each told of once however much was done to it.
    #[must_use]
    pub fn to_look_at(&self) -> BTreeSet<FileId> {
        std::mem::take(&mut self.shared.state().looks)
    }

    /// What happens to this file calls for no look any more.
    pub fn unwatch(&self, file: FileId) {
        self.order(Order::Forget { file });
    }

    /// Everything that is protected is watched by now: find out who has it open already.
    pub fn scan(&self) {
        let (done, wait) = channel();
        self.order(Order::Scan(done));
        // It goes on without, and the first tampering may find less known of it.
        let _ = wait.recv_timeout(SCAN);
    }

    /// Asks to be told when all records of what was done until now have come in.
    pub fn ask(&self, question: u64) {
        self.order(Order::Ask(question));
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.shared.state();
        if state.busy && state.alive.elapsed() > HANGS {
            return Health::Degraded("it hangs while it looks at a process".to_owned());
        }
        state.health.clone()
    }

    fn order(&self, order: Order) {
        // A thread that has ended says so by its health.
        let _ = self.orders.send(order);
        let _ = rustix::io::write(&self.shared.bell, &1_u64.to_ne_bytes());
    }
}

impl Drop for AuditSensor {
    fn drop(&mut self) {
        self.order(Order::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Records {
    /// What was done since then, and had begun by `until`; and up to when something that was done
    /// may be missing.
    #[must_use]
    pub fn deeds(
        &self,
        file: FileId,
        since: Instant,
        until: FileTime,
    ) -> (Vec<Arc<Deed>>, Option<Instant>) {
        self.0.deeds.within(file, since, until)
    }

    /// Whether everything that was done to this inode of the file since then is recorded, as
    /// far as it is for us to have that done.
    #[must_use]
    pub fn cover(&self, file: FileId, key: InodeKey, since: Instant) -> bool {
        self.0.state().inodes.is_recorded(file, key, since)
    }

    /// Processes that started before this clock tick may not be recorded at all.
    #[must_use]
    pub fn first_recorded(&self) -> u64 {
        self.0.first_recorded.load(Ordering::Relaxed)
    }
}

impl Registrar {
    /// Has the replica `name` in `dir` recorded, before it takes the path of the file in a
    /// moment.
    pub fn replica(&self, file: FileId, dir: impl AsFd, name: &OsStr) {
        self.0.replica(file, dir.as_fd(), name, true);
    }

    /// Has the replica at `path` recorded, which is to lie ready. May wait some milliseconds.
    pub fn replica_at(&self, file: FileId, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        // One that cannot be opened cannot take the path either, and another is made then.
        if let Ok(dir) = crate::sys::open::open_dir(parent) {
            self.0.replica(file, dir.as_fd(), name, false);
        }
    }
}

impl Shared {
    /// Any process that there is now may not be recorded.
    fn distrust_whoever_lives(&self) {
        let now = clock::ticks_of_wall(clock::wall()).unwrap_or(u64::MAX);
        self.first_recorded.store(now, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}
