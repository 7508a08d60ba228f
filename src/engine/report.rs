//! From an incident to events for the journal and a message for a person.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::draft::Draft;
use super::guarded::Guarded;
use super::heal::GRACE;
use super::history::QUIET;
use super::incident::{Incident, Supposed};
use super::io::Opener;
use super::outgoing::Outgoing;
use super::timers::Timer;
use super::{Action, Cure, Engine, Moment};
use crate::attribute::{Confidence, Evidence, Named, Testimony, name_culprit};
use crate::judge::AlertWhen;
use crate::record::{Event, Kind, Severity};
use crate::sense::{FileId, Hint};

/// Who opened the file, and what audit says.
type Answer<'a> = (&'a [Opener], &'a Testimony);

/// What a cure does that a reader may not expect.
const REJOINED: &str = "another mount, such as a container's, showed the inode that was taken \
                        out: it was healed too and has its path back";
/// Audit tells of a system call when it returns. On a busy machine one that has changed the file
/// may be kept from that by us and others for this long.
const LONGEST_CALL: Duration = Duration::from_secs(2);
/// An incident that does not settle is closed, and another opened, after this long.
const LONGEST: Duration = Duration::from_secs(60);

impl Engine {
    /// A name that is strictly later than every one before, for people to read and sort.
    pub(super) fn next_incident_id(&mut self, wall: Timestamp) -> String {
        let next = self.last_incident.saturating_add(SignedDuration::from_micros(1));
        self.last_incident = wall.max(next.unwrap_or(wall));
        self.last_incident.strftime("%Y%m%dT%H%M%S.%6f").to_string()
    }

    /// The events that name processes have come in: put on record what was asked about. What
    /// was drafted since has a question of its own, of which this answer knows nothing.
    pub(super) fn finalize(
        &mut self,
        now: Moment,
        file: FileId,
        question: u32,
        answer: Answer<'_>,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let Some(mut incident) = guarded.incident.take() else { return };
        let newcomers = guarded.newcomers(&mut incident, question, answer.1);
        for event in newcomers {
            guarded.record(&mut incident, event, now, out);
        }
        if guarded.awaits_a_doer(now, &mut incident, question, answer) {
            guarded.incident = Some(incident);
            self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
            return;
        }
        guarded.suppose(&mut incident, question, answer);
        let drafted = guarded.drafted(&mut incident, question, answer);
        let all = !incident.is_untold();
        if !drafted.is_empty() && all {
            // What they did is on record; it must not be laid on them a second time.
            guarded.forget_the_harmless(now.mono);
            guarded.recalled = None;
        }
        if let Some(first) = incident.drafts.iter().map(|draft| draft.round).min() {
            guarded.forget_before(first);
        }
        if !all {
            self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
        }
        for event in drafted {
            guarded.record(&mut incident, event, now, out);
        }
        if all && !guarded.busy && guarded.failing.is_none() {
            if let Some(kind) = incident.cured.take() {
                let mut event = guarded.event(&incident, now.wall, kind, Severity::Info);
                let spent = !guarded.may_record(now.mono);
                event.response = std::mem::take(&mut incident.responses);
                event.response.retain(|response| response.outcome == "done");
                if event.response.iter().any(|response| response.action == "rejoin") {
                    event.note = Some(REJOINED.into());
                }
                if !spent {
                    record(&mut incident, event, out);
                }
            }
            incident.responses.clear();
        }
        if guarded.is_contested(now.mono) && !incident.contested {
            incident.contested = true;
            let mut event = guarded.event(&incident, now.wall, Kind::Contested, Severity::Critical);
            event.note = Some("something keeps changing it".into());
            record(&mut incident, event, out);
        }
        guarded.alert(&mut incident, now.wall, out);
        guarded.incident = Some(incident);
        if guarded.tolerated.is_some() {
            guarded.found_whole(now);
        }
    }

