//! What goes wrong around the journal while its lines are safe.

use std::fmt;

use super::error::JournalError;
use super::recovery::Finding;
use super::segments::CURRENT;
use crate::baseline::BaselineError;

/// Something that the person in charge should know of.
#[derive(Debug)]
pub enum Trouble {
    /// The lines are on the disk, but the baseline could not be told. It is told with the
    /// next batch, or when the journal is opened again.
    HeadNotSaved(BaselineError),
    /// The file that grows was removed or replaced under the daemon.
    Replaced,
    /// The file that grows was cut or written to by somebody else.
    Resized {
        /// Its length as it was left, bytes.
        expected: u64,
        /// Its length as it was found.
        found: u64,
    },
    /// Somebody cleared `+a`.
    NotAppendOnly {
        /// It could be set again.
        again: bool,
    },
    /// The kernel does not let `+a` be set.
    Unlocked,
    /// Somebody touched one of the files.
    Touched {
        /// Its name.
        segment: String,
        /// Number, in the file, of the first line that is not as it was written; `None` where
        /// all are.
        line: Option<u64>,
    },
    /// Somebody was at it while it was not open.
    Found(Finding),
    /// Somebody removed one of the full files.
    Removed {
        /// Its name.
        segment: String,
    },
    /// A full segment could not be closed; it goes on growing.
    NotRotated(JournalError),
    /// An old segment could not be removed; it is tried again with the next.
    NotDropped(JournalError),
}

impl Trouble {
    /// Whether somebody must have done it.
    #[must_use]
    pub fn is_tampering(&self) -> bool {
        matches!(
            self,
            Self::Replaced
                | Self::Resized { .. }
                | Self::NotAppendOnly { .. }
                | Self::Touched { .. }
                | Self::Found(_)
                | Self::Removed { .. }
        )
    }
}

impl Trouble {
    /// Whether all that was done was put right or did no harm. The cut end of a full file shows in
    /// none of its lines.
    #[must_use]
    pub fn is_mended(&self) -> bool {
        match self {
            Self::NotAppendOnly { again } => *again,
            Self::Touched { segment, line } => segment == CURRENT && line.is_none(),
            _ => false,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadNotSaved(error) => {
                write!(f, "the end of the journal could not be remembered: {error}")
            }
            Self::Replaced => f.write_str(
                "somebody removed or replaced the journal; it goes on in a new file, with the \
                 lines that could be kept: steadfast journal verify tells what is missing",
            ),
            Self::Resized { expected, found } => write!(
                f,
                "somebody changed the journal: it has {found} bytes and not {expected}; \
                 steadfast journal verify tells where"
            ),
            Self::NotAppendOnly { again: true } => {
                f.write_str("somebody cleared the journal's append-only bit; it is set again")
            }
            Self::NotAppendOnly { again: false } => f.write_str(
                "somebody cleared the journal's append-only bit, and the kernel does not let it \
                 be set again: that needs CAP_LINUX_IMMUTABLE",
            ),
            Self::Unlocked => f.write_str(
                "the journal goes without the append-only bit: to set it needs \
                 CAP_LINUX_IMMUTABLE",
            ),
            Self::Found(finding) => finding.fmt(f),
            Self::Touched { segment, line: Some(line) } => write!(
                f,
                "somebody changed the journal: from line {line} of {segment} on it is not as it \
                 was written; steadfast journal verify tells more"
            ),
            Self::Touched { segment, line: None } => write!(
                f,
                "somebody touched {segment} of the journal; its lines are as they were written"
            ),
            Self::Removed { segment } => write!(
                f,
                "somebody removed {segment}, an older part of the journal; steadfast journal \
                 verify tells which lines are missing"
            ),
            Self::NotRotated(error) => {
                write!(f, "the journal's file is full and goes on growing: {error}")
            }
            Self::NotDropped(error) => {
                write!(f, "an old part of the journal could not be removed: {error}")
            }
        }
    }
}
