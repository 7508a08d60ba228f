//! More events than anybody can take: none of it loses what matters, and nothing hangs.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::common::{GOOD, Guard, MARKER, not_root, skip_unless, write_old};
use crate::http::ask;

/// A protected directory `watched` with a file in it, and a quarantine of strangers that nobody
/// wants to be told of one by one.
fn guarded_directory() -> Guard {
    Guard::on_disk()
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

#[test]
fn a_flood_of_events_on_siblings_keeps_no_protected_file_from_being_healed() {
    skip_unless!(not_root());
    let guard = guarded_directory();
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
    assert!(lost <= 2 + began.elapsed().as_secs() as usize / 10, "{lost} lines of lost events");
    guard.wait_whole_at(&file);
}
