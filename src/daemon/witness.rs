//! Asking audit who did it, and acting on what it tells.
//!
//! The answer waits until every record of what was done before has come in, and somebody has
//! looked at the processes where that is needed, so the guard does not wait for it: the question
//! stands here meanwhile, and after a while it is answered with what there is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::onlooker::{self, Found, Inquiry, Onlooker};
use crate::attribute::{Actor, Testimony, Window};
use crate::engine::Input;
use crate::sense::audit::{PATIENCE, Told};
use crate::sense::{By, FileId, Hint, Observation, Sensor};

/// Questions under way.
#[derive(Debug)]
pub(super) struct Questions {
    open: Vec<Question>,
    last: u64,
    onlooker: Onlooker,
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
    /// What audit has said, and who may have it open; they are being looked at then.
    heard: Option<(Testimony, Vec<Arc<Actor>>)>,
}

impl Questions {
    pub(super) fn new(onlooker: Onlooker) -> Self {
        Self { open: Vec::new(), last: 0, onlooker }
    }

    fn take(&mut self, number: u64) -> Option<Question> {
        let at = self.open.iter().position(|open| open.number == number)?;
        Some(self.open.remove(at))
    }

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
        self.questions.last += 1;
        let number = self.questions.last;
        // A little longer than the sensor takes to give up by itself.
        let due = Instant::now() + PATIENCE + Duration::from_millis(50);
        let seen = self.instant(seen);
        let asked = (file, question);
        let question = Question { number, asked, openers, windows, seen, due, heard: None };
        let Some(audit) = self.sensors.audit() else {
            return self.look_at_processes(question, Testimony::default(), Vec::new());
        };
        audit.ask(number);
        self.questions.open.push(question);
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
                if let Some(question) = self.questions.take(question) {
                    self.settle_question(question, complete);
                }
            }
        }
    }

    /// Answers what has waited too long: the sensor or the onlooker hangs.
    pub(super) fn answer_overdue(&mut self) {
        let now = Instant::now();
        let overdue = |open: &Question| open.due <= now;
        while let Some(at) = self.questions.open.iter().position(overdue) {
            let mut question = self.questions.open.remove(at);
            match question.heard.take() {
                Some((testimony, presumed)) => {
                    let answer = question.answered(testimony, presumed, Vec::new());
                    self.feed(answer);
                }
                None => self.settle_question(question, false),
            }
        }
    }

    fn settle_question(&mut self, question: Question, complete: bool) {
        let (file, _) = question.asked;
        let began = self.instant(Duration::ZERO);
        let (mut testimony, older) =
            self.sensors.testify(file, &question.windows, began, question.seen);
        testimony.complete &= complete;
        if let Some(answer) = self.look_at_processes(question, testimony, older) {
            self.feed(answer);
        }
    }

    /// The answer at once, where nobody has to be looked at for it.
    fn look_at_processes(
        &mut self,
        mut question: Question,
        testimony: Testimony,
        older: Vec<(Arc<Actor>, u64)>,
    ) -> Option<Input> {
        let inodes = question.windows.iter().filter_map(|w| Some(w.inode?.ino));
        let inodes: BTreeSet<u64> = inodes.collect();
        let inquiry = Inquiry {
            number: question.number,
            openers: question.openers.clone(),
            inodes: inodes.into_iter().collect(),
            older,
        };
        let presumed = inquiry.older.iter().map(|(actor, _)| Arc::clone(actor)).collect();
        match self.questions.onlooker.ask(inquiry) {
            Some(Found { holding, writing, .. }) => {
                Some(question.answered(testimony, holding, writing))
            }
            None => {
                question.due = Instant::now() + onlooker::PATIENCE;
                question.heard = Some((testimony, presumed));
                self.questions.open.push(question);
                None
            }
        }
    }

    /// The onlooker has answered.
    pub(super) fn found(&mut self, found: Found) {
        self.questions.onlooker.answered(found.number);
        // It may have been answered without.
        let Some(mut question) = self.questions.take(found.number) else { return };
        let (testimony, _) = question.heard.take().unwrap_or_default();
        let answer = question.answered(testimony, found.holding, found.writing);
        self.feed(answer);
    }
}

impl Question {
    fn answered(
        self,
        mut testimony: Testimony,
        holding: Vec<Arc<Actor>>,
        writing: Vec<Arc<Actor>>,
    ) -> Input {
        let (file, question) = self.asked;
        testimony.unrecorded.extend(holding);
        testimony.writing = writing;
        Input::Openers { file, question, openers: self.openers, testimony }
    }
}
