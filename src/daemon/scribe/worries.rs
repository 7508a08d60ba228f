//! What somebody did to the state directory, for `status`.
//!
//! What was put right is said until nothing more has happened for a while, so that whoever looks
//! now and then sees it. Where something is lost, or it cannot be known, it is said until the
//! daemon is started again: a person has to look. All of it stays on record.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// For so long nothing more has to happen.
pub(super) const CALM: Duration = Duration::from_secs(60);

/// What somebody should know of the state, shared with the guard.
pub(super) type Worry = Arc<Mutex<Option<String>>>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Worries {
    shown: Worry,
    lasting: Option<String>,
    /// And since when all is well.
    passing: Option<(String, Instant)>,
}

impl Worries {
    /// What `status` is to say.
    pub(super) fn shown(&self) -> Worry {
        Arc::clone(&self.shown)
    }

    /// Somebody did this, and it was put right or not.
    pub(super) fn take(&mut self, what: &str, mended: bool, now: Instant) {
        let told = format!("{what} (noticed {:.0}); find out who did it", Timestamp::now());
        match mended {
            true => {
                let told = format!("{told}; this goes when nothing more has happened for a minute");
                self.passing = Some((told, now));
            }
            false => {
                self.lasting = Some(format!("{told}, then restart the daemon to clear this"));
            }
        }
        self.show();
    }

    /// How it is now. True once when nothing is left to be said.
    pub(super) fn settle(&mut self, is_well: bool, now: Instant) -> bool {
        let Some((_, since)) = &mut self.passing else { return false };
        if !is_well {
            *since = now;
        }
        if now < *since + CALM {
            return false;
        }
        self.passing = None;
        self.show();
        self.lasting.is_none()
    }

    fn show(&self) {
        let passing = self.passing.as_ref().map(|(told, _)| told);
        let all: Vec<&str> = self.lasting.iter().chain(passing).map(String::as_str).collect();
        if let Ok(mut shown) = self.shown.lock() {
            *shown = (!all.is_empty()).then(|| all.join("; "));
        }
    }

    /// As if so much time had gone by.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        if let Some((_, since)) = &mut self.passing {
            *since = since.checked_sub(by).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(worries: &Worries) -> String {
        worries.shown().lock().unwrap().clone().unwrap_or_default()
    }

    #[test]
    fn what_was_put_right_is_said_until_nothing_more_has_happened_for_a_while() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let mut worries = Worries::default();
        assert!(!worries.settle(true, at(0)));
        worries.take("it was moved", true, at(0));
        assert!(!worries.settle(true, at(50)));
        worries.take("it was moved again", true, at(50));
        assert!(!worries.settle(true, at(100)));
        assert!(shown(&worries).starts_with("it was moved again (noticed "));
        // Something is not as it should be: that is no calm.
        assert!(!worries.settle(false, at(109)));
        assert!(!worries.settle(true, at(168)));
        assert!(worries.settle(true, at(169)));
        assert_eq!(shown(&worries), "");
        assert!(!worries.settle(true, at(1000)), "once");
    }

    #[test]
    fn what_is_lost_is_said_to_the_end() {
        let begin = Instant::now();
        let mut worries = Worries::default();
        worries.take("it is lost", false, begin);
        worries.take("it was moved", true, begin);
        assert!(shown(&worries).contains("restart the daemon"), "{}", shown(&worries));
        assert!(shown(&worries).contains("it was moved"), "{}", shown(&worries));
        assert!(!worries.settle(true, begin + CALM));
        assert!(shown(&worries).starts_with("it is lost (noticed "));
        assert!(!shown(&worries).contains("it was moved"), "{}", shown(&worries));
    }
}
