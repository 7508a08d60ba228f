//! What cannot be looked at, for a reason that is nobody's tampering: its filesystem is not
//! mounted, or the look itself fails.
//!
//! It is told once when that begins and once when it is over: of a filesystem for all that is
//! protected there, of anything else for each file. In between the engine knows it, for `status`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::guarded::Guarded;
use super::{Action, Engine, Moment, Sight};
use crate::record::{Event, Kind, Severity};
use crate::sense::{FileId, FileMap};

/// Mount points where nothing is mounted, and files that cannot be looked at.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    places: BTreeMap<Arc<Path>, Place>,
}

#[derive(Debug)]
struct Place {
    why: String,
    /// What there is to say once it is over.
    over: String,
    /// So many files are there.
    files: usize,
}

impl Unseen {
    /// One file less is at the place; what is to be said if it was the last.
    fn leave(&mut self, place: &Path) -> Option<String> {
        let known = self.places.get_mut(place)?;
        known.files = known.files.saturating_sub(1);
        let last = known.files == 0;
        last.then(|| self.places.remove(place).map(|place| place.over)).flatten()
    }

    /// The file is not guarded any more.
    pub(super) fn forget(&mut self, files: &mut FileMap<Guarded>, file: FileId) {
        if let Some(place) = files.get_mut(&file).and_then(Guarded::returns) {
            self.leave(&place);
        }
    }
}

impl Engine {
    /// Files that cannot be looked at, and why.
    pub fn away(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files.values().filter_map(|guarded| {
            let place = self.unseen.places.get(guarded.history()?.away.as_ref()?)?;
            Some((&*guarded.protected.path, place.why.as_str()))
        })
    }

    /// The same with one sentence for each filesystem.
    pub fn unguarded(&self) -> impl Iterator<Item = &str> {
        self.unseen.places.values().map(|place| place.why.as_str())
    }

    /// The file cannot be looked at.
    pub(super) fn unseen(
        &mut self,
        now: Moment,
        file: FileId,
        sight: Sight,
        out: &mut Vec<Action>,
    ) {
        let Some(guarded) = self.files.get_mut(&file) else { return };
        guarded.learned = None;
        let (place, why, over) = match sight {
            Sight::Away { mount_point } => of_filesystem(mount_point),
            Sight::Unreadable(why) => {
                (Arc::clone(&guarded.protected.path), why, "it can be looked at again".to_owned())
            }
            _ => return,
        };
        let before = guarded.remember().away.replace(Arc::clone(&place));
        let arrives = before.as_ref() != Some(&place);
        if let Some(before) = before.filter(|_| arrives) {
            self.over(now, &before, out);
        }
        let new = Place { why: String::new(), over, files: 0 };
        let known = self.unseen.places.entry(Arc::clone(&place)).or_insert(new);
        known.files += usize::from(arrives);
        if known.why != why {
            known.why.clone_from(&why);
            let event = Event::new(now.wall, Kind::SensorDegraded, Severity::Critical);
            out.push(Action::Record(Box::new(event.about(&place).noting(why))));
        }
    }

    /// The file can be looked at.
    pub(super) fn is_back(&mut self, now: Moment, file: FileId, out: &mut Vec<Action>) {
        if let Some(place) = self.files.get_mut(&file).and_then(Guarded::returns) {
            self.over(now, &place, out);
        }
    }

    fn over(&mut self, now: Moment, place: &Path, out: &mut Vec<Action>) {
        if let Some(over) = self.unseen.leave(place) {
            let event = Event::new(now.wall, Kind::SensorRecovered, Severity::Info);
            out.push(Action::Record(Box::new(event.about(place).noting(over))));
        }
    }
}

/// The place, what is wrong there, and what there is to say once it is over.
fn of_filesystem(mount_point: PathBuf) -> (Arc<Path>, String, String) {
    let shown = crate::text::escape_path(&mount_point);
    let why = format!(
        "the filesystem at {shown} is not mounted; what is protected there is guarded again \
         once it is"
    );
    let over = format!(
        "a filesystem is mounted at {shown} again; what is protected there is held against the \
         baseline"
    );
    (mount_point.into(), why, over)
}
