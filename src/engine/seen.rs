//! Who was seen at a file, for as long as that may explain a change.

use std::time::Duration;

use super::guarded::Guarded;
use crate::attribute::Suspect;
use crate::sense::{By, Hint, Observation};

/// Observations that name a process are kept for one incident up to this number.
const MOST_SUSPECTS: usize = 64;
/// Whoever opened a file and may hold it still is a suspect for this long.
const HELD: Duration = Duration::from_secs(1);

/// A suspect, when it was seen, and the last round that what it did can belong to.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) until: u32,
    pub(super) at: Duration,
    pub(super) suspect: Suspect,
}

impl Seen {
    fn process(&self) -> Option<(u32, u64)> {
        match &self.suspect.by {
            By::Process { actor, .. } => Some((actor.pid, actor.start_time)),
            By::Nobody | By::Gone { .. } => None,
        }
    }
}

impl Guarded {
    /// Keeps who did what. Mere readers make room for those who changed something.
    pub(super) fn suspect(&mut self, now: Duration, seen: &Observation) {
        if matches!(seen.by, By::Nobody) {
            return;
        }
        let until = match (seen.retired, self.exchanged) {
            (true, Some(round)) => round,
            (true, None) => return,
            (false, _) => self.round.saturating_add(u32::from(self.busy)),
        };
        if self.suspects.len() >= MOST_SUSPECTS {
            let reader = |s: &Seen| matches!(s.suspect.hint, Hint::Opened | Hint::Closed);
            match self.suspects.iter().position(reader) {
                Some(at) => drop(self.suspects.remove(at)),
                None => return,
            }
        }
        let suspect = Suspect { hint: seen.hint.clone(), by: seen.by.clone() };
        self.suspects.push(Seen { until, at: now, suspect });
    }

    /// Drops suspects, but for those who opened the file lately and have not closed it: they
    /// may still do something through their descriptor.
    pub(super) fn forget_the_harmless(&mut self, now: Duration) {
        if !self.suspects.is_empty() {
            self.keep_holders(now);
            self.suspects.retain(|seen| seen.until == u32::MAX);
        }
    }

    /// Drops suspects who can have done nothing in this round or later.
    pub(super) fn forget_before(&mut self, round: u32) {
        self.suspects.retain(|seen| seen.until >= round);
    }

    /// What was done until now is drafted and waits for its record; what is found from now on
    /// was done by others, or through a descriptor that is open still.
    pub(super) fn begin_round(&mut self, now: Duration) {
        if self.suspects.iter().any(|seen| (self.round..u32::MAX).contains(&seen.until)) {
            self.keep_holders(now);
            let round = self.round;
            let done = self.suspects.iter_mut().filter(|seen| seen.until != u32::MAX);
            done.for_each(|seen| seen.until = seen.until.min(round));
            self.round = round.saturating_add(1);
        }
    }

    /// Of all suspects only those who opened the file lately and have not closed it may still
    /// do something in any round to come.
    fn keep_holders(&mut self, now: Duration) {
        let mut open: Vec<(u32, u64)> = Vec::new();
        let round = self.round;
        for seen in self.suspects.iter_mut().rev() {
            let Some(id) = seen.process() else { continue };
            let last = !open.contains(&id);
            open.push(id);
            let holds = seen.suspect.hint == Hint::Opened && now.saturating_sub(seen.at) < HELD;
            let known = seen.until == u32::MAX;
            seen.until = match last && holds {
                true => u32::MAX,
                false if known => round,
                false => seen.until,
            };
        }
    }
}
