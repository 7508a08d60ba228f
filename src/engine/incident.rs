//! An incident: everything that happens to one file until it is whole and left alone.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::Moment;
use super::draft::{Bygone, Draft};
use super::failing::Telling;
use super::heal::EVIDENCE_GRACE;
use super::outgoing::Outgoing;
use crate::attribute::{InodeKey, Named, Suspect, Window};
use crate::judge::{Difference, FileTime};
use crate::record::{Event, Kind, Response};
use crate::text::escape_path;

/// Something new in a protected directory, whose maker was gone when it was noticed: audit may
/// tell of it.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) name: Vec<u8>,
    pub(super) time: Timestamp,
    pub(super) evict: bool,
    pub(super) suspects: Vec<Suspect>,
    /// When it was made.
    pub(super) window: Window,
    /// The question about it.
    pub(super) asked: Option<u32>,
}

/// Evidence that was taken and will be read.
#[derive(Debug)]
pub(super) struct Awaited {
    /// The round that taking it out ended.
    pub(super) round: u32,
    /// When it was taken out.
    pub(super) at: Moment,
    /// When what it shows happened.
    pub(super) window: Window,
    /// It came with another inode.
    pub(super) replaced: bool,
    /// The inode that should have been taken out; `None` where a copy of it was made.
    pub(super) had: Option<InodeKey>,
    pub(super) bygone: Option<Bygone>,
    /// When a look had shown what it was taken out for.
    pub(super) noticed: Duration,
    /// The `ctime` that it had by then, where that was new.
    pub(super) changed: Option<FileTime>,
    /// The question who did what it may show: where it is read late, that may be forgotten then.
    pub(super) asked: Option<u32>,
    /// The answer, as far as it names somebody.
    pub(super) named: Vec<Supposed>,
}

/// Who did it, should evidence show a change of this kind.
#[derive(Debug)]
pub(super) struct Supposed {
    pub(super) kind: Kind,
    /// Should it be another inode than was to be taken out.
    pub(super) swapped: bool,
    pub(super) named: Named,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Incident {
    pub(super) id: String,
    pub(super) opened: Duration,
    /// When steadfast learned of what the drafts tell.
    pub(super) learned: Duration,
    /// The `ctime` that the last change gave the file, where it is still there.
    pub(super) changed: Option<FileTime>,
    /// When a look showed it.
    pub(super) noticed: Duration,
    /// The inode that had the path until then.
    pub(super) inode: Option<(u64, u64)>,
    /// When the last of the drafts happened.
    pub(super) window: Window,
    /// It came with another inode.
    pub(super) replaced: bool,
    /// They were before this run.
    pub(super) bygone: Option<Bygone>,
    /// What was drafted, and in which round.
    pub(super) said: Vec<(u32, Kind)>,
    /// The rounds in which it was drafted what exactly the content became.
    digests: Vec<u32>,
    /// Evidence that is still being read, the oldest first.
    awaited: VecDeque<Awaited>,
    pub(super) drafts: Vec<Draft>,
    /// All that differed when it was last found different.
    pub(super) differing: Vec<Difference>,
    /// That was done to what had been left in the place of the file.
    pub(super) afterwards: bool,
    /// Not recorded yet either.
    pub(super) newcomers: Vec<Newcomer>,
    /// What was done about the drafts.
    pub(super) responses: Vec<Response>,
    /// What to say once it is known to be whole again.
    pub(super) cured: Option<Kind>,
    /// A cure was carried out that only another look can tell the success of.
    pub(super) unproven: bool,
    pub(super) events: Vec<Event>,
    /// The message about it, and of how many events it tells.
    pub(super) outgoing: Option<Outgoing>,
    pub(super) mailed: usize,
    /// Heals so far.
    pub(super) heals: u32,
    pub(super) evidence: u32,
    pub(super) contested: bool,
    /// What was told of tries that failed.
    pub(super) failures: Telling,
    /// Changes beyond what is recorded one by one.
    pub(super) unlisted: u32,
}

/// This many pieces of evidence of an incident are read: the first tell most.
pub(super) const MOST_EVIDENCE: u32 = 8;
/// An incident stays open for this long while its evidence is read.
const LONGEST_READING: Duration = Duration::from_secs(60);
/// So many rounds back it is known what was said.
const ROUNDS_KNOWN: u32 = 64;
/// What was seen more often than one draft can tell apart is in several, but not in more than
/// this: nobody can be named for what comes after that.
const MOST_FULL: usize = 16;
/// A message tells of this many events one by one.
const MOST_EVENTS: usize = 64;

impl Incident {
    pub(super) fn new(id: String, now: Moment, learned: Duration) -> Self {
        Self {
            id,
            opened: now.mono,
            learned,
            changed: None,
            noticed: now.mono,
            inode: None,
            window: Window::default(),
            replaced: false,
            bygone: None,
            said: Vec::new(),
            digests: Vec::new(),
            awaited: VecDeque::new(),
            drafts: Vec::new(),
            differing: Vec::new(),
            afterwards: false,
            newcomers: Vec::new(),
            responses: Vec::new(),
            cured: None,
            unproven: false,
            events: Vec::new(),
            outgoing: None,
            mailed: 0,
            heals: 0,
            evidence: 0,
            contested: false,
            failures: Telling::default(),
            unlisted: 0,
        }
    }

