//! What can go wrong with the watchdog itself: what it does then, and how it tells.
//!
//! This table is the one place for it. Events and counters take their names from here, and the
//! README shows it; a test holds the two together.

use jiff::Timestamp;

use crate::record::{Event, Kind, Severity};

/// Something that went wrong with the watchdog itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The kernel's queue ran over.
    EventsLost,
    /// A sensor does less than it should.
    SensorDegraded,
    /// The self-test fails by some route.
    SelftestFailed,
    /// A file could not be put right.
    HealFailed,
    /// No copy lies ready for a heal.
    ReplicaMissing,
    /// A known-good copy was damaged or gone, and could be made again.
    CopyDamaged,
    /// A known-good copy is gone, and the file is not good either.
    CopyLost,
    /// A known-good copy cannot be read, and not be made again.
    CopyUnreadable,
    /// What was found instead of a file could not be kept.
    EvidenceLost,
    /// The journal or the mail spool cannot be written.
    JournalUnwritable,
    /// Too many lines waited for the disk.
    LinesDropped,
    /// The database cannot be written.
    BaselineUnwritable,
    /// Somebody is at the daemon's own files.
    StateTampered,
    /// The control socket lost its name.
    ControlLost,
    /// A message could not be delivered.
    AlertFailed,
    /// The mail process ended.
    MailProcessEnded,
    /// A configuration was refused.
    ConfigurationRefused,
    /// Something did not end in time when the daemon stopped.
    UnfinishedAtStop,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What went wrong.
    pub failure: Failure,
    /// Its name: the label `failure` of the counter `steadfast_failures_total`.
    pub name: &'static str,
    /// It in words.
    pub what: &'static str,
    /// What the watchdog does then.
    pub answer: &'static str,
    /// The event that goes into the journal.
    pub event: Option<Kind>,
    /// How much it matters.
    pub severity: Severity,
}

macro_rules! table {
    ($($failure:ident, $name:literal, $event:expr, $severity:ident, $what:literal, $answer:literal;)*) => {
        /// Every one.
        pub const TABLE: &[Row] = &[$(Row {
            failure: Failure::$failure,
            name: $name,
            what: $what,
            answer: $answer,
            event: $event,
            severity: Severity::$severity,
        }),*];

        impl Failure {
            /// What the table has of it.
            #[must_use]
            pub const fn row(self) -> &'static Row {
                const ROWS: &[Row] = TABLE;
                &ROWS[self as usize]
            }
        }
    };
}

table! {
    EventsLost, "events-lost", Some(Kind::EventsLost), Warning,
        "the kernel's queue of events ran over, or audit records were lost",
        "looks at every file at once";
    SensorDegraded, "sensor-degraded", Some(Kind::SensorDegraded), Warning,
        "a sensor does less than it should",
        "goes on with the others, and looks at every file once a second";
    SelftestFailed, "selftest-failed", Some(Kind::SensorDegraded), Critical,
        "the self-test was not seen, named or healed by some route",
        "looks at every file once a second, and tests again";
    HealFailed, "heal-failed", Some(Kind::RestoreFailed), Critical,
        "a file could not be put right",
        "tries again, after 100 ms at first and each minute in the end";
    ReplicaMissing, "replica-missing", None, Warning,
        "no copy of a file lies ready, as on a full disk",
        "heals from the vault, which takes longer; `status` names the file";
    CopyDamaged, "copy-damaged", Some(Kind::SensorDegraded), Warning,
        "a known-good copy in the vault was damaged or gone",
        "makes it again from the file, which is good";
    CopyLost, "copy-lost", Some(Kind::SensorDegraded), Critical,
        "a known-good copy is gone, and the file is not good either",
        "makes it again as soon as the file is good";
    CopyUnreadable, "copy-unreadable", Some(Kind::SensorDegraded), Critical,
        "a known-good copy cannot be read, as on a broken disk, and not be made again",
        "heals with copies of the file itself, as long as that is good";
    EvidenceLost, "evidence-lost", Some(Kind::SensorDegraded), Warning,
        "what was found instead of a file could not be kept",
        "heals all the same";
    JournalUnwritable, "journal-unwritable", Some(Kind::SensorDegraded), Critical,
        "the journal or the mail spool cannot be written, as on a full disk",
        "heals from the copies that lie ready, keeps the lines and tries each second";
    LinesDropped, "lines-dropped", Some(Kind::SensorDegraded), Critical,
        "more than 100,000 journal lines waited for the disk",
        "gives up the oldest, and says how many";
    BaselineUnwritable, "baseline-unwritable", Some(Kind::SensorDegraded), Critical,
        "the baseline cannot be written",
        "keeps what is to be noted and tries each second";
    StateTampered, "state-tampered", Some(Kind::SensorDegraded), Critical,
        "somebody is at the state directory",
        "puts back what was moved, makes again what was removed";
    ControlLost, "control-lost", Some(Kind::SensorDegraded), Warning,
        "the name of the control socket was taken away",
        "makes the socket again, unless another has the name";
    AlertFailed, "alert-failed", Some(Kind::AlertFailed), Warning,
        "a message could not be delivered",
        "keeps it and tries again, later and later";
    MailProcessEnded, "mail-process-ended", None, Warning,
        "the mail process ended or cannot be started",
        "starts it again, later and later; messages wait in the spool";
    ConfigurationRefused, "configuration-refused", Some(Kind::ConfigurationRefused), Warning,
        "a configuration that was to be loaded is wrong",
        "keeps the one in force, whole";
    UnfinishedAtStop, "unfinished-at-stop", None, Warning,
        "a worker or the disk did not come to an end when the daemon stopped",
        "stops all the same; the next start compares everything";
}

impl Failure {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// What goes into the journal, if anything does.
    #[must_use]
    pub fn event(self, note: impl Into<String>) -> Option<Event> {
        let Row { event, severity, .. } = *self.row();
        Some(Event::new(Timestamp::now(), event?, severity).noting(note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_where_its_failure_looks_for_it() {
        for row in TABLE {
            assert_eq!(row.failure.name(), row.name);
        }
    }

    #[test]
    fn the_readme_shows_the_table() {
        let readme = include_str!("../../README.md");
        for Row { name, what, answer, event, .. } in TABLE {
            let event = event.map_or_else(|| "–".to_owned(), |kind| format!("`{}`", kind.name()));
            let line = format!("| `{name}` | {what} | {answer} | {event} |");
            assert!(readme.lines().any(|shown| shown == line), "README.md lacks:\n{line}");
        }
    }
}
