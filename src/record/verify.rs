//! Is the chain whole?
//!
//! Every line is held against the one before it, over its bytes as they stand. What the lines
//! alone cannot tell, the baseline does: where the first one that is kept hangs on (the
//! anchor), and which one was the last (the head). So a cut shows at either end.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::chain::{Claim, Link};
use super::error::JournalError;
use super::lines::{Line, Lines};
use super::segments::{CURRENT, Directory, Segment};
use crate::baseline::Baseline;

/// More faults than this are only counted.
const LISTED: usize = 100;
/// How often it starts again because old segments were dropped meanwhile.
const ATTEMPTS: u32 = 4;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Verdict {
    /// Number of files read.
    pub segments: usize,
    /// Number of lines read.
    pub lines: u64,
    /// Number of the last line in the chain, and its hash in hexadecimal; keep them elsewhere
    /// to prove later that nothing before was changed.
    pub head: Option<(u64, String)>,
    /// Length of what a write under way, or a crash, has left after the last line; no fault.
    pub unfinished_bytes: u64,
    /// What is wrong, in the order of the journal; no more than a hundred.
    pub faults: Vec<Fault>,
    /// How many faults there are.
    pub fault_count: u64,
}

impl Verdict {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.fault_count == 0
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file's name.
    pub segment: String,
    /// Number of the line in the file, from 1. Where lines are missing, the one that comes
    /// instead, or the one after the last.
    pub line: u64,
    /// The number that the line gives itself.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: What,
}

/// What can be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "fault")]
pub enum What {
    /// It is not built like a line of the journal.
    NotALine,
    /// It is longer than any line.
    TooLong,
    /// It has no newline at its end.
    Torn,
    /// Its text is not the one that was hashed.
    Edited,
    /// It does not carry the hash of the line before: one of the two is not the one that was
    /// written.
    Unlinked,
    /// Lines are missing before it.
    Missing {
        /// Number of the first that is missing.
        from: u64,
        /// Number of the last that is missing.
        to: u64,
    },
    /// It has the number of an earlier line: it was repeated or moved.
    OutOfOrder {
        /// The number that was due.
        expected: u64,
    },
    /// It has the number of the last line that the baseline knows, and another hash.
    NotTheHead,
    /// The journal ends before its last line.
    Cut {
        /// Number of the last line that the baseline knows.
        head: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.segment, self.line)?;
        if let Some(seq) = self.seq {
            write!(f, " (seq {seq})")?;
        }
        match &self.what {
            What::NotALine => f.write_str(": this is not a line of the journal"),
            What::TooLong => f.write_str(": longer than any line of the journal"),
            What::Torn => f.write_str(": cut short, it has no end"),
            What::Edited => f.write_str(": edited, its text is not the one that was hashed"),
            What::Unlinked => {
                f.write_str(": it does not follow the line before, or that one was replaced")
            }
            What::Missing { from, to } if from == to => write!(f, ": line {from} is missing"),
            What::Missing { from, to } => write!(f, ": lines {from} to {to} are missing"),
            What::OutOfOrder { expected } => {
                write!(f, ": repeated or moved, line {expected} was due here")
            }
            What::NotTheHead => f.write_str(": another line than the baseline remembers"),
            What::Cut { head } => {
                write!(f, ": the journal ends here, but its last line was {head}")
            }
        }
    }
}

/// Checks every line of the journal under `state`. A daemon may go on writing meanwhile.
///
/// # Errors
///
/// Where the journal or the baseline cannot be read. That something is wrong with the chain is
/// no error but a [`Verdict`].
pub fn verify(state: &Path) -> Result<Verdict, JournalError> {
    let baseline = Baseline::open_read_only(state)?;
    let dir = Directory::open(state)?;
    for _ in 1..ATTEMPTS {
        let (verdict, moved) = verify_once(&dir, &baseline)?;
        if !moved || verdict.is_whole() {
            return Ok(verdict);
        }
    }
    verify_once(&dir, &baseline).map(|(verdict, _)| verdict)
}

