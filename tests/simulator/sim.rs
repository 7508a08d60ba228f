//! One run: the engine, a shell that performs its actions, and the chance that decides what
//! happens next.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use steadfast::attribute::{Actor, InodeKey, Source, Testimony};
use steadfast::engine::{
    Action, Cure, Engine, Healed, Input, Inspection, Moment, Opener, Past, Protected, Sight, Unread,
};
use steadfast::judge::{Facts, FileTime, Policy, Stat};
use steadfast::sense::{By, FileId, Observation, Sensor};

use crate::heal;
use crate::promises::{Broken, Ledger, file, wall};
use crate::stage::Stage;
use crate::story::{brief, brief_action};
use crate::world::{Key, Pending};

/// The events of a change come in within this time, in microseconds, or never.
pub const LATEST: u64 = 45_000;
/// How often a reading begins anew because the file changed under it.
const READINGS: u32 = 4;

/// Something that takes its time.
pub enum Flying {
    Reading { file: FileId, epoch: u32, tries: u32, at: Reading },
    Heal { file: FileId, cure: Cure, incident: String },
    Healed { file: FileId, healed: Healed },
}

/// What a heal took out, to be read at this time: long after where it is large.
pub struct Evidence {
    file: FileId,
    incident: String,
    taken: Key,
    at: u64,
}

pub enum Reading {
    Due,
    Begun(Key, Stat),
    Read(Stat, Facts),
    Done(Result<Inspection, Unread>),
}

/// What the shell keeps of a file.
pub struct Ward {
    pub facts: Facts,
    /// Kept over a restart.
    pub seal: Option<Stat>,
}

pub struct Sim {
    pub stage: Stage,
    pub engine: Engine,
    pub wards: Vec<Ward>,
    pub ledger: Ledger,
    pub todo: VecDeque<Action>,
    pub flying: Vec<Flying>,
    /// Read one after the other.
    evidence: VecDeque<Evidence>,
    /// Heals that the engine has asked for and not heard of.
    healing: HashSet<FileId>,
    noticed: HashSet<FileId>,
    base: Instant,
    actors: Vec<Arc<Actor>>,
}

/// Pid and start time of a process. Processes 0 and 1 have the same pid.
pub fn identity(process: usize) -> (u32, u64) {
    (1000 + process.max(1) as u32, process as u64)
}

impl Sim {
    pub fn new(stage: Stage, base: Instant) -> Result<Self, Broken> {
        let wards = (0..stage.plan.places)
            .map(|place| {
                let key = stage.world.places[place].name.unwrap_or_default();
                let stat = stage.world.stat(key);
                let known = !stage.plan.is_harmless() || place > 0;
                let seal = known.then_some(stat);
                Ward { facts: stage.world.facts(key, true), seal }
            })
            .collect();
        let actors = (0..stage.plan.processes)
            .map(|process| {
                let (pid, start_time) = identity(process);
                Arc::new(Actor { pid, start_time, ..Actor::default() })
            })
            .collect();
        let mut sim = Self {
            stage,
            engine: Engine::default(),
            wards,
            ledger: Ledger::default(),
            todo: VecDeque::new(),
            flying: Vec::new(),
            evidence: VecDeque::new(),
            healing: HashSet::new(),
            noticed: HashSet::new(),
            base,
            actors,
        };
        sim.start()?;
        Ok(sim)
    }

    fn start(&mut self) -> Result<(), Broken> {
        for place in 0..self.wards.len() {
            let ward = &self.wards[place];
            let policy = Policy {
                immutable: self.stage.plan.locked,
                restore: self.stage.plan.restore,
                ..Policy::default()
            };
            let protected = Protected {
                path: self.stage.world.places[place].path.as_path().into(),
                facts: ward.facts.clone().into(),
                policy,
                seal: ward.seal,
                whole_at: wall(self.stage.world.now),
                held: false,
            };
            let (protected, past) = (Box::new(protected), Past::Unknown);
            self.feed(Input::Watch { file: file(place), protected, past })?;
        }
        Ok(())
    }

