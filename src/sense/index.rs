//! Which inode matters to which protected file, and as what. Pure.
//!
//! One inode plays several parts: a directory holds one protected name, stands above another,
//! and may be protected itself; an inode with two names is watched for both. The index keeps
//! the parts, works out the mask that they need together, and turns an event into hints. It
//! speaks fanotify's masks; inotify's have the same numbers.
//!
//! There may be a hundred thousand files, so nothing is kept twice: an inode is a number, files
//! of one directory share those above it, and a name is looked up in the path it is part of.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashTable;

use super::few::Few;
use super::inodes::name_of;
use super::nodes::{Node, Nodes, Place};

use crate::sense::{FileId, FileMap, Hint};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is what the path names, or will be after the exchange.
    Itself,
    /// It is a protected directory.
    ItselfDirectory,
    /// It is the directory that holds a name of the path: the last, or so many above that.
    Holds(u16),
    /// It is a directory above.
    Above,
}

/// What is played for one file.
#[derive(Debug)]
struct Parts {
    path: Arc<Path>,
    own: Few<(Place, Part), 3>,
    /// The directories above: those of the whole directory, as a rule.
    above: Arc<Vec<Place>>,
}

impl Parts {
    fn has(&self, place: Place, part: Part) -> bool {
        self.own.iter().any(|own| *own == (place, part))
            || (part == Part::Above && self.above.contains(&place))
    }
}

/// A name that a directory holds for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    dir: Place,
    id: FileId,
    up: u16,
}

/// See the module. `K` is what a sensor calls an inode.
#[derive(Debug)]
pub(super) struct Index<K> {
    nodes: Nodes<K>,
    names: HashTable<Name>,
    files: FileMap<Parts>,
    /// Of each directory, a path in it and those above that.
    above: HashMap<Place, (Arc<Path>, Arc<Vec<Place>>)>,
    random: RandomState,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        let (names, files, above) = Default::default();
        Self { nodes: Nodes::default(), names, files, above, random: RandomState::new() }
    }
}

impl<K: Clone + Eq + Hash> Index<K> {
    /// The mask that the parts of this inode need; empty where it has none.
    pub(super) fn mask(&self, key: &K) -> MaskFlags {
        self.nodes.find(key).map_or(MaskFlags::empty(), |(_, node)| mask(node))
    }

    /// The mask that one part needs.
    pub(super) fn mask_of(part: Part) -> MaskFlags {
        let mut node = Node::default();
        play(&mut node, FileId(0), part);
        mask(&node)
    }

    /// The path of a file for which an inode plays a part.
    pub(super) fn path(&self, id: FileId) -> Option<&Arc<Path>> {
        self.files.get(&id).map(|parts| &parts.path)
    }

    /// The number of an inode that plays a part; good as long as it plays one.
    pub(super) fn place(&self, key: &K) -> Option<Place> {
        self.nodes.find(key).map(|(place, _)| place)
    }

    pub(super) fn add(&mut self, id: FileId, path: &Arc<Path>, key: &K, part: Part) -> Place {
        let place = self.nodes.place(key);
        let new = || Parts { path: Arc::clone(path), own: Few::default(), above: Arc::default() };
        let Some(parts) = self.files.get_or_insert_with(id, new) else { return place };
        if parts.has(place, part) {
            return place;
        }
        parts.own.push((place, part));
        if let Some(node) = self.nodes.get_mut(place) {
            play(node, id, part);
        }
        if let Part::Holds(up) = part {
            let name = name_of(path, up).unwrap_or_default();
            let (files, random) = (&self.files, &self.random);
            self.names.insert_unique(
                random.hash_one((place, name)),
                Name { dir: place, id, up },
                |held| random.hash_one((held.dir, held.name(files))),
            );
        }
        place
    }

    /// The directories above a path in the directory `holder`, as they are known of another file
    /// there.
    pub(super) fn above(&self, path: &Path, holder: Place) -> Option<Arc<Vec<Place>>> {
        let (other, above) = self.above.get(&holder)?;
        // While a file has them, they play their parts.
        let known = Arc::strong_count(above) > 1 && other.parent() == path.parent();
        known.then(|| Arc::clone(above))
    }

    /// A directory was taken elsewhere: what is above which path has to be found out again.
    pub(super) fn doubt_above(&mut self) {
        self.above.clear();
    }

