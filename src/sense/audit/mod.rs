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
//! Audit records no process that is older than the first use of audit since the boot. Where
//! that may be so, see [`AuditSensor::first_recorded`].

mod act;
mod call;
#[cfg(fuzzing)]
mod fuzz;
mod record;
mod setup;
mod thread;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::{FileId, Health, SenseError};
use crate::attribute::{Captures, Deed, Deeds, InodeKey};
#[cfg(fuzzing)]
pub use fuzz::fuzz;
use thread::Listener;

/// Whoever asks is answered within this time, whether all records have come in or not.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// The start waits this long until all files are known.
const SCAN: Duration = Duration::from_secs(10);
/// The first record has to come within this time.
const FIRST: Duration = Duration::from_secs(2);

/// What the thread tells whoever started it.
#[derive(Debug)]
pub enum Told {
    /// These files should be looked at.
    Look(Vec<FileId>),
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
}

/// See the module. Dropping it takes our rules away.
#[derive(Debug)]
pub struct AuditSensor {
    shared: Arc<Shared>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    first_recorded: u64,
}

/// What both threads use.
#[derive(Debug)]
struct Shared {
    deeds: Deeds,
    state: Mutex<State>,
    bell: OwnedFd,
}

#[derive(Debug)]
struct State {
    /// The protected inodes, as audit numbers them.
    inodes: HashMap<Number, (InodeKey, FileId)>,
    /// The same, as `statx` numbers them.
    by_key: HashMap<InodeKey, FileId>,
    /// The last part of each file's path, and its inodes, the latest last.
    of_file: HashMap<FileId, (Vec<u8>, VecDeque<Number>)>,
    health: Health,
    /// When the thread last went round, to notice one that hangs.
    alive: Instant,
    busy: bool,
}

/// Device and inode as audit has them.
type Number = ((u32, u32), u64);

/// Inodes of one file that are known: what has the path, the replica, and what was taken out.
const MOST_INODES: usize = 4;

#[derive(Debug)]
enum Order {
    Tag { file: FileId, path: PathBuf },
    Forget { file: FileId },
    Scan(Sender<()>),
    Ask(u64),
    Stop,
}

impl AuditSensor {
    /// Adds our rules, turns audit on and listens. `anchor` is a directory of ours in which
    /// nothing happens.
    ///
    /// # Errors
    /// Where the kernel refuses, or no record comes.
    pub fn start(
        captures: Arc<Captures>,
        anchor: &Path,
        tell: impl Fn(Told) + Send + 'static,
    ) -> Result<Self, String> {
        let failed = |source| {
            let remedy = "raise the limits of the service";
            SenseError::Refused { what: "the audit sensor", remedy, source }.to_string()
        };
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            deeds: Deeds::default(),
            state: Mutex::new(State {
                inodes: HashMap::new(),
                by_key: HashMap::new(),
                of_file: HashMap::new(),
                health: Health::Working,
                alive: Instant::now(),
                busy: false,
            }),
            bell: bell.map_err(|e| failed(e.into()))?,
        });
        std::fs::create_dir_all(anchor).map_err(failed)?;
        let listener = Listener::set_up(Arc::clone(&shared), captures, anchor, Box::new(tell))?;
        let first_recorded = listener.first_recorded();
        let (orders, inbox) = channel();
        let (ready, wait) = channel();
        // Made after audit is on: an older thread would not be recorded.
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || listener.listen(&inbox, &ready)).map_err(failed)?;
        let sensor = Self { shared, orders, thread: Some(thread), first_recorded };
        match wait.recv_timeout(FIRST) {
            Ok(Ok(())) => Ok(sensor),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("no audit record comes, though the kernel took our rules; is there a \
                           rule of somebody else (-a task,never) in front of them?"
                .to_owned()),
        }
    }

    /// Has what is at `path` now recorded: of it, and of all below it.
    pub fn watch(&self, file: FileId, path: &Path) {
        self.order(Order::Tag { file, path: path.to_owned() });
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

    /// What was done since then; and whether nothing that was done since then is missing.
    #[must_use]
    pub fn deeds(&self, since: Instant) -> (Vec<Deed>, bool) {
        self.shared.deeds.since(since)
    }

    /// Processes that started before this clock tick may not be recorded at all.
    #[must_use]
    pub fn first_recorded(&self) -> u64 {
        self.first_recorded
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> Health {
        let state = self.shared.state();
        if state.busy && state.alive.elapsed() > FIRST {
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

impl State {
    /// Notes an inode of the file. The first one comes with the path of the file itself, later
    /// ones may come with those of its replicas.
    fn know(&mut self, file: FileId, path: &Path, number: Number, key: InodeKey) {
        self.inodes.insert(number, (key, file));
        self.by_key.insert(key, file);
        let (_, known) = self.of_file.entry(file).or_insert_with(|| {
            let name = path.file_name().unwrap_or_default();
            (name.as_encoded_bytes().to_vec(), VecDeque::new())
        });
        known.retain(|other| *other != number);
        known.push_back(number);
        if known.len() > MOST_INODES
            && let Some(oldest) = known.pop_front()
        {
            self.remove(&oldest);
        }
    }

    /// Whether this is a name of the file. Another one of the same inode is no concern of ours:
    /// a hard link, or that of a later file that was given the number.
    fn is_called(&self, file: FileId, name: Option<&[u8]>) -> bool {
        let (Some((own, _)), Some(name)) = (self.of_file.get(&file), name) else { return true };
        name.rsplit(|byte| *byte == b'/').next() == Some(own)
    }

    fn remove(&mut self, number: &Number) {
        if let Some((key, _)) = self.inodes.remove(number) {
            self.by_key.remove(&key);
        }
    }

    fn forget(&mut self, file: FileId) {
        let (_, numbers) = self.of_file.remove(&file).unwrap_or_default();
        for number in numbers {
            self.remove(&number);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}
