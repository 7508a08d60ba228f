//! The thread that writes: journal, database, quarantine and spool.
//!
//! One thread, because every one of these waits for the disk, and the guard must not. What it
//! is told it keeps until it is written: a full disk delays a line and loses none.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::alert::{Item, News, Spool, Supervisor, Turn};
use crate::attribute::containers::{Names, Places};
use crate::baseline::{Baseline, BaselineError, Evidence, Parent, Record, Replica};
use crate::judge::Stat;
use crate::record::{Entry, Event, Journal, Kind, Severity};
use crate::respond::Quarantine;

/// Something to be written.
#[derive(Debug)]
pub enum Note {
    /// A journal line.
    Event(Box<Event>),
    /// A message, in place of what was said of the incident before.
    Message(Item),
    /// The file is whole in this state.
    Seal(PathBuf, Stat),
    /// The directories above are these now.
    Parents(PathBuf, Vec<Parent>),
    /// A replica was prepared, or used up.
    Replica(PathBuf, Option<Replica>),
    /// Evidence was taken.
    Evidence(Evidence),
    /// A path is protected.
    Protect(Box<Record>),
    /// A path is no longer protected.
    Release(PathBuf),
    /// To be done when everything before this is written, or cannot be.
    Then(Afterwards),
}

/// Something to be done later, once.
pub struct Afterwards(Box<dyn FnOnce() + Send>);

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
    /// The process that delivers; `None` where nobody is to be told.
    pub deliverer: Option<Supervisor>,
    /// Called with every line once it is on the disk.
    pub on_entry: Box<dyn Fn(&Entry) + Send>,
}

/// The handle of the thread.
pub struct Scribe {
    notes: Sender<Note>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<Desk>>,
}

/// Between two tries to write what could not be written, and two looks at the spool.
const PAUSE: Duration = Duration::from_secs(1);
/// Events that wait for the disk; beyond this the oldest journal lines are more than any
/// person will read, and memory matters more.
const MOST_WAITING: usize = 100_000;

impl Scribe {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(desk: Desk) -> std::io::Result<Self> {
        let (notes, inbox) = channel();
        let trouble = Arc::new(Mutex::new(None));
        let mut writer = Writer {
            desk,
            waiting: VecDeque::new(),
            messages: BTreeMap::new(),
            trouble: Arc::clone(&trouble),
            dropped: 0,
            containers: Names::new(Places::of_host()),
        };
        let thread = std::thread::Builder::new().name("scribe".into()).spawn(move || {
            writer.run(&inbox);
            writer.desk
        })?;
        Ok(Self { notes, trouble, thread: Some(thread) })
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

    /// Waits until everything handed over so far is on the disk, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        let (done, wait) = channel();
        self.tell(Note::Then(Afterwards::new(move || {
            // Whoever waited may have lost patience.
            let _ = done.send(());
        })));
        wait.recv_timeout(patience).is_ok()
    }

    /// Ends the thread once it has written what it can.
    pub fn stop(mut self) -> Option<Desk> {
        drop(std::mem::replace(&mut self.notes, channel().0));
        self.thread.take()?.join().ok()
    }
}

struct Writer {
    desk: Desk,
    waiting: VecDeque<Event>,
    messages: BTreeMap<String, Item>,
    trouble: Arc<Mutex<Option<String>>>,
    dropped: u64,
    containers: Names,
}

