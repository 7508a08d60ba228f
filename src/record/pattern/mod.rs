//! The time pattern of incidents: "9 of 9 between 06:25 and 06:27".
//!
//! Pure: times and a time zone in, a pattern out. Time is the zone's own, as on the clock that
//! cron and timers go by, so a change to summer time does not break a pattern.
//!
//! A pattern is never made up. It is told only if
//!
//! - it holds for at least three occasions, each in another day (or hour, or whatever the
//!   period is), and for four fifths of all; incidents within 30 seconds are one occasion;
//! - times thrown by chance would show one as narrow less than once in ten thousand times:
//!   of `n` times, `k` fall by chance into some window that covers a part `p` of the period
//!   with a probability of at most `n · C(n−1, k−1) · p^(k−1)`.
//!
//! Of several the least likely one is told: what happens at 06:25 each day also happens at
//! minute 25 of the hour, but that says less.
//!
//! Limits: two daily times that are not half a day apart, single days of the month, and periods
//! below a minute are not found.

mod wording;

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// The periods that people and timers think in.
const PERIODS: [i64; 14] = [
    DAY,
    12 * HOUR,
    8 * HOUR,
    6 * HOUR,
    4 * HOUR,
    3 * HOUR,
    2 * HOUR,
    HOUR,
    30 * MINUTE,
    20 * MINUTE,
    15 * MINUTE,
    10 * MINUTE,
    5 * MINUTE,
    MINUTE,
];
/// What comes sooner after another belongs to the same occasion, in seconds.
const OCCASION: i64 = 30;
/// A pattern needs at least this many occasions.
const FEWEST: usize = 3;
/// And this share of all.
const SHARE: f64 = 0.8;
/// The natural logarithm of the chance that is called none.
const NO_CHANCE: f64 = -9.21;
/// The narrowest window that is told apart, in seconds: timers are not more exact.
const NARROWEST: i64 = 5;
/// More times than this tell nothing new; the latest count.
const MOST: usize = 5000;

/// When it tends to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The rhythm.
    pub rhythm: Rhythm,
    /// Incidents that keep to it.
    pub count: usize,
    /// Of so many.
    pub of: usize,
}

/// A rhythm in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// In the same window of each period. A window that ends before it begins reaches into the
    /// next one.
    Window {
        /// Seconds from one to the next.
        period: i64,
        /// Begin of the window, in seconds from the begin of the period.
        from: i64,
        /// Its last second.
        to: i64,
        /// Only on this day of the week; for a period of a day.
        weekday: Option<Weekday>,
        /// Most periods between the first and the last one have one.
        every: bool,
    },
    /// On one day of the week, at any time.
    Weekday(Weekday),
    /// So many seconds after the one before, at no special time.
    Interval(i64),
}

impl Rhythm {
    /// Whether `time` keeps to it. An interval says nothing of single times.
    #[must_use]
    pub fn holds(&self, time: Timestamp, zone: &TimeZone) -> bool {
        let local = local(time, zone);
        match *self {
            Self::Window { period, from, to, weekday, .. } => {
                let since = (local - from).rem_euclid(period);
                let begun = (local - from).div_euclid(DAY);
                since <= (to - from).rem_euclid(period)
                    && weekday.is_none_or(|day| weekday_of(begun) == day)
            }
            Self::Weekday(day) => weekday_of(local.div_euclid(DAY)) == day,
            Self::Interval(_) => true,
        }
    }
}

/// The pattern of `times`, in any order; `None` where there is none to speak of.
#[must_use]
pub fn pattern(times: &[Timestamp], zone: &TimeZone) -> Option<Pattern> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let times = times.get(times.len().saturating_sub(MOST)..).unwrap_or_default();
    let occasions = occasions(times);
    let clock: Vec<i64> = occasions.iter().map(|time| local(*time, zone)).collect();
    if clock.len() < FEWEST {
        return None;
    }
    let found = PERIODS
        .iter()
        .filter_map(|period| window(&clock, *period))
        .chain(weekday(&clock))
        .chain(interval(&occasions));
    let best = found.filter(|one| one.chance < NO_CHANCE).min_by(|one, other| {
        // What an interval explains, a window explains better.
        let vague = |found: &Found| matches!(found.rhythm, Rhythm::Interval(_));
        vague(one).cmp(&vague(other)).then(one.chance.total_cmp(&other.chance))
    })?;
    let rhythm = best.rhythm;
    if let Rhythm::Interval(_) = rhythm {
        return Some(Pattern { rhythm, count: best.fits, of: best.of });
    }
    let count = times.iter().filter(|time| rhythm.holds(**time, zone)).count();
    Some(Pattern { rhythm, count, of: times.len() })
}

/// A rhythm, and the logarithm of a bound for its probability by chance.
struct Found {
    rhythm: Rhythm,
    chance: f64,
    fits: usize,
    of: usize,
}

/// Seconds on the local calendar's own count, which has neither zones nor summer time.
fn local(time: Timestamp, zone: &TimeZone) -> i64 {
    time.as_second() + i64::from(zone.to_offset(time).seconds())
}

/// The first of each group of `times`, which are in order.
fn occasions(times: &[Timestamp]) -> Vec<Timestamp> {
    let later = times.iter().zip(times.iter().skip(1));
    let apart = later.filter(|(before, after)| after.as_second() - before.as_second() > OCCASION);
    times.first().into_iter().chain(apart.map(|(_, after)| after)).copied().collect()
}

