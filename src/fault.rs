//! Points at which a test has the program end suddenly, as a power cut or `kill -9` would.
//!
//! Only in a debug build, and only where `STEADFAST_FAULT` names a file: at the first point whose
//! name that file holds the program kills itself, once the file is renamed to `NAME.reached`. A
//! release build has nothing of this but the names, which it drops.
//!
//! A new step that leaves something on a disk gets a point here; the tests play every one.

/// Declares the points, their names and the list of all.
macro_rules! points {
    ($($(#[$about:meta])* $point:ident = $name:literal,)*) => {
        /// Something was just done, and the step after it was not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $($(#[$about])* $point,)*
        }

        impl Point {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// What the file holds to have the program end here.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    /// The vault has an empty file for new content.
    VaultMade = "vault-made",
    /// The content is in it, and perhaps not on the disk.
    VaultCopied = "vault-copied",
    /// The content is on the disk, without its name.
    VaultSynced = "vault-synced",
    /// It has its name, and can be changed.
    VaultNamed = "vault-named",
    /// It is immutable; the directory may not be on the disk.
    VaultLocked = "vault-locked",
    /// Content that nobody needs can be removed.
    VaultUnlocked = "vault-unlocked",
    /// A path that is taken has its copy in the vault.
    TakeKept = "take-kept",
    /// The path is immutable, and not in the baseline.
    TakeLocked = "take-locked",
    /// The baseline has the record.
    RecordPut = "record-put",
    /// The copy that lay ready for what was good before is gone.
    ReplicaDiscarded = "replica-discarded",
    /// A path that is let go can be changed.
    ReleaseUnlocked = "release-unlocked",
    /// The baseline has forgotten it.
    RecordRemoved = "record-removed",
    /// A heal has begun.
    HealBegun = "heal-begun",
    /// What is at the path can be renamed.
    HealUnlocked = "heal-unlocked",
    /// The copy is at the path, without its flags.
    HealExchanged = "heal-exchanged",
    /// It has a name that nothing had.
    HealPlaced = "heal-placed",
    /// It has its flags.
    HealLocked = "heal-locked",
    /// A cure is done, and nobody has noted it.
    HealDone = "heal-done",
    /// The immutable bit alone is set again.
    Relocked = "relocked",
    /// A path whose metadata is to be put right can be changed.
    RepairUnlocked = "repair-unlocked",
    /// Its metadata is right.
    RepairDressed = "repair-dressed",
    /// Its flags are.
    RepairLocked = "repair-locked",
    /// A directory above a protected path is back.
    ParentPutBack = "parent-put-back",
    /// A file that is written in place was copied as evidence.
    RewriteKept = "rewrite-kept",
    /// It can be written.
    RewriteUnlocked = "rewrite-unlocked",
    /// It has the good content, and perhaps more.
    RewriteCopied = "rewrite-copied",
    /// It has its length and metadata, and perhaps not on the disk.
    RewriteDressed = "rewrite-dressed",
    /// It is on the disk.
    RewriteSynced = "rewrite-synced",
    /// It has its flags.
    RewriteLocked = "rewrite-locked",
    /// Evidence is in the quarantine, and not in its index.
    EvidenceTaken = "evidence-taken",
    /// It is in the index.
    EvidenceNoted = "evidence-noted",
    /// A replica has content, and no metadata.
    StageFilled = "stage-filled",
    /// It has both, perhaps not on the disk.
    StageDressed = "stage-dressed",
    /// It is on the disk.
    StageSynced = "stage-synced",
    /// It has the name of one that is whole.
    StageNamed = "stage-named",
    /// The baseline knows it.
    StageNoted = "stage-noted",
    /// The baseline knows that a replica was used.
    UseNoted = "use-noted",
    /// The baseline knows what whole looks like now.
    SealNoted = "seal-noted",
    /// Half of what is to be written is in the journal.
    JournalTorn = "journal-torn",
    /// Lines are in the journal, perhaps not on the disk.
    JournalWritten = "journal-written",
    /// They are on the disk, and the baseline does not know the last.
    JournalSynced = "journal-synced",
    /// The baseline knows it, and nobody was told.
    JournalNoted = "journal-noted",
    /// A full segment can be renamed.
    RotateUnlocked = "rotate-unlocked",
    /// It has its new name, and can be changed.
    RotateRenamed = "rotate-renamed",
    /// There is no segment to write to.
    RotateRetired = "rotate-retired",
    /// There is, and nothing is in it.
    RotateMade = "rotate-made",
    /// The baseline knows that the oldest segment goes.
    RotateAnchored = "rotate-anchored",
    /// That segment can be removed.
    RotateOpened = "rotate-opened",
    /// It is gone.
    RotateDropped = "rotate-dropped",
    /// A message is in the spool.
    MessagePut = "message-put",
}

/// Ends the program if this is where a test wants it to end.
#[inline]
pub fn reach(point: Point) {
    #[cfg(debug_assertions)]
    if let Some(wanted) = wanted::at(point) {
        wanted::end(&wanted);
    }
    let _ = point;
}

/// Whether this is where a test wants the program to end, so that it has to do half of the next
/// step first.
#[must_use]
#[inline]
pub fn is_next(point: Point) -> bool {
    #[cfg(debug_assertions)]
    let next = wanted::at(point).is_some();
    #[cfg(not(debug_assertions))]
    let next = {
        let _ = point;
        false
    };
    next
}

/// Whether a test may want the program to end: what the daemon does on its own account, the
/// self-test above all, is not to come before what the test does.
#[must_use]
#[inline]
pub fn is_awaited() -> bool {
    #[cfg(debug_assertions)]
    let awaited = wanted::file().is_some();
    #[cfg(not(debug_assertions))]
    let awaited = false;
    awaited
}

#[cfg(debug_assertions)]
mod wanted {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;

    /// The file that names the point.
    pub(super) fn file() -> Option<&'static Path> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os("STEADFAST_FAULT").map(PathBuf::from)).as_deref()
    }

    /// The file, if it names `point`.
    pub(super) fn at(point: super::Point) -> Option<PathBuf> {
        let file = file()?;
        let named = std::fs::read_to_string(file).is_ok_and(|name| name == point.name());
        named.then(|| file.to_owned())
    }

    /// Of several threads the first ends the program.
    pub(super) fn end(file: &Path) {
        let mut reached = file.as_os_str().to_owned();
        reached.push(".reached");
        if std::fs::rename(file, reached).is_err() {
            return;
        }
        let _ =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}
