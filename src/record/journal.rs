//! Writing the journal: one batch, one write, one wait for the disk.
//!
//! What [`Journal::append`] has returned is on the disk. What it has refused is not in the
//! journal at all, not even in part, so the caller keeps the events and tries again. The
//! baseline remembers the last line; it may lag behind, never run ahead.
//!
//! One process writes; a lock on the directory sees to that. Others may read at any time.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::chain::{Link, MAX_LINE, line_after};
use super::error::JournalError;
use super::event::{Entry, Event};
use super::recovery::{Recovery, recover};
use super::segments::{
    CURRENT, Directory, Segment, cut, identity, is_append_only, set_append_only,
};
use super::trouble::Trouble;
use super::watch::Marks;
use crate::baseline::Baseline;
use crate::fault::{self, Point, reach};

/// When a segment is full, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A segment that would grow past this many bytes is full. A batch is never divided.
    pub segment_bytes: u64,
    /// How many segments are kept, the growing one among them; at least one.
    pub segments: usize,
}

impl Default for Limits {
    /// A gibibyte in all.
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, segments: 64 }
    }
}

/// The journal, open for appending.
pub struct Journal {
    pub(super) dir: Directory,
    pub(super) baseline: Baseline,
    limits: Limits,
    pub(super) file: File,
    /// Length of what is whole and on the disk.
    pub(super) size: u64,
    head: Link,
    /// A failed write may have left something behind `size`.
    unclean: bool,
    /// The file does not end with a newline: somebody else wrote there.
    ragged: bool,
    /// It had the append-only bit when it was last looked at, or needs none.
    locked: bool,
    pub(super) troubles: Vec<Trouble>,
    /// What a look at the files says as long as nobody else touches them.
    pub(super) marks: Marks,
}

impl Journal {
    /// Opens the journal under `state`, makes it where there is none, and repairs what a
    /// crash left. The baseline is where it keeps its place.
    ///
    /// # Errors
    ///
    /// [`JournalError::Busy`] where another process has it open; otherwise what the kernel or
    /// the baseline says. Tampering is no error: it is in the [`Recovery`], and the chain
    /// goes on from the line that the baseline knows.
    pub fn open(state: &Path, baseline: &Baseline) -> Result<(Self, Recovery), JournalError> {
        Self::open_with(state, baseline, Limits::default())
    }

