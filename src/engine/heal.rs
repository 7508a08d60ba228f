//! From drift to whole: which cure, what its outcome means, and when to try again.

use std::time::Duration;

use super::guarded::Failing;
use super::incident::{Draft, Incident};
use super::timers::Timer;
use super::{Action, Cure, Engine, Healed, Inspection, Moment, Sight};
use crate::judge::{Difference, FileKind, Stat, differences, looks_whole};
use crate::record::{Kind, Response};
use crate::sense::{FileId, Hint};

/// The events that name the process come in within this time after the change they tell of.
const GRACE: Duration = Duration::from_millis(50);
/// An incident is over when nothing has happened for this long.
const QUIET: Duration = Duration::from_secs(2);
/// Waits between attempts to heal double from here…
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// …to here.
const LAST_RETRY: Duration = Duration::from_secs(60);

impl Engine {
    /// A look found the file present and not as it should be.
    pub(super) fn drifted(
        &mut self,
        now: Moment,
        file: FileId,
        seen: &Stat,
        cure: Cure,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get(&file) else { return };
        let good = &guarded.protected.facts;
        let mut found = differences(good, &good.overlaid(seen), &guarded.protected.policy);
        let other = guarded.seal.is_some_and(|s| (s.dev, s.ino) != (seen.dev, seen.ino));
        if other && good.kind != FileKind::Directory {
            found.retain(|d| d.kind != Kind::Replaced);
            found.insert(0, inode_differs(guarded.seal.as_ref(), seen));
        } else if cure == Cure::Replace && found.iter().all(|d| d.kind != Kind::ContentChanged) {
            // A write was seen, and the modification time moved: same length, other bytes.
            found
                .iter_mut()
                .filter(|d| d.kind == Kind::MetadataChanged)
                .for_each(|d| d.kind = Kind::ContentChanged);
        }
        self.open_incident(now, file, Some(seen), found, cure, out);
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
        let moved = guarded.suspects.iter().any(|s| s.hint == Hint::Moved);
        let gone = if moved { Kind::Moved } else { Kind::Deleted };
        let (kind, cure) = match sight {
            Sight::Missing => (gone, Cure::Replace),
            Sight::ParentMissing => (gone, Cure::PutBackParents),
            Sight::Covered => (Kind::Shadowed, Cure::Unmount),
            Sight::Away { mount_point } => {
                let where_ = crate::text::escape_path(mount_point);
                let why = format!(
                    "the filesystem at {where_} is not mounted; it is guarded again once it is"
                );
                return self.unwatchable(now, file, why, out);
            }
            Sight::Unreadable(why) => return self.unwatchable(now, file, why, out),
            Sight::Present(_) => return,
        };
        let found =
            vec![Difference { kind, before: Default::default(), after: Default::default() }];
        self.open_incident(now, file, None, found, cure, out);
    }

    fn open_incident(
        &mut self,
        now: Moment,
        file: FileId,
        seen: Option<&Stat>,
        found: Vec<Difference>,
        cure: Cure,
        out: &mut Vec<Action>,
    ) {
        let id = self.next_incident_id(now.wall);
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let learned = guarded.learned.unwrap_or(now.mono);
        let permitted = guarded.permitted(cure);
        let incident =
            guarded.incident.get_or_insert_with(|| Box::new(Incident::new(id, now, learned)));
        if incident.drafts.is_empty() {
            incident.learned = learned;
        }
        if !guarded.told {
            incident.draft(Draft::unannounced(now, guarded.whole_before_wall));
        }
        for difference in found {
            incident.draft(Draft::of(now, difference));
        }
        self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
        self.timers.set(file, Timer::Settle, now.mono + QUIET);
        match permitted {
            Some(cure) => {
                guarded.busy = true;
                guarded.written = false;
                out.push(Action::Heal {
                    file,
                    cure,
                    incident: incident.id.clone(),
                    keep_evidence: incident.keeps_evidence(),
                });
            }
            None => guarded.tolerated = seen.copied(),
        }
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
        guarded.epoch = guarded.epoch.wrapping_add(1);
        guarded.learned = None;
        let again = std::mem::take(&mut guarded.again);
        let took = guarded
            .incident
            .as_ref()
            .map_or(Duration::ZERO, |i| now.mono.saturating_sub(i.learned));
        if let Some(incident) = guarded.incident.as_mut() {
            incident.responses.push(Response {
                action: healed.action.to_owned(),
                outcome: healed.result.as_ref().err().cloned().unwrap_or_else(|| "done".into()),
                took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            });
            incident.heals += 1;
            incident.evidence += u32::from(healed.evidence);
        }
        self.timers.set(file, Timer::Settle, now.mono + QUIET);
        match healed.result {
            Ok(Some(stat)) => self.cured(now, file, healed.action, stat, out),
            Ok(None) => out.push(Action::Look { file }),
            Err(why) => return self.failed(now, file, why, out),
        }
        if again {
            out.push(Action::Look { file });
        }
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
        if !only_locked && !looks_whole(&guarded.protected.facts, &stat) {
            out.push(Action::Look { file });
            if !matches!(action, "repair-metadata") {
                return;
            }
        }
        guarded.seal = Some(stat);
        if let Some(incident) = guarded.incident.as_mut() {
            let kind = if only_locked { Kind::Relocked } else { Kind::Restored };
            incident.cured = Some(incident.cured.map_or(kind, |old| old.min(kind)));
        }
        match action {
            "relock" | "repair-metadata" => out.push(Action::Inspect { file }),
            _ if guarded.written => guarded.start_verify(file, out),
            _ => {
                guarded.verifying = None;
                guarded.failing = None;
                out.push(Action::Seal { file, stat });
                guarded.found_whole(now);
            }
        }
    }

