//! Lines of the growing file that are not as they were written, found when it is opened: somebody
//! was at it while nobody looked. What was told once is remembered with the baseline, for the file
//! keeps its fault.

use std::fs::File;
use std::io;

use super::chain::{Claim, Link};
use super::journal::Journal;
use super::lines::{Line, Lines};
use super::segments::CURRENT;
use super::trouble::Trouble;

/// More faults than these are one fault.
const MOST: usize = 100;

/// The faults of a file, and which file it is: they are told apart by the first line that is right.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fouls {
    first: u64,
    lines: Vec<u64>,
}

impl Journal {
    /// Notes the first fault that nobody was told of yet.
    pub(super) fn look_for_fouls(&mut self) -> io::Result<()> {
        let found = fouls(&self.file, self.head())?;
        let text = self.baseline.journal_fouls().ok().flatten();
        let told = text.as_deref().and_then(Fouls::parse).filter(|told| told.first == found.first);
        let told = told.unwrap_or_default().lines;
        if let Some(line) = found.lines.iter().find(|line| !told.contains(line)) {
            let line = Some(*line);
            self.troubles.push(Trouble::Touched { segment: CURRENT.to_owned(), line });
        }
        Ok(())
    }

    /// What is wrong with it now is told.
    pub(super) fn remember_fouls(&self) {
        // Where it cannot be remembered it is told again.
        if let Ok(found) = fouls(&self.file, self.head()) {
            let _ = self.baseline.set_journal_fouls(&found.text());
        }
    }
}

impl Fouls {
    fn text(&self) -> String {
        let numbers = std::iter::once(self.first).chain(self.lines.iter().copied());
        numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|word| word.parse().ok());
        Some(Self { first: numbers.next()??, lines: numbers.collect::<Option<_>>()? })
    }
}

/// The numbers of the lines that are not what was written or do not follow the one before; after
/// the last line, that of the next, where the last is not `head`.
fn fouls(file: &File, head: Link) -> io::Result<Fouls> {
    let mut lines = Lines::new(file.try_clone()?)?;
    let mut found = Fouls::default();
    let mut last: Option<Link> = None;
    while found.lines.len() < MOST {
        let claim = match lines.next()? {
            Line::Whole(line) => Claim::read(line),
            Line::TooLong => None,
            Line::Torn(_) | Line::End => {
                if last.is_some_and(|last| last != head) {
                    found.lines.push(lines.number() + 1);
                }
                break;
            }
        };
        let claim = claim.filter(|claim| claim.genuine);
        if claim.as_ref().is_none_or(|claim| last.is_some_and(|at| !claim.follows(at))) {
            found.lines.push(lines.number());
        }
        last = claim.as_ref().map(Claim::link);
        if let (0, Some(at)) = (found.first, last) {
            found.first = at.seq;
        }
    }
    Ok(found)
}
