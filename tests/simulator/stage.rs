//! The world, those who tamper with it, and the chance that rules both.

use std::fmt::Write;

use crate::rng::Rng;
use crate::tamper::{Call, Gang};
use crate::world::World;

/// What kind of run this is.
#[derive(Clone, Debug)]
pub struct Plan {
    pub places: usize,
    pub processes: usize,
    /// Steps before everything calms down.
    pub steps: usize,
    /// How many events in a hundred are lost.
    pub lost: usize,
    /// How many actions in a hundred fail.
    pub faults: usize,
    /// How many steps in a hundred are somebody's tampering.
    pub tampering: usize,
    /// How many gaps between two steps of a heal in a hundred are used for tampering.
    pub midway: usize,
    /// How many steps in a thousand kill the daemon.
    pub restarts: usize,
    pub permissive: bool,
    pub restore: bool,
    pub locked: bool,
}

impl Plan {
    pub fn random(rng: &mut Rng) -> Self {
        let harmless = rng.percent(8);
        Self {
            places: 1 + rng.below(3),
            processes: 1 + rng.below(4),
            steps: 20 + rng.below(100),
            lost: rng.pick(&[0, 0, 20, 60, 100]),
            faults: rng.pick(&[0, 0, 0, 10, 30]),
            tampering: if harmless { 0 } else { rng.pick(&[3, 10, 20, 35]) },
            midway: if harmless { 0 } else { rng.pick(&[0, 5, 30]) },
            restarts: rng.pick(&[0, 0, 5, 20]),
            permissive: rng.percent(40),
            restore: !rng.percent(12),
            locked: !rng.percent(12),
        }
    }

    pub fn is_harmless(&self) -> bool {
        self.tampering == 0 && self.midway == 0
    }
}

pub struct Stage {
    pub world: World,
    pub rng: Rng,
    pub gang: Gang,
    pub plan: Plan,
    trace: Option<String>,
}

impl Stage {
    pub fn new(plan: Plan, rng: Rng, traced: bool) -> Self {
        let mut world = World::new(plan.permissive);
        for place in 0..plan.places {
            world.add_place(plan.locked);
            world.stage(place);
        }
        Self { world, rng, gang: Gang::new(plan.processes), plan, trace: traced.then(String::new) }
    }

    /// Writes a line of the story of this run, where somebody wants to read it.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            // A write to a string cannot fail.
            let _ = writeln!(trace, "{:>10} µs  {}", self.world.now, line());
        }
    }

    pub fn trace(self) -> String {
        self.trace.unwrap_or_default()
    }

    /// One call of one tamperer.
    pub fn tamper(&mut self) {
        let (process, place, call) = self.gang.next(&mut self.rng, self.plan.places);
        self.call(process, place, call);
    }

    pub fn call(&mut self, process: usize, place: usize, call: Call) {
        let lost = self.rng.percent(self.plan.lost);
        let done = self.world.call(process, place, call, lost);
        self.tell(|| {
            let outcome = match (done, lost) {
                (false, _) => " refused",
                (true, true) => " (its events are lost)",
                (true, false) => "",
            };
            format!("  process {process} f{place}: {call:?}{outcome}")
        });
    }

    /// The gap between two steps of something that takes more than one.
    pub fn between(&mut self) {
        while self.rng.percent(self.plan.midway) {
            self.tamper();
        }
    }

    pub fn fails(&mut self) -> bool {
        self.rng.percent(self.plan.faults)
    }
}