impl Writer {
    fn run(&mut self, inbox: &Receiver<Note>) {
        let mut next_round = Instant::now();
        loop {
            let mut later = Vec::new();
            let open = match inbox.recv_timeout(PAUSE) {
                Ok(first) => {
                    self.take(first, &mut later);
                    inbox.try_iter().for_each(|note| self.take(note, &mut later));
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            self.write();
            if Instant::now() >= next_round {
                self.round();
                next_round = Instant::now() + PAUSE;
            }
            later.into_iter().for_each(|Afterwards(act)| act());
            if !open {
                return;
            }
        }
    }

    fn take(&mut self, note: Note, later: &mut Vec<Afterwards>) {
        let desk = &mut self.desk;
        let kept: Result<(), BaselineError> = match note {
            Note::Event(mut event) => {
                name_containers(&mut self.containers, &mut event);
                if self.waiting.len() >= MOST_WAITING {
                    self.waiting.pop_front();
                    self.dropped += 1;
                }
                self.waiting.push_back(*event);
                Ok(())
            }
            Note::Message(mut item) => {
                let events = item.events.iter_mut();
                events.for_each(|event| name_containers(&mut self.containers, event));
                // Where nobody is to be told, nothing is to pile up.
                if desk.deliverer.is_some() {
                    self.messages.insert(item.incident.clone(), item);
                }
                Ok(())
            }
            Note::Seal(path, stat) => desk.baseline.set_seal(&path, Some(&stat)).map(drop),
            Note::Parents(path, parents) => {
                desk.baseline.get(&path).and_then(|record| match record {
                    Some(record) => desk.baseline.put(&Record { parents, ..record }),
                    None => Ok(()),
                })
            }
            Note::Replica(path, replica) => {
                desk.baseline.set_replica(&path, replica.as_ref()).map(drop)
            }
            Note::Evidence(evidence) => desk.baseline.add_evidence(&evidence).map(drop),
            Note::Protect(record) => desk.baseline.put(&record),
            Note::Release(path) => desk.baseline.remove(&path).map(drop),
            Note::Then(act) => {
                later.push(act);
                Ok(())
            }
        };
        if let Err(e) = kept {
            tracing::error!("{e}");
        }
    }

    /// Writes what waits. Journal first: a message must not tell of what is not on record.
    fn write(&mut self) {
        let mut trouble = None;
        if !self.waiting.is_empty() {
            let batch = self.waiting.make_contiguous();
            match self.desk.journal.append(batch) {
                Ok(entries) => {
                    self.waiting.clear();
                    entries.iter().for_each(|entry| (self.desk.on_entry)(entry));
                    for trouble in self.desk.journal.troubles() {
                        tracing::warn!("{trouble}");
                    }
                }
                Err(e) => trouble = Some(e.to_string()),
            }
        }
        let spool = &mut self.desk.spool;
        self.messages.retain(|_, item| match spool.put(item) {
            Ok(()) => false,
            Err(e) => {
                trouble.get_or_insert(e.to_string());
                true
            }
        });
        if let Ok(mut shared) = self.trouble.lock() {
            if let (Some(why), None) = (&trouble, shared.as_ref()) {
                tracing::error!("{why}; {} lines wait", self.waiting.len());
            }
            *shared = trouble;
        }
    }

    /// Once a second: what became of messages, and whether the quarantine is within bounds.
    fn round(&mut self) {
        if let Some(deliverer) = self.desk.deliverer.as_mut() {
            match deliverer.tick(Instant::now()) {
                Some(Turn::Ended { status, wait }) => {
                    tracing::warn!("the mail process ended ({status}); next start in {wait:?}");
                }
                Some(Turn::Failed { error, wait }) => {
                    tracing::warn!("cannot start the mail process: {error}; next try in {wait:?}");
                }
                Some(Turn::Started { pid }) => tracing::debug!("mail process started, pid {pid}"),
                None => {}
            }
        }
        match self.desk.spool.collect() {
            Ok(news) => self.waiting.extend(news.into_iter().filter_map(undelivered)),
            Err(e) => tracing::warn!("{e}"),
        }
        if let Err(e) = self.prune() {
            tracing::warn!("{e}");
        }
    }

    fn prune(&mut self) -> Result<(), BaselineError> {
        let kept = self.desk.baseline.evidence(None)?;
        for surplus in Quarantine::surplus(&kept, Timestamp::now()) {
            match self.desk.quarantine.remove(&surplus) {
                Ok(()) => drop(self.desk.baseline.remove_evidence(surplus.id)?),
                Err(e) => tracing::warn!("{e}"),
            }
        }
        Ok(())
    }
}

/// Here and not where the process was seen: names are read from the disk.
fn name_containers(names: &mut Names, event: &mut Event) {
    let actors = event.actor.iter_mut().chain(&mut event.others);
    actors.for_each(|actor| names.complete(actor));
}

fn undelivered(news: News) -> Option<Event> {
    let (incident, note) = match news {
        News::Delivered { .. } => return None,
        News::Failed { incident, attempts, error, next_try } => (
            Some(incident),
            format!(
                "mail could not be delivered, attempt {attempts}: {error}; next try {next_try}"
            ),
        ),
        News::Rejected { name, why } => {
            (None, format!("{name} in the mail spool is no message and was set aside: {why}"))
        }
    };
    let mut event = Event::new(Timestamp::now(), Kind::AlertFailed, Severity::Warning).noting(note);
    event.incident = incident;
    Some(event)
}
