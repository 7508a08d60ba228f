//! Which inode is opened so often that each opener's wait for an answer counts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::attribute::InodeKey;

/// An inode that is opened this often…
const OPENS: u32 = 2000;
/// …within this time is hot.
const WITHIN: Duration = Duration::from_secs(1);

/// Counts opens.
#[derive(Debug)]
pub(super) struct Hot {
    began: Instant,
    counts: HashMap<InodeKey, u32>,
}

impl Hot {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, counts: HashMap::new() }
    }

    /// Counts one open. True when it is the one that makes the inode hot.
    pub(super) fn opened(&mut self, inode: InodeKey, now: Instant) -> bool {
        if now.saturating_duration_since(self.began) >= WITHIN {
            self.began = now;
            self.counts.clear();
        }
        let count = self.counts.entry(inode).or_default();
        *count = count.saturating_add(1);
        *count == OPENS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inode_is_hot_once_it_is_opened_often_enough_within_the_time() {
        let began = Instant::now();
        let mut hot = Hot::new(began);
        let (one, other) = (InodeKey { dev: 1, ino: 1 }, InodeKey { dev: 1, ino: 2 });
        let mut at = |n: u32, inode| hot.opened(inode, began + WITHIN / OPENS * n / 2);
        assert_eq!((1..=OPENS).map(|n| at(n, one)).filter(|hot| *hot).count(), 1);
        assert!(!at(OPENS + 1, other));
        assert!(!at(OPENS + 2, one), "it was told once");
    }

    #[test]
    fn what_is_opened_less_often_never_becomes_hot() {
        let began = Instant::now();
        let mut hot = Hot::new(began);
        let inode = InodeKey { dev: 1, ino: 1 };
        for n in 0..10 * OPENS {
            assert!(!hot.opened(inode, began + WITHIN * 2 * n / OPENS));
        }
    }
}
