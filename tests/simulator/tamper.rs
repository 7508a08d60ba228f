//! Processes that tamper, one system call at a time, and the events their calls make.

use std::collections::VecDeque;

use steadfast::judge::FileKind;
use steadfast::sense::Hint;

use crate::rng::Rng;
use crate::world::{Act, GOOD_MODE, GOOD_MTIME, GOOD_SIZE, Held, Key, Parent, Pending, World};

/// One system call, or a few that nothing can come between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Read,
    ClearBit,
    /// Through `file_setattr` or a descriptor opened long ago: no event.
    ClearBitSilently,
    SetBit,
    SetBitSilently,
    OpenForWriting,
    CloseWriter,
    Write {
        same_size: bool,
    },
    WriteHeld,
    /// Through a shared mapping of the descriptor: no event.
    WriteMapped,
    WriteGood,
    TimesBack,
    Touch,
    Chmod(u16),
    SetAttribute,
    RemoveAttribute,
    Unlink,
    RenameOver {
        alike: bool,
    },
    ReplaceByFifo,
    /// Removed and made again, with the inode number of before.
    Recreate {
        alike: bool,
    },
    MoveParent,
    RemoveParent,
    Cover,
    TouchReplica,
}

use Call::*;

/// What a tamperer wants to do, from beginning to end.
const TRICKS: &[&[Call]] = &[
    &[ClearBit],
    &[ClearBitSilently],
    &[ClearBit, SetBit],
    &[ClearBit, Write { same_size: true }],
    &[ClearBit, Write { same_size: false }],
    &[ClearBitSilently, Write { same_size: true }, TimesBack],
    &[ClearBit, Write { same_size: true }, TimesBack, SetBit],
    &[ClearBitSilently, Write { same_size: true }, TimesBack, SetBitSilently],
    &[Write { same_size: true }, TimesBack],
    &[Write { same_size: true }, TimesBack, SetBitSilently],
    &[ClearBit, Write { same_size: false }, SetBit],
    &[ClearBit, OpenForWriting],
    &[ClearBitSilently, OpenForWriting, WriteMapped],
    &[ClearBitSilently, OpenForWriting, WriteMapped, TimesBack, SetBitSilently],
    &[OpenForWriting, WriteMapped, CloseWriter, TimesBack],
    &[OpenForWriting, WriteHeld],
    &[WriteHeld, WriteHeld, CloseWriter],
    &[WriteMapped],
    &[WriteMapped, CloseWriter],
    &[CloseWriter],
    &[ClearBit, Chmod(0o777)],
    &[ClearBit, Chmod(0o777), SetBit],
    &[ClearBitSilently, Chmod(0o777), Chmod(GOOD_MODE), SetBitSilently],
    &[Chmod(0o4755)],
    &[ClearBit, Touch, SetBit],
    &[Touch],
    &[ClearBitSilently, SetAttribute, SetBitSilently],
    &[SetAttribute],
    &[RemoveAttribute],
    &[ClearBit, Unlink],
    &[Unlink],
    &[ClearBit, RenameOver { alike: false }],
    &[ClearBitSilently, RenameOver { alike: true }, SetBitSilently],
    &[RenameOver { alike: true }],
    &[ClearBit, ReplaceByFifo],
    &[ClearBitSilently, Recreate { alike: true }, SetBitSilently],
    &[Recreate { alike: false }],
    &[MoveParent],
    &[ClearBit, RemoveParent],
    &[Cover],
    &[ClearBit, WriteGood, TimesBack, SetBit],
    &[ClearBitSilently, Write { same_size: true }, WriteGood, TimesBack, SetBitSilently],
    &[SetBit],
    &[TouchReplica],
];

/// Every process, with what it is in the middle of.
pub struct Gang {
    pub scripts: Vec<(usize, VecDeque<Call>)>,
}

impl Gang {
    pub fn new(processes: usize) -> Self {
        Self { scripts: vec![(0, VecDeque::new()); processes] }
    }

    /// Which process makes which call on which place next. Processes like to finish what
    /// they began.
    pub fn next(&mut self, rng: &mut Rng, places: usize) -> (usize, usize, Call) {
        let busy: Vec<usize> =
            (0..self.scripts.len()).filter(|p| !self.scripts[*p].1.is_empty()).collect();
        let process = match busy.is_empty() || rng.percent(15) {
            true => rng.below(self.scripts.len()),
            false => rng.pick(&busy),
        };
        let script = &mut self.scripts[process];
        if script.1.is_empty() {
            *script = (rng.below(places), rng.pick(TRICKS).iter().copied().collect());
        }
        let call = script.1.pop_front().unwrap_or(Read);
        (process, script.0, call)
    }
}

impl World {
    /// Makes the call; whether the kernel let it happen.
    pub fn call(&mut self, process: usize, place: usize, call: Call, lost: bool) -> bool {
        let before = self.events.len();
        let done = self.attempt(process, place, call).is_some();
        if lost {
            self.events.truncate(before);
        }
        done
    }

