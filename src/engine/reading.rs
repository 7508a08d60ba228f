//! What a look cannot tell: attributes and content that were read, held against what should
//! be. What was read before a heal is not believed after it.

use std::sync::Arc;

use super::draft::Draft;
use super::heal::{EVIDENCE_GRACE, GRACE, inode_differs};
use super::incident::Incident;
use super::timers::Timer;
use super::{Action, Cure, Engine, Inspection, Moment, Sight, Unread};
use crate::attribute::InodeKey;
use crate::judge::{Facts, Stat, differences};
use crate::record::Kind;
use crate::sense::FileId;

impl Engine {
    /// What was taken out may hold more than the look showed that led to it, which read no
    /// content, and somebody may have written meanwhile.
    pub(super) fn evidence(
        &mut self,
        now: Moment,
        file: FileId,
        incident: &str,
        found: Option<(&Facts, InodeKey)>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let (good, policy) = (Arc::clone(&guarded.protected.facts), guarded.protected.policy);
        let Some(incident) = guarded.incident.as_mut().filter(|i| i.id == incident) else { return };
        if let (Some(mut awaited), Some((facts, inode))) = (incident.evidence_came(), found) {
            let (round, had) = (awaited.round, awaited.had);
            let read = differences(&good, facts, &policy);
            let content = read.into_iter().find(|d| d.kind == Kind::ContentChanged);
            // It may have come after the last look before the heal.
            let before = had.filter(|before| *before != inode);
            let other = before.map(|before| inode_differs(Some(before.ino), inode.ino));
            let untold = content
                .filter(|_| !incident.knows_digest(round))
                .into_iter()
                .chain(other.filter(|_| !incident.said.contains(&(round, Kind::Replaced))));
            let swapped = before.is_some();
            for difference in untold {
                let more = incident.is_on_record(round, difference.kind);
                let note = more.then(|| "what it was changed to was read only now".to_owned());
                let named = awaited.named(difference.kind, swapped);
                incident.draft(Draft { note, named, ..awaited.draft(difference, swapped) });
            }
        }
        if !incident.drafts.is_empty() && incident.incomplete_until(EVIDENCE_GRACE).is_none() {
            let soon = (incident.noticed + GRACE).max(now.mono);
            self.timers.set(file, Timer::Finalize, soon);
        }
    }

    pub(super) fn inspected(
        &mut self,
        now: Moment,
        file: FileId,
        finding: Result<Inspection, Unread>,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        if guarded.busy {
            guarded.again = true;
            return;
        }
        let Inspection { mut facts, stat, writers } = match finding {
            Ok(inspection) => inspection,
            Err(why) => return self.unreadable(now, file, why, out),
        };
        if guarded.tolerates(now, &Sight::Present(stat)) {
            return guarded.read_again(file, out);
        }
        if guarded.is_another(&stat) {
            out.push(Action::Look { file });
            return;
        }
        guarded.held &= writers;
        facts.sha256 = guarded.protected.facts.sha256;
        let tampered = |i: &Incident| i.heals > 0 || !i.drafts.is_empty();
        if writers && guarded.incident.as_deref().is_some_and(tampered) {
            // Some filesystems let a descriptor write that was open before the bit was set:
            // such a writer has to lose the inode.
            guarded.seal_unread(stat);
            let protected = &guarded.protected;
            let found = differences(&protected.facts, &facts, &protected.policy);
            let seen = Sight::Present(stat);
            return self.open_incident(now, file, seen, found, Cure::Replace, out);
        }
        if self.differs(now, file, &facts, &stat, out) {
            return;
        }
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.seal_unread(stat);
        if guarded.is_file() {
            guarded.start_verify(file, out);
        } else {
            out.push(Action::Seal { file, stat: Box::new(stat) });
            guarded.found_whole(now);
        }
    }

