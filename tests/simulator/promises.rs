//! What the design promises, as properties of what the engine did.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};
use steadfast::attribute::Confidence;
use steadfast::engine::{Action, Cure};
use steadfast::judge::{Facts, Stat};
use steadfast::record::{Event, Kind};
use steadfast::sense::{FileId, Hint};

use crate::sim::LATEST;
use crate::world::{MOUNT_POINT, World};

/// A promise that was broken, in words.
pub type Broken = String;

pub struct Line {
    pub event: Event,
    pub place: usize,
}

/// What the engine did, and what is to be said of it in the end.
#[derive(Default)]
pub struct Ledger {
    pub journal: Vec<Line>,
    pub inputs: usize,
    pub actions: usize,
    pub heals: usize,
    /// Incidents of the living engine in which something was healed, by place.
    pub healed: HashSet<(usize, String)>,
    /// Incidents of which evidence was read that had another content.
    changed: HashSet<String>,
    /// When the state that a place was last known to be whole in was seen.
    whole: HashMap<usize, Vec<u64>>,
    seals: HashMap<usize, Stat>,
}

pub fn wall(now: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_000 + now)
}

impl Ledger {
    /// The engine has seen `stat`. Where that is the very state that it sealed, nobody has
    /// done anything since: what was done before cannot be what is done after.
    pub fn saw(&mut self, world: &World, place: usize, stat: &Stat) {
        if self.seals.get(&place).is_some_and(|s| (s.ino, s.ctime) == (stat.ino, stat.ctime)) {
            self.whole.entry(place).or_default().push(world.now);
        }
    }

    /// Holds one action against the promises.
    pub fn note(&mut self, world: &World, action: &Action, restore: bool) -> Result<(), Broken> {
        self.actions += 1;
        match action {
            Action::Seal { file, stat } => {
                let place = file.0 as usize;
                self.seals.insert(place, **stat);
                let belied = world.inodes.iter().enumerate().find(|(key, inode)| {
                    inode.ino == stat.ino && inode.ctime == stat.ctime.sec && !world.is_good(*key)
                });
                if let Some((_, inode)) = belied {
                    return Err(format!("f{place} is sealed as whole and is not: {inode:?}"));
                }
                self.saw(world, place, stat);
            }
            Action::Heal { file, cure, incident, .. } => {
                self.heals += 1;
                if !restore && *cure != Cure::Relock {
                    return Err(format!("{cure:?} although nothing is to be restored"));
                }
                self.healed.insert((file.0 as usize, incident.clone()));
            }
            Action::Record(event) => return self.record(world, event),
            _ => {}
        }
        Ok(())
    }

    fn record(&mut self, world: &World, event: &Event) -> Result<(), Broken> {
        let path = event.path.as_ref().map(|path| path.to_path());
        if path.as_deref() == Some(Path::new(MOUNT_POINT)) {
            return Ok(());
        }
        let place = world.places.iter().position(|p| Some(&p.path) == path.as_ref());
        let Some(place) = place else { return Err("a record without a path".to_owned()) };
        let now = wall(world.now);
        if event.time > now || now.duration_since(event.time).as_secs() > 60 {
            return Err(format!("{:?} is dated {}, and it is {now}", event.kind, event.time));
        }
        let line = Line { event: event.clone(), place };
        if !matches!(event.kind, Kind::SensorDegraded | Kind::SensorRecovered) {
            self.check_order(&line)?;
        }
        if event.attribution.confidence == Confidence::Exact {
            self.check_culprit(world, &line)?;
        }
        self.journal.push(line);
        Ok(())
    }

