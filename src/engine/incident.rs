//! An incident: everything that happens to one file until it is whole and left alone.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Moment;
use crate::attribute::{Nature, Window};
use crate::judge::FileTime;
use crate::record::{Event, Kind, Response};

/// A change that was noticed and not yet recorded, because the events that tell who did it
/// may still be on their way.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) kind: Kind,
    pub(super) time: Timestamp,
    /// The round in which it was noticed.
    pub(super) round: u32,
    pub(super) before: Map<String, Value>,
    pub(super) after: Map<String, Value>,
    pub(super) note: Option<String>,
    /// When it happened, as closely as is known, and to which inode: each time that it was
    /// seen.
    pub(super) windows: Vec<Window>,
    /// The look that showed it, each time, showed another inode: it came with that.
    pub(super) replaced: bool,
}

impl Draft {
    /// What differs.
    pub(super) fn nature(&self) -> Nature {
        let only_times = self.before.keys().all(|fact| fact == "mtime");
        Nature {
            flags: self.before.contains_key("flags"),
            times: self.kind == Kind::MetadataChanged && only_times,
            replaced: self.replaced,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Incident {
    pub(super) id: String,
    pub(super) opened: Duration,
    /// When steadfast learned of what the drafts tell.
    pub(super) learned: Duration,
    /// The `ctime` that the change gave the file, where it is still there.
    pub(super) changed: Option<FileTime>,
    /// When a look showed it.
    pub(super) noticed: Duration,
    /// The inode that had the path until then.
    pub(super) inode: Option<(u64, u64)>,
    /// When the last of the drafts happened.
    pub(super) window: Window,
    /// What was drafted, and in which round.
    pub(super) said: Vec<(u32, Kind)>,
    pub(super) drafts: Vec<Draft>,
    /// What was done about the drafts.
    pub(super) responses: Vec<Response>,
    /// What to say once it is known to be whole again.
    pub(super) cured: Option<Kind>,
    /// A cure was carried out that only another look can tell the success of.
    pub(super) unproven: bool,
    pub(super) events: Vec<Event>,
    /// Heals so far.
    pub(super) heals: u32,
    pub(super) evidence: u32,
    pub(super) contested: bool,
    pub(super) failure_said: bool,
    /// Changes beyond what is recorded one by one.
    pub(super) unlisted: u32,
}

/// An incident keeps this many pieces of evidence: the first tell most, and a loop must not
/// fill the disk.
pub(super) const MOST_EVIDENCE: u32 = 8;
/// A message tells of this many events one by one.
const MOST_EVENTS: usize = 64;
/// A change that is seen more often than this before it is recorded is told as one by nobody.
const MOST_WINDOWS: usize = 32;

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
            said: Vec::new(),
            drafts: Vec::new(),
            responses: Vec::new(),
            cured: None,
            unproven: false,
            events: Vec::new(),
            heals: 0,
            evidence: 0,
            contested: false,
            failure_said: false,
            unlisted: 0,
        }
    }

    /// Adds a change, or more about one that is not recorded yet.
    pub(super) fn draft(&mut self, draft: Draft) {
        if !self.said.contains(&(draft.round, draft.kind)) {
            self.said.push((draft.round, draft.kind));
        }
        match self.drafts.iter_mut().find(|known| known.kind == draft.kind) {
            Some(known) => {
                for (name, value) in draft.before {
                    known.before.entry(name).or_insert(value);
                }
                known.after.extend(draft.after);
                known.replaced &= draft.replaced;
                let room = MOST_WINDOWS.saturating_sub(known.windows.len());
                let more = draft.windows.into_iter().filter(|more| !known.windows.contains(more));
                let more: Vec<_> = more.take(room).collect();
                known.windows.extend(more);
                if known.windows.len() == MOST_WINDOWS {
                    // Too often to tell apart: nobody can be said to have done all of it.
                    known.windows.truncate(MOST_WINDOWS - 1);
                    known.windows.push(Window::default());
                }
            }
            None => self.drafts.push(draft),
        }
    }

    /// Notes what was done. The same again is told once, with the last time it took.
    pub(super) fn respond(&mut self, response: Response) {
        let same =
            |old: &Response| (&old.action, &old.outcome) == (&response.action, &response.outcome);
        self.responses.retain(|old| !same(old));
        self.responses.push(response);
    }

    /// Keeps an event for the message.
    pub(super) fn remember(&mut self, event: Event) {
        if self.events.len() < MOST_EVENTS {
            self.events.push(event);
        }
    }

    pub(super) fn keeps_evidence(&self) -> bool {
        self.evidence < MOST_EVIDENCE
    }
}
