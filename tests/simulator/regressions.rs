//! Interleavings that once broke a promise, or that a sweep would hide, each by itself.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use steadfast::attribute::{InodeKey, Testimony, Window};
use steadfast::engine::{
    Action, Cure, Engine, Healed, Input, Inspection, MISSED, Moment, Past, Protected, Unread,
};
use steadfast::judge::{Policy, Stat};
use steadfast::record::Kind;
use steadfast::sense::{By, FileId, Hint, Observation, Sensor};

use crate::promises::wall;
use crate::world::World;

const FILE: FileId = FileId(0);

/// The engine, a world with one file, and a clock.
struct Case {
    engine: Engine,
    world: World,
    /// How far the wall clock is off, in seconds.
    skew: i64,
}

impl Case {
    fn new(policy: Policy) -> Self {
        let mut world = World::new(false);
        world.add_place(true);
        let (seal, good) = (world.stat(0), world.facts(0, true));
        let mut case = Self { engine: Engine::default(), world, skew: 0 };
        let protected = Box::new(Protected {
            path: case.world.places[0].path.as_path().into(),
            facts: good.into(),
            policy,
            seal: Some(seal.into()),
            whole_at: wall(0),
        });
        case.feed(Input::Watch { file: FILE, protected, past: Past::Unknown });
        case
    }

    fn feed(&mut self, input: Input) -> Vec<Action> {
        self.world.now += 10;
        let skewed = wall(self.world.now) + SignedDuration::from_secs(self.skew);
        let now = Moment { mono: Duration::from_micros(self.world.now), wall: skewed };
        let mut out = Vec::new();
        self.engine.handle(now, input, &mut out);
        out
    }

    fn look(&mut self) -> Vec<Action> {
        let sight = self.world.sight(0);
        self.feed(Input::Looked { file: FILE, sight })
    }

    fn event(&mut self, hint: Hint) -> Vec<Action> {
        self.feed(Input::Observed(Observation {
            at: Instant::now(),
            sensor: Sensor::Fanotify,
            file: FILE,
            hint,
            by: By::Nobody,
            retired: false,
        }))
    }

    fn healed(&mut self, action: &'static str, result: Result<Option<Stat>, &str>) -> Vec<Action> {
        let result = result.map_err(str::to_owned);
        self.feed(Input::Healed {
            file: FILE,
            healed: Healed { action, result, evidence: false, from: None },
        })
    }

    fn inspected(&mut self, writers: bool) -> Vec<Action> {
        let finding = self.read(false, writers);
        self.feed(Input::Inspected { file: FILE, finding })
    }

    /// Lets time pass up to the next question who did it, and leaves that open.
    fn question(&mut self) -> u32 {
        self.question_with_windows().0
    }

    fn question_with_windows(&mut self) -> (u32, Vec<Window>) {
        while let Some(at) = self.engine.next_deadline() {
            self.world.now = self.world.now.max(at.as_micros() as u64);
            let asked = self.feed(Input::Tick).into_iter().find_map(|action| match action {
                Action::Openers { question, windows, .. } => Some((question, windows)),
                _ => None,
            });
            if let Some(question) = asked {
                return question;
            }
        }
        panic!("nothing is asked");
    }

    /// What is recorded when the question is answered.
    fn answered(&mut self, question: u32) -> Vec<Kind> {
        let (openers, testimony) = (Vec::new(), Testimony::default());
        let out = self.feed(Input::Openers { file: FILE, question, openers, testimony });
        let recorded = out.into_iter().filter_map(|action| match action {
            Action::Record(event) => Some(event.kind),
            _ => None,
        });
        recorded.collect()
    }

    fn read(&self, content: bool, writers: bool) -> Result<Inspection, Unread> {
        Ok(Inspection { facts: self.world.facts(0, content), stat: self.world.stat(0), writers })
    }

