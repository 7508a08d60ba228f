//! Which inode matters to which protected file, and as what. Pure.
//!
//! One inode plays several parts: a directory holds one protected name, stands above another,
//! and may be protected itself; an inode with two names is watched for both. The index keeps
//! the parts, works out the mask that they need together, and turns an event into hints. It
//! speaks fanotify's masks; inotify's have the same numbers.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::sense::{FileId, Hint};
use crate::sys::fanotify::MaskFlags;

/// What is done to a file through itself. `OPEN`, because a descriptor that somebody holds can
/// clear the immutable bit later without a further event.
const OWN: MaskFlags = MaskFlags::FAN_OPEN
    .union(MaskFlags::FAN_MODIFY)
    .union(MaskFlags::FAN_ATTRIB)
    .union(MaskFlags::FAN_CLOSE)
    .union(MaskFlags::FAN_DELETE_SELF)
    .union(MaskFlags::FAN_MOVE_SELF)
    .union(MaskFlags::FAN_ONDIR);

/// Names that come and go in a directory.
const NAMES: MaskFlags = MaskFlags::FAN_CREATE
    .union(MaskFlags::FAN_DELETE)
    .union(MaskFlags::FAN_MOVE)
    .union(MaskFlags::FAN_ONDIR);

/// A directory that is itself taken away.
const ABOVE: MaskFlags =
    MaskFlags::FAN_MOVE_SELF.union(MaskFlags::FAN_DELETE_SELF).union(MaskFlags::FAN_ONDIR);

/// All that is ever asked for.
pub(super) const EVERYTHING: MaskFlags = OWN.union(NAMES).union(ABOVE);

/// The part an inode plays for a protected path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// It is what the path names, or will be after the exchange.
    Itself,
    /// It is a protected directory.
    ItselfDirectory,
    /// It is the directory that holds this name of the path.
    Holds(Arc<[u8]>),
    /// It is a directory above.
    Above,
}

/// An inode's parts, for all files.
#[derive(Debug, Default)]
struct Node {
    itself: Ids,
    directory: Ids,
    above: Ids,
    /// Most inodes hold nothing.
    #[expect(clippy::box_collection, reason = "most have none, and a pointer is smaller")]
    holds: Option<Box<HashMap<Arc<[u8]>, Ids>>>,
}

/// A set of files, in order. Nearly always of one: there are two for each protected path.
#[derive(Debug, Default)]
struct Ids(Vec<FileId>);

impl Ids {
    fn insert(&mut self, id: FileId) {
        if let Err(at) = self.0.binary_search(&id) {
            self.0.reserve_exact(usize::from(self.0.is_empty()));
            self.0.insert(at, id);
        }
    }

