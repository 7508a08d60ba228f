//! The scribe at its desk: what it is told it writes, and keeps until it is written.

mod evidence;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::backlog::Backlog;
use super::discarded::Discards;
use super::outbox::Outbox;
use super::{Afterwards, Delivery, Desk, Note};
use crate::alert::{Gatherer, Item, Turn, Turnout};
use crate::attribute::containers::{Names, Places};
use crate::baseline::{Evidence, Heartbeat};
use crate::daemon::failures::Failure;
use crate::daemon::health::Health;
use crate::engine::Moment;
use crate::record::{Event, Kind, Severity};

/// Between two tries to write what could not be written, and two looks at the spool…
const PAUSE: Duration = Duration::from_secs(1);
/// …and where nothing is to be written or waited for, and nothing was for a while.
const REST: Duration = Duration::from_secs(5);
const A_WHILE: Duration = Duration::from_secs(20);
/// Memory that was needed for a while only is given back that often.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Evidence grows old even where none comes.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// A message that is being sent has this long to arrive before another process delivers.
const LAST_MESSAGE: Duration = Duration::from_secs(5);
/// Notes that are taken before what they say is written.
const MOST_AT_ONCE: usize = 1000;
/// Events that wait for the disk; beyond this the oldest journal lines are more than any
/// person will read, and memory matters more.
const MOST_WAITING: usize = 100_000;

/// See the module.
pub(super) struct Writer {
    pub(super) desk: Desk,
    health: Arc<Health>,
    waiting: VecDeque<Event>,
    messages: BTreeMap<String, Item>,
    /// To be taken back from the spool once these are in it.
    withdrawn: Vec<String>,
    gatherer: Gatherer,
    began: Instant,
    tidy_again: Instant,
    /// When there was something to write last.
    stirred: Instant,
    backlog: Backlog,
    /// What was said last of a thing that goes wrong each time.
    warned: BTreeMap<&'static str, String>,
    trouble: Arc<Mutex<Option<String>>>,
    outbox: Outbox,
    dropped: u64,
    /// The last try to write failed.
    failing: bool,
    /// The database could not be written at the last try.
    behind: bool,
    discards: Discards,
    /// A sign of life, to be given once all that was found before it is on record.
    beat: Option<Heartbeat>,
    /// The index of the quarantine, as it was last read.
    evidence: Vec<Evidence>,
    /// No evidence came since the quarantine was last within bounds.
    pruned: bool,
    prune_again: Instant,
    containers: Names,
}

impl Writer {
    /// Nothing is written yet. What cannot be is told in `trouble`.
    pub(super) fn new(
        desk: Desk,
        health: Arc<Health>,
        trouble: Arc<Mutex<Option<String>>>,
        outbox: Outbox,
    ) -> Self {
        Self {
            desk,
            health,
            waiting: VecDeque::new(),
            messages: BTreeMap::new(),
            withdrawn: Vec::new(),
            gatherer: Gatherer::default(),
            began: Instant::now(),
            tidy_again: Instant::now() + TIDY_EVERY,
            stirred: Instant::now(),
            backlog: Backlog::default(),
            warned: BTreeMap::new(),
            trouble,
            outbox,
            dropped: 0,
            failing: false,
            behind: false,
            discards: Discards::default(),
            beat: None,
            evidence: Vec::new(),
            pruned: false,
            prune_again: Instant::now(),
            containers: Names::new(Places::of_host()),
        }
    }

