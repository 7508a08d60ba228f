//! The thread that writes: journal, database, quarantine and spool.
//!
//! One thread, because every one of these waits for the disk, and the guard must not. What it
//! is told it keeps until it is written: a full disk delays a line and loses none.

pub(super) mod backlog;
pub(super) mod discarded;
pub(super) mod keeper;
pub(super) mod outbox;
pub(super) mod reserve;
mod worries;
pub(super) mod writer;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::failures::Failure;
use super::health::Health;
use super::workers::worker::join_until;
use crate::alert::{Item, Spool, Supervisor};
use crate::attribute::Lineage;
use crate::baseline::{Baseline, Evidence, Heartbeat, Parent, Record, Replica};
use crate::judge::Stat;
use crate::record::{Entry, Event, Journal};
use crate::respond::Quarantine;
use discarded::Discarded;
use keeper::Keeper;
use outbox::{Outbox, Undelivered};
use writer::Writer;

/// Something to be written.
#[derive(Debug)]
pub enum Note {
    /// A journal line.
    Event(Box<Event>),
    /// Something went wrong with the daemon itself: it is counted, and put on record where
    /// the table says so.
    Failure(Failure, Option<PathBuf>, String),
    /// A message, in place of what was said of the incident before.
    Message {
        /// What is told.
        item: Item,
        /// It can wait, and be told of with others.
        waits: bool,
    },
    /// The file is whole in this state.
    Seal(Arc<Path>, Stat),
    /// The directories above are these now.
    Parents(Arc<Path>, Arc<[Parent]>),
    /// A replica was prepared, or used up.
    Replica(Arc<Path>, Option<Replica>),
    /// Evidence was taken.
    Evidence(Evidence),
    /// A known-good copy of this size finds no room in this slot.
    Cramped {
        /// Where it is to lie.
        slot: Arc<PathBuf>,
        /// How much it takes.
        bytes: u64,
    },
    /// Evidence could not be kept.
    Discarded(Discarded),
    /// A path is protected.
    Protect(Box<Record>),
    /// A path is no longer protected.
    Release(PathBuf),
    /// One of steadfast's own files is this.
    Own(Box<Record>),
    /// One of steadfast's own files is gone for good.
    OwnGone(PathBuf),
    /// All that is protected, should the database have to be written anew.
    Records(Vec<Record>),
    /// These patterns are in force.
    Patterns(Vec<String>),
    /// A person was told that these do less than they should.
    Complaints(Vec<String>),
    /// Everything was found whole.
    Heartbeat(Heartbeat),
    /// From now on the messages are delivered so.
    Delivery(Delivery),
    /// To be done when everything before this is written, or cannot be.
    Then(Afterwards),
}

/// Something to be done later, once.
pub struct Afterwards(pub(super) Box<dyn FnOnce() + Send>);

impl Afterwards {
    /// Wraps `act`.
    pub fn new(act: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(act))
    }
}

impl std::fmt::Debug for Afterwards {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Afterwards")
    }
}

/// Who carries the messages.
#[derive(Debug)]
pub enum Delivery {
    /// Nobody is to be told.
    Nobody,
    /// A process of ours.
    Own(Supervisor),
    /// A process that the service manager runs.
    Service,
}

/// What the scribe needs.
pub struct Desk {
    /// The database.
    pub baseline: Baseline,
    /// The journal.
    pub journal: Journal,
    /// The messages.
    pub spool: Spool,
    /// The evidence.
    pub quarantine: Arc<Quarantine>,
    /// Sees to it that all these are where they belong.
    pub keeper: Keeper,
    /// Who carries the messages.
    pub delivery: Delivery,
    /// Who started whom.
    pub lineage: Arc<Lineage>,
    /// Called with every line once it is on the disk.
    pub on_entry: Box<dyn Fn(&Entry) + Send>,
}

/// The handle of the thread.
pub struct Scribe {
    notes: Sender<Note>,
    trouble: Arc<Mutex<Option<String>>>,
    worry: worries::Worry,
    undelivered: Undelivered,
    thread: Option<JoinHandle<Desk>>,
}

impl Scribe {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(desk: Desk, health: Arc<Health>) -> std::io::Result<Self> {
        let (notes, inbox) = channel();
        let trouble = Arc::new(Mutex::new(None));
        let worry = desk.keeper.worry();
        let outbox = Outbox::default();
        let undelivered = outbox.shown();
        let mut writer = Writer::new(desk, health, Arc::clone(&trouble), outbox);
        let thread = std::thread::Builder::new().name("scribe".into()).spawn(move || {
            writer.run(&inbox);
            writer.desk
        })?;
        Ok(Self { notes, trouble, worry, undelivered, thread: Some(thread) })
    }

    /// Hands over something to be written.
    pub fn tell(&self, note: Note) {
        // The thread ends only when this handle does.
        let _ = self.notes.send(note);
    }

    /// A handle for another thread.
    #[must_use]
    pub fn sender(&self) -> Sender<Note> {
        self.notes.clone()
    }

    /// What cannot be written at the moment, and why.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().ok()?.clone()
    }

    /// What was done to the state directory, and what to do about it.
    #[must_use]
    pub fn worry(&self) -> Option<String> {
        self.worry.lock().ok()?.clone()
    }

    /// Why messages do not arrive, while they do not.
    #[must_use]
    pub fn undelivered(&self) -> Option<String> {
        self.undelivered.lock().ok()?.clone()
    }

    /// Waits until everything handed over so far is on the disk, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = channel();
        self.tell(Note::Then(Afterwards::new(move || {
            // Whoever waited may have lost patience.
            let _ = done.send(());
        })));
        wait.recv_timeout(patience).is_ok()
    }

    /// Ends the thread once it has written what it can, or leaves it behind at the `deadline`.
    pub fn stop(mut self, deadline: Instant) -> Option<Desk> {
        drop(std::mem::replace(&mut self.notes, channel().0));
        join_until(self.thread.take()?, deadline)
    }
}