    /// [`Journal::open`] with other limits.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_with(
        state: &Path,
        baseline: &Baseline,
        limits: Limits,
    ) -> Result<(Self, Recovery), JournalError> {
        let dir = Directory::make(state)?;
        dir.lock()?;
        let (head, recovery) = recover(&dir, baseline)?;
        for segment in dir.segments()? {
            set_append_only(segment.file.as_fd(), true)
                .map_err(|error| dir.failed("set +a on", &segment.name, error))?;
        }
        let file = dir.append_to_current().map_err(|e| dir.failed("open", CURRENT, e))?;
        let mut journal = Self {
            dir,
            baseline: baseline.clone(),
            limits,
            file,
            size: 0,
            head,
            unclean: false,
            ragged: false,
            locked: true,
            troubles: Vec::new(),
            marks: Marks::new(),
        };
        journal.locked = !matches!(is_append_only(journal.file.as_fd()), Ok(Some(false)));
        journal.measure().map_err(|error| journal.failed("read", error))?;
        journal.find_tampering(&recovery).map_err(|error| journal.failed("read", error))?;
        // One too many is left where a rotation was cut short.
        journal.drop_surplus();
        journal.mark_all()?;
        Ok((journal, recovery))
    }

    /// The last line.
    #[must_use]
    pub fn head(&self) -> Link {
        self.head
    }

    /// What somebody did while it was not open is trouble like any other.
    fn find_tampering(&mut self, recovery: &Recovery) -> io::Result<()> {
        let found = recovery.findings.iter().filter(|finding| finding.is_tampering());
        self.troubles.extend(found.cloned().map(Trouble::Found));
        if self.troubles.is_empty() { self.look_for_fouls() } else { Ok(()) }
    }

    /// What went wrong since the last call without keeping a line from the journal.
    #[must_use]
    pub fn troubles(&mut self) -> Vec<Trouble> {
        if self.troubles.iter().any(Trouble::is_tampering) {
            self.remember_fouls();
        }
        std::mem::take(&mut self.troubles)
    }

    /// Appends `events`, all or none, and returns them in their places once they are on the
    /// disk. An event too long for a line loses what is long about it, and says so.
    ///
    /// # Errors
    ///
    /// What the kernel says; a full disk above all. Then nothing was appended, and the same
    /// events can be given again.
    pub fn append(&mut self, events: &[Event]) -> Result<Vec<Entry>, JournalError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.look()?;
        let (mut batch, entries, head) = self.compose(events)?;
        if self.size > 0 && self.size + batch.len() as u64 > self.limits.segment_bytes {
            self.rotate();
        }
        if self.ragged {
            batch.insert(0, b'\n');
        }
        if fault::is_next(Point::JournalTorn) {
            let _ = self.file.write_all(&batch[..batch.len() / 2]);
            reach(Point::JournalTorn);
        }
        let written = self.file.write_all(&batch).and_then(|()| {
            reach(Point::JournalWritten);
            self.file.sync_data()
        });
        if let Err(error) = written {
            self.unclean = true;
            // If this fails too, the next call begins with it.
            let _ = self.take_back();
            return Err(self.failed("write", error));
        }
        reach(Point::JournalSynced);
        self.size += batch.len() as u64;
        self.ragged = false;
        self.head = head;
        self.mark_current();
        if let Err(error) = self.baseline.set_journal_head(head.seq, head.hash) {
            self.troubles.push(Trouble::HeadNotSaved(error));
        }
        reach(Point::JournalNoted);
        Ok(entries)
    }

    fn compose(&self, events: &[Event]) -> Result<(Vec<u8>, Vec<Entry>, Link), JournalError> {
        let (mut batch, mut entries, mut head) = (Vec::new(), Vec::new(), self.head);
        for event in events {
            let (mut line, mut entry, mut link) = line_after(head, event)?;
            if line.len() > MAX_LINE {
                (line, entry, link) = line_after(head, &super::abridge::abridged(event))?;
            }
            batch.extend_from_slice(&line);
            entries.push(entry);
            head = link;
        }
        Ok((batch, entries, head))
    }

    /// Sees whether the file is as it was left. A journal that somebody has touched is still
    /// the place to write to; what was done stays visible to `journal verify`.
    pub(super) fn look(&mut self) -> Result<(), JournalError> {
        if self.unclean {
            self.take_back().map_err(|error| self.failed("repair", error))?;
        }
        let ours = identity(&self.file).map_err(|error| self.failed("look at", error))?;
        let there = self.dir.current_identity().map_err(|error| self.failed("look at", error))?;
        if there != Some(ours) {
            self.begin_anew()?;
            self.troubles.push(Trouble::Replaced);
            self.mark_current();
            return Ok(());
        }
        let found = self.file.metadata().map_err(|error| self.failed("look at", error))?.len();
        if found != self.size {
            self.troubles.push(Trouble::Resized { expected: self.size, found });
            self.measure().map_err(|error| self.failed("read", error))?;
        }
        if let Ok(Some(false)) = is_append_only(self.file.as_fd()) {
            self.lock_again().map_err(|error| self.failed("set +a on", error))?;
        }
        Ok(())
    }

    /// The append-only bit is not there: somebody cleared it, or it could not be set before.
    fn lock_again(&mut self) -> io::Result<()> {
        let again = set_append_only(self.file.as_fd(), true)?;
        if std::mem::replace(&mut self.locked, again) {
            self.troubles.push(Trouble::NotAppendOnly { again });
        } else if !again {
            self.troubles.push(Trouble::Unlocked);
        }
        self.mark_current();
        Ok(())
    }

    pub(super) fn trouble(&mut self, trouble: Trouble) {
        self.troubles.push(trouble);
    }

    pub(super) fn trouble_count(&self) -> usize {
        self.troubles.len()
    }

    pub(super) fn measure(&mut self) -> io::Result<()> {
        self.size = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(at) = self.size.checked_sub(1) {
            self.file.read_exact_at(&mut last, at)?;
        }
        self.ragged = last != [b'\n'];
        Ok(())
    }

    fn take_back(&mut self) -> io::Result<()> {
        cut(&self.file, self.size)?;
        self.unclean = false;
        self.mark_current();
        Ok(())
    }

    /// Begins a new segment. Where that fails the old one goes on, longer than it should be.
    fn rotate(&mut self) {
        match self.try_rotate() {
            Ok(()) => self.drop_surplus(),
            Err(error) => self.troubles.push(Trouble::NotRotated(error)),
        }
        if let Err(error) = self.mark_all() {
            tracing::warn!("{error}");
        }
    }

    fn try_rotate(&mut self) -> Result<(), JournalError> {
        let current = Segment { name: CURRENT.to_owned(), first: None, file: self.clone_file()? };
        let first = current.first_claim().map_err(|error| self.failed("read", error))?;
        // Where the first line is rubbish, the number only has to sort after the others.
        let first = first.map_or(self.head.seq, |claim| claim.seq);
        let name =
            self.dir.retire(&self.file, first).map_err(|error| self.failed("rename", error))?;
        match self.dir.append_to_current() {
            Ok(file) => {
                self.file = file;
                reach(Point::RotateMade);
                self.measure().map_err(|error| self.failed("read", error))
            }
            Err(error) => {
                self.dir
                    .reinstate(&self.file, &name)
                    .map_err(|error| self.failed("rename", error))?;
                Err(self.failed("make", error))
            }
        }
    }

    fn drop_surplus(&mut self) {
        if let Err(error) = self.drop_oldest() {
            self.troubles.push(Trouble::NotDropped(error));
        }
    }

    /// Drops the oldest segments that are too many. The anchor moves before a file goes, so a
    /// crash between the two leaves a file too many and never a gap.
    fn drop_oldest(&mut self) -> Result<(), JournalError> {
        let segments = self.dir.segments()?;
        let excess = segments.len().saturating_sub(self.limits.segments.max(1));
        for pair in segments.windows(2).take(excess) {
            let [oldest, next] = pair else { continue };
            let claim =
                next.first_claim().map_err(|error| self.dir.failed("read", &next.name, error))?;
            let (seq, prev) = match claim {
                Some(claim) => (claim.seq, claim.prev),
                None if next.first.is_none() => (self.head.seq + 1, self.head.hash),
                // Rubbish; the anchor stays, and `journal verify` will miss what is dropped.
                None => (0, Link::START.hash),
            };
            if seq > 0 {
                self.baseline.set_journal_anchor(seq, prev)?;
            }
            reach(Point::RotateAnchored);
            self.dir
                .remove(&oldest.name)
                .map_err(|error| self.dir.failed("remove", &oldest.name, error))?;
        }
        Ok(())
    }

    fn clone_file(&self) -> Result<File, JournalError> {
        self.file.try_clone().map_err(|error| self.failed("open", error))
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> JournalError {
        self.dir.failed(doing, CURRENT, source)
    }
}
