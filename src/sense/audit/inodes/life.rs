//! The lives of an inode number: what it was, from when to when.

use std::num::NonZeroI64;

use super::Number;
use crate::attribute::{InodeKey, Touched};
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sense::few::Few;
use crate::sense::nodes::Ids;

/// Nanoseconds on one of the two clocks: half of what a moment takes otherwise, and there are
/// several for each file. Ours counts from when the watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nanos(NonZeroI64);

impl Nanos {
    /// Odd, so that it is never none.
    pub(super) fn of(nanoseconds: i64) -> Self {
        Self(NonZeroI64::new(nanoseconds | 1).unwrap_or(NonZeroI64::MIN))
    }

    pub(super) fn of_call(call: FileTime) -> Self {
        Self::of(call.sec.saturating_mul(1_000_000_000).saturating_add(call.nsec.into()))
    }
}

/// An inode from when it was made to when its number was used again.
#[derive(Debug)]
pub(super) struct Life {
    /// What `statx` calls it, where audit's number does not tell.
    pub(super) key: Option<Box<InodeKey>>,
    /// `None` for one that is older than the watch.
    pub(super) call: Option<Nanos>,
    pub(super) open: Option<Nanos>,
    pub(super) files: Ids,
    /// It has other names too, or is a directory.
    pub(super) links: bool,
    pub(super) over: bool,
    /// Up to then it may have had the path without being recorded; `None` if it never had.
    pub(super) unrecorded: Option<Nanos>,
}

/// Those of one number, in order; nearly always one.
pub(super) type Lives = Few<Life, 1>;

/// What audit calls an inode, as a rule.
pub(super) fn number_of(key: InodeKey) -> Number {
    ((rustix::fs::major(key.dev), rustix::fs::minor(key.dev)), key.ino)
}

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

impl Life {
    pub(super) fn of(
        file: FileId,
        (number, key): (Number, InodeKey),
        (call, open): (Option<Nanos>, Option<Nanos>),
    ) -> Self {
        let key = (number_of(key) != number).then(|| Box::new(key));
        let files = Ids::One(file);
        Self { key, call, open, files, links: false, over: false, unrecorded: None }
    }

    pub(super) fn key(&self, number: &Number) -> InodeKey {
        let ((major, minor), ino) = *number;
        let told = || InodeKey { dev: rustix::fs::makedev(major, minor), ino };
        self.key.as_deref().copied().unwrap_or_else(told)
    }

    pub(super) fn touched(&self, number: &Number) -> Vec<Touched> {
        let key = self.key(number);
        self.files.iter().map(|file| Touched { file, key }).collect()
    }
}
