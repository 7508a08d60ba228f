//! Times in eight bytes each: the engine keeps several for each file, and there may be a hundred
//! thousand.
//!
//! Both count nanoseconds and lose none. A wall clock beyond the year 2262 is taken for that year.

use std::num::NonZeroU64;
use std::time::Duration;

use jiff::Timestamp;

/// A time since the engine began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mono(NonZeroU64);

impl Mono {
    pub(super) const BEGAN: Self = Self(NonZeroU64::MIN);

    /// The same as [`Moment`](super::Moment) has it.
    pub(super) fn get(self) -> Duration {
        Duration::from_nanos(self.0.get() - 1)
    }
}

impl From<Duration> for Mono {
    fn from(time: Duration) -> Self {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self(NonZeroU64::MIN.saturating_add(nanoseconds))
    }
}

/// A time of the wall clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall(i64);

impl Wall {
    /// The same as [`Moment`](super::Moment) has it.
    pub(super) fn get(self) -> Timestamp {
        Timestamp::from_nanosecond(self.0.into()).unwrap_or_default()
    }
}

impl From<Timestamp> for Wall {
    fn from(time: Timestamp) -> Self {
        let farthest = if time < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX };
        Self(i64::try_from(time.as_nanosecond()).unwrap_or(farthest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_again() {
        for time in [Duration::ZERO, Duration::from_nanos(1), Duration::new(1_000_000, 123_456_789)]
        {
            assert_eq!(Mono::from(time).get(), time);
        }
        assert_eq!(Mono::BEGAN.get(), Duration::ZERO);
        for time in
            ["1969-12-31T23:59:58.000000001Z", "1970-01-01T00:00:00Z", "2262-01-01T00:00:00Z"]
        {
            let time: Timestamp = time.parse().unwrap();
            assert_eq!(Wall::from(time).get(), time);
        }
        for (time, year) in [(Timestamp::MIN, "1677"), (Timestamp::MAX, "2262")] {
            assert!(Wall::from(time).get().to_string().starts_with(year));
        }
        assert!(Mono::from(Duration::MAX).get() > Duration::from_secs(500 * 365 * 86_400));
    }
}
