//! Who started whom, as the kernel told it, for when they are gone.
//!
//! `/proc` has the parents of a process that is there. One whose parents have ended has another
//! there, mostly pid 1. This remembers the parents by birth, with what they ran, as long as there
//! is room: of those that ended the oldest goes first who has no child left here.
//!
//! **Never a wrong parent.** A pid is used again. That of a parent means whoever was given it last
//! before the child was made: every process is told of before it runs, in order, and where one
//! telling was lost all is forgotten. What `/proc` has under a pid is believed by its start: before
//! the child was made, or not after the process itself was told of. That somebody ended is told too
//! late to prove anything, and only makes room. What is in doubt is cut off.
//!
//! One mutex, held for moments and never over I/O. Whoever asks reads what the kernel has told up
//! to then by himself, and waits for nobody. Nothing here is for the permission thread: to read
//! what a process runs can take as long as that one likes.
//!
//! Limits: [`LIVES`] processes and [`ROOM`] for what they run. What somebody ran who was gone
//! before anybody could look is not known.

mod table;

use std::sync::{Mutex, MutexGuard};

use super::procfs::Process;
use super::{Actor, Ancestor, Doer, fastest_round};
use crate::sys::clock;
use crate::sys::connector::{Connector, Heard};
use table::{Above, Table};

/// Messages that are read before anybody else has a turn.
const AT_ONCE: u32 = 512;
/// So many times does one who asks go on reading: for some milliseconds.
const PATIENCE: usize = 16;
/// Processes above one that are looked at for it.
const LOOKS: usize = 32;

/// How it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Everything was read.
    UpToDate,
    /// There is more.
    Behind,
    /// Nobody tells.
    Deaf,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Lineage {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    connector: Option<Connector>,
    table: Table,
}

impl Lineage {
    /// From now on this one tells.
    pub fn listen(&self, connector: Connector) {
        let mut line = self.line();
        *line = Line { connector: Some(connector), ..Line::default() };
        line.table.trust(fastest_round());
    }

    /// Nobody tells any more, and nothing is known.
    pub fn stop(&self) {
        *self.line() = Line::default();
    }

    /// Reads what was told.
    pub fn catch_up(&self) -> Pace {
        self.line().catch_up()
    }

    /// Looks at those who began to run something, or were heard of first, and not looked at yet.
    pub fn look(&self) {
        loop {
            let Some(next) = self.line().table.unread() else { return };
            self.look_at(next);
        }
    }

    fn look_at(&self, (id, pid): (u64, u32)) {
        let now = clock::monotonic();
        let portrait = Process::open(pid).and_then(|process| process.portrait());
        if let Some(portrait) = portrait {
            self.line().table.note(id, portrait, now);
        }
    }

    /// Puts the parents by birth of a process that was seen alive in place of those it had then,
    /// as far as they are known by now.
    pub fn complete(&self, actor: &mut Actor) {
        if actor.start_time == 0 {
            return;
        }
        let found = |table: &Table| table.born_at(actor.pid, actor.start_time);
        // No looks: who waits for the journal is not to wait for a process.
        if let Some(by_birth) = self.above(found, 0) {
            actor.ancestry = join(by_birth, std::mem::take(&mut actor.ancestry));
        }
    }

    /// The same for the process of a record, `read` being what `/proc` has.
    pub(super) fn of_call(&self, doer: &Doer, read: Vec<Ancestor>) -> Vec<Ancestor> {
        let ticks = [doer.began, doer.began_late()].map(clock::ticks_of_wall);
        let [Some(early), Some(late)] = ticks else { return read };
        let mut parent = None;
        let found = |table: &Table| {
            let id = table.at(doer.pid, early, late)?;
            parent = table.parent(id);
            Some(id)
        };
        let by_birth = self.above(found, LOOKS);
        let (Some(by_birth), Some((pid, born))) = (by_birth, parent) else { return read };
        // The kernel gives somebody another parent only when the first has ended.
        let lives = || {
            let start = Process::open(pid).and_then(|process| process.start_time());
            start.is_some_and(|start| start <= born)
        };
        let doubtful = pid != doer.ppid && by_birth.first().is_some_and(|one| one.lives) && lives();
        if doubtful { read } else { join(by_birth, read) }
    }

