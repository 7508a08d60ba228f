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

use super::backlog::Backlog;
use super::discarded::{Discarded, Discards};
use super::keeper::{Keeper, Worry};
use crate::alert::{Gatherer, Item, News, Spool, Supervisor, Turn, Turnout};
use crate::attribute::containers::{Names, Places};
use crate::baseline::{Baseline, Evidence, Heartbeat, Parent, Record, Replica};
use crate::engine::Moment;
use crate::judge::Stat;
use crate::record::{Entry, Event, Journal, Kind, Severity};
use crate::respond::Quarantine;

/// Something to be written.
#[derive(Debug)]
pub enum Note {
    /// A journal line.
    Event(Box<Event>),
    /// A message, in place of what was said of the incident before.
    Message {
        /// What is told.
        item: Item,
        /// It can wait, and be told of with others.
        waits: bool,
    },
    /// The file is whole in this state.
    Seal(PathBuf, Stat),
    /// The directories above are these now.
    Parents(PathBuf, Vec<Parent>),
    /// A replica was prepared, or used up.
    Replica(PathBuf, Option<Replica>),
    /// Evidence was taken.
    Evidence(Evidence),
    /// Evidence could not be kept.
    Discarded(Discarded),
    /// A path is protected.
    Protect(Box<Record>),
    /// A path is no longer protected.
    Release(PathBuf),
    /// All that is protected, should the database have to be written anew.
    Records(Vec<Record>),
    /// Everything was found whole.
    Heartbeat(Heartbeat),
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
    /// Sees to it that all these are where they belong.
    pub keeper: Keeper,
    /// The process that delivers; `None` where nobody is to be told.
    pub deliverer: Option<Supervisor>,
    /// Called with every line once it is on the disk.
    pub on_entry: Box<dyn Fn(&Entry) + Send>,
}

/// The handle of the thread.
pub struct Scribe {
    notes: Sender<Note>,
    trouble: Arc<Mutex<Option<String>>>,
    worry: Worry,
    thread: Option<JoinHandle<Desk>>,
}

/// Between two tries to write what could not be written, and two looks at the spool.
const PAUSE: Duration = Duration::from_secs(1);
/// Evidence grows old even where none comes.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
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
        let worry = desk.keeper.worry();
        let mut writer = Writer {
            desk,
            waiting: VecDeque::new(),
            messages: BTreeMap::new(),
            withdrawn: Vec::new(),
            gatherer: Gatherer::default(),
            began: Instant::now(),
            backlog: Backlog::default(),
            warned: BTreeMap::new(),
            trouble: Arc::clone(&trouble),
            dropped: 0,
            failing: false,
            discards: Discards::default(),
            evidence: Vec::new(),
            pruned: false,
            prune_again: Instant::now(),
            containers: Names::new(Places::of_host()),
        };
        let thread = std::thread::Builder::new().name("scribe".into()).spawn(move || {
            writer.run(&inbox);
            writer.desk
        })?;
        Ok(Self { notes, trouble, worry, thread: Some(thread) })
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
    /// To be taken back from the spool once these are in it.
    withdrawn: Vec<String>,
    gatherer: Gatherer,
    began: Instant,
    backlog: Backlog,
    /// What was said last of a thing that goes wrong each time.
    warned: BTreeMap<&'static str, String>,
    trouble: Arc<Mutex<Option<String>>>,
    dropped: u64,
    /// The last try to write failed.
    failing: bool,
    discards: Discards,
    /// The index of the quarantine, as it was last read.
    evidence: Vec<Evidence>,
    /// No evidence came since the quarantine was last within bounds.
    pruned: bool,
    prune_again: Instant,
    containers: Names,
}

