//! Asking who did it, and passing the answer on.
//!
//! The answer waits until every record of what was done before has come in, until what is
//! remembered of it was put together, and until somebody has looked at the processes where that
//! is needed. The guard waits for none of them: the question stands here meanwhile, and after a
//! while it is answered with what there is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Guard;
use crate::attribute::Testimony;
use crate::daemon::workers::onlooker::{self, Found, Inquiry, Onlooker};
use crate::daemon::workers::testify::{Case, Remembered, Witness};
use crate::engine::{Input, Opener};
use crate::sense::audit::{PATIENCE, Told};
use crate::sense::{By, FileId, Hint, Observation, Sensor};

/// Putting together what is remembered takes a fraction of a millisecond, unless many want the
/// processor. A witness that answered nothing for this long hangs; one that has much to do…
const REMEMBERING: Duration = Duration::from_secs(5);
/// …is waited for, but not for longer than this.
const LONGEST_REMEMBERING: Duration = Duration::from_secs(60);

/// Questions under way.
#[derive(Debug)]
pub(in crate::daemon) struct Questions {
    open: Vec<Question>,
    last: u64,
    witness: Witness,
    /// When it answered last.
    heard: Instant,
    onlooker: Onlooker,
}

#[derive(Debug)]
struct Question {
    number: u64,
    /// As the engine knows it.
    asked: (FileId, u32),
    inodes: Vec<u64>,
    waits_for: Awaited,
    due: Instant,
}

impl Question {
    /// When it has to be answered with what there is; the witness answered another at `heard`.
    fn overdue_at(&self, heard: Instant) -> Instant {
        match self.waits_for {
            Awaited::Witness { .. } => {
                let longest = self.due + (LONGEST_REMEMBERING - REMEMBERING);
                self.due.max(heard + REMEMBERING).min(longest)
            }
            Awaited::Records(_) | Awaited::Onlooker(..) => self.due,
        }
    }
}

/// What a question waits for.
#[derive(Debug)]
enum Awaited {
    /// Audit, to say that all has come in.
    Records(Case),
    /// The witness. Whether nothing is missing.
    Witness { complete: bool },
    /// The onlooker. What is known without.
    Onlooker(Remembered, Found),
}

impl Questions {
    pub(in crate::daemon) fn new(witness: Witness, onlooker: Onlooker) -> Self {
        Self { open: Vec::new(), last: 0, witness, heard: Instant::now(), onlooker }
    }

    /// A number for the next.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn take(&mut self, number: u64) -> Option<Question> {
        let at = self.open.iter().position(|open| open.number == number)?;
        Some(self.open.remove(at))
    }

    /// When the first of them has to be answered, whatever audit says.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|question| question.overdue_at(self.heard)).min()
    }

    /// All records have come in, or will not.
    fn remember(&mut self, mut question: Question, case: Case, complete: bool) {
        question.waits_for = Awaited::Witness { complete };
        question.due = Instant::now() + REMEMBERING;
        self.open.push(question);
        self.witness.ask(case);
    }
}

impl Guard {
    /// Asks about changes of a file.
    pub(super) fn question(&mut self, case: Case, question: u32) {
        let inodes: BTreeSet<u64> =
            case.windows.iter().filter_map(|window| Some(window.inode?.ino)).collect();
        let number = case.number;
        let mut question = Question {
            number,
            asked: (case.file, question),
            inodes: inodes.into_iter().collect(),
            waits_for: Awaited::Witness { complete: false },
            // A little longer than the sensor takes to give up by itself.
            due: Instant::now() + PATIENCE + Duration::from_millis(50),
        };
        match self.sensors.audit() {
            Some(audit) => {
                audit.ask(number);
                question.waits_for = Awaited::Records(case);
                self.questions.open.push(question);
            }
            None => self.questions.remember(question, case, false),
        }
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
                self.caught_up(question, complete);
            }
        }
    }

    fn caught_up(&mut self, number: u64, complete: bool) {
        let waits = |open: &Question| {
            open.number == number && matches!(open.waits_for, Awaited::Records(_))
        };
        let Some(at) = self.questions.open.iter().position(waits) else { return };
        let mut question = self.questions.open.remove(at);
        let next = Awaited::Witness { complete };
        if let Awaited::Records(case) = std::mem::replace(&mut question.waits_for, next) {
            self.questions.remember(question, case, complete);
        }
    }

    /// Answers what has waited too long: somebody hangs.
    pub(super) fn answer_overdue(&mut self) {
        let now = Instant::now();
        let heard = self.questions.heard;
        let overdue = |open: &Question| open.overdue_at(heard) <= now;
        while let Some(at) = self.questions.open.iter().position(overdue) {
            let question = self.questions.open.remove(at);
            match question.waits_for {
                Awaited::Records(_) => {
                    let number = question.number;
                    self.questions.open.push(question);
                    self.caught_up(number, false);
                }
                Awaited::Witness { .. } => {
                    self.settle_question(question.asked, Vec::new(), Testimony::default());
                }
                Awaited::Onlooker(remembered, unseen) => {
                    self.tell(question.asked, remembered, unseen);
                }
            }
        }
    }

    /// The witness has answered.
    pub(super) fn remembered(&mut self, mut remembered: Remembered) {
        self.questions.heard = Instant::now();
        let Some(mut question) = self.questions.take(remembered.number) else { return };
        if let Awaited::Witness { complete } = question.waits_for {
            remembered.testimony.complete &= complete;
        }
        let older = std::mem::take(&mut remembered.older);
        let openers = Opener::distinct(&remembered.openers);
        let inodes = std::mem::take(&mut question.inodes);
        let inquiry = Inquiry { number: question.number, openers, inodes, older };
        let unseen = inquiry.unseen();
        match self.questions.onlooker.ask(inquiry) {
            Some(found) => self.tell(question.asked, remembered, found),
            None => {
                question.due = Instant::now() + onlooker::PATIENCE;
                question.waits_for = Awaited::Onlooker(remembered, unseen);
                self.questions.open.push(question);
            }
        }
    }

    /// The onlooker has answered.
    pub(super) fn found(&mut self, found: Found) {
        self.questions.onlooker.answered(found.number);
        // It may have been answered without.
        let Some(question) = self.questions.take(found.number) else { return };
        if let Awaited::Onlooker(remembered, _) = question.waits_for {
            self.tell(question.asked, remembered, found);
        }
    }

    fn tell(&mut self, asked: (FileId, u32), remembered: Remembered, found: Found) {
        let Remembered { openers, mut testimony, .. } = remembered;
        testimony.unrecorded.extend(found.holding);
        testimony.writing = found.writing;
        self.settle_question(asked, openers, testimony);
    }

    fn settle_question(
        &mut self,
        (file, question): (FileId, u32),
        openers: Vec<Opener>,
        testimony: Testimony,
    ) {
        self.feed(Input::Openers { file, question, openers, testimony });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_that_has_much_to_do_is_waited_for_and_one_that_hangs_is_not() {
        let asked = Instant::now();
        let at = |seconds| asked + Duration::from_secs(seconds);
        let waits_for = Awaited::Witness { complete: true };
        let question =
            Question { number: 1, asked: (FileId(1), 1), inodes: vec![], waits_for, due: at(5) };
        assert_eq!(question.overdue_at(asked), at(5));
        assert_eq!(question.overdue_at(at(4)), at(9), "it answers others");
        assert_eq!(question.overdue_at(at(300)), at(60));
    }
}