    fn attempt(&mut self, who: usize, place: usize, call: Call) -> Option<()> {
        match call {
            OpenForWriting | CloseWriter | WriteHeld | WriteMapped => {
                return self.with_descriptor(who, place, call);
            }
            Unlink
            | RenameOver { .. }
            | ReplaceByFifo
            | Recreate { .. }
            | MoveParent
            | RemoveParent
            | Cover => return self.change_name(who, place, call),
            TouchReplica => {
                let (key, _) = self.places[place].replica?;
                self.change(key, |inode| inode.content = 9);
                return Some(());
            }
            _ => {}
        }
        let key = self.reach(place)?;
        let inode = &self.inodes[key];
        if inode.kind != FileKind::File {
            return None;
        }
        let free = (!inode.immutable).then_some(());
        match call {
            Read => self.tell(who, place, Some(key), &[Hint::Opened, Hint::Closed]),
            ClearBit | SetBit => {
                self.change(key, |inode| inode.immutable = call == SetBit);
                self.act(who, place, Hint::Metadata);
                self.tell(who, place, Some(key), &[Hint::Opened, Hint::Closed]);
            }
            ClearBitSilently | SetBitSilently => {
                self.change(key, |inode| inode.immutable = call == SetBitSilently);
                self.act(who, place, Hint::Metadata);
            }
            Write { .. } | WriteGood => {
                free?;
                self.write(who, place, key, call);
                self.tell(who, place, Some(key), &[Hint::Opened, Hint::Written]);
            }
            _ => {
                free?;
                let now = self.fresh_time();
                self.change(key, |inode| match call {
                    TimesBack => inode.mtime = GOOD_MTIME,
                    Touch => inode.mtime = now,
                    Chmod(mode) => inode.mode = mode,
                    _ => inode.marked = call == SetAttribute,
                });
                self.act(who, place, Hint::Metadata);
                self.tell(who, place, Some(key), &[Hint::Metadata]);
            }
        }
        Some(())
    }

    fn with_descriptor(&mut self, who: usize, place: usize, call: Call) -> Option<()> {
        if call == OpenForWriting {
            let key = self.reach(place)?;
            let inode = &self.inodes[key];
            if inode.immutable || inode.kind != FileKind::File {
                return None;
            }
            self.held.push(Held { process: who, place, inode: key, wrote: false });
            self.tell(who, place, Some(key), &[Hint::Opened]);
            return Some(());
        }
        let at = self.held.iter().position(|h| h.process == who && h.place == place)?;
        let key = self.held[at].inode;
        if call == CloseWriter {
            let held = self.held.swap_remove(at);
            let hint = if held.wrote { Hint::Written } else { Hint::Closed };
            self.tell(who, place, Some(key), &[hint]);
            return Some(());
        }
        if self.inodes[key].immutable && !self.permissive {
            return None;
        }
        self.held[at].wrote = true;
        self.write(who, place, key, Write { same_size: true });
        if call == WriteHeld {
            self.tell(who, place, Some(key), &[Hint::Written]);
        }
        Some(())
    }

    fn write(&mut self, who: usize, place: usize, key: Key, call: Call) {
        let now = self.fresh_time();
        self.change(key, |inode| {
            inode.mtime = now;
            (inode.content, inode.size) = match call {
                WriteGood => (0, GOOD_SIZE),
                Write { same_size: false } => (who as u8 + 1, inode.size + 1),
                _ => (who as u8 + 1, inode.size),
            };
        });
        let retired = self.inodes[key].retired;
        self.acts.push(Act { place, process: who, hint: Hint::Written, at: self.now, retired });
    }

    fn change_name(&mut self, who: usize, place: usize, call: Call) -> Option<()> {
        if call == Cover {
            self.places[place].covered = true;
            self.act(who, place, Hint::Mounts);
            self.events.push_back(Pending {
                place,
                inode: None,
                hint: Hint::Mounts,
                process: None,
                at: self.now,
            });
            return Some(());
        }
        if self.places[place].parent != Parent::Right || self.reach(place).is_none() {
            return None;
        }
        if call == MoveParent {
            self.places[place].parent = Parent::Moved;
            self.did(who, place, &[Hint::Moved]);
            return Some(());
        }
        let key = self.reach(place)?;
        if self.inodes[key].immutable {
            return None;
        }
        let old = self.inodes[key].ino;
        self.change(key, |_| ());
        self.places[place].name = None;
        let (new, alike, hints): (_, _, &[Hint]) = match call {
            RemoveParent => {
                self.places[place].parent = Parent::Gone;
                (false, false, &[Hint::Removed])
            }
            Unlink => (false, false, &[Hint::Removed]),
            RenameOver { alike } => (true, alike, &[Hint::Arrived]),
            Recreate { alike } => (true, alike, &[Hint::Removed, Hint::Arrived]),
            _ => (true, false, &[Hint::Removed, Hint::Arrived]),
        };
        if new {
            let fresh = self.create_good();
            let inode = &mut self.inodes[fresh];
            inode.content = who as u8 + 1;
            if !alike {
                inode.mtime += inode.ctime;
            }
            if call == ReplaceByFifo {
                (inode.kind, inode.size) = (FileKind::Fifo, 0);
            }
            let pinned = self.held.iter().any(|h| h.inode == key);
            if matches!(call, Recreate { .. }) && !pinned {
                self.inodes[fresh].ino = old;
            }
            self.places[place].name = Some(fresh);
        }
        self.did(who, place, hints);
        Some(())
    }

    fn act(&mut self, process: usize, place: usize, hint: Hint) {
        self.acts.push(Act { place, process, hint, at: self.now, retired: false });
    }

    /// An act on the name, and the events of it.
    fn did(&mut self, who: usize, place: usize, hints: &[Hint]) {
        for hint in hints {
            self.act(who, place, hint.clone());
        }
        self.tell(who, place, None, hints);
    }

    fn tell(&mut self, who: usize, place: usize, inode: Option<Key>, hints: &[Hint]) {
        let at = self.now;
        self.events.extend(hints.iter().map(|hint| Pending {
            place,
            inode,
            hint: hint.clone(),
            process: Some(who),
            at,
        }));
    }
}
