//! The cures, carried out on the made-up filesystem one step at a time, with tampering in
//! every gap. The exchange is the real one: [`steadfast::respond::replace`].

use std::io;

use steadfast::engine::{Cure, Healed, MISSED};
use steadfast::judge::{FileKind, Stat};
use steadfast::respond::{Hands, Way, replace};

use crate::stage::Stage;
use crate::world::{GOOD_MODE, GOOD_MTIME, Key, Parent};

/// What the kernel says where a path no longer leads to what a look has found.
const LOST: &str = "No such file or directory (os error 2)";

type Outcome = Result<Option<Stat>, String>;

/// Carries out `cure`; `inode` is the number that the shell knows the file by. `None` when the
/// daemon was killed in the middle.
pub fn perform(stage: &mut Stage, place: usize, cure: Cure, inode: Option<u64>) -> Option<Healed> {
    stage.between();
    let healed = |action, result: Outcome| {
        let action = if matches!(&result, Err(why) if why == LOST) { MISSED } else { action };
        let result = if action == MISSED { Ok(None) } else { result };
        Some(Healed { action, result, evidence: false, from: None })
    };
    if stage.fails() {
        return healed("exchange", Err("Operation not permitted (os error 1)".to_owned()));
    }
    if !stage.world.places[place].mounted {
        return healed("exchange", Err(LOST.to_owned()));
    }
    match cure {
        Cure::Relock => healed("relock", relock(stage, place, inode)),
        Cure::Repair => healed("repair-metadata", repair(stage, place, inode)),
        Cure::PutBackParents => {
            stage.world.places[place].parent = Parent::Right;
            healed("put-back-parent", Ok(None))
        }
        Cure::Unmount => {
            stage.world.places[place].covered = false;
            healed("unmount", Ok(None))
        }
        Cure::Rejoin => unreachable!("nothing is mounted elsewhere"),
        Cure::Replace => exchange(stage, place),
    }
}

/// What has the path, held by descriptor, if it is the inode that the shell knows.
fn hold(stage: &mut Stage, place: usize, inode: Option<u64>) -> Result<Option<Key>, String> {
    let it = &stage.world.places[place];
    let (Parent::Right, Some(key)) = (it.parent, it.name) else {
        return Err(LOST.to_owned());
    };
    let known = inode.is_none_or(|ino| stage.world.inodes[key].ino == ino);
    Ok(known.then_some(key))
}

fn look(stage: &Stage, place: usize) -> Option<Stat> {
    stage.world.places[place].name.map(|key| stage.world.stat(key))
}

fn relock(stage: &mut Stage, place: usize, inode: Option<u64>) -> Outcome {
    let Some(key) = hold(stage, place, inode)? else { return Ok(None) };
    stage.between();
    stage.world.change(key, |inode| inode.immutable = true);
    stage.between();
    Ok(look(stage, place))
}

fn repair(stage: &mut Stage, place: usize, inode: Option<u64>) -> Outcome {
    let Some(key) = hold(stage, place, inode)? else { return Ok(None) };
    let locked = stage.world.places[place].locked;
    for step in 0..5 {
        stage.between();
        let it = &stage.world.inodes[key];
        if it.immutable && (1..4).contains(&step) {
            return Err("Operation not permitted (os error 1)".to_owned());
        }
        stage.world.change(key, |inode| match step {
            0 => inode.immutable = false,
            1 => inode.mode = GOOD_MODE,
            2 => inode.marked = false,
            3 => inode.mtime = GOOD_MTIME,
            _ => inode.immutable = locked,
        });
    }
    stage.between();
    Ok(look(stage, place))
}

