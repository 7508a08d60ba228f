use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::sys::clock::tick;

const MS: u64 = 1_000_000;
const TICK: u64 = 10 * MS;

/// So soon nobody is given a pid that another was given.
const ROUND: u64 = 100 * MS;

fn table() -> Table {
    let mut table = Table::default();
    table.trust(Duration::from_nanos(ROUND));
    table
}

fn portrait(start_time: u64, ppid: u32, comm: &str) -> Portrait {
    let comm = comm.as_bytes().to_vec();
    Portrait { start_time, ppid, comm, image: crate::attribute::procfs::Image::default() }
}

fn forked(parent: u32, child: u32, at: u64) -> Event {
    Event { at, what: What::Forked { parent, child } }
}

fn ended(pid: u32, at: u64) -> Event {
    Event { at, what: What::Ended { pid } }
}

fn names(table: &Table, id: u64) -> Vec<(u32, String)> {
    table.above(id).into_iter().map(|one| (one.ancestor.pid, one.ancestor.comm)).collect()
}

fn line(of: &[(u32, &str)]) -> Vec<(u32, String)> {
    of.iter().map(|(pid, comm)| (*pid, (*comm).to_owned())).collect()
}

/// cron, 10, starts sh, 20, which starts chattr, 30. All that started is looked at in time.
fn cron() -> Table {
    let mut table = table();
    table.hear(forked(10, 20, 100 * TICK), 0);
    let (id, pid) = table.unread().unwrap();
    assert_eq!(pid, 10);
    table.note(id, portrait(50, 1, "cron"), 100 * TICK);
    table.hear(Event { at: 100 * TICK + 1, what: What::Executed { pid: 20 } }, 0);
    while let Some((id, pid)) = table.unread() {
        let (start, ppid, comm) = if pid == 20 { (100, 10, "sh") } else { (0, 0, "systemd") };
        table.note(id, portrait(start, ppid, comm), 100 * TICK + 2);
    }
    table.hear(forked(20, 30, 101 * TICK), 0);
    table
}

#[test]
fn the_parents_of_the_dead_are_known_though_they_are_dead() {
    let mut table = cron();
    table.hear(ended(20, 101 * TICK + 1), 0);
    table.hear(ended(30, 102 * TICK), 0);
    let whole = line(&[(20, "sh"), (10, "cron"), (1, "systemd")]);
    assert_eq!(names(&table, table.born_at(30, 101).unwrap()), whole);
    assert_eq!(names(&table, table.at(30, 101, 102).unwrap()), whole);
    assert_eq!(table.born_at(30, 102), None);
    assert_eq!(table.at(30, 99, 100), None);
    table.check();
}

#[test]
fn whoever_has_the_pid_of_a_parent_by_now_is_not_taken_for_it() {
    let mut table = cron();
    table.hear(ended(20, 101 * TICK + 1), 0);
    table.hear(forked(1, 20, 102 * TICK), 0);
    while let Some((id, pid)) = table.unread() {
        // It is looked at so late that another has its pid.
        table.note(id, portrait(102, 1, &format!("impostor {pid}")), 103 * TICK);
    }
    let above = names(&table, table.born_at(30, 101).unwrap());
    assert_eq!(above, line(&[(20, "sh"), (10, "cron"), (1, "systemd")]));
}

#[test]
fn whoever_was_gone_before_it_was_looked_at_has_a_pid_and_no_name() {
    let mut table = cron();
    table.hear(Event { at: 101 * TICK + 1, what: What::Executed { pid: 30 } }, 0);
    table.hear(forked(30, 40, 101 * TICK + 2), 0);
    table.hear(ended(30, 101 * TICK + 3), 0);
    let (id, pid) = table.unread().unwrap();
    assert_eq!(pid, 30);
    // Another has its pid.
    table.note(id, portrait(102, 1, "impostor"), 103 * TICK);
    let above = names(&table, table.at(40, 103, 104).unwrap());
    assert_eq!(above, line(&[(30, "?"), (20, "sh"), (10, "cron"), (1, "systemd")]));
}

#[test]
fn a_parent_older_than_what_is_known_is_believed_only_if_it_started_before_its_child() {
    for (start, name) in [(99, "cron"), (100, "?"), (105, "?")] {
        let mut table = table();
        table.hear(forked(10, 20, 100 * TICK), 0);
        let (id, _) = table.unread().unwrap();
        // By then another may have its pid.
        table.note(id, portrait(start, 0, "cron"), 106 * TICK);
        let above = names(&table, table.born_at(20, 100).unwrap());
        assert_eq!(above, line(&[(10, name)]), "{start}");
    }
}