    /// The daemon dies and is started again. Nothing that was under way is heard of again.
    pub fn restart(&mut self) -> Result<(), Broken> {
        self.stage.tell(|| "the daemon is killed and started again".to_owned());
        self.stage.world.now += 20_000;
        self.engine = Engine::default();
        self.todo.clear();
        self.flying.clear();
        self.evidence.clear();
        self.stage.world.events.clear();
        self.ledger.restarted();
        self.healing.clear();
        self.noticed.clear();
        self.start()
    }

    pub fn feed(&mut self, input: Input) -> Result<(), Broken> {
        self.stage.tell(|| format!("→ {}", brief(&input)));
        self.ledger.inputs += 1;
        if let Input::Looked { file, sight: Sight::Present(stat) } = &input
            && !self.is_read(*file)
        {
            self.ledger.saw(&self.stage.world, file.0 as usize, stat);
        }
        let now = Moment {
            mono: Duration::from_micros(self.stage.world.now),
            wall: wall(self.stage.world.now),
        };
        let missed = self.notices(&input);
        let mut out = Vec::new();
        self.engine.handle(now, input, &mut out);
        if let Some(file) = missed
            && !out.iter().any(|a| matches!(a, Action::Look { file: of } if *of == file))
        {
            return Err(format!("what was noticed in the middle of a heal of f{} is lost", file.0));
        }
        for action in out {
            self.stage.tell(|| format!("    ← {}", brief_action(&action)));
            self.ledger.note(&self.stage.world, &action, self.stage.plan.restore)?;
            if let Action::Heal { file, .. } = &action {
                self.healing.insert(*file);
            }
            self.todo.push_back(action);
        }
        Ok(())
    }

    /// Keeps in mind what is noticed in the middle of a heal; the file of which there was
    /// something at the end of one.
    fn notices(&mut self, input: &Input) -> Option<FileId> {
        let noticed = match input {
            Input::Observed(seen) if !seen.retired => seen.file,
            Input::Looked { file, .. } => *file,
            Input::Healed { file, healed } => {
                self.healing.remove(file);
                return (self.noticed.remove(file) && healed.result.is_ok()).then_some(*file);
            }
            _ => return None,
        };
        if self.healing.contains(&noticed) {
            self.noticed.insert(noticed);
        }
        None
    }

    /// Whether a reading is under way or about to be: until it is done, nobody is cleared.
    fn is_read(&self, of: FileId) -> bool {
        let reading = |f: &Flying| matches!(f, Flying::Reading { file, .. } if *file == of);
        let due = |a: &Action| matches!(a, Action::Verify { file, .. } if *file == of);
        self.flying.iter().any(reading) || self.todo.iter().any(due)
    }

    /// Performs the oldest action that waits; whether there was one.
    pub fn perform(&mut self) -> Result<bool, Broken> {
        let Some(action) = self.todo.pop_front() else { return Ok(false) };
        match action {
            Action::Look { file } => self.look(file)?,
            Action::Inspect { file } => {
                let finding = self.inspect(file.0 as usize);
                self.feed(Input::Inspected { file, finding })?;
            }
            Action::Verify { file, epoch } => {
                self.flying.push(Flying::Reading { file, epoch, tries: 0, at: Reading::Due });
            }
            Action::Heal { file, cure, incident, .. } => {
                if self.flying.iter().any(|f| changes(f, file)) {
                    return Err(format!("two heals of f{} at once", file.0));
                }
                self.flying.push(Flying::Heal { file, cure, incident });
            }
            Action::Seal { file, stat } => {
                self.wards[file.0 as usize].seal = Some(*stat);
            }
            Action::Openers { file, question, since, .. } => {
                let since = since.as_micros() as u64;
                let acts = &self.stage.world.acts;
                let openers = (0..self.actors.len())
                    .filter(|p| acts.iter().any(|a| a.process == *p && a.at >= since))
                    .map(|p| Opener {
                        actor: Arc::clone(&self.actors[p]),
                        at: Duration::ZERO,
                        found: FileTime::default(),
                    })
                    .collect();
                let testimony = Testimony::default();
                self.feed(Input::Openers { file, question, openers, testimony })?;
            }
            Action::Watch { .. } => {}
            Action::CheckStranger { .. } | Action::Evict { .. } => {
                return Err("a stranger in a file".to_owned());
            }
            Action::Record(_) | Action::Alert { .. } => {}
        }
        Ok(true)
    }

