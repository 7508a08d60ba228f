//! Tampering without end, or with many files at once.
//!
//! A program of its own: so much is recorded of it that Linux audit may lose records for every
//! daemon of the machine, and then no test could say who is named.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{
    GOOD, Guard, PATIENCE, Whole, clear_through_file_setattr, not_root, poll, set_flags,
    skip_unless,
};
use rustix::fs::{CWD, IFlags, RenameFlags};
use serde_json::Value;

#[test]
fn four_processes_that_tamper_in_a_loop_lose() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).bystander("evil", b"TAMPERED\n").start();
    let script = r#"
        hammer() { end=$((SECONDS + 3)); while [ $SECONDS -lt $end ]; do "$@"; done; }
        clear() { chattr -i "$FILE"; echo TAMPERED >> "$FILE"; }
        remove() { chattr -i "$FILE"; rm -f "$FILE"; }
        copy() { chattr -i "$FILE"; cp "$DIR/evil" "$FILE"; }
        mode() { chattr -i "$FILE"; chmod 777 "$FILE"; ln -sf /etc/hostname "$FILE"; }
        hammer clear & hammer remove & hammer copy & hammer mode & wait"#;
    guard.sh(script);
    guard.wait_whole();
    guard.wait_settled();
    guard.wait_whole();
    assert!(guard.is_alive());
    let tampering = guard.events_about(&guard.file());
    // Where the guard is quick it only ever has to lock again.
    let healed = |line: &Value| line["kind"] == "restored" || line["kind"] == "relocked";
    assert!(tampering.iter().any(healed), "{}", guard.story());
}

#[test]
fn three_hundred_files_tampered_with_in_a_row_are_all_whole_again() {
    skip_unless!(not_root());
    let names: Vec<_> = (0..300).map(|n| format!("{n:03}.conf")).collect();
    let mut guard = names.iter().fold(Guard::on_disk(), |all, name| all.file(name, GOOD)).start();
    guard.sh(r#"chattr -i "$DIR"/*.conf; for f in "$DIR"/*.conf; do echo TAMPERED >> "$f"; done"#);
    for name in &names {
        guard.wait_whole_at(&guard.path(name));
    }
    guard.wait_settled();
    guard.stop();
    guard.sh(r#"chattr -i "$DIR"/*.conf; for f in "$DIR"/*.conf; do echo TAMPERED >> "$f"; done"#);
    guard.start();
    for name in &names {
        guard.wait_whole_at(&guard.path(name));
    }
    assert!(guard.is_alive());
}

#[test]
fn of_hundreds_of_strangers_each_is_told_and_taken_out_once() {
    skip_unless!(not_root());
    // All fit into the journal and the quarantine.
    const STRANGERS: usize = 800;
    let guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .protect("conf.d")
        .policy("unexpected = \"quarantine\"")
        .start();
    let names: BTreeSet<_> = (0..STRANGERS).map(|n| guard.path(format!("conf.d/{n}"))).collect();
    names.iter().for_each(|path| std::fs::write(path, "stranger").unwrap());
    let told = || {
        let lines = guard.events();
        let created = lines.iter().filter(|line| line["kind"] == "created");
        created.map(|line| PathBuf::from(line["path"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let gone = || !names.iter().any(|path| path.exists());
    poll(
        || (gone() && told().len() >= STRANGERS).then_some(()),
        || format!("{} of {STRANGERS} are told", told().len()),
    );
    guard.wait_settled();
    let told = told();
    assert_eq!(told.len(), STRANGERS, "some are told more than once");
    assert_eq!(&told.into_iter().collect::<BTreeSet<_>>(), &names);
    let kept = || std::fs::read_dir(guard.state().join("quarantine")).unwrap().count();
    poll(|| (kept() == STRANGERS).then_some(()), || format!("{} are kept", kept()));
    let about_one =
        |line: &Value| line["path"].as_str().is_some_and(|p| names.contains(Path::new(p)));
    let failures = guard.events().into_iter().filter(|line| line["kind"] == "sensor-degraded");
    let lost: Vec<_> = failures.filter(about_one).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_stranger_that_comes_again_under_its_name_is_taken_out_again() {
    skip_unless!(not_root());
    let guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .protect("conf.d")
        .policy("unexpected = \"quarantine\"")
        .start();
    let stranger = guard.path("conf.d/stranger");
    for time in 0..50 {
        std::fs::write(&stranger, format!("stranger {time}")).unwrap();
        poll(|| (!stranger.exists()).then_some(()), || format!("{time}\n{}", guard.story()));
    }
    let kept = || std::fs::read_dir(guard.state().join("quarantine")).unwrap().count();
    poll(|| (kept() == 50).then_some(()), || format!("{} kept", kept()));
    assert!(guard.quarantine_holds(b"stranger 0") && guard.quarantine_holds(b"stranger 49"));
}

#[test]
fn a_symlink_swapped_in_and_out_again_and_again_is_never_followed_and_ends_in_a_whole_file() {
    skip_unless!(not_root());
    let builder = Guard::on_disk().file("main.py", GOOD).bystander("shadow", b"root:secret");
    let builder = builder.prepare(|dir| symlink(dir.join("shadow"), dir.join("link")).unwrap());
    let mut guard = builder.start();
    let (file, link, shadow) = (guard.file(), guard.path("link"), guard.path("shadow"));
    let untouched = Whole::of(&shadow).unwrap();
    let start = Instant::now();
    let mut swaps = 0;
    // Now and then the guard is faster for a whole while; less so where no event wakes it.
    while start.elapsed() < Duration::from_secs(2) || (swaps < 2 && start.elapsed() < PATIENCE) {
        let _refused_where_it_is_a_link = clear_through_file_setattr(&file)
            .or_else(|_| set_flags(&file, |flags| flags - IFlags::IMMUTABLE).map(drop));
        let swapped = rustix::fs::renameat_with(CWD, &link, CWD, &file, RenameFlags::EXCHANGE);
        swaps += u32::from(swapped.is_ok());
    }
    assert!(swaps > 1, "no swap got through");
    guard.wait_whole();
    guard.wait_settled();
    guard.wait_whole();
    assert_eq!(untouched.differences(&shadow), "");
    assert!(guard.is_alive());
    // A guard that has so much to do says late how things are.
    let replaced = |line: &Value| line["kind"] == "replaced";
    poll(|| guard.events_about(&file).iter().any(replaced).then_some(()), || guard.story());
}
