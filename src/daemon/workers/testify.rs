//! What is remembered of who opened a file and of who did what to it, put together for one change.
//!
//! The sensors' threads write it down, and lock it meanwhile; one that has lost its processor
//! holds such a lock until it has it again. The guard runs before every ordinary thread and must
//! not wait for one, so a thread of its own asks.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use super::Report;
use crate::attribute::{
    Actor, Captures, HELD, InodeKey, Open, Search, Testimony, Window, Witnessed,
};
use crate::daemon::wake::Mailer;
use crate::engine::Opener;
use crate::sense::FileId;
use crate::sense::audit::Records;

/// One change, or several of one file.
#[derive(Debug)]
pub(in crate::daemon) struct Case {
    /// The question that it is for.
    pub(in crate::daemon) number: u64,
    pub(in crate::daemon) file: FileId,
    /// The inode that had the path until then.
    pub(in crate::daemon) inode: Option<InodeKey>,
    /// Who opened that in this time is told.
    pub(in crate::daemon) within: RangeInclusive<Instant>,
    /// When the changes were…
    pub(in crate::daemon) windows: Vec<Window>,
    /// …on a clock that began then.
    pub(in crate::daemon) began: Instant,
}

/// What is remembered of it.
#[derive(Debug)]
pub struct Remembered {
    pub(in crate::daemon) number: u64,
    /// Who opened it, the latest first.
    pub(in crate::daemon) openers: Vec<Opener>,
    pub(in crate::daemon) testimony: Testimony,
    /// Those whom audit does not record, and who may have this inode open still.
    pub(in crate::daemon) older: Vec<(Arc<Actor>, u64)>,
}

/// What the sensors remember.
pub(in crate::daemon) struct Memory {
    pub(in crate::daemon) captures: Arc<Captures>,
    pub(in crate::daemon) audit: Option<Records>,
}

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(in crate::daemon) struct Witness(Sender<Case>);

impl Witness {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(in crate::daemon) fn start(
        memory: Memory,
        reports: Mailer<Report>,
    ) -> std::io::Result<Self> {
        let (cases, inbox): (_, Receiver<Case>) = channel();
        std::thread::Builder::new().name("witness".to_owned()).spawn(move || {
            while let Ok(case) = inbox.recv() {
                reports.send(Report::Remembered(memory.of(&case)));
            }
        })?;
        Ok(Self(cases))
    }

    /// The answer comes as a report.
    pub(in crate::daemon) fn ask(&self, case: Case) {
        // Should the thread be gone, the question is answered without once it is overdue.
        let _ = self.0.send(case);
    }
}

impl Memory {
    fn of(&self, case: &Case) -> Remembered {
        let opens = case.inode.map(|inode| self.captures.opens(inode, &case.within));
        let opener = |open: Open| {
            let at = open.at.saturating_duration_since(case.began);
            Opener { actor: open.actor, at, found: open.ctime }
        };
        let openers = opens.into_iter().flatten().map(opener).collect();
        let (testimony, older) = match &self.audit {
            Some(audit) => self.testify(case, audit),
            None => Default::default(),
        };
        Remembered { number: case.number, openers, testimony, older }
    }

    fn testify(&self, case: &Case, audit: &Records) -> (Testimony, Vec<(Arc<Actor>, u64)>) {
        let Case { file, windows, began, within, .. } = case;
        let Some(whole) = windows.iter().map(|window| window.whole).min() else {
            return Default::default();
        };
        // Whoever opened it for writing some time before may still have it mapped.
        let since = *began + whole.saturating_sub(HELD);
        let until = windows.iter().map(|window| window.until).max().unwrap_or_default();
        let (deeds, gap) = audit.deeds(*file, since, until);
        let gap = gap.and_then(|gap| gap.checked_duration_since(*began));
        let mut search = Search::of(*file);
        let witnessed = deeds.into_iter().filter_map(|deed| {
            let over = deed.over.saturating_duration_since(*began);
            Witnessed::of(&mut search, deed, over, windows)
        });
        let unwatched = |window: &&Window| {
            let covers = |inode| audit.cover(*file, inode, *began + window.whole);
            !window.is_after(gap) || window.inode.is_some_and(|inode| !covers(inode))
        };
        let (mut unrecorded, mut older) = (Vec::new(), Vec::new());
        let inodes: HashSet<_> = windows.iter().filter_map(|window| window.inode).collect();
        for key in inodes {
            let time = since..=*within.end();
            for (actor, lately) in self.captures.older_openers(key, audit.first_recorded(), &time) {
                match lately {
                    true => unrecorded.push(actor),
                    false => older.push((actor, key.ino)),
                }
            }
        }
        let testimony = Testimony {
            deeds: witnessed.collect(),
            complete: true,
            unwatched: windows.iter().filter(unwatched).copied().collect(),
            unrecorded,
            writing: Vec::new(),
        };
        (testimony, older)
    }
}