fn exchange(stage: &mut Stage, place: usize) -> Option<Healed> {
    let failed = |why: &str| {
        Some(Healed {
            action: "exchange",
            result: Err(why.to_owned()),
            evidence: false,
            from: None,
        })
    };
    let missed = Some(Healed { action: MISSED, result: Ok(None), evidence: false, from: None });
    let untouched = |stage: &Stage| {
        let (key, ctime) = stage.world.places[place].replica?;
        (stage.world.inodes[key].ctime == ctime).then_some(key)
    };
    let replica = match untouched(stage) {
        Some(key) => key,
        None if stage.fails() => return failed("No space left on device (os error 28)"),
        None => {
            stage.world.stage(place);
            untouched(stage)?
        }
    };
    if stage.world.places[place].parent != Parent::Right {
        return missed;
    }
    let dies = stage.rng.below(1000) < stage.plan.restarts;
    let left = if dies { stage.rng.below(4) } else { usize::MAX };
    // Nobody but the heal reaches the replica from here until it has the path.
    stage.world.places[place].replica = None;
    let mut hands = WorldHands { stage, place, replica, left };
    let result = replace(&mut hands);
    if hands.left == 0 {
        return None;
    }
    Some(match result {
        Ok((way, stat)) => {
            let evidence = way == Way::Exchanged;
            let action = if evidence { "exchange" } else { "place" };
            Healed { action, result: Ok(stat), evidence, from: None }
        }
        Err(e) => {
            let ctime = stage.world.inodes[replica].ctime;
            stage.world.places[place].replica = Some((replica, ctime));
            if e.kind() == io::ErrorKind::NotFound {
                return missed;
            }
            Healed { action: "exchange", result: Err(e.to_string()), evidence: false, from: None }
        }
    })
}

/// Hands that reach into the world; the daemon dies when `left` steps are done.
struct WorldHands<'a> {
    stage: &'a mut Stage,
    place: usize,
    replica: Key,
    left: usize,
}

impl WorldHands<'_> {
    fn step(&mut self, what: &str) -> io::Result<()> {
        self.stage.between();
        let place = self.place;
        if self.left == 0 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.left -= 1;
        if self.left == 0 {
            self.stage.tell(|| format!("the daemon is killed before: {what}"));
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.stage.tell(|| format!("heal f{place}: {what}"));
        Ok(())
    }

    fn refused<T>(&self) -> io::Result<T> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

impl Hands for WorldHands<'_> {
    fn replica_inode(&self) -> u64 {
        self.stage.world.inodes[self.replica].ino
    }

    fn exchange(&mut self) -> io::Result<()> {
        self.step("exchange")?;
        let world = &mut self.stage.world;
        let it = &world.places[self.place];
        if it.covered {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let Some(old) = it.name else { return Err(io::ErrorKind::NotFound.into()) };
        if world.inodes[old].immutable {
            return self.refused();
        }
        assert!(world.is_good(self.replica), "a replica that is not good is put in place");
        assert_ne!(old, self.replica, "the good replica would go to the quarantine");
        world.change(old, |inode| inode.retired = true);
        world.change(self.replica, |_| ());
        world.places[self.place].name = Some(self.replica);
        world.places[self.place].evidence.push(old);
        Ok(())
    }

    fn place(&mut self) -> io::Result<()> {
        self.step("place")?;
        let world = &mut self.stage.world;
        let it = &world.places[self.place];
        if it.name.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if it.parent == Parent::Gone {
            return Err(io::ErrorKind::NotFound.into());
        }
        assert!(world.is_good(self.replica), "a replica that is not good is put in place");
        world.change(self.replica, |_| ());
        world.places[self.place].name = Some(self.replica);
        Ok(())
    }

    fn unlock(&mut self) -> io::Result<()> {
        self.step("unlock")?;
        let world = &mut self.stage.world;
        if let Some(key) = world.places[self.place].name {
            world.change(key, |inode| inode.immutable = false);
        }
        Ok(())
    }

    fn lock(&mut self) -> io::Result<()> {
        self.step("lock")?;
        let world = &mut self.stage.world;
        if world.places[self.place].locked {
            world.change(self.replica, |inode| inode.immutable = true);
        }
        Ok(())
    }

    fn look(&mut self) -> io::Result<Option<Stat>> {
        self.step("look")?;
        let stat = look(self.stage, self.place);
        debug_assert!(stat.is_none_or(|stat| stat.kind != FileKind::Directory));
        Ok(stat)
    }
}