    /// Writes until nobody is left to tell anything.
    pub(super) fn run(&mut self, inbox: &Receiver<Note>) {
        let mut next_round = Instant::now();
        loop {
            self.health.scribe.work();
            let mut later = Vec::new();
            let until = next_round.saturating_duration_since(Instant::now());
            let open = match inbox.recv_timeout(until) {
                Ok(first) => {
                    self.take(first, &mut later);
                    let more = inbox.try_iter().take(MOST_AT_ONCE);
                    more.for_each(|note| self.take(note, &mut later));
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
                next_round = Instant::now() + REST;
            }
            if !self.is_at_rest() {
                next_round = next_round.min(Instant::now() + PAUSE);
            }
            later.into_iter().for_each(|Afterwards(act)| act());
            self.tell_backlog();
            if !open {
                self.health.scribe.rest();
                return;
            }
        }
    }

    /// What the journal, the spool and the state have to say can wait a little.
    fn is_at_rest(&self) -> bool {
        let waits = !self.waiting.is_empty()
            || !self.messages.is_empty()
            || self.desk.spool.waiting() > 0
            || self.backlog.len() > 0
            || self.desk.keeper.is_worried();
        !(waits || self.failing || self.behind) && self.pruned && self.stirred.elapsed() > A_WHILE
    }

    fn tells(&self) -> bool {
        !matches!(self.desk.delivery, Delivery::Nobody)
    }

    fn tell_backlog(&self) {
        let counts = &self.health.counts;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        counts.journal_backlog.set(number(self.waiting.len()));
        counts.baseline_backlog.set(number(self.backlog.len()));
        counts.spool_backlog.set(number(self.messages.len() + self.desk.spool.waiting()));
    }

    /// A line for the journal.
    fn line(&mut self, event: Event) {
        self.health.counts.event(&event);
        if self.waiting.len() >= MOST_WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
            if self.dropped == 1 {
                self.health.counts.failure(Failure::LinesDropped);
            }
        }
        self.waiting.push_back(event);
    }

    fn fail(&mut self, failure: Failure, note: String) {
        self.health.counts.failure(failure);
        if let Some(event) = failure.event(note) {
            self.line(event);
        }
    }

    /// Here and not where the process was seen: it takes its time, and names of containers are
    /// read from the disk.
    fn complete(&mut self, event: &mut Event) {
        for actor in event.actor.iter_mut().chain(&mut event.others) {
            self.desk.lineage.complete(actor);
            self.containers.complete(actor);
        }
    }

    fn take(&mut self, note: Note, later: &mut Vec<Afterwards>) {
        // A sign of life has nothing else follow from it.
        if !matches!(note, Note::Heartbeat(_)) {
            self.stirred = Instant::now();
        }
        match note {
            Note::Event(mut event) => {
                self.complete(&mut event);
                self.gatherer.recorded(now(self.began), &event);
                self.line(*event);
            }
            Note::Failure(failure, path, note) => {
                self.health.counts.failure(failure);
                if let Some(event) = failure.event(note) {
                    self.line(path.iter().fold(event, |event, path| event.about(path)));
                }
            }
            Note::Message { mut item, waits } => {
                item.events.iter_mut().for_each(|event| self.complete(event));
                // Where nobody is to be told, nothing is to pile up.
                if self.tells() {
                    self.gatherer.take(now(self.began), item, waits);
                }
            }
            Note::Delivery(delivery) => {
                let before = std::mem::replace(&mut self.desk.delivery, delivery);
                if let Delivery::Own(mut process) = before {
                    process.stop(LAST_MESSAGE);
                }
            }
            Note::Then(act) => later.push(act),
            Note::Heartbeat(beat) => self.beat = Some(beat),
            Note::Discarded(piece) => self.discards.add(&piece),
            Note::Cramped { slot, bytes } => {
                let failed = self.make_room(&slot, bytes).err();
                self.warn("quarantine", failed);
            }
            Note::Records(records) => {
                self.desk.keeper.remember(records);
                self.keep();
            }
            note => {
                self.pruned &= !matches!(note, Note::Evidence(_));
                self.backlog.take(note, &self.desk.baseline);
            }
        }
    }

    /// What is told of together, and what is recorded of that.
    fn gather(&mut self, at_once: bool) {
        let Turnout { events, items, withdrawn } = self.gatherer.turnout(now(self.began), at_once);
        events.into_iter().for_each(|event| self.line(event));
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
        if trouble.is_none()
            && let Some(beat) = self.beat.take()
        {
            self.backlog.take(Note::Heartbeat(beat), &self.desk.baseline);
        }
        self.tell_trouble(trouble);
    }