/// Also says whether old segments were dropped meanwhile. The head is read before the files
/// are opened, so that they are at least as long as it says.
fn verify_once(dir: &Directory, baseline: &Baseline) -> Result<(Verdict, bool), JournalError> {
    let head = baseline.journal_head()?.map(|(seq, hash)| Link { seq, hash });
    let anchor = baseline.journal_anchor()?;
    let mut segments = dir.segments()?;
    let mut walk = Walk::new(head, anchor.map(|(seq, prev)| before(seq, prev)));
    // What a crash has left of segments that were being dropped.
    segments.retain(|one| one.first.zip(anchor).is_none_or(|(first, (seq, _))| first >= seq));
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        walk.read(segment, is_last).map_err(|e| dir.failed("read", &segment.name, e))?;
    }
    walk.verdict.segments = segments.len();
    let moved = baseline.journal_anchor()? != anchor;
    Ok((walk.conclude(), moved))
}

fn before(seq: u64, prev: crate::judge::Digest) -> Link {
    Link { seq: seq.saturating_sub(1), hash: prev }
}

struct Walk {
    known: Option<Link>,
    /// The line before.
    last: Link,
    /// The line before was no good, so its hash says nothing about the next one.
    after_fault: bool,
    segment: String,
    line: u64,
    verdict: Verdict,
}

impl Walk {
    fn new(known: Option<Link>, anchor: Option<Link>) -> Self {
        Self {
            known,
            last: anchor.unwrap_or(Link::START),
            after_fault: false,
            segment: CURRENT.to_owned(),
            line: 0,
            verdict: Verdict::default(),
        }
    }

    fn read(&mut self, segment: &Segment, is_last: bool) -> io::Result<()> {
        let mut lines = Lines::new(segment.file.try_clone()?)?;
        self.segment.clone_from(&segment.name);
        self.line = 0;
        loop {
            match lines.next()? {
                Line::Whole(line) => {
                    let claim = Claim::read(line);
                    self.count(lines.number());
                    self.check(claim);
                }
                Line::TooLong => {
                    self.count(lines.number());
                    self.fault(None, What::TooLong);
                }
                Line::Torn(bytes) if is_last => {
                    self.verdict.unfinished_bytes = bytes;
                    return Ok(());
                }
                Line::Torn(_) => {
                    self.line = lines.number() + 1;
                    self.fault(None, What::Torn);
                    return Ok(());
                }
                Line::End => return Ok(()),
            }
        }
    }

    fn count(&mut self, number: u64) {
        self.line = number;
        self.verdict.lines += 1;
    }

    fn check(&mut self, claim: Option<Claim>) {
        let Some(claim) = claim else { return self.fault(None, What::NotALine) };
        let due = self.last.seq.saturating_add(1);
        let wrong = if !claim.genuine {
            Some(What::Edited)
        } else if claim.seq > due {
            Some(What::Missing { from: due, to: claim.seq - 1 })
        } else if claim.seq < due {
            Some(What::OutOfOrder { expected: due })
        } else if claim.prev != self.last.hash && !self.after_fault {
            Some(What::Unlinked)
        } else if self.known.is_some_and(|k| k.seq == claim.seq && k.hash != claim.hash) {
            Some(What::NotTheHead)
        } else {
            None
        };
        self.after_fault = false;
        if let Some(what) = wrong {
            self.fault(Some(claim.seq), what);
        }
        self.advance(claim);
    }

    /// A line whose own word for its number cannot be trusted takes the place that was due, so
    /// that one edit is one fault.
    fn advance(&mut self, claim: Claim) {
        let due = self.last.seq.saturating_add(1);
        let seq = if claim.genuine { claim.seq } else { due };
        if claim.genuine && claim.seq < due {
            return;
        }
        self.last = Link { seq, hash: claim.hash };
    }

    fn fault(&mut self, seq: Option<u64>, what: What) {
        self.after_fault = true;
        self.verdict.fault_count += 1;
        if self.verdict.faults.len() < LISTED {
            let (segment, line) = (self.segment.clone(), self.line);
            self.verdict.faults.push(Fault { segment, line, seq, what });
        }
    }

    fn conclude(mut self) -> Verdict {
        if let Some(known) = self.known.filter(|known| known.seq > self.last.seq) {
            self.line += 1;
            self.fault(None, What::Cut { head: known.seq });
        }
        if self.last != Link::START {
            self.verdict.head = Some((self.last.seq, self.last.hash.to_string()));
        }
        self.verdict
    }
}