    fn check_order(&self, line: &Line) -> Result<(), Broken> {
        let kind = line.event.kind;
        let Some(id) = &line.event.incident else {
            return Err(format!("{kind:?} belongs to no incident"));
        };
        let known = self.journal.iter().find(|l| l.event.incident.as_ref() == Some(id));
        match known {
            Some(first) if first.place != line.place => {
                Err(format!("incident {id} is about two files"))
            }
            None if !kind.is_tampering() && kind != Kind::RestoreFailed => {
                Err(format!("incident {id} begins with {kind:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A write moves the time too; and what another inode under the name is like came with it.
    fn came_along(&self, hint: &Hint, line: &Line) -> bool {
        let event = &line.event;
        let replaced =
            |l: &Line| l.event.kind == Kind::Replaced && l.event.incident == event.incident;
        match event.kind {
            Kind::MetadataChanged if *hint == Hint::Written => {
                event.before.keys().all(|fact| fact == "mtime")
            }
            Kind::ContentChanged | Kind::MetadataChanged => {
                *hint == Hint::Arrived && self.journal.iter().any(replaced)
            }
            _ => false,
        }
    }

    /// Whoever is named did the very thing, and since the file was last known to be whole. An
    /// event that is read late cannot be told from one of an act that came later; nor can a
    /// write to an inode before the heal took it out from one after.
    fn check_culprit(&self, world: &World, line: &Line) -> Result<(), Broken> {
        let (kind, place) = (line.event.kind, line.place);
        let Some(actor) = &line.event.actor else {
            return Err(format!("{kind:?} is exactly nobody's doing"));
        };
        let found = line.event.time.duration_since(wall(0)).as_micros() as u64;
        let since = self.whole.get(&place).and_then(|all| all.iter().rfind(|at| **at < found));
        let since = since.copied().unwrap_or(0);
        // Such a line is dated when the inode was taken out: what it tells was done to it before.
        let taken_out = line.event.note.as_ref().is_some_and(|note| note.contains("read only now"));
        let did = world.acts.iter().any(|act| {
            act.place == place
                && act.at + LATEST >= since
                && (!act.retired || act.at >= found || taken_out)
                && crate::sim::identity(act.process) == (actor.pid, actor.start_time)
                && (makes(&act.hint, kind) || self.came_along(&act.hint, line))
        });
        match did {
            true => Ok(()),
            false => Err(format!(
                "{kind:?} of f{place} is laid on process {}, who did no such thing since {since} µs",
                actor.pid
            )),
        }
    }

    /// Every incident in which something was healed has its tampering on record and, after
    /// that, how it went.
    pub fn check_incidents(&self, restore: bool) -> Result<(), Broken> {
        for (place, id) in &self.healed {
            let kinds: Vec<Kind> = self
                .journal
                .iter()
                .filter(|line| line.event.incident.as_ref() == Some(id))
                .map(|line| line.event.kind)
                .collect();
            let Some(begun) = kinds.iter().position(|k| k.is_tampering()) else {
                return Err(format!(
                    "f{place} was healed in {id}, and nothing says why: {kinds:?}"
                ));
            };
            let over =
                |k: &Kind| matches!(k, Kind::Restored | Kind::Relocked | Kind::RestoreFailed);
            if restore && !kinds[begun..].iter().any(over) && !kinds.contains(&Kind::RestoreFailed)
            {
                return Err(format!(
                    "f{place} was healed in {id}, and nothing says how: {kinds:?}"
                ));
            }
        }
        self.check_digests()
    }

    /// Evidence was read; its content may be another one than should be.
    pub fn evidence(&mut self, good: &Facts, incident: &str, facts: &Facts) {
        if facts.kind == good.kind && facts.sha256 != good.sha256 {
            self.changed.insert(incident.to_owned());
        }
    }

    /// What evidence showed of the content is told with both digests.
    fn check_digests(&self) -> Result<(), Broken> {
        let told = |id: &String| {
            self.journal.iter().any(|line| {
                let event = &line.event;
                let known =
                    |facts: &Map<String, Value>| facts.get("sha256").is_some_and(Value::is_string);
                event.kind == Kind::ContentChanged
                    && event.incident.as_ref() == Some(id)
                    && known(&event.before)
                    && known(&event.after)
            })
        };
        match self.changed.iter().find(|id| !told(id)) {
            Some(id) => Err(format!("the evidence of {id} was read, and no line tells its digest")),
            None => Ok(()),
        }
    }

    pub fn tells_of(&self, place: usize) -> bool {
        self.journal.iter().any(|l| l.place == place && l.event.kind.is_tampering())
    }

    /// A restart loses the incidents that were open.
    pub fn restarted(&mut self) {
        self.healed.clear();
        self.changed.clear();
    }
}

fn makes(hint: &Hint, kind: Kind) -> bool {
    match kind {
        Kind::ContentChanged => *hint == Hint::Written,
        Kind::MetadataChanged => *hint == Hint::Metadata,
        Kind::Deleted => matches!(hint, Hint::Removed | Hint::Moved),
        Kind::Moved => *hint == Hint::Moved,
        Kind::Replaced => matches!(hint, Hint::Arrived | Hint::Moved | Hint::Removed),
        _ => false,
    }
}

pub fn file(place: usize) -> FileId {
    FileId(u32::try_from(place).unwrap_or(u32::MAX))
}