    fn inspect(&mut self, place: usize) -> Result<Inspection, Unread> {
        if self.stage.fails() {
            return Err(refused("Too many open files (os error 24)"));
        }
        for _ in 0..READINGS {
            let key = self.stage.world.reach(place).ok_or(Unread::Gone)?;
            let stat = self.stage.world.stat(key);
            self.stage.between();
            let facts = self.stage.world.facts(key, false);
            self.stage.between();
            if self.stage.world.sight(place) == Sight::Present(stat) {
                let writers = self.stage.world.has_writer(key);
                return Ok(Inspection { facts, stat, writers });
            }
        }
        Err(refused("it changes while it is looked at"))
    }

    /// Moves something that is under way one step on.
    pub fn fly(&mut self, which: usize) -> Result<(), Broken> {
        match self.flying.swap_remove(which) {
            Flying::Heal { file, cure, incident } => {
                let place = file.0 as usize;
                let inode = self.wards[place].seal.map(|seal| seal.ino);
                match heal::perform(&mut self.stage, place, cure, inode) {
                    None => return self.restart(),
                    Some(healed) => {
                        let taken = self.stage.world.places[place].evidence.last().copied();
                        if let Some(taken) = taken.filter(|_| healed.evidence) {
                            let latest = self.stage.rng.pick(&[1, 10_000, 1_000_000, 20_000_000]);
                            let at = self.stage.world.now + self.stage.rng.below(latest) as u64;
                            self.evidence.push_back(Evidence { file, incident, taken, at });
                        }
                        self.flying.push(Flying::Healed { file, healed });
                    }
                }
            }
            Flying::Healed { file, healed } => self.feed(Input::Healed { file, healed })?,
            Flying::Reading { file, epoch, at: Reading::Done(finding), .. } => {
                self.feed(Input::Verified { file, epoch, finding })?;
            }
            Flying::Reading { file, epoch, tries, at } => {
                let at = self.read_on(file.0 as usize, tries, at);
                let tries = tries + u32::from(matches!(at, Reading::Due));
                self.flying.push(Flying::Reading { file, epoch, tries, at });
            }
        }
        Ok(())
    }

    fn read_on(&mut self, place: usize, tries: u32, at: Reading) -> Reading {
        let world = &self.stage.world;
        let Some(key) = world.reach(place) else {
            return Reading::Done(Err(Unread::Gone));
        };
        match at {
            Reading::Begun(key, before) => Reading::Read(before, world.facts(key, true)),
            Reading::Read(before, facts) if world.sight(place) == Sight::Present(before) => {
                let writers = world.has_writer(key);
                Reading::Done(Ok(Inspection { facts, stat: before, writers }))
            }
            Reading::Read(..) if tries < READINGS => Reading::Due,
            Reading::Read(..) => Reading::Done(Err(refused("it changes while it is read"))),
            _ if self.stage.fails() => Reading::Done(Err(refused("I/O error (os error 5)"))),
            _ => Reading::Begun(key, self.stage.world.stat(key)),
        }
    }

