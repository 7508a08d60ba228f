//! Bars for a terminal: the hours of the day, the days of the week. At most 56 columns wide.

use std::fmt::Write as _;

/// Rows of the hours' columns; each row is eight steps high.
const ROWS: usize = 3;
const STEPS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// The longest bar of a weekday.
const BAR: usize = 40;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A column for each hour, and a line that says which is which.
pub(super) fn hours(counts: &[usize; 24]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    for row in (0..ROWS).rev() {
        let mut line = if row + 1 == ROWS { format!("{most:>5} ") } else { " ".repeat(6) };
        for count in counts {
            let height = (count * ROWS * 8).div_ceil(most);
            let step = height.saturating_sub(row * 8).min(8);
            line += STEPS.get(step).copied().unwrap_or(" ");
            line.push(' ');
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let names: String = (0..24).step_by(3).map(|hour| format!("{hour:02}    ")).collect();
    let _ = writeln!(text, "{}{}", " ".repeat(6), names.trim_end());
    text
}

/// A bar for each day of the week.
pub(super) fn weekdays(counts: &[usize; 7]) -> String {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (name, count) in DAYS.iter().zip(counts) {
        let bar = "█".repeat((count * BAR).div_ceil(most));
        let gap = if bar.is_empty() { "" } else { " " };
        let _ = writeln!(text, "  {name} {bar}{gap}{count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_hour_stands_above_its_name() {
        let mut counts = [0; 24];
        counts[6] = 9;
        counts[21] = 3;
        assert_eq!(
            hours(&counts),
            "    9             █\n\
             \x20                 █\n\
             \x20                 █                             █\n\
             \x20     00    03    06    09    12    15    18    21\n"
        );
    }

    #[test]
    fn weekdays_have_their_numbers() {
        let told = weekdays(&[0, 0, 0, 0, 0, 1, 2]);
        assert!(told.contains("  Mon 0\n"), "{told}");
        assert!(told.contains(&format!("  Sat {} 1\n", "█".repeat(20))), "{told}");
        assert!(told.contains(&format!("  Sun {} 2\n", "█".repeat(40))), "{told}");
    }

    proptest! {
        #[test]
        fn every_chart_fits_a_narrow_terminal_and_shows_whatever_is_not_nothing(
            counts in proptest::array::uniform24(0_usize..100_000),
        ) {
            let week = std::array::from_fn(|day| counts[day]);
            for line in hours(&counts).lines().chain(weekdays(&week).lines()) {
                prop_assert!(line.chars().count() <= 56, "{}", line);
            }
            let chart = hours(&counts);
            let lowest: Vec<char> = chart.lines().nth(ROWS - 1).unwrap().chars().collect();
            for (hour, count) in counts.iter().enumerate() {
                let shown = lowest.get(6 + 2 * hour).is_some_and(|mark| *mark != ' ');
                prop_assert_eq!(shown, *count > 0);
            }
        }
    }
}
