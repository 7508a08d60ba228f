//! What the engine asked for and the guard has not done yet.

use std::time::{Duration, Instant};

use super::Guard;
use crate::engine::{Action, Input};

/// At most so many actions follow from one input before others are heard.
const MOST_ACTIONS: usize = 256;
/// After a heal, what is not urgent waits this long: we run before everybody else.
const REST: Duration = Duration::from_micros(100);

/// See the module.
#[derive(Debug)]
pub(in crate::daemon) struct Queue {
    /// What is still to be done, the last first.
    actions: Vec<Action>,
    /// It waits until then.
    rest_until: Instant,
}

impl Queue {
    pub(in crate::daemon) fn new() -> Self {
        Self { actions: Vec::new(), rest_until: Instant::now() }
    }

    /// How long what is in it has to wait; `None` if nothing is.
    pub(super) fn wait(&self) -> Option<Duration> {
        let rest = self.rest_until.saturating_duration_since(Instant::now());
        (!self.actions.is_empty()).then_some(rest)
    }

    /// The next action, unless it is to wait a little longer.
    fn next(&mut self) -> Option<Action> {
        (Instant::now() >= self.rest_until).then(|| self.actions.pop())?
    }
}

impl Guard {
    /// Gives the engine an input, and does what it asks for until it asks for nothing more.
    pub(in crate::daemon) fn feed(&mut self, input: Input) {
        let mut asked = Vec::new();
        let now = self.now();
        self.engine.handle(now, input, &mut asked);
        // An action's answer may ask for more, which comes before what was asked earlier: a
        // heal is not kept waiting by a journal line.
        let mut actions: Vec<Action> = asked.into_iter().rev().collect();
        let mut healed = false;
        for _ in 0..MOST_ACTIONS {
            let Some(action) = actions.pop().or_else(|| self.queue.next()) else { break };
            if healed && matches!(action, Action::Inspect { .. }) {
                // The file is whole. On this processor nobody gets to see that before we sleep.
                self.queue.rest_until = Instant::now() + REST;
                actions.push(action);
                break;
            }
            healed |= matches!(action, Action::Heal { .. });
            if let Some(answer) = self.perform(action) {
                let mut more = Vec::new();
                let now = self.now();
                self.engine.handle(now, answer, &mut more);
                actions.extend(more.into_iter().rev());
            }
        }
        // Whatever one file keeps us busy with, sensors and commands have their turn.
        self.queue.actions.append(&mut actions);
    }
}