    /// These are the directories above a file that has none yet.
    pub(super) fn add_above(&mut self, id: FileId, above: Arc<Vec<Place>>) {
        let Some(parts) = self.files.get_mut(&id) else { return };
        for place in &*above {
            if let Some(node) = self.nodes.get_mut(*place) {
                play(node, id, Part::Above);
            }
        }
        parts.above = above;
    }

    /// Takes every part that this inode plays for `id` away.
    pub(super) fn remove_object(&mut self, id: FileId, place: Place) -> Vec<K> {
        self.retain(id, |other, _| other != place)
    }

    /// Takes every part away from `id` that `keep` does not want, and gives back the inodes
    /// that lost one.
    pub(super) fn retain(&mut self, id: FileId, keep: impl Fn(Place, Part) -> bool) -> Vec<K> {
        let Some(parts) = self.files.get_mut(&id) else { return Vec::new() };
        let mut lost = parts.own.extract(|(place, part)| !keep(*place, *part));
        let (stay, go): (Vec<_>, Vec<_>) =
            parts.above.iter().partition(|place| keep(**place, Part::Above));
        let new = parts.own.extract(|(_, part)| *part == Part::Above);
        let new = new.into_iter().map(|(place, _)| place);
        let above: Vec<Place> = stay.into_iter().chain(new).collect();
        lost.extend(go.into_iter().map(|place| (place, Part::Above)));
        if *parts.above != *above {
            parts.above = share(&mut self.above, &parts.path, above);
        }
        let keys = lost.iter().filter_map(|(place, _)| self.nodes.key(*place).cloned()).collect();
        for (place, part) in lost {
            self.lose(id, place, part);
        }
        if self.files.get(&id).is_some_and(|parts| parts.own.is_empty() && parts.above.is_empty()) {
            self.files.remove(&id);
        }
        keys
    }

    fn lose(&mut self, id: FileId, place: Place, part: Part) {
        if let Part::Holds(up) = part {
            let held = Name { dir: place, id, up };
            let hash = self.random.hash_one((place, held.name(&self.files)));
            if let Ok(entry) = self.names.find_entry(hash, |other| *other == held) {
                entry.remove();
            }
        }
        let Some(node) = self.nodes.get_mut(place) else { return };
        match part {
            Part::Itself => node.unname(id),
            Part::ItselfDirectory => node.roles().directory.remove(id),
            Part::Holds(_) => node.roles().names -= 1,
            Part::Above => node.roles().above -= 1,
        }
        if mask(node).is_empty() {
            self.nodes.remove(place);
            self.above.remove(&place);
        }
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
        if let Some((place, node)) = itself.and_then(|key| self.nodes.find(key)) {
            own_hints(node, mask, &mut hints);
            let (gone, above) = (taken_away(mask), node.others().map_or(0, |roles| roles.above));
            if above > 0 && !gone.is_empty() {
                let below = self.files.iter().filter(|(_, parts)| parts.has(place, Part::Above));
                hints.extend(below.flat_map(|(id, _)| gone.iter().map(move |h| (id, h.clone()))));
            }
        }
        if let Some((key, name)) = dir
            && !name.is_empty()
            && let Some((place, node)) = self.nodes.find(key)
        {
            for id in self.held(place, name) {
                hints.extend(of_name(mask).into_iter().map(|hint| (id, hint)));
            }
            if mask.intersects(NAMES.difference(MaskFlags::FAN_ONDIR)) {
                let child = |id: &FileId| (*id, Hint::Child(name.clone()));
                hints.extend(node.directory().iter().map(child));
            }
        }
        hints
    }

    /// For whom the directory holds this name, in order.
    fn held(&self, dir: Place, name: &[u8]) -> Vec<FileId> {
        let hash = self.random.hash_one((dir, name));
        let same = |held: &&Name| held.dir == dir && held.name(&self.files) == name;
        let mut all: Vec<_> = self.names.iter_hash(hash).filter(same).map(|held| held.id).collect();
        all.sort_unstable();
        all
    }
}

impl Name {
    fn name<'a>(&self, files: &'a FileMap<Parts>) -> &'a [u8] {
        let parts = files.get(&self.id);
        parts.and_then(|parts| name_of(&parts.path, self.up)).unwrap_or_default()
    }
}

