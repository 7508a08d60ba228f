//! From clock ticks after boot, in which `/proc` tells when a process started, to the wall
//! clock, in which files and audit records tell theirs, and back.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::judge::FileTime;

/// Ticks are of 10 ms for every program, whatever the kernel uses inside.
const TICK: i128 = 10_000_000;
const SECOND: i128 = 1_000_000_000;

fn now(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * SECOND + i128::from(time.tv_nsec)
}

/// Nanoseconds of the monotonic clock.
#[must_use]
pub fn monotonic() -> u64 {
    u64::try_from(now(ClockId::Monotonic)).unwrap_or(0)
}

/// For how long the calling thread has had a processor.
#[must_use]
pub fn of_thread() -> Duration {
    u64::try_from(now(ClockId::ThreadCPUTime)).map_or(Duration::ZERO, Duration::from_nanos)
}

/// How long the monotonic clock has stood still since the boot, in nanoseconds: while the machine
/// slept.
#[must_use]
pub fn asleep() -> u64 {
    // Whoever is kept waiting between the two readings finds it longer.
    let reading = || {
        let monotonic = now(ClockId::Monotonic);
        now(ClockId::Boottime) - monotonic
    };
    let least = reading().min(reading()).min(reading());
    u64::try_from(least).unwrap_or(0)
}

/// The tick of so many nanoseconds after the boot.
#[must_use]
pub fn tick(since_boot: u64) -> u64 {
    u64::try_from(i128::from(since_boot) / TICK).unwrap_or(u64::MAX)
}

/// The wall clock now.
#[must_use]
pub fn wall() -> FileTime {
    file_time(now(ClockId::Realtime)).unwrap_or_default()
}

/// The time at which the tick began; `None` if it makes no sense.
#[must_use]
pub fn wall_of_ticks(ticks: u64) -> Option<FileTime> {
    let boot = now(ClockId::Realtime) - now(ClockId::Boottime);
    file_time(boot + i128::from(ticks) * TICK)
}

/// The time that an audit record of a call which begins now bears: that clock goes in steps of
/// some milliseconds, and of it only whole ones are told.
#[must_use]
pub fn of_calls() -> FileTime {
    let time = file_time(now(ClockId::RealtimeCoarse)).unwrap_or_default();
    FileTime { nsec: time.nsec / 1_000_000 * 1_000_000, ..time }
}

/// How long ago that was; nothing for what is yet to come.
#[must_use]
pub fn since(time: FileTime) -> Duration {
    between(time, wall())
}

/// How much later the second is; nothing where it is earlier.
#[must_use]
pub fn between(first: FileTime, second: FileTime) -> Duration {
    let nanoseconds = |time: FileTime| i128::from(time.sec) * SECOND + i128::from(time.nsec);
    let later = u64::try_from((nanoseconds(second) - nanoseconds(first)).max(0));
    later.map_or(Duration::MAX, Duration::from_nanos)
}

/// The tick of that time; `None` before the boot.
#[must_use]
pub fn ticks_of_wall(time: FileTime) -> Option<u64> {
    let boot = now(ClockId::Realtime) - now(ClockId::Boottime);
    let wall = i128::from(time.sec) * SECOND + i128::from(time.nsec);
    u64::try_from((wall - boot).div_euclid(TICK)).ok()
}

fn file_time(nanoseconds: i128) -> Option<FileTime> {
    let sec = i64::try_from(nanoseconds.div_euclid(SECOND)).ok()?;
    let nsec = u32::try_from(nanoseconds.rem_euclid(SECOND)).ok()?;
    Some(FileTime { sec, nsec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_survive_the_round_trip() {
        for ticks in [2, 77, 123_456, 10_000_000_000] {
            let back = ticks_of_wall(wall_of_ticks(ticks).unwrap()).unwrap();
            // Between the two readings of two clocks some nanoseconds pass.
            assert!(back.abs_diff(ticks) <= 1, "{ticks} {back}");
        }
        assert_eq!(ticks_of_wall(FileTime { sec: -1, nsec: 0 }), None);
    }
}
