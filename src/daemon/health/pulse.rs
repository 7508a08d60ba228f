//! Whether a thread gets on with its work.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A thread that comes round at least once a second has stalled after this time. A large file
/// that a person restores takes its time, on a slow disk all the more.
const LONGEST: Duration = Duration::from_secs(30);

/// The milliseconds of all pulses are counted from here.
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// See the module. One that has not begun yet, or has ended, does not stall.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    /// The thread has come round.
    pub fn beat(&self) {
        self.0.store(now().max(1), Ordering::Relaxed);
    }

    /// The thread is done.
    pub fn end(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// How long it has made no progress, if that is too long.
    #[must_use]
    pub fn stalled_for(&self) -> Option<Duration> {
        self.stalled_at(now())
    }

    fn stalled_at(&self, now: u64) -> Option<Duration> {
        let last = self.0.load(Ordering::Relaxed);
        let since = Duration::from_millis(now.saturating_sub(last));
        (last != 0 && since >= LONGEST).then_some(since)
    }
}

fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_begun_and_not_ended_can_stall() {
        let pulse = Pulse::default();
        assert_eq!(pulse.stalled_at(u64::MAX), None);
        pulse.beat();
        assert_eq!(pulse.stalled_for(), None);
        assert!(pulse.stalled_at(now() + 31_000).is_some_and(|since| since > LONGEST));
        pulse.end();
        assert_eq!(pulse.stalled_at(u64::MAX), None);
    }
}
