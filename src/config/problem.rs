//! What is wrong with a configuration file, where, and what to do about it.

use std::fmt;
use std::ops::Range;

use crate::text::escape;

/// How much of a long line is shown, in characters.
const LINE_SHOWN: usize = 100;

/// One thing that is wrong, at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong and what to do.
    pub message: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The offending line and a caret line below it, safe to print.
    excerpt: (String, String),
}

impl Problem {
    /// The problem `message` with the bytes `span` of `text`.
    pub(super) fn new(text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let start = floor_boundary(text, span.start);
        let before = text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let rest = text.get(line_start..).unwrap_or_default();
        let source = rest.lines().next().unwrap_or_default();
        let column = before.get(line_start..).unwrap_or_default().chars().count();
        let end = floor_boundary(text, span.end.max(start));
        let width = text.get(start..end).unwrap_or_default().chars().take_while(|c| *c != '\n');
        Self {
            message: message.into(),
            line: before.matches('\n').count() + 1,
            column: column + 1,
            excerpt: excerpt(source, column, width.count()),
        }
    }
}

/// The window of `source` around `column`, and carets under `width` characters from there.
fn excerpt(source: &str, column: usize, width: usize) -> (String, String) {
    let skipped = if column > LINE_SHOWN * 3 / 4 { column - LINE_SHOWN / 2 } else { 0 };
    let show = |from: usize, count: usize| {
        let part: String = source.chars().skip(from).take(count).collect();
        // A tab would put the caret elsewhere on every terminal.
        escape(part.replace('\t', " ").as_bytes())
    };
    let lead = show(skipped, column - skipped);
    let marked = show(column, width.clamp(1, LINE_SHOWN.saturating_sub(column - skipped).max(1)));
    let line = show(skipped, LINE_SHOWN);
    let indent = " ".repeat(lead.chars().count());
    (line.trim_end().to_owned(), format!("{indent}{}", "^".repeat(marked.chars().count().max(1))))
}

/// The last character boundary of `text` at or before `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Everything that is wrong with one file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file's name as messages show it.
    pub name: String,
    /// In the order of the file.
    pub all: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.all.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            let Problem { message, line, column, excerpt } = problem;
            let margin = " ".repeat(line.to_string().len());
            writeln!(f, "{}:{line}:{column}: {message}", self.name)?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{line} | {}", excerpt.0)?;
            write!(f, "{margin} | {}", excerpt.1)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: Range<usize>) -> String {
        Problems { name: "f".to_owned(), all: vec![Problem::new(text, span, "bad")] }.to_string()
    }

    #[test]
    fn the_caret_stands_under_the_culprit() {
        assert_eq!(shown("a = 1\nbé = 22\n", 12..14), "f:2:6: bad\n  |\n2 | bé = 22\n  |      ^^");
    }

    #[test]
    fn a_span_at_the_end_or_past_it_or_inside_a_character_is_no_trouble() {
        assert!(shown("", 0..0).starts_with("f:1:1: bad"));
        assert!(shown("é", 1..9).starts_with("f:1:1: bad"));
        assert!(shown("a\n", 2..2).starts_with("f:2:1: bad"));
        assert!(shown("a", 70..90).starts_with("f:1:2: bad"));
    }

    #[test]
    fn a_line_that_speaks_to_the_terminal_or_never_ends_is_tamed() {
        let text = format!("{}\x1b[2J{}", "x".repeat(5000), "y".repeat(5000));
        let shown = shown(&text, 5000..5001);
        assert!(!shown.contains('\x1b') && shown.len() < 500, "{shown}");
    }
}
