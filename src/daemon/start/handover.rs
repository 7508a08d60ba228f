//! What one run hands to the next: the service manager keeps descriptors of ours open while the
//! service starts again, however it ended, and gives them to the next process by name.
//!
//! Kept are the fanotify groups (`events-PID`) and the socket of audit records (`records-PID`),
//! so that what happens meanwhile is queued; and, of a run that had dealt with all that it read,
//! a mark that says so (`settled-PID`). Each run makes its own and reads what was kept to its
//! end, so nothing old stays in use. Permission groups are never kept: with nobody to answer,
//! whoever opens a protected file would wait.
//!
//! What is no such thing is closed, and that is said. Where the manager keeps nothing, as after
//! a stop, the start finds by itself what was changed.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::eventfd::EventFd;

use crate::daemon::service;
use crate::sense::Bygone;
use crate::sys::audit::Stream;

const EVENTS: &str = "events";
const RECORDS: &str = "records";
const SETTLED: &str = "settled";

/// See the module.
#[derive(Debug, Default)]
pub struct Heritage {
    /// What the groups of earlier runs have queued.
    pub(in crate::daemon) events: Bygone,
    /// The sockets of earlier runs, with the records that wait.
    pub(in crate::daemon) records: Vec<Stream>,
    /// Every run whose group was kept had dealt with what it read.
    pub(super) is_settled: bool,
    names: BTreeSet<String>,
}

impl Heritage {
    /// Sorts what the manager handed over.
    #[must_use]
    pub fn of(handed: Vec<(String, OwnedFd)>) -> Self {
        let mut heritage = Self::default();
        let (mut events, mut settled) = (BTreeSet::new(), BTreeSet::new());
        for (name, fd) in handed {
            let (kind, run) = name.split_once('-').unwrap_or((&name, ""));
            let taken = match (kind, run.parse::<u32>()) {
                (EVENTS, Ok(run)) => {
                    events.insert(run);
                    heritage.events.take_up(run, fd)
                }
                (RECORDS, Ok(_)) => Stream::of(fd).map(|stream| heritage.records.push(stream)),
                (SETTLED, Ok(run)) => {
                    settled.insert(run);
                    Ok(())
                }
                _ => Err(std::io::ErrorKind::InvalidInput.into()),
            };
            if taken.is_err() {
                let name = crate::text::escape(name.as_bytes());
                tracing::warn!(
                    "the service manager handed over {name:?}, which is nothing that steadfast \
                     left there; it was closed"
                );
            }
            heritage.names.insert(name);
        }
        heritage.is_settled = events.is_subset(&settled);
        heritage
    }

    /// Has the manager forget what was taken up.
    pub(super) fn let_go(&mut self) {
        let names = std::mem::take(&mut self.names).into_iter();
        // In what is said to the manager a line is an order.
        names.filter(|name| !name.contains(char::is_control)).for_each(|n| service::let_go(&n));
    }
}

/// Has the groups of this run kept.
pub(super) fn keep_events<'a>(groups: impl Iterator<Item = BorrowedFd<'a>>) {
    groups.for_each(|group| keep(EVENTS, group));
}

/// Has the socket of this run kept.
pub(in crate::daemon) fn keep_records(stream: BorrowedFd<'_>) {
    keep(RECORDS, stream);
}

/// All that this run has read is dealt with, and nothing more will be read.
pub(in crate::daemon) fn settled() {
    // Anything does that can be kept.
    if let Ok(mark) = EventFd::new() {
        keep(SETTLED, mark.as_fd());
    }
}

fn keep(kind: &str, fd: BorrowedFd<'_>) {
    service::keep(&format!("{kind}-{}", std::process::id()), fd);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fanotify::Notifier;

    fn group() -> OwnedFd {
        Notifier::new().unwrap().as_fd().try_clone_to_owned().unwrap()
    }

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    fn heritage(handed: Vec<(&str, OwnedFd)>) -> Heritage {
        Heritage::of(handed.into_iter().map(|(name, fd)| (name.to_owned(), fd)).collect())
    }

    #[test]
    fn only_what_a_run_of_ours_can_have_left_is_taken_up() {
        let none = heritage(vec![
            ("events-1", file()),
            ("records-1", group()),
            ("events", group()),
            ("events-x", group()),
            ("", file()),
            ("stored", group()),
        ]);
        assert!(!none.events.is_there() && none.records.is_empty());
        assert_eq!(none.names.len(), 6, "all of it is let go");
        assert!(heritage(vec![("events-7", group())]).events.is_there());
    }

    #[test]
    fn a_run_had_dealt_with_everything_only_if_each_before_it_had() {
        let settled = heritage(vec![("events-1", group()), ("settled-1", file())]);
        assert!(settled.is_settled);
        let other = heritage(vec![("events-1", group()), ("settled-2", file())]);
        assert!(!other.is_settled);
        let both = vec![("events-1", group()), ("events-2", group()), ("settled-2", file())];
        assert!(!heritage(both).is_settled);
    }
}
