//! The self-test: a canary is tampered with by every route, and each has to be seen, named and
//! healed. Pure: the daemon plays the routes and brings what came of them.
//!
//! - What is measured is the real thing: the canary is guarded by the sensors, the engine and the
//!   cures that every other file has, and the tamperer is a process of its own.
//! - `seen` means noticed at all; [`RouteResult::sensor`] says by what, and `sweep` is nobody's
//!   event but only another look.
//! - `named` means that the event names the very process that did it: pid and start time. Naming
//!   another is a failure, always.
//! - A route whose process this host cannot name by any means it has is a limit and no failure;
//!   one that was named before and no longer is, is a change for the worse.

mod memory;
mod report;
mod trial;

pub use memory::{Memory, News};
pub use report::{Mark, NotPossible, RouteResult, SelfTest, Untested, sweep_may_rest};
pub use trial::{Culprit, Means, Noticed, Tampering, Trial};

use serde::{Deserialize, Serialize};

use crate::record::Kind;

/// A way to tamper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    /// Clears the bit with `FS_IOC_SETFLAGS`, as `chattr` does, and is gone.
    Setflags,
    /// Clears the bit with `FS_IOC_FSSETXATTR`, as `xfs_io` does, and is gone.
    Fssetxattr,
    /// Clears the bit with `file_setattr(2)`, which opens nothing, and is gone.
    FileSetattr,
    /// Clears the bit through a descriptor that was opened long before.
    OldDescriptor,
    /// Writes.
    Write,
    /// Writes through a shared mapping.
    Mapping,
    /// Shortens it by its name.
    Truncate,
    /// Renames another file over it.
    RenameOver,
    /// Removes the name.
    Unlink,
    /// Changes the mode.
    Metadata,
    /// Writes and is gone at once.
    ShortLived,
}

impl Route {
    /// Every one, in the order in which they are played.
    pub const ALL: [Self; 11] = [
        Self::Setflags,
        Self::Fssetxattr,
        Self::FileSetattr,
        Self::OldDescriptor,
        Self::Write,
        Self::Mapping,
        Self::Truncate,
        Self::RenameOver,
        Self::Unlink,
        Self::Metadata,
        Self::ShortLived,
    ];

    /// The name in JSON, such as `file-setattr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Setflags => "setflags",
            Self::Fssetxattr => "fssetxattr",
            Self::FileSetattr => "file-setattr",
            Self::OldDescriptor => "old-descriptor",
            Self::Write => "write",
            Self::Mapping => "mapping",
            Self::Truncate => "truncate",
            Self::RenameOver => "rename-over",
            Self::Unlink => "unlink",
            Self::Metadata => "metadata",
            Self::ShortLived => "short-lived",
        }
    }

    /// The route of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.name() == name)
    }

    /// What is done, for a person.
    #[must_use]
    pub fn means(self) -> &'static str {
        match self {
            Self::Setflags => "+i cleared as chattr does",
            Self::Fssetxattr => "+i cleared as xfs_io does",
            Self::FileSetattr => "+i cleared with file_setattr",
            Self::OldDescriptor => "+i cleared through an old descriptor",
            Self::Write => "written",
            Self::Mapping => "written through a mapping",
            Self::Truncate => "truncated",
            Self::RenameOver => "renamed over",
            Self::Unlink => "unlinked",
            Self::Metadata => "mode changed",
            Self::ShortLived => "written by a short-lived process",
        }
    }

    /// Whether it clears the immutable bit. The other routes are played on a canary that has
    /// none: a guard may set the bit again before the tamperer's next step, and what that
    /// would show is the tamperer's luck.
    #[must_use]
    pub fn clears_the_bit(self) -> bool {
        matches!(self, Self::Setflags | Self::Fssetxattr | Self::FileSetattr | Self::OldDescriptor)
    }

    /// Whether the tamperer lives on until it was seen or given up. Those that clear the bit
    /// are over at once, as `chattr` is; of the rest one is.
    #[must_use]
    pub fn lingers(self) -> bool {
        !matches!(self, Self::Setflags | Self::Fssetxattr | Self::FileSetattr | Self::ShortLived)
    }

    /// Whether no event but a Linux audit record tells who did it.
    #[must_use]
    pub fn needs_audit(self) -> bool {
        matches!(self, Self::FileSetattr | Self::OldDescriptor)
    }

    /// What the journal would call it.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Setflags | Self::Fssetxattr | Self::FileSetattr | Self::OldDescriptor => {
                Kind::ImmutableCleared
            }
            Self::Write | Self::Mapping | Self::Truncate | Self::ShortLived => Kind::ContentChanged,
            Self::RenameOver => Kind::Replaced,
            Self::Unlink => Kind::Deleted,
            Self::Metadata => Kind::MetadataChanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_known_by_its_name_everywhere() {
        for route in Route::ALL {
            assert_eq!(serde_json::to_value(route).unwrap(), route.name());
            assert_eq!(Route::of_name(route.name()), Some(route));
        }
        assert_eq!(Route::of_name("chattr"), None);
    }
}
