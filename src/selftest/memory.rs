//! When to tell somebody: a route got worse, or everything is well again. Each is said once.

use std::collections::BTreeSet;

use super::{Mark, Route, SelfTest};
use crate::attribute::Source;

/// A route, and the filesystem.
type Key = (Route, String);

/// What the tests so far showed.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Routes whose process was named once, since the daemon started.
    worked: BTreeSet<Key>,
    /// Routes that somebody was told of.
    told: BTreeSet<Key>,
    /// That the test itself could not be carried out was told.
    hindered: Option<String>,
}

/// Something to tell a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Less works than before, or than should.
    Worse(String),
    /// Everything works again that did not.
    Better(String),
}

impl Memory {
    /// Takes in a test, and says what is new about it.
    pub fn learn(&mut self, test: &SelfTest) -> Option<News> {
        let mut bad = BTreeSet::new();
        let mut told = Vec::new();
        for one in &test.routes {
            // An old descriptor may be laid on whoever opened it by good luck.
            let for_good = one.named && (!one.route.needs_audit() || one.source == Source::Audit);
            let key = (one.route, one.filesystem.clone());
            let lost = !one.named && self.worked.contains(&key);
            if one.result != Mark::Failed && !lost {
                if for_good {
                    self.worked.insert(key);
                }
                continue;
            }
            bad.insert(key);
            let before = if lost { ", which worked before" } else { "" };
            let note = one.note.as_deref().unwrap_or("it was not named");
            let (name, means, at) = (one.route.name(), one.route.means(), &one.filesystem);
            told.push(format!("{name} ({means}{before}) on {at}: {note}"));
        }
        let hindered = std::mem::take(&mut self.hindered);
        let worse = bad.iter().any(|key| !self.told.contains(key));
        let better = bad.is_empty() && (hindered.is_some() || !self.told.is_empty());
        self.told = bad;
        if worse {
            let told = told.join("; ");
            return Some(News::Worse(format!("the self-test failed by these routes: {told}")));
        }
        better.then(|| News::Better("the self-test passes again by every route".to_owned()))
    }

    /// The test could not be carried out.
    pub fn hinder(&mut self, why: &str) -> Option<News> {
        let known = self.hindered.replace(why.to_owned());
        known.is_none().then(|| News::Worse(format!("the self-test cannot be carried out: {why}")))
    }

    /// What is wrong now, for `status`.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if let Some(why) = &self.hindered {
            return Some(format!("it cannot be carried out: {why}"));
        }
        let name = |(route, at): &Key| format!("{} on {at}", route.name());
        let names: Vec<_> = self.told.iter().map(name).collect();
        (!names.is_empty())
            .then(|| format!("failed by {}: 'steadfast selftest' tells more", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{result, test};
    use super::*;
    use crate::sense::Sensor;

    fn of(marks: &[(Route, Mark)]) -> SelfTest {
        test(marks.iter().map(|(route, mark)| result(*route, *mark, Sensor::Fanotify)).collect())
    }

    #[test]
    fn what_stops_working_is_told_once_and_so_is_its_recovery() {
        let mut memory = Memory::default();
        let good = of(&[(Route::Write, Mark::Passed), (Route::Unlink, Mark::Passed)]);
        let bad = of(&[(Route::Write, Mark::Failed), (Route::Unlink, Mark::Passed)]);
        assert_eq!(memory.learn(&good), None);
        assert!(matches!(memory.learn(&bad), Some(News::Worse(why)) if why.contains("write")));
        assert_eq!(memory.learn(&bad), None);
        assert!(memory.trouble().unwrap().contains("write"));
        assert!(matches!(memory.learn(&good), Some(News::Better(_))));
        assert_eq!((memory.learn(&good), memory.trouble()), (None, None));
    }

    #[test]
    fn what_works_on_one_filesystem_is_not_missed_on_another() {
        let mut memory = Memory::default();
        let mut both = of(&[(Route::FileSetattr, Mark::Passed), (Route::FileSetattr, Mark::Limit)]);
        both.routes.iter_mut().for_each(|one| one.source = Source::Audit);
        both.routes.iter_mut().skip(1).for_each(|one| one.filesystem = "/srv".to_owned());
        assert_eq!((memory.learn(&both), memory.learn(&both)), (None, None));
        both.routes.reverse();
        both.routes.iter_mut().for_each(|one| one.named = false);
        let news = memory.learn(&both);
        assert!(matches!(news, Some(News::Worse(why)) if why.contains("on /:")));
    }

    #[test]
    fn one_more_route_that_fails_is_told_and_one_less_is_not() {
        let mut memory = Memory::default();
        let one = of(&[(Route::Write, Mark::Failed), (Route::Unlink, Mark::Passed)]);
        let both = of(&[(Route::Write, Mark::Failed), (Route::Unlink, Mark::Failed)]);
        assert!(memory.learn(&one).is_some());
        assert!(matches!(memory.learn(&both), Some(News::Worse(why)) if why.contains("unlink")));
        assert_eq!(memory.learn(&one), None);
        assert!(memory.learn(&both).is_some());
    }

    #[test]
    fn a_limit_is_no_news_unless_it_was_none_before() {
        let mut memory = Memory::default();
        let limit = of(&[(Route::FileSetattr, Mark::Limit)]);
        let mut named = of(&[(Route::FileSetattr, Mark::Passed)]);
        assert_eq!((memory.learn(&named), memory.learn(&limit)), (None, None));
        named.routes.iter_mut().for_each(|one| one.source = Source::Audit);
        assert_eq!(memory.learn(&limit), None);
        assert_eq!(memory.learn(&named), None);
        assert!(matches!(memory.learn(&limit), Some(News::Worse(why)) if why.contains("before")));
        assert_eq!(memory.learn(&limit), None);
        assert!(matches!(memory.learn(&named), Some(News::Better(_))));
    }

    #[test]
    fn a_test_that_cannot_be_carried_out_is_told_once_until_it_can_again() {
        let mut memory = Memory::default();
        assert!(memory.hinder("no room").is_some());
        assert_eq!(memory.hinder("no room"), None);
        assert!(memory.trouble().is_some());
        let good = of(&[(Route::Write, Mark::Passed)]);
        assert!(matches!(memory.learn(&good), Some(News::Better(_))));
    }
}
