use jiff::civil::{DateTime, date};
use jiff::{SignedDuration, Zoned};
use proptest::prelude::*;

use super::*;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn at(zone: &TimeZone, time: DateTime) -> Timestamp {
    time.to_zoned(zone.clone()).unwrap().timestamp()
}

/// `count` times, `step` after one another, each later by what `jitter` says of its number.
fn series(
    start: Timestamp,
    step: SignedDuration,
    count: i64,
    jitter: impl Fn(i64) -> i64,
) -> Vec<Timestamp> {
    let time = |n: i64| start + step * i32::try_from(n).unwrap();
    (0..count).map(|n| time(n) + SignedDuration::from_secs(jitter(n))).collect()
}

/// The same local time on `count` days.
fn days(zone: &TimeZone, first: DateTime, every: i64, count: i64) -> Vec<Timestamp> {
    let first: Zoned = first.to_zoned(zone.clone()).unwrap();
    (0..count)
        .map(|n| first.checked_add(jiff::Span::new().days(n * every)).unwrap().timestamp())
        .collect()
}

fn told(times: &[Timestamp], zone: &TimeZone) -> String {
    pattern(times, zone).map_or_else(|| "nothing".to_owned(), |found| found.to_string())
}

#[test]
fn the_package_upgrade_of_each_morning_is_recognised() {
    let zone = TimeZone::UTC;
    let times: Vec<_> = days(&zone, date(2026, 3, 2).at(6, 25, 4, 0), 1, 9)
        .into_iter()
        .enumerate()
        .map(|(n, time)| time + SignedDuration::from_secs([3, 40, 80, 5, 90, 100, 7, 30, 61][n]))
        .collect();
    assert_eq!(told(&times, &zone), "9 of 9 between 06:25 and 06:27");
}

#[test]
fn a_daily_time_stays_one_over_the_change_to_summer_time() {
    // On 29 March 2026 the clocks of Berlin go forward.
    let times = days(&berlin(), date(2026, 3, 24).at(6, 25, 10, 0), 1, 12);
    assert_eq!(told(&times, &berlin()), "12 of 12 at 06:25");
    // By the clock of another zone it moves by an hour.
    assert_eq!(told(&times, &TimeZone::UTC), "12 of 12 at minute 25 of the hour");
}

#[test]
fn a_window_around_midnight_is_one_window() {
    let zone = berlin();
    let mut times = days(&zone, date(2026, 5, 4).at(23, 58, 20, 0), 1, 4);
    times.extend(days(&zone, date(2026, 5, 10).at(0, 1, 30, 0), 1, 4));
    assert_eq!(told(&times, &zone), "8 of 8 between 23:58 and 00:02");
    let found = pattern(&times, &zone).unwrap();
    assert!(times.iter().all(|time| found.rhythm.holds(*time, &zone)));
    let noon = at(&zone, date(2026, 5, 5).at(12, 0, 0, 0));
    assert!(!found.rhythm.holds(noon, &zone));
}

#[test]
fn each_sunday_at_the_same_time_is_told_as_that() {
    let zone = berlin();
    let times = days(&zone, date(2026, 3, 1).at(3, 10, 2, 0), 7, 8);
    assert_eq!(told(&times, &zone), "8 of 8 on a Sunday at 03:10");
    // The night from Sunday to Monday belongs to the day on which it begins.
    let mut night = days(&zone, date(2026, 5, 3).at(23, 59, 30, 0), 7, 4);
    night.extend(days(&zone, date(2026, 6, 1).at(0, 1, 0, 0), 7, 4));
    assert_eq!(told(&night, &zone), "8 of 8 on a Sunday between 23:59 and 00:01");
}

#[test]
fn each_sunday_at_any_time_is_told_without_a_time() {
    let zone = berlin();
    let minutes = [61, 320, 555, 790, 1010, 1277, 183, 668];
    let times: Vec<_> = days(&zone, date(2026, 3, 1).at(0, 30, 0, 0), 7, 8)
        .into_iter()
        .enumerate()
        .map(|(n, time)| time + SignedDuration::from_mins(minutes[n]))
        .collect();
    assert_eq!(told(&times, &zone), "8 of 8 on a Sunday");
}

#[test]
fn the_same_minute_of_each_hour_and_each_five_minutes_are_told() {
    let zone = berlin();
    let start = at(&zone, date(2026, 5, 4).at(4, 17, 1, 0));
    let hourly = series(start, SignedDuration::from_hours(1), 12, |n| n % 3);
    assert_eq!(told(&hourly, &zone), "12 of 12 at minute 17 of the hour");
    let start = at(&zone, date(2026, 5, 4).at(4, 15, 1, 0));
    let often = series(start, SignedDuration::from_mins(5), 30, |n| n % 2);
    assert_eq!(told(&often, &zone), "30 of 30 every 5 minutes");
    let sparse = series(start, SignedDuration::from_mins(35), 30, |n| n % 2);
    assert_eq!(told(&sparse, &zone), "30 of 30 to the beat of 5 minutes");
    let minutes = series(start, SignedDuration::from_mins(1), 30, |_| 0);
    assert_eq!(told(&minutes, &zone), "30 of 30 every minute");
    let six = series(start, SignedDuration::from_hours(6), 12, |n| n % 3);
    assert_eq!(told(&six, &zone), "12 of 12 every 6 hours from 04:15 on");
}