    /// Adds a change, or more about one that nobody has been asked about yet.
    pub(super) fn draft(&mut self, mut draft: Draft) {
        draft.noticed = self.noticed;
        if !self.said.contains(&(draft.round, draft.kind)) {
            self.said.retain(|(round, _)| round.saturating_add(ROUNDS_KNOWN) > draft.round);
            self.said.push((draft.round, draft.kind));
        }
        if draft.tells_digest() {
            self.digests.retain(|round| round.saturating_add(ROUNDS_KNOWN) > draft.round);
            self.digests.push(draft.round);
        }
        // Who did it is known of one change, not of others.
        let same = |known: &Draft| {
            let open = known.asked.is_none() && known.named.is_none() && draft.named.is_none();
            open && known.kind == draft.kind
        };
        let full = self.drafts.iter().filter(|known| same(known) && known.is_full()).count();
        let takes = |known: &Draft| same(known) && (full >= MOST_FULL || !known.is_full());
        match self.drafts.iter_mut().rfind(|known| takes(known)) {
            Some(known) => {
                for (name, value) in draft.before {
                    known.before.entry(name).or_insert(value);
                }
                known.after.extend(draft.after);
                known.replaced &= draft.replaced;
                known.bygone = known.bygone.or(draft.bygone);
                known.swapped |= draft.swapped;
                known.afterwards |= draft.afterwards;
                for window in draft.windows {
                    known.add(window);
                }
            }
            None => self.drafts.push(draft),
        }
    }

    /// The drafts about which nobody has been asked yet.
    pub(super) fn unasked(&self) -> impl Iterator<Item = &Draft> {
        self.drafts.iter().filter(|draft| draft.asked.is_none())
    }

    /// Whether anything waits for an answer.
    pub(super) fn awaits_an_answer(&self) -> bool {
        self.drafts.iter().any(|draft| draft.asked.is_some())
            || self.newcomers.iter().any(|newcomer| newcomer.asked.is_some())
    }

    /// Whether anything was noticed that is not on record yet.
    pub(super) fn is_untold(&self) -> bool {
        !self.drafts.is_empty() || !self.newcomers.is_empty()
    }

    /// All of that is asked about now, and what evidence may show that is read late: what it tells
    /// of, and when that was.
    pub(super) fn ask(&mut self, question: u32, now: Duration) -> Vec<Window> {
        let mut windows = Vec::new();
        for draft in self.drafts.iter_mut().filter(|draft| draft.asked.is_none()) {
            draft.asked = Some(question);
            if draft.named.is_none() {
                windows.extend_from_slice(&draft.windows);
            }
        }
        let digests = &self.digests;
        let late = |a: &&mut Awaited| a.is_to_be_asked(digests) && a.is_late(now);
        for awaited in self.awaited.iter_mut().filter(late) {
            awaited.asked = Some(question);
            windows.extend(awaited.may_show().flat_map(|draft| draft.windows));
        }
        for newcomer in self.newcomers.iter_mut().filter(|newcomer| newcomer.asked.is_none()) {
            newcomer.asked = Some(question);
            windows.push(newcomer.window);
        }
        windows
    }

    /// Notes what was done. The same again is told once, with the last time it took.
    pub(super) fn respond(&mut self, response: Response) {
        let same =
            |old: &Response| (&old.action, &old.outcome) == (&response.action, &response.outcome);
        self.responses.retain(|old| !same(old));
        self.responses.push(response);
    }

    /// An event came: a look was quicker than it. No event of this run tells of what may have been
    /// changed before.
    pub(super) fn was_announced(&mut self) {
        let since = |window: &Window| window.inode.is_some();
        self.drafts.retain(|d| d.kind != Kind::DriftFound || !d.windows.iter().all(since));
    }

    /// What was taken for deleted had been renamed. False where nothing was, or it is on record.
    pub(super) fn was_renamed(&mut self) -> bool {
        let mut deleted = self.drafts.iter_mut().filter(|d| d.kind == Kind::Deleted).peekable();
        let any = deleted.peek().is_some();
        deleted.for_each(|draft| draft.kind = Kind::Moved);
        let said = self.said.iter_mut().filter(|(_, kind)| any && *kind == Kind::Deleted);
        said.for_each(|(_, kind)| *kind = Kind::Moved);
        any
    }