    /// Reads the oldest evidence, if it is time and its heal was heard of; whether it was.
    pub fn read_evidence(&mut self) -> Result<bool, Broken> {
        let heard = |of: FileId| {
            !self.flying.iter().any(|f| matches!(f, Flying::Healed { file, .. } if *file == of))
        };
        let due = |e: &Evidence| e.at <= self.stage.world.now && heard(e.file);
        if !self.evidence.front().is_some_and(due) {
            return Ok(false);
        }
        let Some(Evidence { file, incident, taken, .. }) = self.evidence.pop_front() else {
            return Ok(false);
        };
        let readable = !self.stage.fails();
        let facts = readable.then(|| Box::new(self.stage.world.facts(taken, true)));
        if let Some(facts) = &facts {
            self.ledger.evidence(&self.wards[file.0 as usize].facts, &incident, facts);
        }
        let inode = self.stage.world.stat(taken);
        let inode = Some(InodeKey { dev: inode.dev, ino: inode.ino });
        self.feed(Input::Evidence { file, incident, facts, inode })?;
        Ok(true)
    }

    /// Reads the oldest event; whether there was one.
    pub fn deliver(&mut self) -> Result<bool, Broken> {
        let Some(event) = self.stage.world.events.pop_front() else { return Ok(false) };
        let Pending { place, inode, hint, process, .. } = event;
        let retired = inode.is_some_and(|key| self.stage.world.inodes[key].retired);
        let (sensor, by) = match process {
            None => (Sensor::Mounts, By::Nobody),
            Some(p) => match self.stage.rng.below(10) {
                0 => (Sensor::Fanotify, By::Gone { pid: identity(p).0 }),
                1 => (Sensor::Inotify, By::Nobody),
                _ => {
                    let actor = Arc::clone(&self.actors[p]);
                    (Sensor::Fanotify, By::Process { actor, source: Source::OpenPermission })
                }
            },
        };
        let seen = Observation { at: self.base, sensor, file: file(place), hint, by, retired };
        self.feed(Input::Observed(seen))?;
        Ok(true)
    }

    /// Looks at everything without an event.
    pub fn sweep(&mut self) -> Result<(), Broken> {
        for place in 0..self.wards.len() {
            self.look(file(place))?;
        }
        Ok(())
    }

    /// Looks at a file, and notices when its filesystem came back.
    fn look(&mut self, file: FileId) -> Result<(), Broken> {
        let place = file.0 as usize;
        let sight = self.stage.world.sight(place);
        let it = &mut self.stage.world.places[place];
        if matches!(sight, Sight::Present(_)) && std::mem::take(&mut it.anew) {
            self.wards[place].seal = None;
            self.feed(Input::Anew { file })?;
        }
        self.feed(Input::Looked { file, sight })
    }

    /// Lets time pass. Events are not read later than they are in life, and deadlines are met.
    pub fn pass(&mut self, until: u64) -> Result<(), Broken> {
        loop {
            let event = self.stage.world.events.front().map(|event| event.at + LATEST);
            let timer = self.engine.next_deadline().map(|at| at.as_micros() as u64);
            match (event, timer) {
                (Some(at), _) if at <= until && timer.is_none_or(|t| at <= t) => {
                    self.stage.world.now = self.stage.world.now.max(at);
                    self.deliver()?;
                }
                (_, Some(at)) if at <= until => {
                    self.stage.world.now = self.stage.world.now.max(at);
                    self.feed(Input::Tick)?;
                }
                _ => break,
            }
            while self.perform()? {}
        }
        self.stage.world.now = self.stage.world.now.max(until);
        while self.read_evidence()? {
            while self.perform()? {}
        }
        Ok(())
    }
}

fn changes(flying: &Flying, of: FileId) -> bool {
    match flying {
        Flying::Heal { file, .. } | Flying::Healed { file, .. } => *file == of,
        Flying::Reading { .. } => false,
    }
}

fn refused(why: &str) -> Unread {
    Unread::Refused(why.to_owned())
}
