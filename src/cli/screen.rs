//! Where output goes, and how it looks.

use std::cell::Cell;
use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::record::Severity;

pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(super) const STRONG: Style = Style::new().bold();
pub(super) const PLAIN: Style = Style::new();

/// The two streams. Colour is dropped on the way where no terminal is at the end of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen {
    reader_is_gone: Cell<bool>,
}

impl Screen {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether nobody reads stdout any more, so that there is no point in going on.
    pub fn reader_is_gone(&self) -> bool {
        self.reader_is_gone.get()
    }

    /// Prints a line on stdout. It is on its way when this returns.
    pub fn line(&self, line: impl std::fmt::Display) -> io::Result<()> {
        self.lines(&format!("{line}\n"))
    }

    /// The same in a style.
    pub fn styled(&self, style: Style, line: impl std::fmt::Display) -> io::Result<()> {
        self.line(format_args!("{style}{line}{style:#}"))
    }

    /// Prints a value as one line of JSON.
    pub fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value)?)?)
    }

    /// Prints many lines at once.
    pub fn lines(&self, text: &str) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.reader_is_gone.set(true);
        }
        written.map_err(|e| io::Error::new(e.kind(), format!("the output cannot be written: {e}")))
    }

    /// One sentence on stderr. If nobody reads that, nobody can be told.
    pub fn complain(&self, sentence: &str) {
        let _ = writeln!(anstream::stderr().lock(), "{BAD}steadfast:{BAD:#} {sentence}");
    }

    /// The same for what does not stop the work.
    pub fn remark(&self, sentence: &str) {
        let _ = writeln!(anstream::stderr().lock(), "{WARNING}steadfast:{WARNING:#} {sentence}");
    }
}

/// How an event of this severity looks.
pub(super) fn style_of(severity: Severity) -> Style {
    match severity {
        Severity::Info => PLAIN,
        Severity::Warning => WARNING,
        Severity::Critical => BAD,
    }
}

/// `1 file`, `2 files`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
