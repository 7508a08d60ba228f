//! More events than anybody can take: none of it loses what matters, and nothing hangs.
//!
//! A program of its own: what it does is hard on every daemon of the machine.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
// The other users of it ask on loopback too.
#[allow(dead_code)]
#[path = "../health/http.rs"]
mod http;

mod records;
mod socket;

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{
    GOOD, Guard, MARKER, clear_through_file_setattr, not_root, poll, skip_unless, write_old,
};
use http::{ask, metrics};
use rustix::process::Signal;

/// A protected directory `watched` with a file in it, and a quarantine of strangers that nobody
/// wants to be told of one by one.
fn guarded_directory(daemon: &str) -> Guard {
    Guard::on_disk()
        .daemon(daemon)
        .file("main.py", GOOD)
        .prepare(|dir| {
            std::fs::create_dir(dir.join("watched")).unwrap();
            write_old(&dir.join("watched/inside"), GOOD);
        })
        .protect("watched")
        .start()
}

fn make_and_remove(dir: &Path, number: u64) {
    let path = dir.join(format!("sibling-{number}"));
    std::fs::write(&path, "").unwrap();
    std::fs::remove_file(&path).unwrap();
}

/// A flood in directories, a thread for each, for as long as `work` takes and at least three
/// seconds; how many events a second it made. A rename makes two, and is the fastest.
fn flood(dirs: &[PathBuf], from: &Path, work: impl FnOnce()) -> f64 {
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for dir in dirs {
            let (over, made) = (&over, &made);
            scope.spawn(move || {
                // As many that the kernel cannot take one event for another.
                let names: Vec<_> = (0..4096).map(|n| dir.join(format!("sibling-{n}"))).collect();
                std::fs::hard_link(from, &names[0]).unwrap();
                for (name, next) in names.iter().zip(names.iter().cycle().skip(1)).cycle() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    std::fs::rename(name, next).unwrap();
                    made.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        work();
        while began.elapsed() < Duration::from_secs(3) {
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    made.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

#[test]
fn a_flood_of_strangers_in_a_protected_directory_keeps_no_protected_file_from_being_healed() {
    skip_unless!(not_root());
    let guard = guarded_directory("");
    let file = guard.file();
    let watched = guard.path("watched");
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (over, made, watched) = (&over, &made, &watched);
            scope.spawn(move || {
                let mut number = thread << 40;
                while !over.load(Ordering::Relaxed) {
                    make_and_remove(watched, number);
                    // Made, opened, closed after writing, removed.
                    made.fetch_add(4, Ordering::Relaxed);
                    number += 1;
                }
            });
        }
        for _ in 0..20 {
            guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
            guard.wait_whole_at(&file);
            assert_eq!(ask(&guard.control(), "/livez").0, 200);
            assert_eq!(ask(&guard.control(), "/readyz").0, 200);
        }
        while began.elapsed() < Duration::from_secs(3) {
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
    });
    let rate = made.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    eprintln!("{rate:.0} events a second");
    guard.wait_settled();
    // Each was told as it was, and what ran over was not told in every line.
    let changed = guard.events_about(&file);
    let changed = changed.iter().filter(|event| event["kind"] == "content-changed").count();
    assert!(changed >= 1, "{}", guard.story());
    let lost = guard.events().iter().filter(|event| event["kind"] == "events-lost").count();
    let each = 2 + began.elapsed().as_secs() as usize / 10;
    // Of the queue, and of audit.
    assert!(lost <= 2 * each, "{lost} lines of lost events");
    guard.wait_whole_at(&file);
}

#[test]
fn a_flood_of_events_on_siblings_loses_no_tampering_and_keeps_nobody_waiting() {
    skip_unless!(not_root());
    let dirs = ["a", "b"];
    let name = |number: usize| format!("{}/{number:02}.conf", dirs[number % 2]);
    let names: Vec<_> = (0..20).map(name).collect();
    let builder = names.iter().fold(Guard::on_disk(), |all, name| all.file(name, GOOD));
    let guard = builder.bystander("seed", b"").start();
    let began = Instant::now();
    let rate = flood(&dirs.map(|dir| guard.path(dir)), &guard.path("seed"), || {
        for name in &names {
            let file = guard.path(name);
            guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
            guard.wait_whole_at(&file);
            assert_eq!(ask(&guard.control(), "/livez").0, 200);
            assert_eq!(ask(&guard.control(), "/readyz").0, 200);
        }
    });
    eprintln!("{rate:.0} events a second");
    guard.wait_settled();
    // Each is on record, and what ran over is not in every line.
    for file in names.iter().map(|name| guard.path(name)) {
        guard.wait_whole_at(&file);
        let changed = |event: &serde_json::Value| event["kind"] == "content-changed";
        let told = || guard.events_about(&file).iter().any(changed).then_some(());
        poll(told, || format!("{} is not told of\n{}", file.display(), guard.story()));
    }
    let lost = guard.events().iter().filter(|event| event["kind"] == "events-lost").count();
    let each = 2 + began.elapsed().as_secs() as usize / 10;
    // Of the queue, and of audit.
    assert!(lost <= 2 * each, "{lost} lines of lost events");
    common::assert_code(&guard.steadfast(&["journal", "verify"]), 0, "journal verify");
}

/// How many events the kernel keeps for a reader that does not read.
fn queue() -> u64 {
    let path = "/proc/sys/fs/fanotify/max_queued_events";
    std::fs::read_to_string(path).map_or(16_384, |text| text.trim().parse().unwrap())
}

#[test]
fn a_queue_that_ran_over_has_everything_looked_at_at_once_and_is_told() {
    skip_unless!(not_root());
    // The sweep by itself would come far too late for this test.
    let guard = guarded_directory("flag_sweep = \"1h\"");
    let file = guard.file();
    let watched = guard.path("watched");
    guard.signal(Signal::STOP);
    for number in 0..queue() + 2000 {
        make_and_remove(&watched, number);
    }
    // No event of this is kept any more.
    clear_through_file_setattr(&file).unwrap();
    let seq = guard.last_seq();
    guard.signal(Signal::CONT);
    guard.wait_whole_at(&file);
    let told = poll(
        || {
            let told = "the kernel dropped events";
            let of_it = |event: &serde_json::Value| {
                event["kind"] == "events-lost" && event["note"].as_str().unwrap().contains(told)
            };
            guard.events().into_iter().find(of_it)
        },
        || guard.story(),
    );
    assert!(told["seq"].as_u64() > Some(seq), "{told}");
    assert!(told["note"].as_str().unwrap().contains("looked at again"), "{told}");
    let now = metrics(&guard.control());
    assert!(now["steadfast_queue_overflows_total"] >= 1.0, "{now:#?}");
    assert!(now["steadfast_failures_total{failure=\"events-lost\"}"] >= 1.0, "{now:#?}");
}
