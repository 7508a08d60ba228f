//! Reading the journal, beside a daemon that writes it or without one.
//!
//! Reading checks no hashes; that is the work of [`verify`](super::verify()).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::error::JournalError;
use super::event::Entry;
use super::lines::{Line, Lines};
use super::segments::{Directory, Segment, identity};
use crate::text::escape;

/// Which entries are wanted. The default is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// About this path or, where it is a directory, what is below it.
    pub path: Option<PathBuf>,
    /// Not older than this.
    pub since: Option<Timestamp>,
}

impl Filter {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.event.time >= since)
            && self.path.as_deref().is_none_or(|wanted| {
                entry.event.path.as_ref().is_some_and(|path| path.to_path().starts_with(wanted))
            })
    }
}

/// The entries of the journal under `state` that `filter` wants, the oldest first.
///
/// # Errors
///
/// [`JournalError::Missing`] where there is no journal; otherwise what the kernel says.
pub fn read(state: &Path, filter: Filter) -> Result<Entries, JournalError> {
    let dir = Directory::open(state)?;
    let segments = dir.segments()?.into();
    Ok(Entries { dir, filter, segments, open: None, seen: 0, skip_to: 0, failed: false })
}

/// An iterator over entries that can be asked again after it has said `None`: it then returns
/// what has been appended meanwhile, in new segments too. Half a line is no entry yet.
///
/// A line that cannot be read comes as [`JournalError::BadLine`], and the ones after it
/// follow. After any other error there is nothing more.
pub struct Entries {
    dir: Directory,
    filter: Filter,
    segments: VecDeque<Segment>,
    open: Option<(String, Lines)>,
    /// Number of the last entry read.
    seen: u64,
    /// Entries up to this number were read before the file had to be read again.
    skip_to: u64,
    failed: bool,
}

impl Iterator for Entries {
    type Item = Result<Entry, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            match self.step() {
                Ok(Step::Entry(entry)) => return Some(Ok(*entry)),
                Ok(Step::Again) => {}
                Ok(Step::End) => return None,
                Err(error) => {
                    self.failed = !matches!(error, JournalError::BadLine { .. });
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

enum Step {
    Entry(Box<Entry>),
    Again,
    End,
}

impl Entries {
    fn step(&mut self) -> Result<Step, JournalError> {
        let Some((name, lines)) = &mut self.open else { return self.open_next() };
        let failed = |error| self.dir.failed("read", name, error);
        let why = match lines.next().map_err(failed)? {
            Line::Whole(line) => match serde_json::from_slice(line) {
                Ok(entry) => return Ok(self.sift(entry)),
                Err(error) => escape(error.to_string().as_bytes()),
            },
            Line::TooLong => "it is too long".to_owned(),
            Line::Torn(_) if self.segments.is_empty() => return self.look_for_more(),
            Line::Torn(bytes) => {
                let (segment, line) = (name.clone(), lines.number() + 1);
                self.open = None;
                let why = format!("it ends after {bytes} bytes");
                return Err(JournalError::BadLine { segment, line, why });
            }
            Line::End if self.segments.is_empty() => return self.look_for_more(),
            Line::End => {
                self.open = None;
                return Ok(Step::Again);
            }
        };
        Err(JournalError::BadLine { segment: name.clone(), line: lines.number(), why })
    }

    fn sift(&mut self, entry: Entry) -> Step {
        if entry.seq <= self.skip_to {
            return Step::Again;
        }
        self.skip_to = 0;
        self.seen = entry.seq;
        if self.filter.wants(&entry) { Step::Entry(Box::new(entry)) } else { Step::Again }
    }

    fn open_next(&mut self) -> Result<Step, JournalError> {
        if self.segments.is_empty() {
            self.segments = self.dir.segments()?.into();
        }
        let Some(segment) = self.segments.pop_front() else { return Ok(Step::End) };
        let Segment { name, file, .. } = segment;
        let lines = Lines::new(file).map_err(|error| self.dir.failed("read", &name, error))?;
        self.open = Some((name, lines));
        Ok(Step::Again)
    }

    /// At the end of the last segment known: is it still the one that grows?
    fn look_for_more(&mut self) -> Result<Step, JournalError> {
        let Some((name, lines)) = &mut self.open else { return Ok(Step::End) };
        let failed = |error| self.dir.failed("read", name, error);
        let ours = identity(lines.file()).map_err(failed)?;
        let length = lines.file().metadata().map_err(failed)?.len();
        if length < lines.offset() {
            // Somebody took lines back; what comes in their place is found by its number.
            lines.rewind().map_err(failed)?;
            self.skip_to = self.seen;
            return Ok(Step::Again);
        }
        if self.dir.current_identity().map_err(failed)? == Some(ours) {
            return Ok(Step::End);
        }
        let segments = self.dir.segments()?;
        let place = segments.iter().map(Segment::identity).collect::<io::Result<Vec<_>>>();
        let place = place.map_err(failed)?.iter().position(|found| *found == ours);
        // Our own is not among them once it was dropped or removed.
        let next = place.map_or(0, |place| place + 1);
        self.segments = segments.into_iter().skip(next).collect();
        if self.segments.is_empty() {
            return Ok(Step::End);
        }
        if place.is_none() {
            self.skip_to = self.seen;
        }
        // Before it was renamed, our own may have got lines that we have not seen: its end is
        // looked for once more, and then comes the next.
        Ok(Step::Again)
    }
}
