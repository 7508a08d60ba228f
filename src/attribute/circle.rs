//! Whether a pid can have been given to another process in the meantime.
//!
//! The kernel hands out pids in a circle: the next free number after the last one given, and
//! at `pid_max` round to the beginning.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

/// More numbers than a processor gives away in a second. The cheapest process there is, which
/// shares everything and ends at once, was made 31,000 times a second.
const A_SECOND: u64 = 150_000;

/// The place on the circle at some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circle {
    last: u32,
    at: Instant,
}

/// The smallest `pid_max` that the kernel allows, for where it does not say.
const SMALLEST: u32 = 301;

impl Circle {
    /// The place now; `None` where `/proc` does not say.
    pub(super) fn now() -> Option<Self> {
        let at = Instant::now();
        let last = read("/proc/loadavg")?.split_ascii_whitespace().last()?.parse().ok()?;
        Some(Self { last, at })
    }

    /// Whether `pid`, which was taken here, can have been given away by `later`.
    pub(super) fn may_have_given(&self, pid: u32, later: &Self) -> bool {
        passes(self.last, later.last, pid)
            || may_go_round(later.at.saturating_duration_since(self.at), pid_max(), processors())
    }
}

/// Before this time is over no pid can be given to another process.
pub fn fastest_round() -> Duration {
    round(pid_max(), processors())
}

fn processors() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|count| u64::try_from(count).ok()).unwrap_or(64).max(1)
}

/// Whether the way from the last number given then to the last one given now leads over `pid`.
fn passes(then: u32, now: u32, pid: u32) -> bool {
    if then <= now { then < pid && pid <= now } else { then < pid || pid <= now }
}

fn may_go_round(passed: Duration, pid_max: u32, processors: u64) -> bool {
    passed >= round(pid_max, processors)
}

fn round(pid_max: u32, processors: u64) -> Duration {
    // The first 300 are passed over after the first round.
    let numbers = u64::from(pid_max.saturating_sub(300));
    Duration::from_micros(numbers * 1_000_000 / (A_SECOND * processors))
}

fn pid_max() -> u32 {
    let read = read("/proc/sys/kernel/pid_max");
    read.and_then(|text| text.trim().parse().ok()).unwrap_or(SMALLEST)
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(256).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_passed_only_on_the_way_from_then_to_now() {
        assert!(!passes(100, 100, 100));
        assert!(!passes(100, 200, 100));
        assert!(passes(100, 200, 101));
        assert!(passes(100, 200, 200));
        assert!(!passes(100, 200, 201));
        assert!(!passes(100, 200, 50));
        assert!(passes(200, 100, 201));
        assert!(passes(200, 100, 50));
        assert!(!passes(200, 100, 150));
        assert!(!passes(u32::MAX, u32::MAX, 1));
    }

    #[test]
    fn a_whole_round_takes_its_time() {
        assert!(!may_go_round(Duration::from_secs(13), 4_194_304, 2));
        assert!(may_go_round(Duration::from_secs(14), 4_194_304, 2));
        assert!(!may_go_round(Duration::from_millis(100), 32_768, 2));
        assert!(may_go_round(Duration::from_millis(110), 32_768, 2));
        assert!(may_go_round(Duration::from_millis(10), 32_768, 64));
        assert!(may_go_round(Duration::from_micros(3), SMALLEST, 2));
    }

    #[test]
    fn the_kernel_tells_the_place() {
        assert!(Circle::now().unwrap().last > 0);
    }
}
