//! Inodes by number, so that whoever speaks of one needs four bytes and not its whole key. What is
//! known of them lies one beside the other.

use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;

use hashbrown::HashTable;

use crate::sense::FileId;

/// The number of an inode, as long as it plays a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(NonZeroU32);

impl Place {
    /// What is at `index`. As many inodes as there are no numbers for need more memory than there
    /// is.
    fn of(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.unwrap_or(NonZeroU32::MAX))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// An inode's parts, for all files. Nearly all are what one path names and nothing else, and need
/// no more than the number of that file.
#[derive(Debug, Default)]
pub(super) enum Node {
    #[default]
    Idle,
    File(FileId),
    Other(Box<Roles>),
}

/// The parts of an inode that plays others too, such as a directory.
#[derive(Debug, Default)]
pub(super) struct Roles {
    /// For whom it is what the path names.
    pub(super) itself: Ids,
    /// For whom it is protected itself, as a directory.
    pub(super) directory: Ids,
    /// For how many it is above: there may be many, and few ever ask for which.
    pub(super) above: usize,
    /// How many names it holds.
    pub(super) names: usize,
}

impl Node {
    /// It is what the path of this file names.
    pub(super) fn name(&mut self, id: FileId) {
        match self {
            Self::Idle => *self = Self::File(id),
            Self::File(one) if *one == id => {}
            _ => self.roles().itself.insert(id),
        }
    }

    /// It is so no longer.
    pub(super) fn unname(&mut self, id: FileId) {
        match self {
            Self::File(one) if *one == id => *self = Self::Idle,
            Self::Idle | Self::File(_) => {}
            Self::Other(roles) => roles.itself.remove(id),
        }
    }

    /// For whom it is what the path names.
    pub(super) fn itself(&self) -> &[FileId] {
        match self {
            Self::Idle => &[],
            Self::File(one) => std::slice::from_ref(one),
            Self::Other(roles) => roles.itself.as_slice(),
        }
    }

    /// For whom it is protected itself, as a directory.
    pub(super) fn directory(&self) -> &[FileId] {
        self.others().map_or(&[], |roles| roles.directory.as_slice())
    }

    /// All parts, where they are more than to be what one path names.
    pub(super) fn others(&self) -> Option<&Roles> {
        match self {
            Self::Other(roles) => Some(roles),
            Self::Idle | Self::File(_) => None,
        }
    }

    /// All parts, to change them.
    pub(super) fn roles(&mut self) -> &mut Roles {
        let itself = match self {
            Self::Other(roles) => return roles,
            Self::File(one) => Ids::One(*one),
            Self::Idle => Ids::None,
        };
        *self = Self::Other(Box::new(Roles { itself, ..Roles::default() }));
        self.roles()
    }
}

/// A set of files, in order; nearly always of one.
#[derive(Debug, Default)]
pub(super) enum Ids {
    #[default]
    None,
    One(FileId),
    #[expect(clippy::box_collection, reason = "most have none, and a pointer is smaller")]
    Many(Box<Vec<FileId>>),
}

impl Ids {
    pub(super) fn insert(&mut self, id: FileId) {
        match self {
            Self::None => *self = Self::One(id),
            Self::One(one) if *one == id => {}
            Self::One(one) => {
                let both = if *one < id { vec![*one, id] } else { vec![id, *one] };
                *self = Self::Many(Box::new(both));
            }
            Self::Many(many) => {
                if let Err(at) = many.binary_search(&id) {
                    many.insert(at, id);
                }
            }
        }
    }

    pub(super) fn remove(&mut self, id: FileId) {
        match self {
            Self::One(one) if *one == id => *self = Self::None,
            Self::Many(many) => {
                if let Ok(at) = many.binary_search(&id) {
                    many.remove(at);
                }
                match many.as_slice() {
                    [] => *self = Self::None,
                    [one] => *self = Self::One(*one),
                    _ => {}
                }
            }
            Self::None | Self::One(_) => {}
        }
    }

    fn as_slice(&self) -> &[FileId] {
        match self {
            Self::None => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// See the module. `K` is what a sensor calls an inode, `V` what it knows of it.
#[derive(Debug)]
pub(super) struct Nodes<K, V = Node> {
    all: Vec<Option<(K, V)>>,
    free: Vec<Place>,
    by_key: HashTable<Place>,
    random: RandomState,
}

impl<K, V> Default for Nodes<K, V> {
    fn default() -> Self {
        let (all, free, by_key) = Default::default();
        Self { all, free, by_key, random: RandomState::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Nodes<K, V> {
    /// The number of this inode, which is given one if it has none.
    pub(super) fn place(&mut self, key: &K) -> Place {
        if let Some((place, _)) = self.find(key) {
            return place;
        }
        let new = Some((key.clone(), V::default()));
        let place = match self.free.pop() {
            Some(place) => {
                if let Some(slot) = self.all.get_mut(place.index()) {
                    *slot = new;
                }
                place
            }
            None => {
                if self.all.len() == self.all.capacity() {
                    // Not to twice of what is there: that may be much.
                    self.all.reserve_exact(self.all.len() / 8 + 16);
                }
                self.all.push(new);
                Place::of(self.all.len() - 1)
            }
        };
        let (all, random) = (&self.all, &self.random);
        let hash = |place: &Place| random.hash_one(key_of(all, *place));
        self.by_key.insert_unique(random.hash_one(Some(key)), place, hash);
        place
    }

    pub(super) fn find(&self, key: &K) -> Option<(Place, &V)> {
        let hash = self.random.hash_one(Some(key));
        let place = self.by_key.find(hash, |place| key_of(&self.all, *place) == Some(key))?;
        Some((*place, self.get(*place)?))
    }

    pub(super) fn get(&self, place: Place) -> Option<&V> {
        self.all.get(place.index())?.as_ref().map(|(_, node)| node)
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut V> {
        self.all.get_mut(place.index())?.as_mut().map(|(_, node)| node)
    }

    pub(super) fn key(&self, place: Place) -> Option<&K> {
        key_of(&self.all, place)
    }

    /// Its number may be given to another.
    pub(super) fn remove(&mut self, place: Place) {
        let hash = self.random.hash_one(self.key(place));
        let Ok(entry) = self.by_key.find_entry(hash, |other| *other == place) else { return };
        entry.remove();
        if let Some(slot) = self.all.get_mut(place.index()) {
            *slot = None;
            self.free.push(place);
        }
    }

    /// All of them, and what they are called.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.all.iter().flatten()
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.all.iter().all(Option::is_none)
    }
}

fn key_of<K, V>(all: &[Option<(K, V)>], place: Place) -> Option<&K> {
    all.get(place.index())?.as_ref().map(|(key, _)| key)
}