    fn failed(&mut self, now: Moment, file: FileId, why: String, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let attempts = guarded.failing.as_ref().map_or(0, |f| f.attempts) + 1;
        guarded.failing = Some(Failing { attempts, why });
        let wait = FIRST_RETRY.saturating_mul(1 << attempts.min(16)).min(LAST_RETRY);
        self.timers.set(file, Timer::Retry, now.mono + wait);
        self.report_failure(now, file, out);
    }

    pub(super) fn inspected(
        &mut self,
        now: Moment,
        file: FileId,
        finding: Result<Inspection, String>,
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
        facts.sha256 = guarded.protected.facts.sha256;
        if self.differs(now, file, &facts, &stat, out) {
            return;
        }
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.seal = Some(stat);
        if writers && guarded.incident.is_some() {
            // Some filesystems let a descriptor write that was open before the bit was set:
            // such a writer has to lose the inode.
            return self.open_incident(now, file, Some(&stat), Vec::new(), Cure::Replace, out);
        }
        if guarded.is_file() {
            guarded.start_verify(file, out);
        } else {
            out.push(Action::Seal { file, stat });
            guarded.found_whole(now);
        }
    }

    pub(super) fn verified(
        &mut self,
        now: Moment,
        file: FileId,
        epoch: u32,
        finding: Result<Inspection, String>,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        if guarded.verifying != Some(epoch) || guarded.busy {
            return;
        }
        guarded.verifying = None;
        let Inspection { facts, stat, .. } = match finding {
            Ok(inspection) => inspection,
            Err(why) => return self.unreadable(now, file, why, out),
        };
        if self.differs(now, file, &facts, &stat, out) {
            return;
        }
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.seal = Some(stat);
        if guarded.written {
            return guarded.start_verify(file, out);
        }
        guarded.found_whole(now);
        out.push(Action::Seal { file, stat });
        out.push(Action::Look { file });
    }

    /// Whether what was read is not as it should be; if so, the cure is under way.
    fn differs(
        &mut self,
        now: Moment,
        file: FileId,
        facts: &crate::judge::Facts,
        stat: &Stat,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(guarded) = self.files.get_mut(&file) else { return false };
        let found = differences(&guarded.protected.facts, facts, &guarded.protected.policy);
        if found.is_empty() || guarded.beyond_repair.as_ref() == Some(facts) {
            return false;
        }
        let kinds = |wanted: &[Kind]| found.iter().all(|d| wanted.contains(&d.kind));
        let cure = if kinds(&[Kind::ImmutableCleared]) {
            Cure::Relock
        } else if kinds(&[Kind::ImmutableCleared, Kind::MetadataChanged]) {
            guarded.beyond_repair = Some(facts.clone());
            Cure::Repair
        } else {
            Cure::Replace
        };
        self.open_incident(now, file, Some(stat), found, cure, out);
        true
    }

    /// It was there when it was looked at and could not be read. It may have been taken away
    /// again; if it is still there, that is a reason to say so.
    fn unreadable(&mut self, now: Moment, file: FileId, why: String, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.verifying = None;
        guarded.written = true;
        let attempts = guarded.failing.as_ref().map_or(0, |f| f.attempts) + 1;
        guarded.failing = Some(Failing { attempts, why });
        let wait = FIRST_RETRY.saturating_mul(1 << attempts.min(16)).min(LAST_RETRY);
        self.timers.set(file, Timer::Retry, now.mono + wait);
        if attempts > 1 {
            self.report_failure(now, file, out);
        }
    }
}

impl Draft {
    fn of(now: Moment, difference: Difference) -> Self {
        Self {
            kind: difference.kind,
            time: now.wall,
            before: difference.before,
            after: difference.after,
            note: None,
        }
    }

    fn unannounced(now: Moment, whole_before: jiff::Timestamp) -> Self {
        Self {
            kind: Kind::DriftFound,
            time: now.wall,
            before: Default::default(),
            after: Default::default(),
            note: Some(format!(
                "no event told of it; it happened between {whole_before} and {}",
                now.wall
            )),
        }
    }
}

fn inode_differs(seal: Option<&Stat>, seen: &Stat) -> Difference {
    let inode = |stat: &Stat| [("inode".to_owned(), stat.ino.into())].into_iter().collect();
    Difference {
        kind: Kind::Replaced,
        before: seal.map(inode).unwrap_or_default(),
        after: inode(seen),
    }
}
