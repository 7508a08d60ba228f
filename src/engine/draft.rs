//! A change that was noticed, until it is on record.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Moment;
use crate::attribute::{Named, Nature, Window};
use crate::judge::{Difference, FileTime};
use crate::record::{Kind, Span};

/// A change that is seen more often than this before it is recorded is not told apart by time.
const MOST_WINDOWS: usize = 256;

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
    /// Between what times it happened, where no event told of it.
    pub(super) span: Option<Span>,
    /// It was before this run.
    pub(super) bygone: Option<Bygone>,
    /// When what it tells of was taken out of the path, where it was read only then.
    pub(super) taken: Option<Duration>,
    /// When a look showed the first of what was drafted with it.
    pub(super) noticed: Duration,
    /// When it was there itself…
    pub(super) shown: Duration,
    /// …and the `ctime` that the file had with it, where that was new: whoever found that when it
    /// opened the file came later.
    pub(super) changed: Option<FileTime>,
    /// Who did it, where that was found out before it was known what was done.
    pub(super) named: Option<Named>,
    /// The question that is to tell who did it. What is seen after that is another draft.
    pub(super) asked: Option<u32>,
    /// Since when somebody is waited for who did it.
    pub(super) waiting: Option<Duration>,
    /// When it happened, as closely as is known, and to which inode: each time that it was
    /// seen.
    pub(super) windows: Vec<Window>,
    /// The look that showed it, each time, showed another inode: it came with that.
    pub(super) replaced: bool,
    /// It was read of another inode than the last look had shown.
    pub(super) swapped: bool,
    /// It was done to what had been left in the place of the file, which is not watched so well.
    pub(super) afterwards: bool,
}

/// A change was before this run, and events told of it that waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bygone {
    pub(super) span: Span,
    /// Nothing else was done that might explain it.
    pub(super) complete: bool,
}

impl Draft {
    /// One that was just found.
    pub(super) fn of(now: Moment, round: u32, window: Window, difference: Difference) -> Self {
        Self {
            kind: difference.kind,
            time: now.wall,
            round,
            before: difference.before,
            after: difference.after,
            note: None,
            span: None,
            bygone: None,
            taken: None,
            noticed: now.mono,
            shown: now.mono,
            changed: None,
            named: None,
            asked: None,
            waiting: None,
            windows: vec![window],
            replaced: false,
            swapped: false,
            afterwards: false,
        }
    }

    /// One that no event told of.
    pub(super) fn unannounced(
        now: Moment,
        round: u32,
        window: Window,
        whole_before: Timestamp,
    ) -> Self {
        let (kind, before, after) = (Kind::DriftFound, Map::new(), Map::new());
        Self {
            note: Some("no event told of it".to_owned()),
            span: Some(Span { from: whole_before, to: now.wall }),
            ..Self::of(now, round, window, Difference { kind, before, after })
        }
    }

    /// What differs.
    pub(super) fn nature(&self) -> Nature {
        let only_times = self.before.keys().all(|fact| fact == "mtime");
        Nature {
            flags: self.before.contains_key("flags"),
            times: self.kind == Kind::MetadataChanged && only_times,
            replaced: self.replaced,
            swapped: self.swapped,
        }
    }

    /// It was seen once more.
    pub(super) fn add(&mut self, more: Window) {
        if self.windows.contains(&more) {
            return;
        }
        if !self.is_full() {
            return self.windows.push(more);
        }
        match self.windows.iter_mut().find(|window| window.inode == more.inode) {
            Some(window) => {
                window.whole = window.whole.min(more.whole);
                window.until = window.until.max(more.until);
                window.sharp = false;
                window.closed &= more.closed;
            }
            // Too often to tell apart: nobody can be said to have done all of it.
            None => {
                self.windows.pop();
                self.windows.push(Window::default());
            }
        }
    }

    /// Whether it was seen so often that one more time cannot be told apart.
    pub(super) fn is_full(&self) -> bool {
        self.windows.len() >= MOST_WINDOWS
    }

    pub(super) fn tells_digest(&self) -> bool {
        self.kind == Kind::ContentChanged
            && self.after.get("sha256").is_some_and(|digest| digest.is_string())
    }
}