    /// Whether the process of a record is the one that started at this tick: nobody else was given
    /// its pid before the call.
    pub(super) fn is_of_call(&self, doer: &Doer, start_time: u64) -> bool {
        let ticks = [doer.began, doer.began_late()].map(clock::ticks_of_wall);
        let [Some(early), Some(late)] = ticks else { return false };
        let Some(line) = self.up_to_date() else { return false };
        let then = line.table.at(doer.pid, early, late);
        then.is_some() && then == line.table.born_at(doer.pid, start_time)
    }

    /// Everything that was told up to now is read; `None` where that takes too long, or nobody
    /// tells.
    fn up_to_date(&self) -> Option<MutexGuard<'_, Line>> {
        let mut line = self.line();
        let told = (0..PATIENCE).map(|_| line.catch_up()).find(|pace| *pace != Pace::Behind);
        (told == Some(Pace::UpToDate)).then_some(line)
    }

    /// Those above whoever is found, of whom so many are looked at if they were not yet.
    fn above(&self, find: impl FnOnce(&Table) -> Option<u64>, looks: usize) -> Option<Vec<Above>> {
        let mut line = self.up_to_date()?;
        let id = find(&line.table)?;
        for _ in 0..looks {
            let Some(next) = line.table.unread_above(id) else { break };
            drop(line);
            self.look_at(next);
            line = self.line();
        }
        Some(line.table.above(id))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // No code panics while it holds the lock.
        self.line.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Line {
    fn catch_up(&mut self) -> Pace {
        let asleep = clock::asleep();
        for _ in 0..AT_ONCE {
            let Some(connector) = self.connector.as_mut() else { return Pace::Deaf };
            match connector.receive() {
                Ok(Heard::Event(event)) => self.table.hear(event, asleep),
                Ok(Heard::Lost) => self.table.forget(),
                Ok(Heard::Nothing) => return Pace::UpToDate,
                Err(_) => *self = Self::default(),
            }
        }
        Pace::Behind
    }
}

/// The parents by birth, as they were `read` where those were there still, which is as they were
/// when it mattered; and whoever is above the last of them.
fn join(by_birth: Vec<Above>, mut read: Vec<Ancestor>) -> Vec<Ancestor> {
    let Some(last) = by_birth.last() else { return read };
    let place = |one: &Above| read.iter().position(|other| one.is(other));
    let above = place(last).map(|at| at + 1);
    let told = by_birth.iter().map(|one| {
        let as_read = place(one).and_then(|at| read.get(at));
        as_read.unwrap_or(&one.ancestor).clone()
    });
    let mut all: Vec<Ancestor> = told.collect();
    all.extend(above.map(|at| read.split_off(at)).unwrap_or_default());
    all
}

/// Hears messages, 76 bytes each, that anybody may have made up, and looks at what they are about.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    use super::procfs::{Image, Portrait};
    use crate::sys::connector::Message;
    let mut table = Table::default();
    table.trust(std::time::Duration::from_millis(100));
    for bytes in bytes.chunks(76) {
        let Some(event) = Message::parse(bytes).map(|message| message.event()) else { continue };
        table.hear(event, event.at % 7);
        if let Some((id, pid)) = table.unread() {
            let (start_time, comm) = (event.at / 10_000_000, bytes.to_vec());
            let portrait = Portrait { start_time, ppid: pid / 2, comm, image: Image::default() };
            table.note(id, portrait, event.at);
            if let Some(id) = table.at(pid, start_time, start_time + 1) {
                assert!(table.above(id).len() <= LOOKS, "parents without end");
            }
        }
        table.check();
    }
}
