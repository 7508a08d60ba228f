//! How the daemon does, for those who watch the watchdog: `/livez`, `/readyz`, `/metrics`.
//!
//! What is told here is counted by the threads that do the work, in atomics, and read by the
//! one that answers: no question holds up the guard.

mod counts;
mod page;
mod pulse;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use counts::{Counts, Outcome};
pub use pulse::{Beat, Pulse, Work};

use super::api::{State, Status};

/// A thread that comes round at least once a second has stalled after this time. A large file
/// that a person restores takes its time, on a slow disk all the more.
const ROUND: Duration = Duration::from_secs(30);
/// A thread that reads and writes as long as it takes may wait for the disk so long.
const DISK: Duration = Duration::from_secs(120);

/// What the threads of the daemon share to tell how they do.
#[derive(Debug)]
pub struct Health {
    /// Counters and gauges.
    pub counts: Counts,
    /// The thread that guards, from when it is on guard.
    pub guard: Beat,
    /// The same thread until then.
    pub start: Beat,
    /// The thread that writes.
    pub scribe: Beat,
    /// The thread that prepares replicas.
    pub stager: Beat,
    /// The thread that reads content.
    pub reader: Beat,
    /// The thread that answers on the control socket.
    pub control: Beat,
    pulse: Pulse,
    status: Mutex<Status>,
}

impl Health {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(status: Status) -> Arc<Self> {
        let pulse = Pulse::default();
        Arc::new(Self {
            counts: Counts::default(),
            guard: pulse.thread("guard", Work::Short, ROUND),
            start: pulse.thread("start", Work::Long, DISK),
            scribe: pulse.thread("scribe", Work::Short, ROUND),
            stager: pulse.thread("stager", Work::Long, DISK),
            reader: pulse.thread("reader", Work::Long, DISK),
            control: pulse.thread("control", Work::Short, ROUND),
            pulse,
            status: Mutex::new(status),
        })
    }

    /// The status as the guard last told it; the lock is held for no more than a copy.
    pub fn with_status<T>(&self, act: impl FnOnce(&mut Status) -> T) -> T {
        act(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which threads make no progress, if any: then only a new start helps.
    #[must_use]
    pub fn stalled(&self) -> Option<String> {
        let stalled = self.pulse.stalled();
        let stalled = stalled.iter().map(|(name, since)| {
            format!("the {name} has made no progress for {} s", since.as_secs())
        });
        let stalled: Vec<_> = stalled.collect();
        (!stalled.is_empty()).then(|| stalled.join("; "))
    }

    /// Whether it is on guard with everything compared, and a sentence.
    #[must_use]
    pub fn readiness(&self) -> (bool, String) {
        self.with_status(|status| match status.state {
            State::Starting => (false, "starting: comparing everything with the baseline".into()),
            State::Draining => {
                (false, "draining: ending what is under way, then it stops".to_owned())
            }
            State::Watching => (true, "watching".to_owned()),
            State::Degraded => {
                let lacking = status.sensors.iter().filter(|sensor| !sensor.is_well());
                let lacking: Vec<_> = lacking.map(|sensor| sensor.name.as_str()).collect();
                (true, format!("watching, degraded: {}", lacking.join(", ")))
            }
        })
    }

    /// Everything as Prometheus reads it.
    #[must_use]
    pub fn page(&self) -> String {
        let own = self.with_status(|status| page::gauges(status));
        page::render(self.counts.gather(), own)
    }
}
