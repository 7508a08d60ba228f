//! A list that nearly always is short, for those of which there are several for each file: a
//! short one takes nothing besides its place.

/// See the module. Up to `N` are in place.
#[derive(Debug)]
pub(super) enum Few<T, const N: usize> {
    /// In order, the rest of the room behind them.
    Short([Option<T>; N]),
    #[expect(clippy::box_collection, reason = "hardly one is long, and a pointer is smaller")]
    Long(Box<Vec<Option<T>>>),
}

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self::Short([const { None }; N])
    }
}

impl<T, const N: usize> Few<T, N> {
    fn places(&self) -> &[Option<T>] {
        match self {
            Self::Short(all) => all,
            Self::Long(all) => all,
        }
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.places().iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut T> {
        match self {
            Self::Short(all) => all.iter_mut(),
            Self::Long(all) => all.iter_mut(),
        }
        .flatten()
    }

    pub(super) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.places().get(at)?.as_ref()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut T> {
        self.iter_mut().next_back()
    }

    pub(super) fn push(&mut self, new: T) {
        self.change(|all| all.push(new));
    }

    /// Keeps those that `keep` wants, and returns the others.
    pub(super) fn extract(&mut self, mut lose: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut lost = Vec::new();
        if self.iter().any(&mut lose) {
            self.change(|all| lost.extend(all.extract_if(.., |one| lose(one))));
        }
        lost
    }

    /// Changes it as a list of any length.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut all: Vec<T> = match std::mem::take(self) {
            Self::Short(all) => all.into_iter().flatten().collect(),
            Self::Long(all) => all.into_iter().flatten().collect(),
        };
        let done = change(&mut all);
        *self = if all.len() <= N {
            let mut all = all.into_iter();
            Self::Short(std::array::from_fn(|_| all.next()))
        } else {
            Self::Long(Box::new(all.into_iter().map(Some).collect()))
        };
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list_however_long_it_is() {
        let mut few = Few::<u32, 2>::default();
        let mut list = Vec::new();
        for number in 0..5 {
            few.push(number);
            list.push(number);
            assert!(few.iter().eq(&list));
            assert_eq!((few.len(), few.last_mut()), (list.len(), Some(&mut { number })));
        }
        few.iter_mut().for_each(|one| *one += 10);
        assert_eq!((few.get(4), few.get(5)), (Some(&14), None));
        assert_eq!(few.extract(|one| one % 2 == 0), [10, 12, 14]);
        assert!(few.iter().eq(&[11, 13]) && matches!(few, Few::Short(_)));
        assert_eq!(few.change(|all| all.remove(0)), 11);
        assert_eq!(few.extract(|_| true), [13]);
        assert!(few.is_empty());
    }
}
