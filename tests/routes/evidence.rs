//! What was found in the place of a protected file is kept, however much of it there is; and
//! what cannot be kept is told.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::common::{
    self, GOOD, Guard, MARKER, Place, exchange_surely, not_root, poll, report_skip, skip_unless,
};

/// More pieces than are read of one incident.
const PIECES: usize = 12;

/// Tampers until `enough`, so fast that it is one contested incident, each time with a word of
/// its own.
fn storm<T>(guard: &Guard, mut enough: impl FnMut() -> Option<T>) -> (Vec<String>, T) {
    let mut words = Vec::new();
    let end = poll(
        || {
            let word = format!("[tampered {:04}]", words.len());
            guard.write_surely(&guard.file(), |file| file.write_all_at(word.as_bytes(), 2));
            words.push(word);
            guard.wait_whole();
            enough()
        },
        || guard.story(),
    );
    (words, end)
}

fn told(guard: &Guard) -> Option<serde_json::Value> {
    guard.events_about(&guard.file()).into_iter().find(|line| line["kind"] == "evidence-removed")
}

fn tree(at: &Path) {
    std::fs::create_dir_all(at.join("deep/inside")).unwrap();
    std::fs::write(at.join("deep/inside/loot"), MARKER).unwrap();
}

#[test]
fn all_that_a_storm_leaves_is_kept_and_so_is_a_tree_that_comes_last() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).prepare(|dir| tree(&dir.join("tree")));
    let guard = guard.start();
    let (words, ()) = storm(&guard, || (guard.quarantine().len() >= PIECES).then_some(()));
    exchange_surely(&guard, &guard.file(), &guard.path("tree"));
    guard.wait_whole();
    for word in words.iter().map(String::as_bytes).chain([MARKER]) {
        let held = || guard.quarantine_holds(word).then_some(());
        poll(held, || format!("{} is lost\n{}", common::text(word), guard.story()));
    }
    assert_eq!(told(&guard), None, "nothing had to go");
}

#[test]
fn on_a_disk_that_is_nearly_full_it_is_told_what_is_not_kept_and_a_tree_is_kept_all_the_same() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(reason) => return report_skip(&reason),
    };
    let guard = Guard::on(place).file("main.py", GOOD).prepare(|dir| {
        tree(&dir.join("tree"));
        let disk = rustix::fs::statvfs(dir).unwrap();
        let filler = std::fs::File::create(dir.join("filler")).unwrap();
        let all_but = (disk.f_bavail - disk.f_blocks / 50) * disk.f_frsize;
        let flags = rustix::fs::FallocateFlags::empty();
        rustix::fs::fallocate(&filler, flags, 0, all_but).unwrap();
    });
    let guard = guard.start();
    let (words, line) = storm(&guard, || told(&guard));
    let note = line["note"].as_str().unwrap();
    assert!(note.contains("nearly full") && note.contains("bytes"), "{note}");
    assert!(guard.quarantine_holds(words[0].as_bytes()), "what began it is kept");
    exchange_surely(&guard, &guard.file(), &guard.path("tree"));
    guard.wait_whole();
    // It lies on its own disk, and the quarantine has a link to it.
    let holds = || {
        let mut all = std::fs::read_dir(guard.state().join("quarantine")).unwrap().flatten();
        all.find(|entry| entry.path().join("deep/inside/loot").is_file())
    };
    poll(holds, || format!("the tree is gone\n{}", guard.story()));
}
