//! When a message about an incident goes out: once it has settled, but however long it goes on,
//! after a while. What is told of it afterwards comes ever more seldom.

use jiff::{SignedDuration, Timestamp};

/// A message waits this long for the incident to settle, from its last news…
const SETTLES: SignedDuration = SignedDuration::from_secs(3);
/// …and this long in all.
const LONGEST: SignedDuration = SignedDuration::from_secs(10);
/// The second message that follows another comes no sooner after it than this, the next ones
/// after twice as long each…
const PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// …and none later than this.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_mins(10);

/// A message that waits, or went out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) not_before: Timestamp,
    latest: Timestamp,
    /// How long the next one waits after this.
    pause: SignedDuration,
}

impl Outgoing {
    /// The first about an incident.
    pub(super) fn first(wall: Timestamp) -> Self {
        Self {
            not_before: later(wall, SETTLES),
            latest: later(wall, LONGEST),
            pause: SignedDuration::ZERO,
        }
    }

    /// There is more to tell.
    pub(super) fn with_more(self, wall: Timestamp) -> Self {
        if wall <= self.not_before {
            return Self { not_before: later(wall, SETTLES).min(self.latest), ..self };
        }
        let from = later(self.not_before, self.pause);
        Self {
            not_before: later(wall, SETTLES).max(from),
            latest: later(wall, LONGEST).max(from),
            pause: (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE),
        }
    }
}

/// So much later, or at the end of time.
pub(crate) fn later(wall: Timestamp, by: SignedDuration) -> Timestamp {
    wall.saturating_add(by).unwrap_or(wall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_message_waits_for_what_follows_at_once() {
        let one = Outgoing::first(at(100));
        assert_eq!(one.not_before, at(103));
        assert_eq!(one.with_more(at(102)).not_before, at(105));
    }

    #[test]
    fn an_incident_that_never_settles_is_told_of_after_ten_seconds_and_then_ever_more_seldom() {
        let mut outgoing = Outgoing::first(at(0));
        let mut sent = vec![outgoing.not_before];
        for second in 1..3600 {
            outgoing = outgoing.with_more(at(second));
            match sent.last_mut() {
                Some(last) if *last >= at(second) => *last = outgoing.not_before,
                _ => sent.push(outgoing.not_before),
            }
        }
        let sent: Vec<i64> = sent.into_iter().map(Timestamp::as_second).collect();
        assert_eq!(sent[..5], [10, 21, 81, 201, 441], "{sent:?}");
        assert!(sent.len() < 13, "{sent:?}");
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_message() {
        assert_eq!(Outgoing::first(at(90_000)).with_more(at(3_600)).not_before, at(3_603));
    }
}
