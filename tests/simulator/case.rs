//! The engine with one file, told what happens step by step.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use steadfast::attribute::{Testimony, Window};
use steadfast::engine::{
    Action, Cure, Engine, Healed, Input, Inspection, Moment, Opener, Past, Protected, Sight, Unread,
};
use steadfast::judge::{Policy, Stat};
use steadfast::record::{Event, Kind};
use steadfast::sense::{By, FileId, Hint, Observation, Sensor};

use crate::promises::wall;
use crate::world::World;

pub const FILE: FileId = FileId(0);

/// The engine, a world with one file, and a clock.
pub struct Case {
    pub engine: Engine,
    pub world: World,
    /// How far the wall clock is off, in seconds.
    pub skew: i64,
}

/// A question who did it.
pub struct Asked {
    pub question: u32,
    pub windows: Vec<Window>,
}

impl Case {
    pub fn new(policy: Policy) -> Self {
        Self::with(policy, false)
    }

    /// One that somebody has open for writing.
    pub fn held() -> Self {
        Self::with(Policy::default(), true)
    }

    fn with(policy: Policy, held: bool) -> Self {
        let mut world = World::new(false);
        world.add_place(true);
        let (seal, good) = (world.stat(0), world.facts(0, true));
        let mut case = Self { engine: Engine::default(), world, skew: 0 };
        let protected = Box::new(Protected {
            path: case.world.places[0].path.as_path().into(),
            facts: good.into(),
            policy,
            seal: Some(seal),
            whole_at: wall(0),
            held,
        });
        case.feed(Input::Watch { file: FILE, protected, past: Past::Unknown });
        case
    }

    pub fn feed(&mut self, input: Input) -> Vec<Action> {
        self.world.now += 10;
        let now = self.now();
        let mut out = Vec::new();
        self.engine.handle(now, input, &mut out);
        out
    }

    pub fn now(&self) -> Moment {
        let skewed = wall(self.world.now) + SignedDuration::from_secs(self.skew);
        Moment { mono: Duration::from_micros(self.world.now), wall: skewed }
    }

    pub fn look(&mut self) -> Vec<Action> {
        let sight = self.world.sight(0);
        self.feed(Input::Looked { file: FILE, sight })
    }

    /// A look that found the file like this.
    pub fn saw(&mut self, stat: Stat) -> Vec<Action> {
        self.feed(Input::Looked { file: FILE, sight: Sight::Present(stat) })
    }

    pub fn event(&mut self, hint: Hint) -> Vec<Action> {
        self.event_by(hint, By::Nobody)
    }

    pub fn event_by(&mut self, hint: Hint, by: By) -> Vec<Action> {
        self.feed(Input::Observed(Observation {
            at: Instant::now(),
            sensor: Sensor::Fanotify,
            file: FILE,
            hint,
            by,
            retired: false,
        }))
    }

    pub fn healed(
        &mut self,
        action: &'static str,
        result: Result<Option<Stat>, &str>,
    ) -> Vec<Action> {
        let result = result.map_err(str::to_owned);
        self.feed(Input::Healed {
            file: FILE,
            healed: Healed { action, result, evidence: false, from: None },
        })
    }

    pub fn inspected(&mut self, writers: bool) -> Vec<Action> {
        let finding = self.read(false, writers);
        self.feed(Input::Inspected { file: FILE, finding })
    }

    /// Its content was read, and no heal came in between.
    pub fn verified(&mut self) -> Vec<Action> {
        let finding = self.read(true, false);
        self.feed(Input::Verified { file: FILE, epoch: 0, finding })
    }

    /// Lets time pass up to the next question who did it, and leaves that open.
    pub fn question(&mut self) -> u32 {
        self.asked().question
    }

    /// The same, with what is asked.
    pub fn asked(&mut self) -> Asked {
        while let Some(at) = self.engine.next_deadline() {
            self.world.now = self.world.now.max(at.as_micros() as u64);
            let asked = self.feed(Input::Tick).into_iter().find_map(|action| match action {
                Action::Openers { question, windows, .. } => Some(Asked { question, windows }),
                _ => None,
            });
            if let Some(asked) = asked {
                return asked;
            }
        }
        panic!("nothing is asked");
    }

    /// What is recorded when the question is answered.
    pub fn answered(&mut self, question: u32) -> Vec<Kind> {
        self.recorded(question).iter().map(|event| event.kind).collect()
    }

    pub fn recorded(&mut self, question: u32) -> Vec<Event> {
        self.recorded_with(question, Testimony::default())
    }

    /// The same, where audit has something to say.
    pub fn recorded_with(&mut self, question: u32, testimony: Testimony) -> Vec<Event> {
        self.recorded_by(question, Vec::new(), testimony)
    }

    /// The same, where some had opened the file.
    pub fn recorded_by(
        &mut self,
        question: u32,
        openers: Vec<Opener>,
        testimony: Testimony,
    ) -> Vec<Event> {
        let out = self.feed(Input::Openers { file: FILE, question, openers, testimony });
        let recorded = out.into_iter().filter_map(|action| match action {
            Action::Record(event) => Some(*event),
            _ => None,
        });
        recorded.collect()
    }

    pub fn read(&self, content: bool, writers: bool) -> Result<Inspection, Unread> {
        Ok(Inspection { facts: self.world.facts(0, content), stat: self.world.stat(0), writers })
    }

    /// Lets the deadlines pass for this long, and answers what is asked on the way.
    pub fn wait(&mut self, seconds: u64) -> Vec<Kind> {
        let mut kinds = Vec::new();
        let end = self.world.now + seconds * 1_000_000;
        while let Some(at) = self.engine.next_deadline().filter(|at| at.as_micros() < end.into()) {
            self.world.now = self.world.now.max(at.as_micros() as u64);
            let mut todo = self.feed(Input::Tick);
            while let Some(action) = todo.pop() {
                match action {
                    Action::Look { .. } => todo.extend(self.look()),
                    Action::Openers { file, question, .. } => {
                        let (openers, testimony) = (Vec::new(), Testimony::default());
                        let answer = Input::Openers { file, question, openers, testimony };
                        todo.extend(self.feed(answer));
                    }
                    Action::Record(event) => kinds.push(event.kind),
                    _ => {}
                }
            }
        }
        kinds
    }
}

pub fn heals(out: &[Action], wanted: Cure) -> bool {
    out.iter().any(|a| matches!(a, Action::Heal { cure, .. } if *cure == wanted))
}

pub fn looks(out: &[Action]) -> bool {
    out.iter().any(|a| matches!(a, Action::Look { .. }))
}

pub fn verifies(out: &[Action]) -> bool {
    out.iter().any(|a| matches!(a, Action::Verify { .. }))
}

pub fn seals(out: &[Action]) -> bool {
    out.iter().any(|a| matches!(a, Action::Seal { .. }))
}