    /// Says that the file could not be healed: at first, for each reason, and then ever more seldom.
    pub(super) fn report_failure(&mut self, now: Moment, file: FileId, out: &mut Vec<Action>) {
        let id = self.next_incident_id(now.wall);
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let Some(failing) = guarded.failing.as_ref() else { return };
        let (why, attempts) = (failing.why.clone(), failing.attempts);
        let mut incident =
            guarded.incident.take().unwrap_or_else(|| Box::new(Incident::new(id, now, now.mono)));
        if incident.failures.is_due(&why, now.mono) {
            let mut event =
                guarded.event(&incident, now.wall, Kind::RestoreFailed, Severity::Critical);
            event.response.clone_from(&incident.responses);
            let told = event.response.iter().any(|response| response.outcome == why);
            let so_far = match attempts {
                0..=1 => String::new(),
                _ => format!(", after {attempts} times so far"),
            };
            event.note = Some(match told {
                true => format!("it will be tried again{so_far}"),
                false => format!("{why}; it will be tried again{so_far}"),
            });
            record(&mut incident, event, out);
            guarded.alert(&mut incident, now.wall, out);
        }
        guarded.incident = Some(incident);
        self.timers.set(file, Timer::Settle, now.mono + guarded.quiet(now.mono));
    }

    /// Nothing has happened for a while: close the incident if the file is whole.
    pub(super) fn settle(&mut self, now: Moment, file: FileId, out: &mut Vec<Action>) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        let Some(mut incident) = guarded.incident.take() else { return };
        let lasting = now.mono.saturating_sub(incident.opened) >= LONGEST;
        let untold = incident.is_untold() || incident.awaits_evidence(now.mono);
        // What cannot be healed is one incident until it can.
        if untold || guarded.failing.is_some() || (!guarded.is_quiet() && !lasting) {
            guarded.incident = Some(incident);
            // It has been left alone for long enough: only what is under way has to end.
            self.timers.set(file, Timer::Settle, now.mono + QUIET);
            return;
        }
        if incident.unproven && guarded.is_quiet() {
            guarded.incident = Some(incident);
            self.timers.set(file, Timer::Settle, now.mono + guarded.quiet(now.mono));
            out.push(Action::Look { file });
            return;
        }
        if incident.cured.is_some() && guarded.is_quiet() {
            // It failed after it was cured, and is whole by now: that is still to be said.
            guarded.incident = Some(incident);
            self.timers.set_once(file, Timer::Finalize, now.mono);
            self.timers.set(file, Timer::Settle, now.mono + guarded.quiet(now.mono));
            return;
        }
        if incident.unlisted > 0 {
            let mut event = guarded.event(&incident, now.wall, Kind::Contested, Severity::Critical);
            event.note = Some(format!(
                "{} further changes in this incident are not listed one by one; healed {} times in all",
                incident.unlisted, incident.heals
            ));
            record(&mut incident, event, out);
            guarded.alert(&mut incident, now.wall, out);
        }
        if !guarded.is_quiet() {
            out.push(Action::Look { file });
        }
    }
}

impl Guarded {
    /// What may be done under the owner's policy.
    pub(super) fn permitted(&self, cure: Cure) -> Option<Cure> {
        match cure {
            Cure::Relock | Cure::Repair if self.disowned && self.protected.policy.restore => {
                Some(Cure::Replace)
            }
            Cure::Relock if self.protected.policy.immutable => Some(cure),
            _ => self.protected.policy.restore.then_some(cure),
        }
    }

    pub(super) fn event(
        &self,
        incident: &Incident,
        time: Timestamp,
        kind: Kind,
        severity: Severity,
    ) -> Event {
        let mut event = Event::new(time, kind, severity).about(&self.protected.path);
        event.incident = Some(incident.id.clone());
        event
    }

    /// Who made the change that a draft tells of.
    fn culprit(&self, draft: &Draft, (openers, testimony): Answer<'_>) -> Named {
        let able = self.suspects.iter().filter(|seen| {
            let reader = matches!(seen.suspect.hint, Hint::Opened | Hint::Closed);
            // What was done to the inode that took its place is another matter.
            let next = |taken| seen.until > draft.round && seen.at > taken + GRACE;
            draft.round <= seen.until
                && !draft.taken.is_some_and(next)
                && !(reader && seen.at > draft.noticed)
        });
        let suspects: Vec<_> = able.map(|seen| seen.suspect.clone()).collect();
        let evidence = Evidence { testimony, windows: &draft.windows, nature: draft.nature() };
        let before =
            |opener: &&Opener| opener.at <= draft.shown && Some(opener.found) != draft.changed;
        let openers = Opener::distinct(openers.iter().filter(before));
        let mut named = name_culprit(draft.kind, &suspects, &openers, &evidence);
        if draft.afterwards || draft.bygone.is_some_and(|bygone| !bygone.complete) {
            // Another may have been at it too, whom nobody saw, or the run before last of all.
            let confidence = &mut named.attribution.confidence;
            *confidence = Confidence::Opener.min(*confidence);
        }
        named
    }