    /// Lets the deadlines pass for this long, and answers what is asked on the way.
    fn wait(&mut self, seconds: u64) -> Vec<Kind> {
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

fn heals(out: &[Action], wanted: Cure) -> bool {
    out.iter().any(|a| matches!(a, Action::Heal { cure, .. } if *cure == wanted))
}

fn looks(out: &[Action]) -> bool {
    out.iter().any(|a| matches!(a, Action::Look { .. }))
}

fn verifies(out: &[Action]) -> bool {
    out.iter().any(|a| matches!(a, Action::Verify { .. }))
}

fn seals(out: &[Action]) -> bool {
    out.iter().any(|a| matches!(a, Action::Seal { .. }))
}

#[test]
fn what_is_noticed_in_the_middle_of_a_heal_is_looked_at_after_it() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    assert!(!looks(&case.event(Hint::Metadata)));
    case.world.change(0, |inode| inode.immutable = true);
    let stat = case.world.stat(0);
    assert!(looks(&case.healed("relock", Ok(Some(stat)))));
}

#[test]
fn a_reading_from_before_a_heal_is_not_believed_after_it() {
    let mut case = Case::new(Policy::default());
    case.event(Hint::Written);
    let out = case.look();
    assert!(verifies(&out));
    let before = case.read(true, false);
    case.world.places[0].covered = true;
    assert!(heals(&case.look(), Cure::Unmount));
    case.world.places[0].covered = false;
    case.healed("unmount", Ok(None));
    let out = case.feed(Input::Verified { file: FILE, epoch: 0, finding: before });
    assert!(!seals(&out) && looks(&out));
    assert!(verifies(&case.look()));
}

#[test]
fn what_an_exchange_put_there_is_sealed_only_once_it_was_read() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.size = 1);
    assert!(heals(&case.look(), Cure::Replace));
    case.world.change(0, |inode| (inode.size, inode.content) = (crate::world::GOOD_SIZE, 9));
    let stat = case.world.stat(0);
    let out = case.healed("exchange", Ok(Some(stat)));
    assert!(verifies(&out) && !seals(&out));
    let finding = case.read(true, false);
    let out = case.feed(Input::Verified { file: FILE, epoch: 1, finding });
    assert!(heals(&out, Cure::Replace) && !seals(&out));
}

#[test]
fn a_heal_that_fails_after_an_inspection_leaves_the_content_to_be_read() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| (inode.immutable, inode.content) = (false, 9));
    assert!(heals(&case.look(), Cure::Relock));
    case.world.change(0, |inode| inode.immutable = true);
    let stat = case.world.stat(0);
    case.healed("relock", Ok(Some(stat)));
    assert!(heals(&case.inspected(true), Cure::Replace));
    case.healed("exchange", Err("Operation not permitted"));
    assert!(verifies(&case.look()));
}

#[test]
fn a_heal_that_outlasts_the_grace_is_still_said_to_have_succeeded() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.size = 1);
    case.look();
    assert!(case.wait(1).contains(&Kind::ContentChanged));
    case.world.change(0, |inode| inode.size = crate::world::GOOD_SIZE);
    let stat = case.world.stat(0);
    case.healed("exchange", Ok(Some(stat)));
    let finding = case.read(true, false);
    case.feed(Input::Verified { file: FILE, epoch: 1, finding });
    assert_eq!(case.wait(5), [Kind::Restored]);
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn what_is_found_while_a_question_is_open_waits_for_an_answer_of_its_own() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    let first = case.question();
    case.world.change(0, |inode| inode.immutable = true);
    let stat = case.world.stat(0);
    case.healed("relock", Ok(Some(stat)));
    case.world.change(0, |inode| (inode.immutable, inode.size) = (false, 1));
    case.event(Hint::Written);
    assert!(heals(&case.look(), Cure::Replace));
    assert_eq!(case.answered(first), [Kind::ImmutableCleared]);
    let second = case.question();
    let then = case.answered(second);
    assert!(then.contains(&Kind::ContentChanged), "{then:?}");
    assert!(case.answered(second).is_empty(), "an answer counts once");
}

#[test]
fn a_mount_that_was_taken_away_is_said_to_be_gone() {
    let mut case = Case::new(Policy::default());
    case.world.places[0].covered = true;
    assert!(heals(&case.look(), Cure::Unmount));
    case.world.places[0].covered = false;
    assert!(looks(&case.healed("unmount", Ok(None))));
    case.look();
    assert!(case.wait(5).contains(&Kind::Restored));
}