/// The least likely window of the period.
fn window(clock: &[i64], period: i64) -> Option<Found> {
    let mut phases: Vec<i64> = clock.iter().map(|time| time.rem_euclid(period)).collect();
    phases.sort_unstable();
    let all = phases.len();
    let fewest = least_share(all);
    // Large numbers in steps: the exact share is of no interest there.
    let step = ((all - fewest) / 16).max(1);
    (fewest..=all)
        .rev()
        .step_by(step)
        .filter_map(|wanted| judged(clock, period, narrowest(&phases, wanted, period)?))
        .min_by(|one, other| one.chance.total_cmp(&other.chance))
}

/// Begin and length of the shortest stretch of the circle that holds `wanted` of the phases.
fn narrowest(phases: &[i64], wanted: usize, period: i64) -> Option<(i64, i64)> {
    let again = phases.iter().map(|phase| phase + period);
    let round = phases.iter().copied().chain(again).skip(wanted - 1);
    phases.iter().zip(round).map(|(from, to)| (*from, to - from)).min_by_key(|found| found.1)
}

fn judged(clock: &[i64], period: i64, (from, length): (i64, i64)) -> Option<Found> {
    let within = |time: &&i64| (**time - from).rem_euclid(period) <= length;
    let cycles: BTreeSet<i64> =
        clock.iter().filter(within).map(|time| (time - from).div_euclid(period)).collect();
    let outside = clock.len() - clock.iter().filter(within).count();
    let (fits, of) = (cycles.len(), cycles.len() + outside);
    if fits < FEWEST || fits < least_share(of) || length > period / 3 {
        return None;
    }
    let mut chance = chance(fits, of, ratio((length + 1).max(NARROWEST), period));
    let days: BTreeSet<i64> = cycles.iter().map(|day| day.rem_euclid(7)).collect();
    let mut weekday = None;
    // The same day of the week so often by chance: 1 in 7 for each one after the first.
    let same = -7_f64.ln() * f64::from(u32::try_from(fits - 1).unwrap_or(u32::MAX));
    if period == DAY && days.len() == 1 && same < -300_f64.ln() {
        weekday = cycles.first().map(|day| weekday_of(*day));
        chance += same;
    }
    let span = cycles.last()? - cycles.first()? + 1;
    let every = ratio(i64::try_from(fits).ok()?, span) >= 0.5;
    if period == MINUTE && !every {
        // Cron and timers begin at the full minute: that says nothing of a rhythm.
        return None;
    }
    let to = (from + length).rem_euclid(period);
    Some(Found { rhythm: Rhythm::Window { period, from, to, weekday, every }, chance, fits, of })
}

/// One day of the week, on which nothing need be the same but the day.
fn weekday(clock: &[i64]) -> Option<Found> {
    let days: BTreeSet<i64> = clock.iter().map(|time| time.div_euclid(DAY)).collect();
    let on = |day: i64| days.iter().filter(|one| (**one - day).rem_euclid(7) == 0).count();
    let (day, fits) = (0..7).map(|day| (day, on(day))).max_by_key(|(_, fits)| *fits)?;
    if fits < FEWEST || fits < least_share(days.len()) {
        return None;
    }
    let chance = chance(fits, days.len(), 1.0 / 7.0);
    Some(Found { rhythm: Rhythm::Weekday(weekday_of(day)), chance, fits, of: days.len() })
}

/// The same time between each and the next, give or take a twentieth.
fn interval(occasions: &[Timestamp]) -> Option<Found> {
    let pairs = occasions.iter().zip(occasions.iter().skip(1));
    let mut gaps: Vec<i64> =
        pairs.map(|(before, after)| after.as_second() - before.as_second()).collect();
    gaps.sort_unstable();
    let usual = *gaps.get(gaps.len() / 2)?;
    let fits = gaps.iter().filter(|gap| (**gap - usual).abs() * 20 <= usual).count();
    if fits < FEWEST || fits < least_share(gaps.len()) {
        return None;
    }
    // Of times by chance, one gap in 27 is within a twentieth of a given length, at most.
    let chance = chance(fits, gaps.len(), 0.05);
    let (fits, of) = (fits + 1, gaps.len() + 1);
    Some(Found { rhythm: Rhythm::Interval(usual), chance, fits, of })
}

fn least_share(all: usize) -> usize {
    // At most MOST.
    let all = f64::from(u32::try_from(all).unwrap_or(u32::MAX));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let least = (all * SHARE).ceil() as usize;
    least.max(1)
}

/// The logarithm of the bound in the module's description.
fn chance(fits: usize, of: usize, part: f64) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let left_out = of - fits;
    // C(of−1, fits−1) = C(of−1, left_out)
    let ways: f64 =
        (1..=left_out).map(|i| (number(of - i) / number(i)).ln()).sum::<f64>() + number(of).ln();
    ways + number(fits - 1) * part.ln()
}

fn ratio(part: i64, whole: i64) -> f64 {
    let number = |count: i64| f64::from(i32::try_from(count).unwrap_or(i32::MAX));
    number(part) / number(whole)
}

/// Of a day counted from 1970-01-01, a Thursday.
fn weekday_of(day: i64) -> Weekday {
    const WEEK: [Weekday; 7] = [
        Weekday::Thursday,
        Weekday::Friday,
        Weekday::Saturday,
        Weekday::Sunday,
        Weekday::Monday,
        Weekday::Tuesday,
        Weekday::Wednesday,
    ];
    let place = usize::try_from(day.rem_euclid(7)).unwrap_or_default();
    WEEK.get(place).copied().unwrap_or(Weekday::Thursday)
}

#[cfg(test)]
mod tests;
