//! A file that its owner does not want healed: it is left as it was found, which is told once. What
//! is done to it from then on is another matter.

use std::time::Duration;

use super::draft::Draft;
use super::guarded::Guarded;
use super::heal::GRACE;
use super::timers::Timer;
use super::{Action, Cure, Engine, Moment, Sight};
use crate::attribute::Window;
use crate::judge::{Difference, Facts, Stat, differences};
use crate::record::Kind;
use crate::sense::FileId;

/// How a file was left that its owner does not want healed.
#[derive(Debug)]
pub(super) struct Left {
    /// When it was last seen to be like that.
    pub(super) seen: Duration,
    /// What was different then, and is told.
    pub(super) differs: Vec<Difference>,
}

impl Guarded {
    /// It stays as it is. What is done to it from now on is another matter.
    pub(super) fn leave(&mut self, now: Moment, file: FileId, seen: Sight, out: &mut Vec<Action>) {
        let is_there = matches!(seen, Sight::Present(_));
        if matches!(&seen, Sight::Present(stat) if self.is_another(stat)) {
            out.push(Action::Watch { file });
            // It may have been changed again meanwhile.
            out.push(Action::Look { file });
        }
        self.tolerated = Some(Box::new(seen));
        let differs = self.incident.as_mut().map(|i| std::mem::take(&mut i.differing));
        let differs = differs.unwrap_or_default();
        let told = differs.iter().any(|difference| difference.kind == Kind::ContentChanged);
        self.left = Some(Box::new(Left { seen: now.mono, differs }));
        self.round = self.round.saturating_add(1);
        if is_there && self.is_file() && !told {
            self.unread_but_tolerated = true;
            self.start_verify(file, out);
        }
    }

    /// Whether the file was left with this content, as far as that is known: a look that shows
    /// another size does not tell what the content is.
    pub(super) fn was_left_with(&mut self, content: &Difference) -> bool {
        let Some(left) = &mut self.left else { return false };
        let of_content = || left.differs.iter().filter(|one| one.kind == Kind::ContentChanged);
        let known = of_content().any(|one| one == content);
        let read = of_content().any(|one| one.after.contains_key("sha256"));
        let only_seen = of_content().next().is_some() && !read;
        if only_seen {
            left.differs.push(content.clone());
        }
        known || only_seen
    }

    /// What of this was not like that already when the file was left.
    pub(super) fn since_left(&self, mut found: Vec<Difference>) -> Vec<Difference> {
        let known = |one: &Difference| self.left.as_ref().is_some_and(|l| l.differs.contains(one));
        found.retain(|difference| !known(difference));
        found
    }

    /// Whether this is the state that differs, was reported, and is left as it is.
    pub(super) fn is_left_like(&self, sight: &Sight) -> bool {
        self.tolerated.as_deref() == Some(sight)
    }

    /// The same. Then what events told until now is told, but where content is to be read.
    pub(super) fn tolerates(&mut self, now: Moment, sight: &Sight) -> bool {
        let tolerated = self.is_left_like(sight);
        let to_read = self.written || self.unread || self.verifying.is_some();
        if tolerated && !to_read {
            if let Some(left) = self.left.as_mut() {
                left.seen = now.mono;
            }
            self.owes_nothing();
            if let Some(incident) = self.incident.as_mut() {
                incident.unproven = false;
            }
        }
        tolerated
    }

    /// It is left as it is: has the content read, if somebody may have written since.
    pub(super) fn read_again(&mut self, file: FileId, out: &mut Vec<Action>) {
        let due = self.written || self.unread || self.unread_but_tolerated;
        let is_there = matches!(self.tolerated.as_deref(), Some(Sight::Present(_)));
        if due && is_there && self.is_file() {
            self.start_verify(file, out);
        } else {
            (self.written, self.unread) = (false, false);
        }
    }

    /// What is there now is another state.
    pub(super) fn tolerates_no_more(&mut self) {
        if let Some(under_way) = &mut self.under_way {
            under_way.tolerated = None;
        }
    }
}

impl Engine {
    /// The owner does not want it healed; what is wrong with the content is still to be said.
    pub(super) fn read_what_stays(&mut self, now: Moment, file: FileId, facts: &Facts) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let protected = &guarded.protected;
        let found = differences(&protected.facts, facts, &protected.policy);
        let content = found.into_iter().find(|d| d.kind == Kind::ContentChanged);
        let Some(left) = guarded.left.as_mut() else { return };
        let content = content.filter(|content| !left.differs.contains(content));
        left.differs.extend(content.clone());
        // It belongs to what was found when the file was left, which ended that round.
        let round = guarded.round.saturating_sub(1);
        let Some(incident) = guarded.incident.as_mut() else { return };
        if let Some(content) = content {
            let window = Window { until: now.file_time(), sharp: false, ..incident.window };
            let draft = Draft::of(now, round, window, content);
            let (changed, afterwards) = (incident.changed, incident.afterwards);
            incident.draft(Draft { changed, afterwards, ..draft });
            self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
        }
    }

    /// A write was seen in a file that was left, and a look showed nothing of it: the kernel sets
    /// the time first.
    pub(super) fn written_since_left(
        &mut self,
        now: Moment,
        file: FileId,
        facts: &Facts,
        stat: &Stat,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let found = differences(&guarded.protected.facts, facts, &guarded.protected.policy);
        let is_content = |one: &&Difference| one.kind == Kind::ContentChanged;
        let Some(content) = found.iter().find(is_content) else { return };
        if !guarded.was_left_with(content) {
            self.open_incident(now, file, Sight::Present(*stat), found, Cure::Replace, out);
        }
    }
}