#[test]
fn a_missing_file_that_is_not_to_be_restored_is_reported_once() {
    let mut case = Case::new(Policy { restore: false, ..Policy::default() });
    case.world.places[0].name = None;
    case.look();
    assert!(case.wait(5).contains(&Kind::Deleted));
    assert!(case.look().is_empty());
    assert_eq!(case.wait(5), []);
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn the_same_metadata_after_a_repair_is_never_called_whole() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.marked = true);
    assert!(case.look().iter().any(|a| matches!(a, Action::Inspect { .. })));
    assert!(heals(&case.inspected(false), Cure::Repair));
    let stat = case.world.stat(0);
    case.healed("repair-metadata", Ok(Some(stat)));
    assert!(heals(&case.inspected(false), Cure::Replace));
}

#[test]
fn a_cure_that_comes_too_late_for_what_was_seen_is_no_failure() {
    let mut case = Case::new(Policy::default());
    case.world.places[0].name = None;
    assert!(heals(&case.look(), Cure::Replace));
    case.world.places[0].parent = crate::world::Parent::Gone;
    assert!(looks(&case.healed(MISSED, Ok(None))));
    assert!(heals(&case.look(), Cure::PutBackParents));
    case.world.places[0].parent = crate::world::Parent::Right;
    case.healed("put-back-parent", Ok(None));
    assert!(heals(&case.look(), Cure::Replace));
    case.world.places[0].name = Some(0);
    let stat = case.world.stat(0);
    case.healed("place", Ok(Some(stat)));
    let kinds = case.wait(5);
    assert!(kinds.contains(&Kind::Deleted) && kinds.contains(&Kind::Restored), "{kinds:?}");
    assert!(!kinds.contains(&Kind::RestoreFailed), "{kinds:?}");
}

#[test]
fn a_path_that_no_cure_finds_is_said_to_be_broken() {
    let mut case = Case::new(Policy::default());
    case.world.places[0].name = None;
    let mut failed = false;
    for _ in 0..20 {
        case.look();
        let out = case.healed(MISSED, Ok(None));
        failed |= out
            .iter()
            .any(|a| matches!(a, Action::Record(event) if event.kind == Kind::RestoreFailed));
    }
    assert!(failed);
}

#[test]
fn an_inode_that_is_shown_elsewhere_comes_back_after_the_heal_that_is_under_way() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.size = 1);
    assert!(heals(&case.look(), Cure::Replace));
    assert!(!heals(&case.feed(Input::Shown { file: FILE }), Cure::Rejoin));
    case.world.change(0, |inode| inode.size = crate::world::GOOD_SIZE);
    let stat = case.world.stat(0);
    assert!(heals(&case.healed("exchange", Ok(Some(stat))), Cure::Rejoin));
    assert!(!heals(&case.look(), Cure::Rejoin));
    case.healed("rejoin", Ok(Some(stat)));
    let finding = case.read(true, false);
    case.feed(Input::Verified { file: FILE, epoch: 2, finding });
    let kinds = case.wait(5);
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Restored).count(), 1, "{kinds:?}");
    assert!(case.engine.is_settled(FILE));
}

#[test]
fn another_inode_at_the_end_of_a_relock_is_not_adopted() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    let other = case.world.create_good();
    case.world.places[0].name = Some(other);
    let stat = case.world.stat(other);
    assert!(looks(&case.healed("relock", Ok(Some(stat)))));
    assert!(heals(&case.look(), Cure::Replace));
}

#[test]
fn hands_that_find_another_inode_than_the_engine_do_not_lead_to_the_same_cure_for_ever() {
    let mut case = Case::new(Policy::default());
    case.world.change(0, |inode| inode.immutable = false);
    assert!(heals(&case.look(), Cure::Relock));
    assert!(looks(&case.healed("relock", Ok(None))));
    assert!(heals(&case.look(), Cure::Replace));
}

/// What is told, and under which names of incidents, while the bit is cleared once for each of
/// `skews`: so far the clock is off when it is noticed, and as far on the other side afterwards.
fn told_with(skews: [i64; 3]) -> (Vec<Vec<Kind>>, Vec<String>) {
    let mut case = Case::new(Policy::default());
    let (mut told, mut ids) = (Vec::new(), Vec::new());
    for skew in skews {
        case.skew = skew;
        case.world.change(0, |inode| inode.immutable = false);
        let out = case.look();
        assert!(heals(&out, Cure::Relock), "{skew}");
        ids.extend(out.iter().filter_map(|action| match action {
            Action::Heal { incident, .. } => Some(incident.clone()),
            _ => None,
        }));
        case.skew = -skew;
        case.world.change(0, |inode| inode.immutable = true);
        let stat = case.world.stat(0);
        case.healed("relock", Ok(Some(stat)));
        told.push(case.wait(5));
    }
    (told, ids)
}

