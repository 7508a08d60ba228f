//! A pattern in words, and in JSON.

use std::fmt;

use jiff::civil::Weekday;
use serde::{Serialize, Serializer};

use super::{DAY, HOUR, MINUTE, Pattern, Rhythm};

fn weekday_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {}", self.count, self.of, self.rhythm)
    }
}

impl fmt::Display for Rhythm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Weekday(day) => write!(f, "on a {}", weekday_name(day)),
            Self::Interval(gap) => write!(f, "about {} apart", length(gap)),
            Self::Window { period, from, to, weekday, every } => {
                if let Some(day) = weekday {
                    write!(f, "on a {} ", weekday_name(day))?;
                }
                // Told in whole minutes, the last one included.
                let until = (to + MINUTE - 1) / MINUTE % (period / MINUTE).max(1) * MINUTE;
                let at_once = from / MINUTE == to / MINUTE;
                match (period, at_once) {
                    (DAY, true) => write!(f, "at {}", clock(from)),
                    (DAY, false) => write!(f, "between {} and {}", clock(from), clock(until)),
                    (HOUR, true) => write!(f, "at minute {} of the hour", from / MINUTE),
                    (HOUR, false) => write!(
                        f,
                        "between minute {} and {} of the hour",
                        from / MINUTE,
                        until / MINUTE
                    ),
                    (HOUR.., _) => write!(f, "every {} from {} on", length(period), clock(from)),
                    (MINUTE, _) if every => f.write_str("every minute"),
                    _ if every => write!(f, "every {}", length(period)),
                    _ => write!(f, "to the beat of {}", length(period)),
                }
            }
        }
    }
}

/// `06:25`, from seconds.
fn clock(seconds: i64) -> String {
    format!("{:02}:{:02}", seconds / HOUR, seconds % HOUR / MINUTE)
}

/// `5 minutes`, `a minute`, in the largest unit that is not too coarse.
fn length(seconds: i64) -> String {
    let (number, one, many) = match seconds {
        ..MINUTE => (seconds, "second", "seconds"),
        MINUTE..5400 => ((seconds + MINUTE / 2) / MINUTE, "minute", "minutes"),
        5400..172_800 => ((seconds + HOUR / 2) / HOUR, "hour", "hours"),
        _ => ((seconds + DAY / 2) / DAY, "day", "days"),
    };
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// What `--json` says: the sentence, and what it was made of.
impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Told {
            text: String,
            count: usize,
            of: usize,
            period_s: i64,
            from: Option<String>,
            to: Option<String>,
            weekday: Option<&'static str>,
        }
        let second = |at: i64| Some(format!("{}:{:02}", clock(at), at % MINUTE));
        let (period_s, from, to, weekday) = match self.rhythm {
            Rhythm::Window { period, from, to, weekday, .. } => {
                let period = if weekday.is_some() { 7 * DAY } else { period };
                (period, second(from), second(to), weekday)
            }
            Rhythm::Weekday(day) => (7 * DAY, None, None, Some(day)),
            Rhythm::Interval(gap) => (gap, None, None, None),
        };
        let (text, weekday) = (self.to_string(), weekday.map(weekday_name));
        Told { text, count: self.count, of: self.of, period_s, from, to, weekday }
            .serialize(serializer)
    }
}
