//! Asking audit who did it, and acting on what it tells.
//!
//! The answer waits until every record of what was done before has come in, so the guard does
//! not wait for it: the question stands here meanwhile, and after a while it is answered with
//! what there is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::guard::Guard;
use crate::attribute::{Actor, Testimony, Window, held};
use crate::engine::Input;
use crate::sense::audit::{PATIENCE, Told};
use crate::sense::{By, FileId, Hint, Observation, Sensor};

/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: Vec<Question>,
    last: u64,
}

#[derive(Debug)]
struct Question {
    number: u64,
    /// As the engine knows it.
    asked: (FileId, u32),
    openers: Vec<Arc<Actor>>,
    windows: Vec<Window>,
    /// When the change was seen.
    seen: Instant,
    due: Instant,
}

impl Questions {
    /// When the first of them has to be answered, whatever audit says.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|question| question.due).min()
    }
}

impl Guard {
    /// Asks audit about changes of a file. The answer comes at once where audit has none.
    pub(super) fn question(
        &mut self,
        (file, question): (FileId, u32),
        openers: Vec<Arc<Actor>>,
        windows: Vec<Window>,
        seen: Duration,
    ) -> Option<Input> {
        let Some(audit) = self.sensors.audit() else {
            let testimony =
                Testimony { writing: writing(&openers, &windows), ..Default::default() };
            return Some(Input::Openers { file, question, openers, testimony });
        };
        self.questions.last += 1;
        let number = self.questions.last;
        audit.ask(number);
        // A little longer than the sensor takes to give up by itself.
        let due = Instant::now() + PATIENCE + Duration::from_millis(50);
        let seen = self.instant(seen);
        let asked = (file, question);
        self.questions.open.push(Question { number, asked, openers, windows, seen, due });
        None
    }

    /// What the audit sensor has to say.
    pub(super) fn told(&mut self, told: Told) {
        match told {
            Told::Look => {
                let files = self.sensors.audit().map(|audit| audit.to_look_at());
                for file in files.into_iter().flatten() {
                    self.observe(Observation {
                        at: Instant::now(),
                        sensor: Sensor::Audit,
                        file,
                        hint: Hint::Recorded,
                        by: By::Nobody,
                        retired: false,
                    });
                }
            }
            Told::LookEverywhere => self.sweep.everything_now(),
            Told::Lost => self.lost_events("audit records were lost"),
            Told::Health => self.sweep.chores_by(Duration::ZERO),
            Told::Caught { question, complete } => {
                let at = self.questions.open.iter().position(|open| open.number == question);
                if let Some(at) = at {
                    let question = self.questions.open.remove(at);
                    self.settle_question(question, complete);
                }
            }
        }
    }

    /// Answers what has waited too long: the sensor hangs.
    pub(super) fn answer_overdue(&mut self) {
        let now = Instant::now();
        while let Some(at) = self.questions.open.iter().position(|open| open.due <= now) {
            let question = self.questions.open.remove(at);
            self.settle_question(question, false);
        }
    }

    fn settle_question(&mut self, question: Question, complete: bool) {
        let Question { asked: (file, question), openers, windows, seen, .. } = question;
        let began = self.instant(Duration::ZERO);
        let mut testimony = self.sensors.testify(file, &windows, began, seen);
        testimony.complete &= complete;
        testimony.writing = writing(&openers, &windows);
        self.feed(Input::Openers { file, question, openers, testimony });
    }
}

/// So many of those who opened it last are looked at.
const MOST_WRITERS: usize = 32;

/// Those of them that can write to it now. One alone needs no telling from others.
fn writing(openers: &[Arc<Actor>], windows: &[Window]) -> Vec<Arc<Actor>> {
    if openers.len() < 2 {
        return Vec::new();
    }
    let inodes: BTreeSet<u64> = windows.iter().filter_map(|w| Some(w.inode?.ino)).collect();
    let can = |actor: &&Arc<Actor>| {
        inodes.iter().any(|ino| held::can_write(actor.pid, actor.start_time, *ino))
    };
    openers.iter().take(MOST_WRITERS).filter(can).cloned().collect()
}
