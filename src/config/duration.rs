//! Durations as people type them: `500ms`, `10m`, `1h30m`.

use std::time::Duration;

/// Reads whole numbers with the units `ms`, `s`, `m`, `h` and `d`, largest first or not.
///
/// # Errors
///
/// A sentence that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || {
        format!(
            "`{}` is not a duration: write a number and a unit, such as 500ms, 10s, 5m, 1h or 7d",
            crate::text::escape(text.as_bytes())
        )
    };
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let milliseconds = number.checked_mul(unit_ms(unit).ok_or_else(expected)?);
        let part = Duration::from_millis(milliseconds.ok_or_else(expected)?);
        total = total.checked_add(part).ok_or_else(expected)?;
        rest = tail.trim_start();
    }
    if text.trim().is_empty() { Err(expected()) } else { Ok(total) }
}

/// `duration` as a person would type it.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    for (size, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if milliseconds >= size && milliseconds.is_multiple_of(size) {
            return format!("{}{unit}", milliseconds / size);
        }
    }
    format!("{milliseconds}ms")
}

fn unit_ms(unit: &str) -> Option<u64> {
    Some(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_as_people_type_them() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("1s", 1_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)));
            assert_eq!(show_duration(Duration::from_millis(milliseconds)), text);
        }
        assert_eq!(parse_duration(" 1h 30m "), Ok(Duration::from_secs(5400)));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", " ", "10", "h", "1.5h", "-1s", "1 week", "99999999999999999999s", "١s"] {
            assert!(parse_duration(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
        assert!(parse_duration("18446744073709551615d").is_err());
    }
}
