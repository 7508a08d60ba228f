//! The lives of an inode number: what it was, from when to when.

use std::num::NonZeroI64;

use super::Number;
use crate::attribute::{InodeKey, Touched};
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sense::few::Few;

/// Nanoseconds on one of the two clocks: half of what a moment takes otherwise, and there are
/// several for each file. Ours counts from when the watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nanos(NonZeroI64);

impl Nanos {
    /// Odd, so that it is never none.
    pub(super) fn of(nanoseconds: i64) -> Self {
        Self(NonZeroI64::new(nanoseconds | 1).unwrap_or(NonZeroI64::MIN))
    }

    /// It is later than `earlier`, and by no more than so many nanoseconds.
    fn is_within(self, nanoseconds: i64, earlier: Self) -> bool {
        let later = self.0.get().saturating_sub(earlier.0.get());
        (1..=nanoseconds).contains(&later)
    }

    pub(super) fn of_call(call: FileTime) -> Self {
        Self::of(call.sec.saturating_mul(1_000_000_000).saturating_add(call.nsec.into()))
    }
}

/// An inode from when it was made to when its number was used again. There are several for each
/// file, so what hardly one has is kept apart.
#[derive(Debug)]
pub(super) struct Life {
    /// Whose it is; and of those in `special`.
    pub(super) file: FileId,
    /// It has other names too, or is a directory.
    pub(super) links: bool,
    pub(super) over: bool,
    /// `None` for one that is older than the watch.
    pub(super) call: Option<Nanos>,
    pub(super) open: Option<Nanos>,
    /// Up to then it may have had the path without being recorded; `None` if it never had.
    pub(super) unrecorded: Option<Nanos>,
    pub(super) special: Option<Box<Special>>,
}

/// See [`Life`].
#[derive(Debug, Default)]
pub(super) struct Special {
    /// What `statx` calls it, where audit's number does not tell.
    key: Option<InodeKey>,
    /// Other files whose path is a name of it.
    others: Vec<FileId>,
}

/// Those of one number, in order; nearly always one.
pub(super) type Lives = Few<Life, 1>;

/// What audit calls an inode, as a rule.
pub(super) fn number_of(key: InodeKey) -> Number {
    ((rustix::fs::major(key.dev), rustix::fs::minor(key.dev)), key.ino)
}

/// So long before it uses a name, a call may have begun: whoever makes it may have to wait for a
/// processor.
const HELD_UP: i64 = 100_000_000;

/// The life to which a call belongs that began then. That is told in steps of some
/// milliseconds; in the step in which a life begins, the one before has to have ended first.
pub(super) fn at(lives: &Lives, began: FileTime) -> Option<usize> {
    let began = Nanos::of_call(began);
    let before = |life: &Life| life.call.is_none_or(|call| call < began);
    let all = || lives.iter().enumerate();
    let mut found = all().filter(|(_, life)| before(life)).map(|(at, _)| at).last();
    for (at, life) in all() {
        let open = found.and_then(|found| lives.get(found)).is_some_and(|life| !life.over);
        if life.call == Some(began) && !open {
            found = Some(at);
        }
    }
    found
}

/// All lives to which it may belong: also one that began in the same step, and one that began
/// after it if `is_called` says that the call uses the name of that file.
pub(super) fn all_at(
    lives: &Lives,
    began: FileTime,
    is_called: impl Fn(&Life) -> bool,
) -> impl Iterator<Item = &Life> {
    let surely = at(lives, began);
    let began = Nanos::of_call(began);
    let maybe = move |life: &Life| match life.call {
        Some(call) if call == began => true,
        Some(call) => call.is_within(HELD_UP, began) && is_called(life),
        None => false,
    };
    lives
        .iter()
        .enumerate()
        .filter(move |(at, life)| Some(*at) == surely || maybe(life))
        .map(|(_, life)| life)
}

impl Life {
    pub(super) fn of(
        file: FileId,
        (number, key): (Number, InodeKey),
        (call, open): (Option<Nanos>, Option<Nanos>),
    ) -> Self {
        let odd = number_of(key) != number;
        let special = odd.then(|| Box::new(Special { key: Some(key), others: Vec::new() }));
        Self { file, links: false, over: false, call, open, unrecorded: None, special }
    }

    pub(super) fn key(&self, number: &Number) -> InodeKey {
        let ((major, minor), ino) = *number;
        let told = || InodeKey { dev: rustix::fs::makedev(major, minor), ino };
        self.special.as_ref().and_then(|special| special.key).unwrap_or_else(told)
    }

    /// Whose it is.
    pub(super) fn files(&self) -> impl Iterator<Item = FileId> {
        let others = self.special.as_ref().map_or(&[][..], |special| &special.others);
        std::iter::once(self.file).chain(others.iter().copied())
    }

    pub(super) fn is_of(&self, file: FileId) -> bool {
        self.files().any(|one| one == file)
    }

    pub(super) fn is_only_of(&self, file: FileId) -> bool {
        self.files().all(|one| one == file)
    }

    /// It is this file's too.
    pub(super) fn insert(&mut self, file: FileId) {
        if !self.is_of(file) {
            self.special.get_or_insert_default().others.push(file);
        }
    }

    /// It is this file's no longer, but still somebody's: see [`Life::is_only_of`].
    pub(super) fn remove(&mut self, file: FileId) {
        let Some(special) = &mut self.special else { return };
        if self.file == file
            && let Some(other) = special.others.pop()
        {
            self.file = other;
        }
        special.others.retain(|other| *other != file);
    }

    pub(super) fn touched(&self, number: &Number) -> Vec<Touched> {
        let key = self.key(number);
        let mut files: Vec<_> = self.files().collect();
        files.sort_unstable();
        files.into_iter().map(|file| Touched { file, key }).collect()
    }
}