    fn remove(&mut self, id: FileId) {
        if let Ok(at) = self.0.binary_search(&id) {
            self.0.remove(at);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = FileId> {
        self.0.iter().copied()
    }
}

/// See the module. `K` is what a sensor calls an inode.
#[derive(Debug)]
pub(super) struct Index<K> {
    nodes: HashMap<K, Node>,
    parts: HashMap<FileId, Vec<(K, Part)>>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self { nodes: HashMap::new(), parts: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Index<K> {
    /// The mask that the parts of this inode need; empty where it has none.
    pub(super) fn mask(&self, key: &K) -> MaskFlags {
        self.nodes.get(key).map_or(MaskFlags::empty(), Node::mask)
    }

    /// The mask that one part needs.
    pub(super) fn mask_of(part: &Part) -> MaskFlags {
        let mut node = Node::default();
        node.players(part).insert(FileId(0));
        node.mask()
    }

    pub(super) fn add(&mut self, id: FileId, key: &K, part: Part) {
        self.nodes.entry(key.clone()).or_default().players(&part).insert(id);
        let parts = self.parts.entry(id).or_default();
        if !parts.iter().any(|(k, p)| (k, p) == (key, &part)) {
            parts.push((key.clone(), part));
        }
    }

    /// Takes every part that this inode plays for `id` away.
    pub(super) fn remove_object(&mut self, id: FileId, key: &K) {
        self.retain(id, |k, _| k != key);
    }

    /// Takes every part away from `id` that `keep` does not want, and gives back the inodes
    /// that lost one.
    pub(super) fn retain(&mut self, id: FileId, keep: impl Fn(&K, &Part) -> bool) -> Vec<K> {
        let Some(parts) = self.parts.get_mut(&id) else { return Vec::new() };
        let lost: Vec<_> = parts.extract_if(.., |(key, part)| !keep(key, part)).collect();
        parts.shrink_to_fit();
        if parts.is_empty() {
            self.parts.remove(&id);
        }
        for (key, part) in &lost {
            let Some(node) = self.nodes.get_mut(key) else { continue };
            node.players(part).remove(id);
            if let Part::Holds(name) = part {
                node.drop_unheld(name);
            }
            if node.mask().is_empty() {
                self.nodes.remove(key);
            }
        }
        lost.into_iter().map(|(key, _)| key).collect()
    }

    /// What an event about `object`, or about a name in a directory, means for whom.
    pub(super) fn hints(
        &self,
        mask: MaskFlags,
        object: Option<&K>,
        dir: Option<&(K, Vec<u8>)>,
    ) -> Vec<(FileId, Hint)> {
        let mut hints = Vec::new();
        // A directory's event about itself may come with no object but the directory.
        let itself = object.or_else(|| dir.filter(|(_, name)| name.is_empty()).map(|(key, _)| key));
        if let Some(node) = itself.and_then(|key| self.nodes.get(key)) {
            node.own_hints(mask, &mut hints);
        }
        if let Some((key, name)) = dir
            && !name.is_empty()
            && let Some(node) = self.nodes.get(key)
        {
            node.name_hints(mask, name, &mut hints);
        }
        hints
    }
}

impl Node {
    fn mask(&self) -> MaskFlags {
        let parts = [
            (self.itself.is_empty(), OWN),
            (self.directory.is_empty(), OWN.union(NAMES)),
            (self.holds.is_none(), NAMES | ABOVE),
            (self.above.is_empty(), ABOVE),
        ];
        let played = parts.into_iter().filter(|(nobody, _)| !nobody);
        played.fold(MaskFlags::empty(), |all, (_, mask)| all | mask)
    }

    fn players(&mut self, part: &Part) -> &mut Ids {
        match part {
            Part::Itself => &mut self.itself,
            Part::ItselfDirectory => &mut self.directory,
            Part::Holds(name) => {
                self.holds.get_or_insert_default().entry(Arc::clone(name)).or_default()
            }
            Part::Above => &mut self.above,
        }
    }

    /// Nobody has this name any more, perhaps.
    fn drop_unheld(&mut self, name: &[u8]) {
        let Some(holds) = self.holds.as_mut() else { return };
        if holds.get(name).is_some_and(Ids::is_empty) {
            holds.remove(name);
        }
        if holds.is_empty() {
            self.holds = None;
        }
    }

    fn own_hints(&self, mask: MaskFlags, hints: &mut Vec<(FileId, Hint)>) {
        let directory = self.directory.iter().filter(|id| self.itself.0.binary_search(id).is_err());
        for id in self.itself.iter().chain(directory) {
            hints.extend(of_itself(mask).into_iter().map(|hint| (id, hint)));
        }
        for id in self.above.iter() {
            hints.extend(taken_away(mask).into_iter().map(|hint| (id, hint)));
        }
    }

    fn name_hints(&self, mask: MaskFlags, name: &[u8], hints: &mut Vec<(FileId, Hint)>) {
        let held = self.holds.as_ref().and_then(|holds| holds.get(name));
        for id in held.into_iter().flat_map(Ids::iter) {
            hints.extend(of_name(mask).into_iter().map(|hint| (id, hint)));
        }
        if mask.intersects(NAMES.difference(MaskFlags::FAN_ONDIR)) {
            hints.extend(self.directory.iter().map(|id| (id, Hint::Child(name.to_vec()))));
        }
    }
}

/// The kernel merges what one process did to one inode, so several hints can come of one event:
/// the strongest of what was done to the content, that metadata changed, what became of the
/// inode, and, short of a write, that it was opened, for whoever opened it may hold it still.
fn of_itself(mask: MaskFlags) -> Vec<Hint> {
    let mut hints = taken_away(mask);
    let written = mask.contains(MaskFlags::FAN_MODIFY);
    if written {
        hints.insert(0, Hint::Written);
    } else if mask.contains(MaskFlags::FAN_CLOSE_WRITE) {
        hints.insert(0, Hint::WriterClosed);
    }
    if mask.contains(MaskFlags::FAN_ATTRIB) {
        hints.push(Hint::Metadata);
    }
    // Opened last: of two descriptors one may be closed and the other not.
    if mask.contains(MaskFlags::FAN_CLOSE_NOWRITE) && !written {
        hints.push(Hint::Closed);
    }
    if mask.contains(MaskFlags::FAN_OPEN) && !written {
        hints.push(Hint::Opened);
    }
    hints
}

fn taken_away(mask: MaskFlags) -> Vec<Hint> {
    which(mask, [(MaskFlags::FAN_DELETE_SELF, Hint::Gone), (MaskFlags::FAN_MOVE_SELF, Hint::Moved)])
}

fn of_name(mask: MaskFlags) -> Vec<Hint> {
    which(
        mask,
        [
            (MaskFlags::FAN_DELETE, Hint::Removed),
            (MaskFlags::FAN_MOVED_FROM, Hint::Moved),
            (MaskFlags::FAN_CREATE | MaskFlags::FAN_MOVED_TO, Hint::Arrived),
        ],
    )
}

fn which<const N: usize>(mask: MaskFlags, table: [(MaskFlags, Hint); N]) -> Vec<Hint> {
    table.into_iter().filter(|(bits, _)| mask.intersects(*bits)).map(|(_, hint)| hint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fanotify::ObjectKey;

    fn key(name: u8) -> ObjectKey {
        ObjectKey { fsid: [0, 0], kind: 1, bytes: [name].into() }
    }

    const A: FileId = FileId(1);
    const B: FileId = FileId(2);

    #[test]
    fn an_inode_with_two_names_speaks_for_both() {
        let mut index = Index::default();
        index.add(A, &key(1), Part::Itself);
        index.add(B, &key(1), Part::Itself);
        let hints = index.hints(MaskFlags::FAN_MODIFY, Some(&key(1)), None);
        assert_eq!(hints, [(A, Hint::Written), (B, Hint::Written)]);
        index.remove_object(A, &key(1));
        assert_eq!(index.hints(MaskFlags::FAN_ATTRIB, Some(&key(1)), None), [(B, Hint::Metadata)]);
    }

    #[test]
    fn only_protected_names_of_a_directory_count_unless_it_is_protected_itself() {
        let mut index = Index::default();
        index.add(A, &key(1), Part::Holds(b"a"[..].into()));
        let place = |name: &[u8]| (key(1), name.to_vec());
        let create = MaskFlags::FAN_CREATE;
        assert_eq!(index.hints(create, None, Some(&place(b"a"))), [(A, Hint::Arrived)]);
        assert!(index.hints(create, None, Some(&place(b"b"))).is_empty());
        index.add(B, &key(1), Part::ItselfDirectory);
        let child = (B, Hint::Child(b"b".to_vec()));
        assert_eq!(index.hints(create, None, Some(&place(b"b"))), [child]);
        assert!(index.hints(MaskFlags::FAN_OPEN, None, Some(&place(b"b"))).is_empty());
    }

    #[test]
    fn a_directory_that_goes_takes_everything_below_with_it() {
        let mut index = Index::default();
        index.add(A, &key(1), Part::Above);
        index.add(B, &key(1), Part::Above);
        let itself = Some((key(1), Vec::new()));
        for dir in [(None, itself.as_ref()), (Some(&key(1)), None)] {
            let hints = index.hints(MaskFlags::FAN_MOVE_SELF, dir.0, dir.1);
            assert_eq!(hints, [(A, Hint::Moved), (B, Hint::Moved)]);
        }
    }

    #[test]
    fn merged_events_give_the_strongest_hint_and_do_not_hide_a_held_descriptor() {
        let all = |mask| of_itself(mask);
        let opened = MaskFlags::FAN_OPEN;
        assert_eq!(all(opened | MaskFlags::FAN_CLOSE_NOWRITE), [Hint::Closed, Hint::Opened]);
        let changed = opened | MaskFlags::FAN_MODIFY | MaskFlags::FAN_ATTRIB;
        assert_eq!(all(changed), [Hint::Written, Hint::Metadata]);
        let attribute = MaskFlags::FAN_ATTRIB | MaskFlags::FAN_CLOSE_NOWRITE;
        assert_eq!(all(attribute), [Hint::Metadata, Hint::Closed]);
        let gone = MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_DELETE_SELF;
        assert_eq!(all(gone), [Hint::WriterClosed, Hint::Gone]);
        let both = MaskFlags::FAN_DELETE | MaskFlags::FAN_CREATE;
        assert_eq!(of_name(both), [Hint::Removed, Hint::Arrived]);
    }

    #[test]
    fn what_loses_its_last_part_is_forgotten() {
        let mut index = Index::default();
        index.add(A, &key(1), Part::Holds(b"a"[..].into()));
        index.add(A, &key(1), Part::Above);
        index.add(B, &key(1), Part::Above);
        assert_eq!(index.mask(&key(1)), NAMES | ABOVE);
        let lost = index.retain(A, |_, part| *part == Part::Above);
        assert_eq!(lost, [key(1)]);
        assert_eq!(index.mask(&key(1)), ABOVE);
        index.retain(A, |_, _| false);
        index.retain(B, |_, _| false);
        assert!(index.nodes.is_empty() && index.parts.is_empty());
    }
}
