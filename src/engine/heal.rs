//! From drift to whole: which cure, what its outcome means, and when to try again.

use std::time::Duration;

use super::draft::Draft;
use super::guarded::Guarded;
use super::incident::Incident;
use super::timers::Timer;
use super::{Action, Cure, Engine, Healed, MISSED, Moment, Sight};
use crate::attribute::{InodeKey, Window};
use crate::judge::{Difference, Stat, differences, looks_whole};
use crate::record::{Kind, Response};
use crate::sense::FileId;

/// The events that name the process come in within this time after the change they tell of.
pub(super) const GRACE: Duration = Duration::from_millis(50);
/// What was taken out tells more than a look; a record waits for it this long and no longer, so
/// that little is lost where the daemon is killed. What comes later is a record of its own.
pub(super) const EVIDENCE_GRACE: Duration = Duration::from_secs(2);

impl Engine {
    /// A look found the file present and not as it should be. It is put right first; what was
    /// wrong with it is worked out when the engine is asked next.
    pub(super) fn drifted(
        &mut self,
        now: Moment,
        file: FileId,
        seen: &Stat,
        cure: Cure,
        out: &mut Vec<Action>,
    ) {
        let id = self.next_incident_id(now.wall);
        let drift = Drift { now, file, id: id.clone(), seen: *seen, cure };
        let Some(guarded) = self.files.get_mut(&file) else { return };
        if guarded.permitted(cure).is_some() {
            guarded.treat(now, file, id, Sight::Present(*seen), cure, out);
            self.drift = Some(drift);
        } else {
            self.work_out(drift.clone());
            if let Some(guarded) = self.files.get_mut(&file) {
                guarded.treat(now, file, id, Sight::Present(*seen), cure, out);
            }
        }
    }

    /// What is wrong with the file that was found drifted.
    pub(super) fn work_out(&mut self, drift: Drift) {
        let Drift { now, file, id, seen, cure } = drift;
        let Some(guarded) = self.files.get(&file) else { return };
        let good = &guarded.protected.facts;
        let mut found = differences(good, &good.overlaid(&seen), &guarded.protected.policy);
        if guarded.is_another(&seen) {
            found.retain(|d| d.kind != Kind::Replaced);
            found.insert(0, inode_differs(guarded.sealed().map(|seal| seal.ino), seen.ino));
        } else if cure == Cure::Replace && found.iter().all(|d| d.kind != Kind::ContentChanged) {
            // A write was seen, and the modification time moved: same length, other bytes.
            found
                .iter_mut()
                .filter(|d| d.kind == Kind::MetadataChanged)
                .for_each(|d| d.kind = Kind::ContentChanged);
        }
        self.note(now, file, id, &Sight::Present(seen), found, cure);
    }

    /// The path does not lead to the file, or to anything.
    pub(super) fn astray(
        &mut self,
        now: Moment,
        file: FileId,
        sight: Sight,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let renamed = guarded.under_way.as_mut().is_some_and(|u| std::mem::take(&mut u.renamed));
        let gone = if renamed { Kind::Moved } else { Kind::Deleted };
        let (kind, cure) = match &sight {
            Sight::Missing => (gone, Cure::Replace),
            Sight::ParentMissing => (gone, Cure::PutBackParents),
            Sight::Covered => (Kind::Shadowed, Cure::Unmount),
            Sight::Present(_) | Sight::Away { .. } | Sight::Unreadable(_) => return,
        };
        let found =
            vec![Difference { kind, before: Default::default(), after: Default::default() }];
        self.open_incident(now, file, sight, found, cure, out);
    }

    pub(super) fn open_incident(
        &mut self,
        now: Moment,
        file: FileId,
        seen: Sight,
        found: Vec<Difference>,
        cure: Cure,
        out: &mut Vec<Action>,
    ) {
        let id = self.next_incident_id(now.wall);
        self.note(now, file, id.clone(), &seen, found, cure);
        if let Some(guarded) = self.files.get_mut(&file) {
            guarded.treat(now, file, id, seen, cure, out);
        }
    }

