//! Noticing that somebody else touches the journal while it is being written.
//!
//! Whatever is done to a file moves its `ctime`, and nothing sets that back. So after each write
//! of our own the journal remembers what a look says of its files, and a look that says something
//! else means somebody else. Only then is a file read, to tell where. What was done stays as it
//! is, for `journal verify` to show; only what was taken away comes back, from the descriptor
//! that is still open.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::chain::Claim;
use super::error::JournalError;
use super::journal::Journal;
use super::lines::{Line, Lines};
use super::segments::{CURRENT, Directory, is_append_only, set_append_only};
use super::trouble::Trouble;
use crate::judge::FileTime;
use crate::sys::stat::{stat, stat_fd};

/// What a look says of a file that nobody but us should touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    ino: u64,
    size: u64,
    ctime: FileTime,
}

/// The marks of all files by their names.
pub(super) type Marks = BTreeMap<String, Mark>;

pub(super) fn mark(file: &File) -> io::Result<Mark> {
    let found = stat_fd(file.as_fd())?;
    Ok(Mark { ino: found.ino, size: found.size, ctime: found.ctime })
}

impl Journal {
    /// Sees whether anybody else has touched the files since the last write, and puts right what
    /// can be; [`Journal::troubles`] tells. Cheap enough for once a second.
    ///
    /// # Errors
    ///
    /// What the kernel says. What is wrong is looked for again at the next call.
    pub fn inspect(&mut self) -> Result<(), JournalError> {
        let known = self.marks.clone();
        let told = self.trouble_count();
        self.look()?;
        let spoke = self.trouble_count() > told;
        let found = self.dir.segments()?;
        for segment in &found {
            let is_current = segment.name == CURRENT;
            let failed = |error| self.dir.failed("look at", &segment.name, error);
            let (Some(before), now) =
                (known.get(&segment.name), mark(&segment.file).map_err(failed)?)
            else {
                continue;
            };
            if *before == now {
                continue;
            }
            let expected = is_current.then_some(self.head());
            let line = first_foul(&segment.file, expected).map_err(failed)?;
            let full_and_bare =
                !is_current && matches!(is_append_only(segment.file.as_fd()), Ok(Some(false)));
            if full_and_bare {
                set_append_only(segment.file.as_fd(), true).map_err(failed)?;
            }
            if line.is_some() || !(is_current && spoke) {
                let segment = segment.name.clone();
                self.trouble(Trouble::Touched { segment, line });
            }
        }
        let gone = known.keys().filter(|name| !found.iter().any(|one| one.name == **name));
        for name in gone.filter(|name| *name != CURRENT) {
            self.trouble(Trouble::Removed { segment: name.clone() });
        }
        self.mark_all()
    }

    /// Whether the file that grows below `state` is its owner's alone, as it was made.
    #[must_use]
    pub fn is_private(state: &Path) -> bool {
        let found = stat(&state.join("journal").join(CURRENT));
        found.is_ok_and(|found| {
            found.mode & 0o077 == 0 && found.uid == rustix::process::geteuid().as_raw()
        })
    }

    /// Goes on in a new directory under `state`, since the old one is gone: with the lines of
    /// the file that is still open, and after the last line that was written.
    ///
    /// # Errors
    ///
    /// What the kernel says; then nothing has changed, and it can be tried again.
    pub fn renew(&mut self, state: &Path) -> Result<(), JournalError> {
        let dir = Directory::make(state)?;
        dir.lock()?;
        let old = std::mem::replace(&mut self.dir, dir);
        if let Err(error) = self.begin_anew() {
            self.dir = old;
            return Err(error);
        }
        self.mark_all()
    }

    /// A new growing file with what the old one holds. An old one that does not end where it
    /// should, or a new one that is there already, is no place to copy from or to.
    pub(super) fn begin_anew(&mut self) -> Result<(), JournalError> {
        let failed = |error| self.dir.failed("write", CURRENT, error);
        let new = self.dir.append_to_current().map_err(failed)?;
        let whole = self.file.metadata().is_ok_and(|found| found.len() == self.size);
        if whole && new.metadata().map_err(failed)?.len() == 0 {
            copy(&self.file, &new).map_err(failed)?;
        }
        self.file = new;
        self.measure().map_err(|error| self.dir.failed("read", CURRENT, error))
    }

    /// Remembers what a look says of every file.
    pub(super) fn mark_all(&mut self) -> Result<(), JournalError> {
        let mut marks = Marks::new();
        for segment in self.dir.segments()? {
            let found =
                mark(&segment.file).map_err(|e| self.dir.failed("look at", &segment.name, e))?;
            marks.insert(segment.name, found);
        }
        self.marks = marks;
        Ok(())
    }

    /// The same for the growing one, after a write to it.
    pub(super) fn mark_current(&mut self) {
        match mark(&self.file) {
            Ok(found) => drop(self.marks.insert(CURRENT.to_owned(), found)),
            // Without a mark nothing is compared, until the next write.
            Err(_) => drop(self.marks.remove(CURRENT)),
        }
    }
}

/// From the beginning of `from` to the end of `to`, and to the disk.
fn copy(from: &File, to: &File) -> io::Result<()> {
    use std::io::Seek;
    let (mut from, mut to) = (from, to);
    from.rewind()?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}

/// The number, in its file, of the first line that is not what was written; the one after the
/// last where the lines are whole and `head` is not the last of them.
fn first_foul(file: &File, head: Option<super::Link>) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(file.try_clone()?)?;
    let mut last = None;
    loop {
        let claim = match lines.next()? {
            Line::Whole(line) => Claim::read(line),
            Line::TooLong => None,
            Line::Torn(_) => return Ok(Some(lines.number() + 1)),
            Line::End => {
                let cut = last.is_some() && head.is_some() && last != head;
                return Ok(cut.then(|| lines.number()));
            }
        };
        match claim.filter(|claim| claim.genuine && last.is_none_or(|at| claim.follows(at))) {
            Some(claim) => last = Some(claim.link()),
            None => return Ok(Some(lines.number())),
        }
    }
}