#[test]
fn a_thread_of_the_kernel_is_not_taken_for_a_process_that_had_its_pid() {
    let mut table = cron();
    table.hear(forked(KTHREADD, 20, 102 * TICK), 0);
    table.hear(forked(20, 60, 103 * TICK), 0);
    assert_eq!(names(&table, table.at(60, 104, 105).unwrap()), line(&[(20, "?")]));
    assert_eq!(names(&table, table.born_at(30, 101).unwrap())[0], (20, "sh".to_owned()));
}

#[test]
fn what_it_ran_before_is_not_told_of_whoever_ran_something_else_last() {
    let mut table = cron();
    table.hear(forked(30, 40, 101 * TICK + 1), 0);
    let parent = |table: &Table| names(table, table.at(40, 103, 104).unwrap()).remove(0).1;
    assert_eq!(parent(&table), "sh");
    table.hear(Event { at: 101 * TICK + 2, what: What::Executed { pid: 30 } }, 0);
    assert_eq!(parent(&table), "?");
    let (id, _) = table.unread().unwrap();
    table.hear(Event { at: 101 * TICK + 3, what: What::Executed { pid: 30 } }, 0);
    table.note(id, portrait(101, 20, "between"), 101 * TICK + 2);
    assert_eq!(parent(&table), "?");
    let (id, _) = table.unread().unwrap();
    table.note(id, portrait(101, 20, "chattr"), 101 * TICK + 4);
    assert_eq!(parent(&table), "chattr");
}

#[test]
fn nothing_is_known_once_a_message_was_lost() {
    let mut table = cron();
    table.forget();
    assert_eq!(table.at(30, 103, 104), None);
    assert_eq!(table.born_at(30, 101), None);
    table.check();
}

#[test]
fn where_two_may_have_had_the_pid_neither_did() {
    let mut table = cron();
    table.hear(forked(20, 50, 103 * TICK), 0);
    table.hear(ended(50, 110 * TICK), 0);
    table.hear(forked(10, 50, 110 * TICK + 1), 0);
    assert_eq!(names(&table, table.at(50, 111, 112).unwrap())[0].0, 10);
    assert_eq!(table.at(50, 110, 111), None);
    assert_eq!(table.at(50, 104, 105), None);
}

#[test]
fn the_parents_of_those_who_live_outlast_thousands_of_others() {
    let mut table = cron();
    table.hear(ended(20, 101 * TICK + 1), 0);
    for number in 0..3 * u32::try_from(LIVES).unwrap() {
        let at = 102 * TICK + u64::from(number) * MS;
        table.hear(forked(10, 1000 + number, at), 0);
        table.hear(ended(1000 + number, at + 1), 0);
        if number % 1000 == 0 {
            table.check();
        }
    }
    table.check();
    let above = names(&table, table.born_at(30, 101).unwrap());
    assert_eq!(above, line(&[(20, "sh"), (10, "cron"), (1, "systemd")]));
}

#[test]
fn command_lines_without_end_take_no_more_room_than_there_is() {
    let mut table = cron();
    for number in 0..2000 {
        let at = 102 * TICK + u64::from(number) * MS;
        table.hear(forked(10, 1000 + number, at), 0);
        table.hear(Event { at, what: What::Executed { pid: 1000 + number } }, 0);
        let (id, _) = table.unread().unwrap();
        table.note(id, portrait(tick(at), 10, &"x".repeat(5000)), at);
    }
    table.check();
    assert!(table.lives.len() > 90);
}

/// A machine with few pids, and what was true of it.
#[derive(Default)]
struct World {
    /// Pid, parent, start, names.
    all: Vec<(u32, usize, u64, Vec<String>)>,
    living: BTreeMap<u32, usize>,
    /// When each pid was given last.
    given: HashMap<u32, u64>,
    last: u32,
    now: u64,
}

impl World {
    const PIDS: u32 = 60;

    fn start(&mut self, pid: u32, parent: usize) {
        let name =
            self.all.get(parent).map_or_else(String::new, |one| one.3.last().unwrap().clone());
        self.living.insert(pid, self.all.len());
        self.given.insert(pid, self.now);
        self.all.push((pid, parent, tick(self.now), vec![name]));
    }

    /// `None` where all are taken, or where it comes round so soon as no machine does.
    fn next_pid(&mut self) -> Option<u32> {
        let next = |last: u32| if last >= Self::PIDS { 3 } else { last + 1 };
        for _ in 0..Self::PIDS {
            self.last = next(self.last);
            if !self.living.contains_key(&self.last) {
                let given = self.given.get(&self.last);
                let slow = given.is_none_or(|given| self.now - given >= ROUND);
                return slow.then_some(self.last);
            }
        }
        None
    }

