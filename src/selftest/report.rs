//! What a self-test found, as `status` and `selftest --json` tell it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Route;
use crate::attribute::{Confidence, Source};
use crate::sense::Sensor;

/// How a route went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Seen, healed, and the right process named.
    Passed,
    /// Seen and healed; who did it is beyond what this host can tell.
    Limit,
    /// Less than that.
    Failed,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteResult {
    /// Which.
    pub route: Route,
    /// On which filesystem: where that begins.
    pub filesystem: String,
    /// It was noticed.
    pub seen: bool,
    /// The very process that did it was named.
    pub named: bool,
    /// The canary was whole again.
    pub healed: bool,
    /// Where the name came from.
    pub source: Source,
    /// How sure it is.
    pub confidence: Confidence,
    /// From the deed to whole, microseconds; `null` where it was not healed, or where nothing but
    /// the next sweep would have found it, which was not waited for.
    pub healed_in_us: Option<u64>,
    /// What noticed it; `sweep` is no event but another look.
    pub sensor: Option<String>,
    /// What that amounts to.
    pub result: Mark,
    /// Why it is not more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RouteResult {
    /// Whether an event told of it.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.seen && self.sensor.as_deref().is_some_and(|sensor| sensor != Sensor::Sweep.name())
    }
}

/// A route that could not be played.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotPossible {
    /// Which.
    pub route: Route,
    /// On which filesystem: where that begins.
    pub filesystem: String,
    /// Nobody can take it: the kernel has no such call.
    pub absent: bool,
    /// Why.
    pub why: String,
}

/// A filesystem that holds protected files and no canary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Untested {
    /// Where it begins.
    pub filesystem: String,
    /// Why.
    pub why: String,
}

/// The whole test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTest {
    /// When it was over.
    pub time: Timestamp,
    /// Every route that was played.
    pub routes: Vec<RouteResult>,
    /// Those that could not be.
    pub not_possible: Vec<NotPossible>,
    /// Filesystems on which none was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub untested: Vec<Untested>,
    /// Routes that went as well as they can on this host.
    pub passed: usize,
    /// Those among them that could go better on another.
    pub limits: usize,
    /// The others.
    pub failed: usize,
    /// From the first route to the last, milliseconds.
    pub duration_ms: u64,
}

impl SelfTest {
    /// Counts.
    #[must_use]
    pub fn new(
        time: Timestamp,
        routes: Vec<RouteResult>,
        not_possible: Vec<NotPossible>,
        untested: Vec<Untested>,
        duration_ms: u64,
    ) -> Self {
        let count = |mark| routes.iter().filter(|one| one.result == mark).count();
        let (limits, failed) = (count(Mark::Limit), count(Mark::Failed));
        let passed = routes.len() - failed;
        Self { time, routes, not_possible, untested, passed, limits, failed, duration_ms }
    }

    /// The routes that failed.
    pub fn failures(&self) -> impl Iterator<Item = &RouteResult> {
        self.routes.iter().filter(|one| one.result == Mark::Failed)
    }
}

/// Whether, on this filesystem, an event told of every way there is to clear the bit, so that the
/// sweep need not hurry there.
#[must_use]
pub fn sweep_may_rest(test: &SelfTest, filesystem: &str) -> bool {
    Route::ALL.into_iter().filter(|route| route.clears_the_bit()).all(|route| {
        let told = |one: &RouteResult| {
            one.route == route && one.filesystem == filesystem && one.is_told() && one.healed
        };
        let absent =
            |one: &NotPossible| one.route == route && one.filesystem == filesystem && one.absent;
        test.routes.iter().any(told) || test.not_possible.iter().any(absent)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::selftest) fn result(route: Route, mark: Mark, sensor: Sensor) -> RouteResult {
        RouteResult {
            route,
            filesystem: here(),
            seen: true,
            named: mark == Mark::Passed,
            healed: true,
            source: Source::Pidfd,
            confidence: Confidence::Exact,
            healed_in_us: Some(100),
            sensor: Some(sensor.name().to_owned()),
            result: mark,
            note: None,
        }
    }

    pub(in crate::selftest) fn test(routes: Vec<RouteResult>) -> SelfTest {
        SelfTest::new(Timestamp::UNIX_EPOCH, routes, Vec::new(), Vec::new(), 1)
    }

    pub(in crate::selftest) fn here() -> String {
        "/".to_owned()
    }

    #[test]
    fn what_this_host_cannot_do_better_counts_as_passed() {
        let all = [Mark::Passed, Mark::Limit, Mark::Failed];
        let all = all.map(|mark| result(Route::Write, mark, Sensor::Fanotify));
        let test = test(all.to_vec());
        assert_eq!((test.passed, test.limits, test.failed), (2, 1, 1));
        assert_eq!(test.failures().count(), 1);
    }

    #[test]
    fn the_sweep_rests_only_where_events_told_of_every_way_to_clear_the_bit() {
        let all = |sensor: fn(Route) -> Sensor| {
            test(Route::ALL.map(|route| result(route, Mark::Passed, sensor(route))).to_vec())
        };
        let may_rest = |test: &SelfTest| sweep_may_rest(test, &here());
        assert!(may_rest(&all(|_| Sensor::Fanotify)));
        let elsewhere = "/srv";
        assert!(!sweep_may_rest(&all(|_| Sensor::Fanotify), elsewhere));
        assert!(!may_rest(&all(|route| match route {
            Route::OldDescriptor => Sensor::Sweep,
            _ => Sensor::Fanotify,
        })));
        let mut fewer = all(|_| Sensor::Fanotify);
        fewer.routes.retain(|one| one.route != Route::FileSetattr);
        assert!(!may_rest(&fewer));
        let untried = |absent| NotPossible {
            route: Route::FileSetattr,
            filesystem: here(),
            absent,
            why: "no".into(),
        };
        fewer.not_possible = vec![untried(false)];
        assert!(!may_rest(&fewer));
        fewer.not_possible = vec![untried(true)];
        assert!(may_rest(&fewer));
    }
}
