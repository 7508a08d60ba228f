//! A table by the number of a file.
//!
//! Numbers are given out one after the other, so what belongs to neighbours lies together, and
//! nothing is kept of a number but what belongs to it: a hash table has room for up to twice of
//! what is in it. There may be a hundred thousand files.

use std::collections::BTreeMap;

use super::FileId;

/// So many neighbours lie together.
const TOGETHER: u32 = 32;

/// See the module.
#[derive(Debug)]
pub struct FileMap<T> {
    groups: BTreeMap<u32, Group<T>>,
}

#[derive(Debug)]
struct Group<T> {
    used: u32,
    places: Box<[Option<T>]>,
}

impl<T> Default for FileMap<T> {
    fn default() -> Self {
        Self { groups: BTreeMap::new() }
    }
}

impl<T> Default for Group<T> {
    fn default() -> Self {
        Self { used: 0, places: (0..TOGETHER).map(|_| None).collect() }
    }
}

/// The group of a file, and its place there.
fn split(file: &FileId) -> (u32, usize) {
    (file.0 / TOGETHER, (file.0 % TOGETHER) as usize)
}

impl<T> FileMap<T> {
    /// What belongs to the file.
    #[must_use]
    pub fn get(&self, file: &FileId) -> Option<&T> {
        let (group, place) = split(file);
        self.groups.get(&group)?.places.get(place)?.as_ref()
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, file: &FileId) -> Option<&mut T> {
        let (group, place) = split(file);
        self.groups.get_mut(&group)?.places.get_mut(place)?.as_mut()
    }

    /// Whether something belongs to the file.
    #[must_use]
    pub fn contains_key(&self, file: &FileId) -> bool {
        self.get(file).is_some()
    }

    /// Puts it in the place of what belonged to the file.
    pub fn insert(&mut self, file: FileId, value: T) {
        let (group, place) = split(&file);
        let group = self.groups.entry(group).or_default();
        if let Some(place) = group.places.get_mut(place)
            && place.replace(value).is_none()
        {
            group.used += 1;
        }
    }

    /// What belongs to the file, which is made if there is nothing.
    pub fn get_or_insert_with(&mut self, file: FileId, make: impl FnOnce() -> T) -> Option<&mut T> {
        let (group, place) = split(&file);
        let Group { used, places } = self.groups.entry(group).or_default();
        let place = places.get_mut(place)?;
        *used += u32::from(place.is_none());
        Some(place.get_or_insert_with(make))
    }

    /// Takes away what belongs to the file.
    pub fn remove(&mut self, file: &FileId) -> Option<T> {
        let (number, place) = split(file);
        let group = self.groups.get_mut(&number)?;
        let taken = group.places.get_mut(place)?.take();
        group.used -= u32::from(taken.is_some());
        if group.used == 0 {
            self.groups.remove(&number);
        }
        taken
    }

    /// All, by number.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &T)> {
        self.groups.iter().flat_map(|(group, Group { places, .. })| {
            let numbers = (0..TOGETHER).map(move |place| group * TOGETHER + place);
            numbers.zip(places).filter_map(|(number, at)| Some((FileId(number), at.as_ref()?)))
        })
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (FileId, &mut T)> {
        self.groups.iter_mut().flat_map(|(group, Group { places, .. })| {
            let numbers = (0..TOGETHER).map(move |place| group * TOGETHER + place);
            numbers.zip(places).filter_map(|(number, at)| Some((FileId(number), at.as_mut()?)))
        })
    }

    /// All, without their numbers.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.groups.values().flat_map(|group| group.places.iter().flatten())
    }

    /// How many files something belongs to.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.values().map(|group| group.used as usize).sum()
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_is_a_table_like_any_other() {
        let mut map = FileMap::default();
        let mut known = BTreeMap::new();
        let numbers = [0, 1, 31, 32, 33, 4000, u32::MAX - 1, u32::MAX];
        for (value, number) in numbers.into_iter().rev().chain([32, 4000]).enumerate() {
            map.insert(FileId(number), value);
            known.insert(FileId(number), value);
        }
        assert!(map.iter().map(|(file, value)| (file, *value)).eq(known.clone()));
        assert!(map.values().eq(known.values()));
        assert_eq!((map.get(&FileId(2)), map.contains_key(&FileId(31))), (None, true));
        *map.get_mut(&FileId(33)).unwrap() = 70;
        map.iter_mut().for_each(|(_, value)| *value += 1);
        assert_eq!(map.get_or_insert_with(FileId(33), || 0), Some(&mut 71));
        assert_eq!(map.get_or_insert_with(FileId(34), || 5), Some(&mut 5));
        assert_eq!((map.remove(&FileId(34)), map.remove(&FileId(34))), (Some(5), None));
        assert_eq!(map.remove(&FileId(35)), None);
        assert_eq!(map.len(), numbers.len());
        for number in numbers {
            assert!(!map.is_empty());
            assert!(map.remove(&FileId(number)).is_some());
        }
        assert!(map.is_empty());
    }
}