    /// Whether this may be told of those above `who`.
    fn allows(&self, who: usize, told: &[(u32, String)]) -> bool {
        let mut above = self.all[who].1;
        told.iter().all(|(pid, name)| {
            let Some(one) = self.all.get(above) else { return false };
            above = one.1;
            one.0 == *pid && (name == UNKNOWN || one.3.contains(name))
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happens_nobody_has_a_wrong_parent(
        steps in proptest::collection::vec((0_u8..12, any::<u8>(), 1_u64..9), 1..400),
    ) {
        let mut world = World { now: 1000 * TICK, last: 2, ..World::default() };
        let mut table = table();
        world.start(1, usize::MAX);
        let mut looked: HashMap<u64, u32> = HashMap::new();
        for (number, (what, who, wait)) in steps.into_iter().enumerate() {
            world.now += wait * MS;
            let at = world.now;
            let pids: Vec<u32> = world.living.keys().copied().collect();
            let pid = pids[usize::from(who) % pids.len()];
            match what {
                0..=4 => if let Some(child) = world.next_pid() {
                    world.start(child, world.living[&pid]);
                    table.hear(forked(pid, child, at), 0);
                },
                5 | 6 => {
                    let name = format!("program {number}");
                    let running = world.living[&pid];
                    world.all[running].3.push(name);
                    table.hear(Event { at, what: What::Executed { pid } }, 0);
                }
                7 | 8 if pid != 1 => {
                    world.living.remove(&pid);
                    table.hear(ended(pid, at), 0);
                }
                9 if who < 20 => table.forget(),
                // Somebody is taken up to be looked at…
                10 => looked.extend(table.unread()),
                // …and all are looked at, some of them late.
                11 => for (id, pid) in looked.drain() {
                    let Some(found) = world.living.get(&pid) else { continue };
                    let (_, parent, start, names) = &world.all[*found];
                    let real = world.all.get(*parent).map(|one| one.0);
                    let lives = real.filter(|pid| world.living.get(pid) == Some(parent));
                    let ppid = lives.unwrap_or(if pid == 1 { 0 } else { 1 });
                    table.note(id, portrait(*start, ppid, names.last().unwrap()), at);
                },
                _ => {}
            }
            table.check();
            for (pid, who) in &world.living {
                let found = table.born_at(*pid, world.all[*who].2);
                let told = found.map(|id| names(&table, id)).unwrap_or_default();
                // One that was not told of has the parents that it has by now.
                let known = found.is_some_and(|id| table.lives[&id].told);
                prop_assert!(!known || world.allows(*who, &known_part(&table, found, &told)));
                let then = tick(at);
                if let Some(id) = table.at(*pid, then, then + 1) {
                    prop_assert_eq!(table.lives[&id].born.unwrap_or(0) <= then, true);
                    let is_it = table.lives[&id].born.is_none_or(|b| b == world.all[*who].2);
                    prop_assert!(is_it, "pid {} is another", pid);
                    let mut had = world.all.iter().filter(|one| one.0 == *pid);
                    had.next_back();
                    for (.., start, _) in had {
                        prop_assert_ne!(table.born_at(*pid, *start), Some(id), "{} was another", pid);
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_is_heard_nothing_panics_or_grows(
        events in proptest::collection::vec((0_u8..4, 0_u32..50, 0_u32..50, any::<u64>()), 0..300),
    ) {
        let mut table = table();
        for (what, one, other, at) in events {
            let what = match what {
                0 => What::Forked { parent: one, child: other },
                1 => What::Executed { pid: one },
                2 => What::Ended { pid: one },
                _ => What::Other,
            };
            table.hear(Event { at, what }, at / 2);
            if let Some((id, _)) = table.unread() {
                table.note(id, portrait(at / TICK, other, "x"), at);
            }
            table.check();
            let _ = (table.at(one, at / TICK, at / TICK), table.born_at(other, at / TICK));
        }
    }
}

/// Up to the first who was not told of, whose parents are those of later.
fn known_part(table: &Table, id: Option<u64>, told: &[(u32, String)]) -> Vec<(u32, String)> {
    let Some(id) = id else { return Vec::new() };
    let first = table.line(id).skip(1).position(|(_, life)| !life.told);
    told.iter().take(first.map_or(told.len(), |at| at + 1)).cloned().collect()
}
