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
        let last = loadavg()?.last;
        Some(Self { last, at })
    }

    /// Whether `pid`, which was taken here, can have been given away by `later`.
    pub(super) fn may_have_given(&self, pid: u32, later: &Self) -> bool {
        passes(self.last, later.last, pid)
            || later.at.saturating_duration_since(self.at) >= fastest_round()
    }
}

/// Before this time is over no pid can be given to another process.
pub fn fastest_round() -> Duration {
    let threads = loadavg().map_or(u32::MAX, |load| load.threads);
    round(pid_max(), threads, processors())
}

/// What the kernel says beside the load: proc_pid_loadavg(5).
struct Loadavg {
    /// All there are, each of which has a pid that nobody else gets.
    threads: u32,
    last: u32,
}

fn loadavg() -> Option<Loadavg> {
    parse(&read("/proc/loadavg")?)
}

fn parse(text: &str) -> Option<Loadavg> {
    let mut fields = text.split_ascii_whitespace().skip(3);
    let (_, threads) = fields.next()?.split_once('/')?;
    Some(Loadavg { threads: threads.parse().ok()?, last: fields.next()?.parse().ok()? })
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

fn round(pid_max: u32, threads: u32, processors: u64) -> Duration {
    // The first 300 are passed over after the first round.
    let numbers = u64::from(pid_max.saturating_sub(300).saturating_sub(threads));
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
        let between = |early: Duration, round: Duration, late: Duration| {
            assert!(early < round && round < late, "{round:?}");
        };
        let (seconds, ms, us) = (Duration::from_secs, Duration::from_millis, Duration::from_micros);
        between(seconds(13), round(4_194_304, 200, 2), seconds(14));
        between(ms(100), round(32_768, 200, 2), ms(110));
        between(ms(3), round(32_768, 200, 64), ms(10));
        assert!(round(SMALLEST, 0, 2) < us(4));
    }

    #[test]
    fn pids_come_round_sooner_the_more_of_them_are_in_use() {
        let half = round(32_768, 16_000, 2);
        assert!(half < Duration::from_millis(60), "{half:?}");
        assert_eq!(round(32_768, 40_000, 2), Duration::ZERO);
    }

    #[test]
    fn the_place_and_the_threads_are_taken_from_what_the_kernel_says() {
        let load = parse("0.39 2.09 3.03 2/143 2622\n").unwrap();
        assert_eq!((load.threads, load.last), (143, 2622));
        for rubbish in ["", "0 0 0", "0 0 0 1 2", "0 0 0 1/x 2", "0 0 0 1/2", "0 0 0 1/2 -1"] {
            assert!(parse(rubbish).is_none(), "{rubbish}");
        }
        let now = loadavg().unwrap();
        assert!(now.threads > 0 && now.last > 0);
    }
}