    /// It was found where it had been renamed to.
    pub(super) fn was_moved(&mut self, to: &Path) {
        self.was_renamed();
        for draft in self.drafts.iter_mut().filter(|draft| draft.kind == Kind::Moved) {
            draft.after.insert("path".to_owned(), escape_path(to).into());
        }
    }

    /// Keeps an event for the message.
    pub(super) fn remember(&mut self, event: Event) {
        if self.events.len() < MOST_EVENTS {
            self.events.push(event);
        }
    }

    /// Whether a record tells of this kind of change in that round already, or is about to.
    pub(super) fn is_on_record(&self, round: u32, kind: Kind) -> bool {
        self.said.contains(&(round, kind)) && self.unasked().all(|draft| draft.kind != kind)
    }

    pub(super) fn keeps_evidence(&self) -> bool {
        self.evidence < MOST_EVIDENCE
    }

    /// Evidence was taken and will be read.
    pub(super) fn await_evidence(&mut self, round: u32, at: Moment, had: Option<InodeKey>) {
        self.evidence += 1;
        let Self { window, replaced, bygone, noticed, changed, .. } = *self;
        let (asked, named) = (None, Vec::new());
        self.awaited.push_back(Awaited {
            round,
            at,
            window,
            replaced,
            had,
            bygone,
            noticed,
            changed,
            asked,
            named,
        });
    }

    /// The evidence that was asked about in this question.
    pub(super) fn supposed(&mut self, question: u32) -> impl Iterator<Item = &mut Awaited> {
        self.awaited.iter_mut().filter(move |awaited| awaited.asked == Some(question))
    }

    /// The oldest evidence that was awaited was read, or will not be.
    pub(super) fn evidence_came(&mut self) -> Option<Awaited> {
        self.awaited.pop_front()
    }

    /// Whether it is known what exactly the content became in that round.
    pub(super) fn knows_digest(&self, round: u32) -> bool {
        self.digests.contains(&round)
    }

    /// Until when nothing is to be recorded, because evidence may soon tell more of it; not
    /// for longer than `patience`.
    pub(super) fn incomplete_until(&self, patience: Duration) -> Option<Duration> {
        let untold = self.awaited.iter().find(|a| !self.knows_digest(a.round))?;
        (!self.drafts.is_empty()).then(|| untold.at.mono + patience)
    }

    /// Whether evidence is still being read that is part of it.
    pub(super) fn awaits_evidence(&self, now: Duration) -> bool {
        self.awaited.iter().any(|a| now.saturating_sub(a.at.mono) < LONGEST_READING)
    }

    /// When it is to be asked who did what evidence may show that is not read by then.
    pub(super) fn asks_by(&self) -> Option<Duration> {
        let digests = &self.digests;
        self.awaited.iter().find(|a| a.is_to_be_asked(digests)).map(Awaited::late_from)
    }
}

impl Awaited {
    /// A draft of what it shows; `swapped`: it is another inode than was to be taken out.
    pub(super) fn draft(&self, difference: Difference, swapped: bool) -> Draft {
        let Self { round, at, replaced, bygone, noticed, changed, .. } = *self;
        let own = self.window.own && !swapped;
        let window = Window { until: at.file_time(), sharp: false, own, ..self.window };
        let draft = Draft::of(at, round, window, difference);
        Draft { taken: Some(at.mono), noticed, changed, replaced, swapped, bygone, ..draft }
    }

    /// Drafts of all that it may show and a look did not.
    pub(super) fn may_show(&self) -> impl Iterator<Item = Draft> {
        let known = self.had.is_some();
        let ways =
            [(Kind::ContentChanged, false), (Kind::ContentChanged, true), (Kind::Replaced, true)];
        ways.into_iter().filter(move |(_, swapped)| known || !swapped).map(|(kind, swapped)| {
            let (before, after) = Default::default();
            self.draft(Difference { kind, before, after }, swapped)
        })
    }

    /// Who made a change of this kind, where that was found out when it was asked.
    pub(super) fn named(&mut self, kind: Kind, swapped: bool) -> Option<Named> {
        let of = |one: &Supposed| (one.kind, one.swapped) == (kind, swapped);
        let at = self.named.iter().position(of)?;
        Some(self.named.swap_remove(at).named)
    }

    fn is_to_be_asked(&self, digests: &[u32]) -> bool {
        self.asked.is_none() && !digests.contains(&self.round)
    }

    fn is_late(&self, now: Duration) -> bool {
        self.late_from() <= now
    }

    fn late_from(&self) -> Duration {
        self.at.mono + EVIDENCE_GRACE
    }
}