#[test]
fn a_loop_that_sleeps_is_recognised_though_it_drifts() {
    let start = at(&berlin(), date(2026, 5, 4).at(4, 15, 1, 0));
    let drifting = series(start, SignedDuration::from_secs(437), 20, |n| n * 3 % 7);
    assert_eq!(told(&drifting, &berlin()), "20 of 20 about 7 minutes apart");
}

#[test]
fn what_does_not_fit_is_counted_and_does_not_hide_the_rest() {
    let zone = TimeZone::UTC;
    let mut times = days(&zone, date(2026, 3, 2).at(6, 25, 4, 0), 1, 9);
    times.push(at(&zone, date(2026, 3, 4).at(17, 2, 0, 0)));
    assert_eq!(told(&times, &zone), "9 of 10 at 06:25");
}

#[test]
fn many_incidents_of_one_morning_are_no_pattern() {
    let start = at(&berlin(), date(2026, 5, 4).at(6, 25, 0, 0));
    // Not evenly: squares.
    let burst: Vec<_> = (0..9).map(|n| start + SignedDuration::from_secs(n * n * 11)).collect();
    assert_eq!(told(&burst, &berlin()), "nothing");
    let two_days: Vec<_> =
        burst.iter().flat_map(|time| [*time, *time + SignedDuration::from_hours(24)]).collect();
    assert!(!told(&two_days, &berlin()).contains("06:2"), "{}", told(&two_days, &berlin()));
}

#[test]
fn times_thrown_by_chance_show_a_pattern_less_than_once_in_two_hundred() {
    // The same numbers each time: this test cannot fail by bad luck.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        i64::try_from(state >> 33).unwrap()
    };
    let mut found = Vec::new();
    for _ in 0..4000 {
        let count = 3 + next() % 30;
        let span = [2 * HOUR, DAY, 10 * DAY, 90 * DAY][usize::try_from(next() % 4).unwrap()];
        let times: Vec<_> = (0..count)
            .map(|_| Timestamp::from_second(1_780_000_000 + next() % span).unwrap())
            .collect();
        found.extend(pattern(&times, &berlin()));
    }
    assert!(found.len() < 20, "{} in 4000: {found:?}", found.len());
}

#[test]
fn json_has_the_sentence_and_its_parts() {
    let times = days(&TimeZone::UTC, date(2026, 3, 1).at(3, 10, 2, 0), 7, 8);
    let json = serde_json::to_value(pattern(&times, &TimeZone::UTC)).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "text": "8 of 8 on a Sunday at 03:10", "count": 8, "of": 8, "period_s": 604_800,
            "from": "03:10:02", "to": "03:10:02", "weekday": "Sunday",
        })
    );
}

proptest! {
    #[test]
    fn two_occasions_are_never_a_pattern(first in 0_i64..4_000_000_000, gap in 0_i64..10_000_000) {
        let times = [first, first + gap].map(|at| Timestamp::from_second(at).unwrap());
        prop_assert_eq!(pattern(&times, &berlin()), None);
        // However many incidents there are of each.
        let burst: Vec<_> = (0..40).map(|n| times[n % 2]).collect();
        prop_assert_eq!(pattern(&burst, &berlin()), None);
    }

    #[test]
    fn a_daily_window_is_found_wherever_it_lies(
        day in 0_i8..28, minute in 0_i64..1440, offsets in proptest::collection::vec(0_i64..120, 5..40),
    ) {
        let zone = TimeZone::UTC;
        let midnight = at(&zone, date(2026, 1, 1 + day).at(0, 0, 0, 0)).as_second();
        let times: Vec<_> = (0..).zip(&offsets)
            .map(|(n, offset)| midnight + n * DAY + minute * MINUTE + offset)
            .map(|at| Timestamp::from_second(at).unwrap())
            .collect();
        let found = pattern(&times, &zone).unwrap();
        let daily = matches!(found.rhythm, Rhythm::Window { period: DAY, .. });
        prop_assert!(daily, "{}", found);
        // The least likely window may leave out a few at its edges.
        prop_assert_eq!(found.of, times.len());
        prop_assert!(found.count * 5 >= times.len() * 4, "{}", found);
        for time in &times {
            let in_time = (time.as_second() - minute * MINUTE).rem_euclid(DAY) < 120;
            prop_assert!(in_time);
        }
    }

    #[test]
    fn whatever_the_times_the_count_is_of_those_that_hold(
        seconds in proptest::collection::vec(0_i64..5_000_000, 0..60),
    ) {
        let times: Vec<_> =
            seconds.iter().map(|at| Timestamp::from_second(*at).unwrap()).collect();
        if let Some(found) = pattern(&times, &berlin()) {
            prop_assert!(found.count <= found.of && found.of <= times.len());
            if !matches!(found.rhythm, Rhythm::Interval(_)) {
                let holds = times.iter().filter(|time| found.rhythm.holds(**time, &berlin()));
                prop_assert_eq!(holds.count(), found.count);
            }
        }
        prop_assert!(pattern(&[Timestamp::MIN, Timestamp::MAX], &berlin()).is_none());
    }
}