    pub(super) fn verified(
        &mut self,
        now: Moment,
        file: FileId,
        epoch: u32,
        finding: Result<Inspection, Unread>,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        if guarded.verifying != Some(epoch) {
            return;
        }
        guarded.verifying = None;
        if guarded.busy || guarded.epoch != epoch {
            // A heal came in between: what was read is not believed, and still has to be.
            guarded.unread = guarded.is_file();
            return match guarded.busy {
                true => guarded.again = true,
                false => out.push(Action::Look { file }),
            };
        }
        let Inspection { facts, stat, .. } = match finding {
            Ok(inspection) => inspection,
            Err(why) => return self.unreadable(now, file, why, out),
        };
        let unread = std::mem::take(&mut guarded.unread_but_tolerated);
        let sight = Sight::Present(stat);
        if guarded.is_left_like(&sight) {
            match unread {
                true => self.read_what_stays(now, file, &facts),
                false => self.written_since_left(now, file, &facts, &stat, out),
            }
            let Some(guarded) = self.files.get_mut(&file) else { return };
            guarded.tolerates(now, &sight);
            return guarded.read_again(file, out);
        }
        if guarded.is_another(&stat) {
            guarded.unread = guarded.is_file();
            out.push(Action::Look { file });
            return;
        }
        // Until it is put right, what is there counts as unread, whatever a look says.
        let is_file = guarded.is_file();
        let since = std::mem::replace(&mut guarded.unread, is_file);
        if self.differs(now, file, &facts, &stat, out) {
            return;
        }
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.set_seal(stat);
        guarded.unread = since;
        guarded.round = guarded.round.saturating_add(1);
        if guarded.written || guarded.unread {
            return guarded.start_verify(file, out);
        }
        guarded.found_whole(now);
        out.push(Action::Seal { file, stat: Box::new(stat) });
        out.push(Action::Look { file });
    }

    /// Whether what was read is not as it should be; if so, the cure is under way.
    fn differs(
        &mut self,
        now: Moment,
        file: FileId,
        facts: &Facts,
        stat: &Stat,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(guarded) = self.files.get_mut(&file) else { return false };
        let found = differences(&guarded.protected.facts, facts, &guarded.protected.policy);
        if found.is_empty() {
            guarded.nothing_persists();
            return false;
        }
        let kinds = |wanted: &[Kind]| found.iter().all(|d| wanted.contains(&d.kind));
        let mut cure = if kinds(&[Kind::ImmutableCleared]) {
            Cure::Relock
        } else if kinds(&[Kind::ImmutableCleared, Kind::MetadataChanged]) {
            Cure::Repair
        } else {
            Cure::Replace
        };
        if cure != Cure::Replace && guarded.permitted(Cure::Replace).is_some() {
            // What a repair does not put right, another inode may; what that does not either
            // is no reason to heal without end, and none to call it whole.
            match guarded.persists(&found) {
                0 => {}
                1 => cure = Cure::Replace,
                _ if guarded.failing.is_some() => return true,
                _ => {
                    let why = "what was put right is different again at once".to_owned();
                    self.failed(now, file, why, out);
                    return true;
                }
            }
        }
        self.open_incident(now, file, Sight::Present(*stat), found, cure, out);
        true
    }

    /// It was there when it was looked at and could not be read. If it was taken away, another
    /// look finds that out.
    fn unreadable(&mut self, now: Moment, file: FileId, why: Unread, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.verifying = None;
        guarded.unread = guarded.is_file();
        let why = match why {
            Unread::Gone if guarded.may_look_again() => return out.push(Action::Look { file }),
            Unread::Gone => "it is there whenever it is looked at, and gone when it is to be read",
            Unread::Refused(ref why) => why,
        };
        let why = why.to_owned();
        let wait = guarded.fail(why);
        let again = guarded.failing.as_ref().is_some_and(|failing| failing.attempts > 1);
        self.timers.set(file, Timer::Retry, now.mono + wait);
        if again {
            self.report_failure(now, file, out);
        }
    }
}