    /// Says once that something cannot be written, and once that it can be again.
    fn tell_trouble(&mut self, trouble: Option<String>) {
        let failing = std::mem::replace(&mut self.failing, trouble.is_some());
        match &trouble {
            Some(why) if !failing => {
                tracing::error!("{why}; {} lines wait", self.waiting.len());
                self.fail(Failure::JournalUnwritable, format!("{why}; what is to be said waits"));
            }
            None if failing => {
                tracing::info!("the journal and the mail spool can be written again");
                let dropped = std::mem::take(&mut self.dropped);
                if dropped > 0 {
                    let note = format!("{dropped} lines waited too long and were given up");
                    self.waiting.extend(Failure::LinesDropped.event(note));
                }
                let event = Event::new(Timestamp::now(), Kind::SensorRecovered, Severity::Info);
                self.line(event.noting("the journal and the mail spool can be written again"));
            }
            _ => {}
        }
        let waits = self.backlog.trouble();
        match &waits {
            Some(why) if !self.behind => self.fail(Failure::BaselineUnwritable, why.clone()),
            _ => {}
        }
        self.behind = waits.is_some();
        if let Ok(mut shared) = self.trouble.lock() {
            *shared = trouble.or(waits);
        }
    }

    /// Once a second, or more seldom at rest: whether the state is as it should be, what became of messages, and whether
    /// the quarantine is within bounds.
    fn round(&mut self) {
        self.keep();
        self.backlog.retry(&self.desk.baseline);
        if let Delivery::Own(process) = &mut self.desk.delivery {
            match process.tick(Instant::now()) {
                Some(Turn::Ended { status, wait }) => {
                    self.health.counts.failure(Failure::MailProcessEnded);
                    tracing::warn!("the mail process ended ({status}); next start in {wait:?}");
                }
                Some(Turn::Failed { error, wait }) => {
                    self.health.counts.failure(Failure::MailProcessEnded);
                    tracing::warn!("cannot start the mail process: {error}; next try in {wait:?}");
                }
                Some(Turn::Started { pid }) => tracing::debug!("mail process started, pid {pid}"),
                None => {}
            }
        }
        match self.desk.spool.collect() {
            Ok(news) => {
                for news in news {
                    if let Some(event) = self.outbox.learn(news, &self.health.counts) {
                        self.line(event);
                    }
                }
            }
            Err(e) => self.warn("spool", Some(e.to_string())),
        }
        if !self.pruned || Instant::now() >= self.prune_again {
            self.prune_again = Instant::now() + PRUNE_EVERY;
            self.pruned = true;
            let failed = self.prune().err();
            self.warn("quarantine", failed);
            self.desk.keeper.keep_reserve();
        }
        if Instant::now() >= self.tidy_again {
            self.tidy_again = Instant::now() + TIDY_EVERY;
            crate::sys::memory::give_back_again();
        }
        let discarded = self.discards.tell();
        discarded.into_iter().for_each(|event| self.line(event));
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
        if let Some(event) = self.desk.keeper.recovered() {
            self.line(event);
        }
    }

    /// Somebody is at the daemon's own files: a journal line, and a message.
    fn put_on_record(&mut self, told: Vec<Event>) {
        if !told.is_empty() {
            self.stirred = Instant::now();
        }
        if self.tells()
            && let Some(first) = told.first()
        {
            let incident = format!("state-{}", first.time.strftime("%Y%m%dT%H%M%S.%6f"));
            let item =
                Item { incident: incident.clone(), not_before: first.time, events: told.clone() };
            self.messages.insert(incident, item);
        }
        told.iter().for_each(|_| self.health.counts.failure(Failure::StateTampered));
        told.into_iter().for_each(|event| self.line(event));
    }
}

fn now(began: Instant) -> Moment {
    Moment { mono: began.elapsed(), wall: Timestamp::now() }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
