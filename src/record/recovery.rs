//! Finding the end of the journal again when it is opened.
//!
//! Lines reach the disk first and the baseline learns of them after that, so a crash leaves
//! one of two things: whole lines that the baseline does not know yet, or half a line that no
//! one was ever told of. The first are taken in, the second is cut off. Anything else is not a
//! crash: it stays as it is, for `journal verify` to show, and is reported.

use std::fmt;
use std::io;

use super::chain::{Claim, Link};
use super::error::JournalError;
use super::lines::{Line, Lines};
use super::segments::{CURRENT, Directory, Segment, cut};
use crate::baseline::Baseline;

/// What was found when the journal was opened; nothing, as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Recovery {
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A write that a crash had cut short was taken back.
    Torn {
        /// Bytes of the half line.
        bytes: u64,
    },
    /// A crash had come between the disk and the baseline; the lines were taken in.
    Adopted {
        /// How many.
        lines: u64,
    },
    /// The baseline is new, or lost: the journal was believed as it stands.
    Unknown {
        /// Number of its last line.
        last: u64,
    },
    /// The line that the baseline knows as the last is not there: the journal was cut,
    /// replaced or edited. The next line follows the one that is missing.
    Cut {
        /// Number of the missing line.
        head: u64,
    },
    /// After the last line that the baseline knows come lines that do not belong there.
    Foreign {
        /// The segment's file name.
        segment: String,
        /// Number of the first of them in it, from 1.
        line: u64,
    },
}

impl Finding {
    /// Whether somebody must have done it, as against a crash.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        matches!(self, Self::Cut { .. } | Self::Foreign { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { bytes } => {
                write!(f, "a write to the journal was cut short; its {bytes} bytes were removed")
            }
            Self::Adopted { lines } => {
                write!(
                    f,
                    "the last {lines} lines of the journal were on the disk before a crash \
                    and are kept"
                )
            }
            Self::Unknown { last } => {
                write!(
                    f,
                    "the baseline did not know this journal; it is believed up to line \
                    {last}"
                )
            }
            Self::Cut { head } => {
                write!(
                    f,
                    "the journal lacks line {head}, which was its last: somebody cut or \
                    replaced it; steadfast journal verify tells more"
                )
            }
            Self::Foreign { segment, line } => {
                write!(
                    f,
                    "line {line} of {segment} is not from this journal: somebody added it; \
                    steadfast journal verify tells more"
                )
            }
        }
    }
}

/// Where the chain goes on, and what was found on the way there.
pub(super) fn recover(
    dir: &Directory,
    baseline: &Baseline,
) -> Result<(Link, Recovery), JournalError> {
    remove_leftovers(dir, baseline)?;
    let known = baseline.journal_head()?.map(|(seq, hash)| Link { seq, hash });
    let segments = dir.segments()?;
    let start = start_of_search(&segments, known).map_err(|error| dir.failed("read", "", error))?;
    let mut search = Search { known, at: None, adopted: 0, findings: Vec::new() };
    for segment in segments.iter().skip(start) {
        let torn = search.read(segment).map_err(|e| dir.failed("read", &segment.name, e))?;
        if let Some((offset, bytes)) = torn
            && search.may_cut()
            && segment.name == CURRENT
        {
            let file = dir.append_to_current().map_err(|e| dir.failed("open", CURRENT, e))?;
            cut(&file, offset).map_err(|e| dir.failed("repair", CURRENT, e))?;
            search.findings.push(Finding::Torn { bytes });
        }
    }
    let first = segments.first().map(Segment::first_claim).transpose();
    let first = first.map_err(|error| dir.failed("read", "", error))?.flatten();
    search.conclude(baseline, first)
}

/// Files that were being dropped when a crash came: the anchor has moved past them already.
fn remove_leftovers(dir: &Directory, baseline: &Baseline) -> Result<(), JournalError> {
    let Some((oldest, _)) = baseline.journal_anchor()? else { return Ok(()) };
    for (first, name) in dir.full().map_err(|error| dir.failed("list", "", error))? {
        if first < oldest {
            dir.remove(&name).map_err(|error| dir.failed("remove", &name, error))?;
        }
    }
    Ok(())
}

/// The segment that the known last line is in.
fn start_of_search(segments: &[Segment], known: Option<Link>) -> io::Result<usize> {
    let Some(known) = known else { return Ok(0) };
    for (index, segment) in segments.iter().enumerate().rev() {
        let first = match segment.first {
            Some(first) => Some(first),
            None => segment.first_claim()?.map(|claim| claim.seq),
        };
        if first.is_some_and(|first| first <= known.seq) {
            return Ok(index);
        }
    }
    Ok(0)
}

/// Reads on from the last line that the baseline knows.
struct Search {
    known: Option<Link>,
    /// The last good line so far; none before the known one was met.
    at: Option<Link>,
    adopted: u64,
    findings: Vec<Finding>,
}

impl Search {
    /// Reads a segment; says where half a line begins at its end, and how long it is.
    fn read(&mut self, segment: &Segment) -> io::Result<Option<(u64, u64)>> {
        let mut lines = Lines::new(segment.file.try_clone()?)?;
        loop {
            let claim = match lines.next()? {
                Line::Whole(line) => Claim::read(line),
                Line::TooLong => None,
                Line::Torn(bytes) => return Ok(Some((lines.offset(), bytes))),
                Line::End => return Ok(None),
            };
            self.judge(claim, &segment.name, lines.number());
        }
    }

    fn judge(&mut self, claim: Option<Claim>, segment: &str, line: u64) {
        let genuine = claim.filter(|claim| claim.genuine);
        match (self.at, self.known, genuine) {
            (Some(at), _, Some(claim)) if claim.follows(at) => {
                self.at = Some(claim.link());
                self.adopted += 1;
            }
            (None, Some(known), claim) => {
                if claim.is_some_and(|claim| claim.link() == known) {
                    self.at = Some(known);
                }
            }
            (None, None, Some(claim)) => {
                self.at = Some(claim.link());
                self.adopted += 1;
            }
            _ => self.foreign(segment, line),
        }
    }

    /// One is enough to say so; `journal verify` lists them all.
    fn foreign(&mut self, segment: &str, line: u64) {
        if !self.findings.iter().any(|finding| matches!(finding, Finding::Foreign { .. })) {
            self.findings.push(Finding::Foreign { segment: segment.to_owned(), line });
        }
    }

    /// Whether half a line at the end can only be a write that was cut short.
    fn may_cut(&self) -> bool {
        self.at.is_some() || self.known.is_none()
    }

    fn conclude(
        mut self,
        baseline: &Baseline,
        first: Option<Claim>,
    ) -> Result<(Link, Recovery), JournalError> {
        let head = match (self.known, self.at) {
            (Some(known), None) => {
                self.findings.push(Finding::Cut { head: known.seq });
                known
            }
            (None, None) => Link::START,
            (Some(_), Some(at)) => {
                if self.adopted > 0 {
                    self.findings.push(Finding::Adopted { lines: self.adopted });
                }
                at
            }
            (None, Some(at)) => {
                self.findings.push(Finding::Unknown { last: at.seq });
                if let Some(first) = first.filter(|first| first.seq > 1) {
                    baseline.set_journal_anchor(first.seq, first.prev)?;
                }
                at
            }
        };
        if self.known != Some(head) && head != Link::START {
            baseline.set_journal_head(head.seq, head.hash)?;
        }
        Ok((head, Recovery { findings: self.findings }))
    }
}
