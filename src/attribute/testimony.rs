//! What audit says of a change: the deeds that are evidence of it.
//!
//! A call that takes a name tells the inode. The two ioctls that change flags do not: any
//! process that changed any flag at that time may have changed these. So a deed without an
//! inode is evidence of a file only by elimination, and that holds only while nothing is
//! missing: [`Testimony::complete`].

use std::sync::Arc;
use std::time::Duration;

use super::{Act, Actor, Deed, InodeKey, Search};
use crate::judge::FileTime;
use crate::record::Kind;

/// Who opened it for writing before it was last seen whole is a suspect for this long.
pub const HELD: Duration = Duration::from_secs(1);

/// A deed as it concerns the file that was asked about.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// The deed.
    pub deed: Arc<Deed>,
    /// When it was over, on the engine's clock.
    pub over: Duration,
    /// To which inodes of the file; or the process had opened these.
    pub(super) of: Vec<InodeKey>,
    /// It had opened the file only just before.
    pub(super) just: bool,
    /// Inodes of the file that a parent had opened.
    pub(super) inherited: Vec<InodeKey>,
}

/// The answer of audit to the question what was done in some time.
#[derive(Clone, Debug, Default)]
pub struct Testimony {
    /// Everything that was done to the inodes, or may have been.
    pub deeds: Vec<Witnessed>,
    /// Nothing that was done is missing, but for what was done in these windows.
    pub complete: bool,
    /// Those in which the inode was not recorded all the time, or records were lost.
    pub unwatched: Vec<Window>,
    /// Processes that had it open and that audit does not record, because they are older than
    /// its first use.
    pub unrecorded: Vec<Arc<Actor>>,
    /// Processes that can write to it now, through a descriptor or a mapping.
    pub writing: Vec<Arc<Actor>>,
}

/// An event is read this long after what it tells of, at most: somebody may have opened the
/// file by the time of a look, and not be known yet.
pub const LATE: Duration = Duration::from_millis(50);
/// Between a look and the time that is noted for it, whoever looked may have had to wait this
/// long.
pub const SLACK: Duration = Duration::from_millis(10);

/// When a change happened, and to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// It was seen whole then, on the engine's clock.
    pub whole: Duration,
    /// The change was there at this time of the wall clock, which file times follow.
    pub until: FileTime,
    /// The last change of any kind was at that very moment, and left the file as it was found.
    pub sharp: bool,
    /// The inode was seen whole before and still had the path: what differs was done to it, and
    /// did not come with another.
    pub own: bool,
    /// Nobody could write to it then, nor afterwards without opening it: the bit was set, and who
    /// had opened it before had closed it.
    pub closed: bool,
    /// The inode that had the path before; `None` if the change may be older than the watch.
    pub inode: Option<InodeKey>,
}

impl Window {
    /// Whether all that can have made the change came after `gap`, on the engine's clock.
    #[must_use]
    pub fn is_after(&self, gap: Option<Duration>) -> bool {
        gap.is_none_or(|gap| gap < self.whole.saturating_sub(HELD))
    }
}

/// Of which kind a change is, as far as it matters for who can have made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nature {
    /// Inode flags other than the immutable bit differ.
    pub flags: bool,
    /// Nothing but times differ, which a write moves too.
    pub times: bool,
    /// Another inode has the path: what differs came with it.
    pub replaced: bool,
    /// Another inode was taken out of the path than a look had shown there before. Events do
    /// not tell what was done to that one; a call that replaced the one before is proof.
    pub swapped: bool,
}

/// Who may have made a change.
#[derive(Debug, Default)]
pub(super) struct Doers<'a> {
    /// Each process once, the earliest first.
    pub(super) actors: Vec<&'a Arc<Actor>>,
    /// Nobody else can have done it.
    pub(super) complete: bool,
}