    /// Makes what was found part of an incident.
    fn note(
        &mut self,
        now: Moment,
        file: FileId,
        id: String,
        seen: &Sight,
        found: Vec<Difference>,
        cure: Cure,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let learned = guarded.learned.unwrap_or(now.mono);
        let quiet = guarded.quiet(now.mono);
        let failing = guarded.failing.is_some();
        let round = guarded.round;
        let replaced = found.iter().any(|difference| difference.kind == Kind::Replaced);
        let mut window = guarded.window(now, seen);
        // Of several changes only the last was at the time that the inode has.
        window.sharp &= found.len() == 1;
        let read = Window { whole: window.whole.min(guarded.whole_before.get()), ..window };
        let (bygone, changed) = (guarded.bygone(now, seen), guarded.changed(seen));
        let differing = found.clone();
        let (stays, afterwards) = (guarded.permitted(cure).is_none(), guarded.left.is_some());
        let found = if stays { guarded.since_left(found) } else { found };
        let differs = !found.is_empty();
        let found: Vec<_> = found.into_iter().filter(|one| guarded.is_news(one)).collect();
        // The mount table tells of what is mounted over it in this run.
        let shadowed = found.iter().any(|difference| difference.kind == Kind::Shadowed);
        let told = guarded.told || (shadowed && guarded.seen_whole.is_some());
        let (seal, whole) = (guarded.sealed(), guarded.whole_before_wall.get());
        let incident =
            guarded.incident.get_or_insert_with(|| Box::new(Incident::new(id, now, learned)));
        if incident.unasked().next().is_none() {
            incident.learned = learned;
            incident.noticed = now.mono;
            incident.inode = seal.map(|seal| (seal.dev, seal.ino));
        }
        incident.changed = changed;
        incident.differing = differing;
        incident.afterwards = afterwards;
        // What another look adds came with the same inode.
        let replaced = replaced || incident.said.contains(&(round, Kind::Replaced));
        incident.window = read;
        incident.replaced = replaced;
        incident.bygone = bygone;
        let known = |incident: &Incident| incident.said.iter().any(|s| s.1 == Kind::DriftFound);
        if !told && differs && !(failing && known(incident)) {
            incident.draft(Draft { changed, ..Draft::unannounced(now, round, window, whole) });
        }
        for difference in found {
            let window = if difference.takes_reading() { read } else { window };
            let draft = Draft::of(now, round, window, difference);
            incident.draft(Draft { changed, replaced, bygone, afterwards, ..draft });
        }
        self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
        self.timers.set(file, Timer::Settle, now.mono + quiet);
    }

    pub(super) fn healed(
        &mut self,
        now: Moment,
        file: FileId,
        healed: Healed,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.busy = false;
        let missed = healed.action == MISSED;
        if !missed {
            guarded.note_heal(now.mono);
        }
        guarded.epoch = guarded.epoch.saturating_add(1);
        let ended = guarded.round;
        let taken_out = matches!(healed.action, "exchange" | "place");
        if (taken_out || healed.action == "rejoin") && healed.result.is_ok() {
            guarded.exchanged = Some(guarded.round);
            guarded.round = guarded.round.saturating_add(1);
        }
        let round = guarded.round;
        for seen in guarded.suspects.iter_mut().filter(|seen| seen.until != u32::MAX) {
            seen.until = seen.until.min(round);
        }
        guarded.learned = None;
        let again = std::mem::take(&mut guarded.again);
        let took = guarded
            .incident
            .as_ref()
            .map_or(Duration::ZERO, |i| now.mono.saturating_sub(i.learned));
        let had = guarded.sealed().filter(|_| taken_out).as_ref().map(InodeKey::of);
        if let Some(incident) = guarded.incident.as_mut().filter(|_| !missed) {
            incident.respond(Response {
                action: healed.action.to_owned(),
                outcome: healed.result.as_ref().err().cloned().unwrap_or_else(|| "done".into()),
                took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            });
            incident.heals += 1;
            if healed.evidence {
                incident.await_evidence(ended, now, had);
            }
            if let Some(from) = &healed.from {
                incident.was_moved(from);
            }
        }
        self.timers.set(file, Timer::Settle, now.mono + guarded.quiet(now.mono));
        match healed.result {
            Ok(stat) if guarded.is_fruitless(healed.action, stat.as_ref()) => {
                let why = "whatever is put right is different again at once".to_owned();
                return self.failed(now, file, why, out);
            }
            Ok(Some(stat)) => self.cured(now, file, healed.action, stat, out),
            Ok(None) => {
                if let Some(incident) = guarded.incident.as_mut() {
                    incident.unproven = true;
                }
                guarded.disowned = matches!(healed.action, "relock" | "repair-metadata");
                out.push(Action::Look { file });
            }
            Err(why) => return self.failed(now, file, why, out),
        }
        if again {
            out.push(Action::Look { file });
        }
    }

