//! `events`: the journal, readable.

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::args::Output;
use super::screen::{Screen, style_of};
use super::{Outcome, absolute, look};
use crate::config::{Config, canonical_path};
use crate::record::{self, Entries, Entry, Filter, JournalError, describe_at};

/// How often the journal is looked at for more.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// What is asked of the journal.
#[derive(Debug)]
pub(super) struct Question {
    pub path: Option<PathBuf>,
    pub since: Option<Duration>,
    pub follow: bool,
}

pub(super) fn events(
    screen: &Screen,
    config: &Config,
    question: Question,
    output: Output,
) -> anyhow::Result<Outcome> {
    let filter = Filter {
        path: question
            .path
            .map(|path| anyhow::Ok(canonical_path(&absolute(&path)?)))
            .transpose()?,
        since: question.since.map(ago).transpose()?,
    };
    let asked = filter.path.clone();
    let mut entries = record::read(&config.daemon.state, filter)?;
    let zone = TimeZone::system();
    let found = Cell::new(false);
    let print = |entry: &Entry| {
        found.set(true);
        if output.json {
            return screen.json(entry);
        }
        let style = style_of(entry.event.severity);
        Ok(screen.styled(style, describe_at(&entry.event, &zone))?)
    };
    let mut damaged = drain(screen, &mut entries, &print)?;
    if let (false, Some(path)) = (found.get(), &asked) {
        look::remark_unknown(screen, config, path);
    }
    while question.follow && !stdout_is_closed() {
        damaged |= drain(screen, &mut entries, &print)?;
    }
    Ok(if damaged { Outcome::Undone } else { Outcome::Fine })
}

/// Gives every entry there is to `each`. A line that cannot be read is remarked, and the others
/// follow; says whether there was one.
pub(super) fn drain(
    screen: &Screen,
    entries: &mut Entries,
    mut each: impl FnMut(&Entry) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let mut damaged = false;
    for entry in entries {
        match entry {
            Ok(entry) => each(&entry)?,
            Err(error @ JournalError::BadLine { .. }) => {
                damaged = true;
                screen.remark(&error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(damaged)
}

fn ago(duration: Duration) -> anyhow::Result<Timestamp> {
    SignedDuration::try_from(duration)
        .ok()
        .and_then(|duration| Timestamp::now().checked_sub(duration).ok())
        .context("--since reaches back beyond the calendar: give a shorter duration")
}

/// Waits a moment, and says whether the reader of stdout went away meanwhile.
fn stdout_is_closed() -> bool {
    let stdout = io::stdout();
    let mut watched = [PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut watched, Some(&PAUSE)) {
        Ok(_) => watched.iter().any(|fd| fd.revents().intersects(PollFlags::ERR | PollFlags::NVAL)),
        Err(_) => false,
    }
}
