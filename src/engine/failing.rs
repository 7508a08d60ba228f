//! A file that cannot be put right: it is tried again and again, and told once.

use std::time::Duration;

use super::guarded::Guarded;
use crate::judge::Difference;

/// Waits between attempts to heal double from here…
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// …to here.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// So many differences are told apart while a file cannot be put right.
const MOST_REPORTED: usize = 64;
/// What cannot be healed is told again after this long, and then each time after twice as long…
const SAY_AGAIN: Duration = Duration::from_secs(3600);
/// …up to this.
const SAY_AGAIN_AT_LAST: Duration = Duration::from_secs(24 * 3600);
/// So many reasons are told as soon as they come up.
const MOST_REASONS: usize = 8;

/// A file that could not be healed.
#[derive(Debug, Default)]
pub(super) struct Failing {
    pub(super) attempts: u32,
    pub(super) why: String,
}

/// What an incident has told of that, whether or not the file was whole for a moment since.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// The reasons, with other numbers in them or none.
    told: Vec<String>,
    /// When the same is told again, and how long after that.
    again: Duration,
    wait: Duration,
}

impl Telling {
    /// Whether this reason is to be told now: one that is new, or one that has lasted.
    pub(super) fn is_due(&mut self, why: &str, now: Duration) -> bool {
        let reason: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
        let new = !self.told.contains(&reason) && self.told.len() < MOST_REASONS;
        if !new && now < self.again {
            return false;
        }
        self.wait = match self.told.is_empty() {
            true => SAY_AGAIN,
            false if now >= self.again => self.wait.saturating_mul(2).min(SAY_AGAIN_AT_LAST),
            false => self.wait,
        };
        self.again = now + self.wait;
        if new {
            self.told.push(reason);
        }
        true
    }
}

impl Guarded {
    /// It could not be put right; returns when to try again.
    pub(super) fn fail(&mut self, why: String) -> Duration {
        let failing = self.failing.get_or_insert_default();
        failing.attempts = failing.attempts.saturating_add(1);
        failing.why = why;
        FIRST_RETRY.saturating_mul(1 << failing.attempts.min(16)).min(LAST_RETRY)
    }

    /// Whether this difference is to be drafted: what could not be put right so far is not news
    /// at every try.
    pub(super) fn is_news(&mut self, difference: &Difference) -> bool {
        let reported = &mut self.remember().reported;
        if reported.contains(difference) {
            return self.failing.is_none();
        }
        if reported.len() < MOST_REPORTED {
            reported.push(difference.clone());
            return true;
        }
        self.failing.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_and_then_ever_more_seldom_and_another_at_once() {
        let mut telling = Telling::default();
        let mut is_due = |why, seconds| telling.is_due(why, Duration::from_secs(seconds));
        assert!(is_due("no room, 5 bytes", 10));
        assert!(!is_due("no room, 7 bytes", 20), "only a number differs");
        assert!(is_due("read-only", 30));
        assert!(!is_due("no room, 5 bytes", 40));
        assert!(is_due("read-only", 30 + 3600));
        assert!(!is_due("read-only", 30 + 3600 + 7199));
        assert!(is_due("read-only", 30 + 3600 + 7200));
    }
}