/// The same directories, in the same place of memory if another file in the directory has them.
fn share(
    known: &mut HashMap<Place, (Arc<Path>, Arc<Vec<Place>>)>,
    path: &Arc<Path>,
    above: Vec<Place>,
) -> Arc<Vec<Place>> {
    let Some(first) = above.first().copied() else { return Arc::default() };
    if let Some((_, known)) = known.get(&first).filter(|(_, known)| **known == *above) {
        return Arc::clone(known);
    }
    let new = Arc::new(above);
    known.insert(first, (Arc::clone(path), Arc::clone(&new)));
    new
}

fn play(node: &mut Node, id: FileId, part: Part) {
    match part {
        Part::Itself => node.name(id),
        Part::ItselfDirectory => node.roles().directory.insert(id),
        Part::Holds(_) => node.roles().names += 1,
        Part::Above => node.roles().above += 1,
    }
}

fn mask(node: &Node) -> MaskFlags {
    let others = node.others();
    let played = |played: bool, mask| if played { mask } else { MaskFlags::empty() };
    played(!node.itself().is_empty(), OWN)
        | played(!node.directory().is_empty(), OWN | NAMES)
        | played(others.is_some_and(|roles| roles.names > 0), NAMES | ABOVE)
        | played(others.is_some_and(|roles| roles.above > 0), ABOVE)
}

fn own_hints(node: &Node, mask: MaskFlags, hints: &mut Vec<(FileId, Hint)>) {
    let itself = node.itself();
    let directory = node.directory().iter().filter(|id| !itself.contains(id));
    for id in itself.iter().chain(directory) {
        hints.extend(of_itself(mask).into_iter().map(|hint| (*id, hint)));
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
        ObjectKey { fsid: [0, 0], kind: 1, bytes: [name][..].into() }
    }

    fn path(text: &str) -> Arc<Path> {
        Path::new(text).into()
    }

    const A: FileId = FileId(1);
    const B: FileId = FileId(2);

    #[test]
    fn an_inode_with_two_names_speaks_for_both() {
        let mut index = Index::default();
        index.add(A, &path("/a"), &key(1), Part::Itself);
        let place = index.add(B, &path("/b"), &key(1), Part::Itself);
        let hints = index.hints(MaskFlags::FAN_MODIFY, Some(&key(1)), None);
        assert_eq!(hints, [(A, Hint::Written), (B, Hint::Written)]);
        assert_eq!(index.remove_object(A, place), [key(1)]);
        assert_eq!(index.hints(MaskFlags::FAN_ATTRIB, Some(&key(1)), None), [(B, Hint::Metadata)]);
    }

    #[test]
    fn only_protected_names_of_a_directory_count_unless_it_is_protected_itself() {
        let mut index = Index::default();
        index.add(A, &path("/a"), &key(1), Part::Holds(0));
        let place = |name: &[u8]| (key(1), name.to_vec());
        let create = MaskFlags::FAN_CREATE;
        assert_eq!(index.hints(create, None, Some(&place(b"a"))), [(A, Hint::Arrived)]);
        assert!(index.hints(create, None, Some(&place(b"b"))).is_empty());
        index.add(B, &path("/b"), &key(1), Part::ItselfDirectory);
        let child = (B, Hint::Child(b"b".to_vec()));
        assert_eq!(index.hints(create, None, Some(&place(b"b"))), [child]);
        assert!(index.hints(MaskFlags::FAN_OPEN, None, Some(&place(b"b"))).is_empty());
    }

    #[test]
    fn a_directory_that_goes_takes_everything_below_with_it() {
        let mut index = Index::default();
        index.add(A, &path("/a"), &key(1), Part::Above);
        index.add(B, &path("/b"), &key(1), Part::Above);
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
        index.add(A, &path("/a"), &key(1), Part::Holds(0));
        index.add(A, &path("/a"), &key(1), Part::Above);
        index.add(B, &path("/b"), &key(1), Part::Above);
        assert_eq!(index.mask(&key(1)), NAMES | ABOVE);
        let lost = index.retain(A, |_, part| part == Part::Above);
        assert_eq!(lost, [key(1)]);
        assert_eq!(index.mask(&key(1)), ABOVE);
        index.retain(A, |_, _| false);
        index.retain(B, |_, _| false);
        assert!(index.nodes.is_empty() && index.names.is_empty());
        assert!(index.files.is_empty() && index.above.is_empty());
    }
}