impl Writer {
    fn run(&mut self, inbox: &Receiver<Note>) {
        let mut next_round = Instant::now();
        loop {
            let mut later = Vec::new();
            let until = next_round.saturating_duration_since(Instant::now());
            let open = match inbox.recv_timeout(until) {
                Ok(first) => {
                    self.take(first, &mut later);
                    inbox.try_iter().for_each(|note| self.take(note, &mut later));
                    true
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            self.gather(!open);
            if !open {
                self.keep();
                self.backlog.retry(&self.desk.baseline);
            }
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
        match note {
            Note::Event(mut event) => {
                name_containers(&mut self.containers, &mut event);
                self.gatherer.recorded(now(self.began), &event);
                if self.waiting.len() >= MOST_WAITING {
                    self.waiting.pop_front();
                    self.dropped += 1;
                }
                self.waiting.push_back(*event);
            }
            Note::Message { mut item, waits } => {
                let events = item.events.iter_mut();
                events.for_each(|event| name_containers(&mut self.containers, event));
                // Where nobody is to be told, nothing is to pile up.
                if desk.deliverer.is_some() {
                    self.gatherer.take(now(self.began), item, waits);
                }
            }
            Note::Then(act) => later.push(act),
            Note::Discarded(piece) => self.discards.add(&piece),
            Note::Records(records) => {
                desk.keeper.remember(records);
                self.keep();
            }
            note => {
                self.pruned &= !matches!(note, Note::Evidence(_));
                self.backlog.take(note, &desk.baseline);
            }
        }
    }

    /// What is told of together, and what is recorded of that.
    fn gather(&mut self, at_once: bool) {
        let Turnout { events, items, withdrawn } = self.gatherer.turnout(now(self.began), at_once);
        self.waiting.extend(events);
        self.messages.extend(items.into_iter().map(|item| (item.incident.clone(), item)));
        self.messages.retain(|incident, _| !withdrawn.contains(incident));
        self.withdrawn.extend(withdrawn);
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
                    let troubles = self.desk.journal.troubles();
                    let told = self.desk.keeper.judge(troubles);
                    self.put_on_record(told);
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
        if self.messages.is_empty() {
            self.withdrawn.retain(|incident| spool.withdraw(incident).is_err());
        }
        if let Ok(mut shared) = self.trouble.lock() {
            if let (Some(why), false) = (&trouble, self.failing) {
                tracing::error!("{why}; {} lines wait", self.waiting.len());
            }
            if trouble.is_none() && self.failing {
                tracing::info!("the journal and the mail spool can be written again");
            }
            self.failing = trouble.is_some();
            *shared = trouble.or_else(|| self.backlog.trouble());
        }
    }

    /// Once a second: whether the state is as it should be, what became of messages, and whether
    /// the quarantine is within bounds.
    fn round(&mut self) {
        self.keep();
        self.backlog.retry(&self.desk.baseline);
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
            Err(e) => self.warn("spool", Some(e.to_string())),
        }
        if !self.pruned || Instant::now() >= self.prune_again {
            self.prune_again = Instant::now() + PRUNE_EVERY;
            self.pruned = true;
            let failed = self.prune().err();
            self.warn("quarantine", failed);
        }
        self.waiting.extend(self.discards.tell());
    }

    /// Says what goes wrong with `matter` unless that was the last thing said of it.
    fn warn(&mut self, matter: &'static str, why: Option<String>) {
        let Some(why) = why else { return drop(self.warned.remove(matter)) };
        if self.warned.get(matter) != Some(&why) {
            tracing::warn!("{why}");
            self.warned.insert(matter, why);
        }
    }

    fn keep(&mut self) {
        let Desk { keeper, baseline, journal, spool, .. } = &mut self.desk;
        let told = keeper.look(baseline, journal, spool, &self.evidence);
        if keeper.has_rewritten() {
            self.backlog.forget_records();
        }
        self.put_on_record(told);
    }

    /// Somebody is at the daemon's own files: a journal line, and a message.
    fn put_on_record(&mut self, told: Vec<Event>) {
        if self.desk.deliverer.is_some()
            && let Some(first) = told.first()
        {
            let incident = format!("state-{}", first.time.strftime("%Y%m%dT%H%M%S.%6f"));
            let item =
                Item { incident: incident.clone(), not_before: first.time, events: told.clone() };
            self.messages.insert(incident, item);
        }
        self.waiting.extend(told);
    }

    fn prune(&mut self) -> Result<(), String> {
        if self.desk.baseline.is_touched() {
            self.pruned = false;
            return Ok(());
        }
        let kept = self.desk.baseline.evidence(None).map_err(|e| e.to_string())?;
        self.evidence.clone_from(&kept);
        let now = Timestamp::now();
        let mut failed = None;
        for surplus in Quarantine::surplus(&kept, now) {
            match self.desk.quarantine.remove(&surplus) {
                Ok(true) => {
                    let forgotten = self.desk.baseline.remove_evidence(surplus.id);
                    forgotten.map_err(|e| e.to_string())?;
                    self.discards.add(&Discarded::evicted(&surplus, now));
                }
                Ok(false) => self.pruned = false,
                Err(e) => failed = Some(e.to_string()),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn now(began: Instant) -> Moment {
    Moment { mono: began.elapsed(), wall: Timestamp::now() }
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