    /// Whether somebody made one of the changes whom audit has yet to tell of. Then nobody has
    /// been asked about them.
    fn awaits_a_doer(
        &self,
        now: Moment,
        incident: &mut Incident,
        question: u32,
        answer: Answer<'_>,
    ) -> bool {
        let mut asked: Vec<_> =
            incident.drafts.iter_mut().filter(|draft| draft.asked == Some(question)).collect();
        let awaited = asked.iter_mut().any(|draft| {
            let since = *draft.waiting.get_or_insert(now.mono);
            let soon = draft.named.is_none() && now.mono.saturating_sub(since) < LONGEST_CALL;
            soon && self.culprit(draft, answer).awaited
        });
        if awaited {
            asked.iter_mut().for_each(|draft| draft.asked = None);
            incident.supposed(question).for_each(|evidence| evidence.asked = None);
        }
        awaited
    }

    /// Keeps who did what evidence may show that was asked about.
    fn suppose(&self, incident: &mut Incident, question: u32, answer: Answer<'_>) {
        for evidence in incident.supposed(question) {
            let named = evidence.may_show().map(|draft| {
                let named = self.culprit(&draft, answer);
                Supposed { kind: draft.kind, swapped: draft.swapped, named }
            });
            evidence.named = named.filter(|one| one.named.actor.is_some()).collect();
        }
    }

    /// The drafts that were asked about as events, each with its culprit.
    fn drafted(&self, incident: &mut Incident, question: u32, answer: Answer<'_>) -> Vec<Event> {
        let healed = !self.busy && self.failing.is_none() && self.tolerated.is_none();
        let severity = if healed { Severity::Warning } else { Severity::Critical };
        let asked: Vec<Draft> =
            incident.drafts.extract_if(.., |draft| draft.asked == Some(question)).collect();
        asked
            .into_iter()
            .map(|mut draft| {
                let known = draft.named.take();
                let named = known.unwrap_or_else(|| self.culprit(&draft, answer));
                let mut event = self.event(incident, draft.time, draft.kind, severity);
                event.before = draft.before;
                event.after = draft.after;
                event.actor = named.actor;
                event.attribution = named.attribution;
                event.others = named.others;
                event.response.clone_from(&incident.responses);
                event.window = draft.span.or(draft.bygone.map(|bygone| bygone.span));
                event.note = draft.note.or(named.note);
                event
            })
            .collect()
    }

    /// Puts it on record, unless there are too many. False then.
    pub(super) fn record(
        &mut self,
        incident: &mut Incident,
        event: Event,
        now: Moment,
        out: &mut Vec<Action>,
    ) -> bool {
        let may = self.may_record(now.mono);
        if may {
            record(incident, event, out);
        } else {
            incident.unlisted = incident.unlisted.saturating_add(1);
        }
        may
    }

    fn alert(&self, incident: &mut Incident, wall: Timestamp, out: &mut Vec<Action>) {
        let when = self.protected.policy.alert;
        if when == AlertWhen::Never || incident.events.len() == incident.mailed {
            return;
        }
        incident.mailed = incident.events.len();
        let before = incident.outgoing.take();
        let outgoing = before.map_or_else(|| Outgoing::first(wall), |one| one.with_more(wall));
        incident.outgoing = Some(outgoing);
        out.push(Action::Alert {
            incident: incident.id.clone(),
            not_before: outgoing.not_before,
            events: incident.events.clone(),
            waits: when == AlertWhen::Digest,
        });
    }
}

fn record(incident: &mut Incident, event: Event, out: &mut Vec<Action>) {
    incident.remember(event.clone());
    out.push(Action::Record(Box::new(event)));
}
