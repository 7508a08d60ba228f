//! What is new in a protected directory: told at once where it is known who made it, and else as
//! soon as audit has told. A look may find it before the event about it is read.

use std::time::Duration;

use super::guarded::Guarded;
use super::heal::GRACE;
use super::incident::{Incident, Newcomer};
use super::timers::Timer;
use super::{Action, Engine, Moment};
use crate::attribute::{Evidence, InodeKey, Nature, Suspect, Testimony, Window, name_culprit};
use crate::judge::Unexpected;
use crate::record::{Event, Kind, Severity};
use crate::sense::{By, FileId, Hint};

/// It was made at most this long before it was noticed.
const AGO: Duration = Duration::from_secs(1);
/// So many wait for audit; of more than that, it is not asked.
const MOST_WAITING: usize = 256;

impl Engine {
    /// A file appeared in a protected directory.
    pub(super) fn stranger(
        &mut self,
        now: Moment,
        file: FileId,
        name: Vec<u8>,
        out: &mut Vec<Action>,
    ) {
        let id = self.next_incident_id(now.wall);
        let Some(guarded) = self.files.get_mut(&file) else { return };
        if !guarded.remember().strangers.insert(name.clone()) {
            return;
        }
        let evict = guarded.protected.policy.unexpected == Unexpected::Quarantine;
        let mut incident =
            guarded.incident.take().unwrap_or_else(|| Box::new(Incident::new(id, now, now.mono)));
        let newcomer = guarded.newcomer(now, name.clone(), evict);
        let told = if newcomer.is_unclear() && incident.newcomers.len() < MOST_WAITING {
            incident.newcomers.push(newcomer);
            true
        } else {
            let event = guarded.created(&incident, newcomer, &Testimony::default());
            guarded.record(&mut incident, event, now, out)
        };
        if told {
            // With the next ones, if there are many.
            self.timers.set_once(file, Timer::Finalize, now.mono + GRACE);
        }
        if evict {
            out.push(Action::Evict { file, name, incident: incident.id.clone() });
        }
        guarded.incident = Some(incident);
        let quiet = guarded.quiet(now.mono);
        self.timers.set(file, Timer::Settle, now.mono + quiet);
    }

    /// A stranger was taken out, or could not be. Whatever has its name from now on is another
    /// one, and may have come before this was heard.
    pub(super) fn evicted(
        &mut self,
        file: FileId,
        name: Vec<u8>,
        gone: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.remember().strangers.remove(&name);
        if gone {
            out.push(Action::CheckStranger { file, name });
        }
    }
}

impl Guarded {
    fn newcomer(&self, now: Moment, name: Vec<u8>, evict: bool) -> Newcomer {
        let by = |s: &&Suspect| matches!(&s.hint, Hint::Child(child) if *child == name);
        let suspects = self.suspects.iter().map(|seen| &seen.suspect).filter(by).cloned().collect();
        let window = Window {
            whole: now.mono.saturating_sub(AGO),
            until: now.file_time(),
            sharp: false,
            own: false,
            closed: false,
            inode: self.sealed().as_ref().map(InodeKey::of),
        };
        Newcomer { name, time: now.wall, evict, suspects, window, asked: None }
    }

    /// It is told who made it, after it was found.
    pub(super) fn made(&mut self, name: &[u8], by: &By) {
        let waiting = self.incident.iter_mut().flat_map(|incident| &mut incident.newcomers);
        for newcomer in waiting.filter(|newcomer| newcomer.name == name) {
            newcomer.suspects.push(Suspect { hint: Hint::Child(name.to_vec()), by: by.clone() });
        }
    }

    /// The events that tell of what the question was about.
    pub(super) fn newcomers(
        &mut self,
        incident: &mut Incident,
        question: u32,
        said: &Testimony,
    ) -> Vec<Event> {
        let answered = |newcomer: &mut Newcomer| newcomer.asked == Some(question);
        let asked: Vec<_> = incident.newcomers.extract_if(.., answered).collect();
        asked.into_iter().map(|newcomer| self.created(incident, newcomer, said)).collect()
    }

    /// The event that tells of it, with who made it.
    fn created(&self, incident: &Incident, newcomer: Newcomer, testimony: &Testimony) -> Event {
        let Newcomer { name, time, evict, mut suspects, window, .. } = newcomer;
        let windows = &[window];
        for suspect in &mut suspects {
            // What was seen of one that was about to end is less than what audit has.
            if let By::Process { actor, .. } = &suspect.by
                && is_gone(&suspect.by)
                && testimony.by_pid(actor.pid, windows).is_some()
            {
                suspect.by = By::Gone { pid: actor.pid };
            }
        }
        let evidence = Evidence { testimony, windows, nature: Nature::default() };
        let named = name_culprit(Kind::Created, &suspects, &[], &evidence);
        let mut event = self.event(incident, time, Kind::Created, Severity::Warning);
        event = event.about(&self.child(&name));
        event.actor = named.actor;
        event.attribution = named.attribution;
        event.others = named.others;
        let note = match evict {
            true => "it does not belong in this protected directory and goes to the quarantine",
            false => "it does not belong in this protected directory",
        };
        event.note = Some(match named.note {
            Some(more) => format!("{note}; {more}"),
            None => note.to_owned(),
        });
        event
    }
}

impl Newcomer {
    /// The event that tells who made it may still come, or does not tell all.
    fn is_unclear(&self) -> bool {
        self.suspects.is_empty() || self.suspects.iter().any(|suspect| is_gone(&suspect.by))
    }
}

/// Whether it was no more to be looked at, or had no program any more.
fn is_gone(by: &By) -> bool {
    match by {
        By::Gone { .. } => true,
        By::Process { actor, .. } => actor.exe.is_none(),
        By::Nobody => false,
    }
}