    /// What an exchange took out is seen through another mount, such as a container's: there it
    /// has to be healed too, and from now on in place.
    pub(super) fn shown(&mut self, now: Moment, file: FileId, out: &mut Vec<Action>) {
        let id = self.next_incident_id(now.wall);
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.shown = guarded.busy;
        if guarded.busy {
            return;
        }
        guarded.busy = true;
        let incident =
            guarded.incident.get_or_insert_with(|| Box::new(Incident::new(id, now, now.mono)));
        out.push(Action::Heal {
            file,
            cure: Cure::Rejoin,
            incident: incident.id.clone(),
            keep_evidence: true,
        });
        self.timers.set(file, Timer::Settle, now.mono + guarded.quiet(now.mono));
    }

    /// A cure left the file in a state that a look at its end describes.
    fn cured(
        &mut self,
        now: Moment,
        file: FileId,
        action: &str,
        stat: Stat,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let only_locked = action == "relock";
        if matches!(action, "relock" | "repair-metadata") && guarded.is_another(&stat) {
            if let Some(incident) = guarded.incident.as_mut() {
                incident.unproven = true;
            }
            out.push(Action::Look { file });
            return;
        }
        guarded.disowned = false;
        guarded.held &= !guarded.is_another(&stat);
        // Whole or not, what has the path now is the inode that belongs there.
        guarded.seal_unread(stat);
        if !only_locked && !looks_whole(&guarded.protected.facts, &stat) {
            out.push(Action::Look { file });
            if let Some(incident) = guarded.incident.as_mut() {
                incident.unproven = true;
            }
            if !matches!(action, "repair-metadata") {
                return;
            }
        }
        if let Some(incident) = guarded.incident.as_mut() {
            let kind = if only_locked { Kind::Relocked } else { Kind::Restored };
            incident.cured = Some(incident.cured.map_or(kind, |old| old.min(kind)));
            incident.unproven = false;
            // The drafts may be on record already: a heal can take longer than the grace.
            self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
        }
        match action {
            "relock" | "repair-metadata" => out.push(Action::Inspect { file }),
            _ => {
                // Between the exchange and the lock anybody could write, set an attribute and
                // set the time back: a look does not show it, and it has the `ctime` of the
                // lock. So it is sealed beyond a restart only once it was read.
                guarded.failing = None;
                match guarded.is_file() {
                    true => guarded.start_verify(file, out),
                    false => out.push(Action::Inspect { file }),
                }
            }
        }
    }

    pub(super) fn failed(&mut self, now: Moment, file: FileId, why: String, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let wait = guarded.fail(why);
        self.timers.set(file, Timer::Retry, now.mono + wait);
        self.report_failure(now, file, out);
    }
}

/// A file that was found different, and is being put right before the rest is thought about.
#[derive(Clone)]
pub(super) struct Drift {
    now: Moment,
    file: FileId,
    id: String,
    seen: Stat,
    cure: Cure,
}

impl Guarded {
    /// Has the file put right, as far as its owner wants that. `id` names the incident unless
    /// one is open.
    fn treat(
        &mut self,
        now: Moment,
        file: FileId,
        id: String,
        seen: Sight,
        cure: Cure,
        out: &mut Vec<Action>,
    ) {
        let Some(permitted) = self.permitted(cure) else {
            return self.leave(now, file, seen, out);
        };
        self.busy = true;
        self.written = false;
        let open = self.incident.as_deref();
        out.push(Action::Heal {
            file,
            cure: permitted,
            incident: open.map_or(id, |incident| incident.id.clone()),
            keep_evidence: open.is_none_or(Incident::keeps_evidence),
        });
    }

    /// An event told that the name was taken from it: before a look showed that, or after.
    pub(super) fn was_renamed(&mut self) {
        if !self.incident.as_mut().is_some_and(|incident| incident.was_renamed()) {
            self.renamed = true;
        }
    }
}

/// The path leads to another inode than it did; these are their numbers.
pub(super) fn inode_differs(before: Option<u64>, after: u64) -> Difference {
    let fact = |number: u64| [("inode".to_owned(), number.into())].into_iter().collect();
    let before = before.map(fact).unwrap_or_default();
    Difference { kind: Kind::Replaced, before, after: fact(after) }
}
