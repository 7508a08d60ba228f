//! What happened to a file lately: how often it was healed, what was told of it, what a cure left.

use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::guarded::Guarded;
use crate::judge::Difference;

/// A file is contested when it was healed this often…
const CONTESTED_HEALS: usize = 5;
/// …within this time.
const CONTESTED_WITHIN: Duration = Duration::from_secs(60);
/// An incident is over when nothing has happened for this long…
pub(super) const QUIET: Duration = Duration::from_millis(500);
/// …or this long where the file is contested, so that a storm is one incident.
const QUIET_CONTESTED: Duration = Duration::from_secs(10);
/// What goes this often before it can be read is told of.
const MOST_GONE: u32 = 8;
/// So many lines of one file are recorded however fast they come; a loop must not push
/// everything else out of the journal…
const MOST_LINES: f64 = 2000.0;
/// …and so many a second after that.
const LINES_A_SECOND: f64 = 50.0;

/// What is there only of files that something happened to. There may be many files, and
/// nothing ever happens to nearly all.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The differences that were drafted since it was last whole.
    pub(super) reported: Vec<Difference>,
    /// What an inspection found different the last time, and how often a cure left just that.
    pub(super) persisting: Option<(Vec<Difference>, u32)>,
    /// How often in a row it was gone when it was to be read.
    gone: u32,
    /// Where it is that cannot be looked at, once said.
    pub(super) away: Option<Arc<Path>>,
    /// Strangers in a protected directory that were reported, and are there or on their way out.
    pub(super) strangers: HashSet<Vec<u8>>,
    /// When it was healed lately.
    heals: VecDeque<Duration>,
    /// Lines that may still be recorded of it, and when that was counted.
    lines: Option<(f64, Duration)>,
}

impl Guarded {
    /// What happened to it, if anything did.
    pub(super) fn history(&self) -> Option<&History> {
        self.history.as_deref()
    }

    /// The same, to add to.
    pub(super) fn remember(&mut self) -> &mut History {
        self.history.get_or_insert_default()
    }

    /// Another inspection begins anew to count what a cure leaves.
    pub(super) fn nothing_persists(&mut self) {
        if let Some(history) = &mut self.history {
            history.persisting = None;
            history.gone = 0;
        }
    }

    /// Whether it is only to be looked at again, since it was gone when it was to be read. Too
    /// often in a row that is a failure.
    pub(super) fn may_look_again(&mut self) -> bool {
        let gone = &mut self.remember().gone;
        *gone = gone.saturating_add(1);
        *gone <= MOST_GONE
    }

    /// It can be looked at; where that could not be before.
    pub(super) fn returns(&mut self) -> Option<Arc<Path>> {
        self.under_way.as_mut()?.history.as_mut()?.away.take()
    }

    pub(super) fn is_away(&self) -> bool {
        self.history().is_some_and(|history| history.away.is_some())
    }

    pub(super) fn note_heal(&mut self, now: Duration) {
        let heals = &mut self.remember().heals;
        heals.push_back(now);
        if heals.len() > CONTESTED_HEALS {
            heals.pop_front();
        }
    }

    /// Whether it was ever healed.
    pub(super) fn was_healed(&self) -> bool {
        self.history().is_some_and(|history| !history.heals.is_empty())
    }

    /// Whether it was healed again and again lately.
    pub(super) fn is_contested(&self, now: Duration) -> bool {
        self.history().is_some_and(|History { heals, .. }| {
            heals.len() >= CONTESTED_HEALS
                && heals.front().is_some_and(|at| now.saturating_sub(*at) < CONTESTED_WITHIN)
        })
    }

    /// How long nothing has to happen for an incident to be over.
    pub(super) fn quiet(&self, now: Duration) -> Duration {
        if self.is_contested(now) { QUIET_CONTESTED } else { QUIET }
    }

    /// Whether one more line may be recorded.
    pub(super) fn may_record(&mut self, now: Duration) -> bool {
        let lines = &mut self.remember().lines;
        let (left, counted) = lines.unwrap_or((MOST_LINES, now));
        let since = now.saturating_sub(counted).as_secs_f64();
        let left = (left + since * LINES_A_SECOND).min(MOST_LINES);
        *lines = Some(((left - 1.0).max(0.0), now));
        left >= 1.0
    }

    /// How often in a row a cure left just these differences.
    pub(super) fn persists(&mut self, found: &[Difference]) -> u32 {
        let persisting = &mut self.remember().persisting;
        let times = match persisting {
            Some((known, times)) if known == found => times.saturating_add(1),
            _ => 0,
        };
        *persisting = Some((found.to_vec(), times));
        times
    }
}