#[test]
fn a_clock_that_jumps_delays_no_heal_and_changes_nothing_of_what_is_told() {
    const DAY: i64 = 86_400;
    let (told, _) = told_with([0; 3]);
    assert!(told.iter().all(|kinds| kinds.contains(&Kind::Relocked)), "{told:?}");
    let (jumping, ids) = told_with([-DAY, 30 * DAY, -400 * DAY]);
    assert_eq!(jumping, told);
    assert!(ids.is_sorted(), "a later incident has a later name: {ids:?}");
}

#[test]
fn another_inode_that_a_heal_took_out_is_told_of_as_a_replacement() {
    let mut case = Case::new(Policy::default());
    let sealed = case.world.stat(0);
    case.world.change(0, |file| file.immutable = false);
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    case.world.change(0, |file| file.immutable = true);
    let relocked = case.world.stat(0);
    case.healed("relock", Ok(Some(relocked)));
    let out = case.inspected(true);
    assert!(heals(&out, Cure::Replace));
    let incident = out.iter().find_map(|action| match action {
        Action::Heal { incident, .. } => Some(incident.clone()),
        _ => None,
    });
    // Now another file is renamed over it, which the exchange takes out.
    let other = case.world.create_good();
    case.world.change(other, |file| (file.content, file.size) = (9, 8));
    case.world.stage(0);
    let replica = case.world.places[0].replica.unwrap().0;
    case.world.change(replica, |file| file.immutable = true);
    case.world.places[0].name = Some(replica);
    let result = Ok(Some(case.world.stat(replica)));
    let healed = Healed { action: "exchange", result, evidence: true, from: None };
    case.feed(Input::Healed { file: FILE, healed });
    let stat = case.world.stat(other);
    assert_ne!(stat.ino, sealed.ino);
    case.feed(Input::Evidence {
        file: FILE,
        incident: incident.unwrap(),
        facts: Some(Box::new(case.world.facts(other, true))),
        inode: Some(InodeKey::of(&stat)),
    });
    let told = case.wait(1);
    assert!(told.contains(&Kind::Replaced), "{told:?}");
    assert!(told.contains(&Kind::ContentChanged), "{told:?}");
}

#[test]
fn what_only_a_reading_shows_may_have_happened_before_the_last_look() {
    let mut case = Case::new(Policy::default());
    case.look();
    let before = Duration::from_micros(case.world.now);
    case.world.change(0, |file| (file.immutable, file.marked) = (false, true));
    case.event(Hint::Metadata);
    assert!(heals(&case.look(), Cure::Relock));
    case.world.change(0, |file| file.immutable = true);
    let relocked = case.world.stat(0);
    case.healed("relock", Ok(Some(relocked)));
    case.world.now += 20_000;
    // The bit, the mode and the times are as they should be. The attribute is not.
    case.event(Hint::Closed);
    assert!(case.look().iter().all(|action| !matches!(action, Action::Heal { .. })));
    assert!(heals(&case.inspected(false), Cure::Repair));
    case.healed("repair-metadata", Ok(Some(relocked)));
    let (_, windows) = case.question_with_windows();
    assert_eq!(windows.len(), 2, "of the bit and of the attribute");
    assert!(windows.iter().all(|window| window.whole <= before), "{windows:?} {before:?}");
}

#[test]
fn a_file_that_goes_before_it_is_read_is_looked_at_again_and_no_failure() {
    let mut case = Case::new(Policy::default());
    case.look();
    let mut gone = || {
        case.world.change(0, |file| file.immutable = !file.immutable);
        case.event(Hint::Metadata);
        let finding = Err(Unread::Gone);
        case.feed(Input::Inspected { file: FILE, finding })
    };
    for _ in 0..2 {
        let out = gone();
        assert!(looks(&out), "{out:?}");
        assert!(!out.iter().any(|action| matches!(action, Action::Record(_))), "{out:?}");
    }
    // Where that goes on, somebody has to be told.
    let told = (0..20)
        .flat_map(|_| gone())
        .any(|action| matches!(action, Action::Record(event) if event.kind == Kind::RestoreFailed));
    assert!(told);
}