impl Testimony {
    /// Who did what makes a change of this `kind` and `nature`, which was seen once in each of
    /// these windows.
    ///
    /// A call that tells the inode, and one by a process that had opened it, are evidence of
    /// the file. Without any, somebody did it who got the descriptor from a parent; or who had
    /// it before the watch began: that is proof only of the one process that did the like, and
    /// only where it was done to this inode at all.
    ///
    /// A window in which nobody did anything of the kind shows what was done in another.
    pub(super) fn doers(&self, kind: Kind, nature: Nature, windows: &[Window]) -> Doers<'_> {
        let all: Vec<&Witnessed> =
            self.deeds.iter().filter(|seen| makes(seen.deed.act, kind, nature)).collect();
        let mut found: Vec<&Witnessed> =
            windows.iter().flat_map(|window| likeliest(window, &all)).collect();
        if found.is_empty() && self.complete && windows.iter().all(|window| window.own) {
            let stranger = |seen: &&&Witnessed| {
                !seen.deed.told && windows.iter().any(|window| seen.falls_in(window))
            };
            found = all.iter().filter(stranger).copied().collect();
            let by_elimination = self.judge(&found, windows);
            return if by_elimination.complete { by_elimination } else { Doers::default() };
        }
        self.judge(&found, windows)
    }

    /// Whether all of these windows were heard to the end, so that whoever did what makes a
    /// change has to be among the deeds: or is still about to return from the system call.
    pub(super) fn hears(&self, windows: &[Window]) -> bool {
        let seen = |window: &Window| window.inode.is_some() && !self.unwatched.contains(window);
        self.complete && windows.iter().all(seen)
    }

    /// The process with this pid that did anything to it in these times. An event of the same
    /// time that names the pid means this process.
    pub(crate) fn by_pid(&self, pid: u32, windows: &[Window]) -> Option<&Arc<Actor>> {
        let touched = |seen: &&Witnessed| {
            windows.iter().any(|window| {
                let Some(inode) = window.inode else { return false };
                seen.is_of(inode) && seen.falls_in(window)
            })
        };
        let deeds = self.deeds.iter().filter(|seen| seen.deed.actor.pid == pid);
        let actors: Vec<&Witnessed> = deeds.filter(touched).collect();
        let actors = distinct(&actors);
        // Two that had the same pid one after the other are not told apart.
        (actors.len() == 1).then(|| actors.first().copied()).flatten()
    }

    /// Who opened it for writing in these times.
    pub(super) fn writers(&self, windows: &[Window]) -> Doers<'_> {
        let opened = |seen: &&Witnessed| {
            seen.deed.act == Act::OpenedForWriting
                && windows.iter().any(|window| {
                    window.inode.is_some_and(|inode| seen.is_of(inode))
                        // Whoever has it mapped writes when it likes.
                        && seen.over + HELD >= window.whole
                        && seen.deed.began <= window.until
                })
        };
        self.judge(&self.deeds.iter().filter(opened).collect::<Vec<_>>(), windows)
    }

    fn judge<'a>(&'a self, found: &[&'a Witnessed], windows: &[Window]) -> Doers<'a> {
        let actors = distinct(found);
        let recorded = |actor: &Arc<Actor>| actors.iter().any(|known| known.is_same(actor));
        // That is no conclusion, which somebody unrecorded could upset.
        let seen = found.iter().all(|seen| seen.deed.told || seen.just_opened_it());
        let complete = self.hears(windows) && (seen || self.unrecorded.iter().all(recorded));
        Doers { complete: complete && actors.len() == 1, actors }
    }
}

/// Those of `all` that are evidence of the file in this window.
fn likeliest<'a>(window: &Window, all: &[&'a Witnessed]) -> Vec<&'a Witnessed> {
    let Some(inode) = window.inode else { return Vec::new() };
    let pick = |fits: &dyn Fn(&Witnessed) -> bool| -> Vec<&'a Witnessed> {
        all.iter().copied().filter(|seen| seen.falls_in(window) && fits(seen)).collect()
    };
    let mut found = pick(&|seen| seen.is_of(inode));
    if found.is_empty() && window.own {
        found = pick(&|seen| seen.is_inherited(inode));
    }
    if window.sharp && distinct(&found).len() > 1 {
        // It was under way at that very moment.
        let then: Vec<_> =
            found.iter().copied().filter(|seen| seen.deed.ended >= window.until).collect();
        if !then.is_empty() {
            return then;
        }
    }
    found
}

impl Witnessed {
    /// The deed as it concerns this file in these times; `None` where it does not.
    #[must_use]
    pub fn of(
        file: &mut Search,
        deed: Arc<Deed>,
        over: Duration,
        windows: &[Window],
    ) -> Option<Self> {
        if !deed.told && !windows.iter().any(|window| falls_in(&deed, over, window)) {
            return None;
        }
        let of = file.inodes(&deed.of);
        if deed.told {
            let (just, inherited) = Default::default();
            return (!of.is_empty()).then_some(Self { deed, over, of, just, inherited });
        }
        let just = !file.inodes(&deed.just).is_empty();
        let inherited = file.inodes(&deed.inherited);
        Some(Self { deed, over, of, just, inherited })
    }

    fn is_of(&self, inode: InodeKey) -> bool {
        self.of.contains(&inode)
    }

    /// It opened the file, and did this at once.
    fn just_opened_it(&self) -> bool {
        self.just
    }

    fn is_inherited(&self, inode: InodeKey) -> bool {
        self.inherited.contains(&inode)
    }

    fn falls_in(&self, window: &Window) -> bool {
        falls_in(&self.deed, self.over, window)
    }
}

fn falls_in(deed: &Deed, over: Duration, window: &Window) -> bool {
    over >= window.whole && deed.began <= window.until
}

fn distinct<'a>(found: &[&'a Witnessed]) -> Vec<&'a Arc<Actor>> {
    let mut out: Vec<&Arc<Actor>> = Vec::new();
    for actor in found.iter().map(|seen| &seen.deed.actor) {
        if !out.iter().any(|known| known.is_same(actor)) {
            out.push(actor);
        }
    }
    out
}

fn makes(act: Act, kind: Kind, nature: Nature) -> bool {
    let arrived = (nature.replaced || nature.swapped) && act == Act::Replaced;
    match kind {
        Kind::ImmutableCleared => act == Act::Flags,
        Kind::ContentChanged => act == Act::Written || arrived,
        Kind::MetadataChanged => {
            act == Act::Metadata
                || arrived
                || (nature.flags && act == Act::Flags)
                || (nature.times && act == Act::Written)
        }
        Kind::Deleted | Kind::Replaced => {
            matches!(act, Act::Removed | Act::Moved | Act::Replaced)
        }
        Kind::Moved => act == Act::Moved,
        Kind::Shadowed => act == Act::Covered,
        _ => false,
    }
}
