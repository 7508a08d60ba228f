//! What a daemon leaves behind that is killed at any moment, the next one sees to: no copy of its
//! own lies about, and nothing that was taken out of a protected place is without an entry.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{GOOD, Guard, Place, not_root, poll, skip_unless};
use steadfast::baseline::Baseline;

/// Kills of one daemon after the other.
const ROUNDS: u32 = 24;

fn names_in(slot: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(slot).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn database(guard: &Guard) -> Baseline {
    Baseline::open_read_only(&guard.state()).unwrap()
}

/// Everything that lies in `slot` is known: a copy that lies ready, or evidence with an entry.
fn unknown_in(guard: &Guard, slot: &Path) -> BTreeSet<PathBuf> {
    let baseline = database(guard);
    let ready = baseline.all().unwrap().into_iter().filter_map(|r| Some(r.replica?.path));
    let kept = baseline.evidence(None).unwrap().into_iter().map(|one| one.lies_at());
    let known: BTreeSet<PathBuf> = ready.chain(kept).collect();
    names_in(slot).difference(&known).cloned().collect()
}

fn assert_tidy(guard: &Guard, slot: &Path) {
    let unknown = || unknown_in(guard, slot);
    poll(
        || unknown().is_empty().then_some(()),
        || format!("left in the slot: {:?}\n{}", unknown(), guard.story()),
    );
    let quarantine = guard.state().join("quarantine");
    let entries = || -> BTreeSet<PathBuf> {
        database(guard).evidence(None).unwrap().into_iter().map(|one| one.location).collect()
    };
    // What a start finds is entered while it is on guard already.
    poll(
        || (names_in(&quarantine) == entries()).then_some(()),
        || format!("{:?}, not {:?}\n{}", names_in(&quarantine), entries(), guard.story()),
    );
    let verify = guard.steadfast(&["journal", "verify"]);
    common::assert_code(&verify, 0, "journal verify");
}

/// Each round one file is written to with a word of its own, and the daemon is killed so much
/// later; a killed one does not stop anybody from writing on.
fn kill_again_and_again(mut guard: Guard, slot: &Path) {
    let files = [guard.path("a.py"), guard.path("b.py")];
    let mut words = Vec::new();
    for round in 0..ROUNDS {
        let word = format!("[word {round} of the tamperer]");
        let file = &files[round as usize % files.len()];
        guard.write_surely(file, |file| {
            file.seek(SeekFrom::End(0))?;
            file.write_all(word.as_bytes())
        });
        words.push(word);
        // From before it is noticed until after it is on record.
        std::thread::sleep(Duration::from_micros(700) * (round * round));
        guard.kill();
        guard.start();
    }
    for file in &files {
        guard.wait_whole_at(file);
    }
    guard.wait_settled();
    guard.stop();
    guard.start();
    assert_tidy(&guard, slot);
    let kept = database(&guard).evidence(None).unwrap();
    let content: Vec<Vec<u8>> =
        kept.iter().filter_map(|one| std::fs::read(one.lies_at()).ok()).collect();
    for word in &words {
        let holds = |bytes: &&Vec<u8>| bytes.windows(word.len()).any(|w| w == word.as_bytes());
        assert!(content.iter().any(|one| holds(&one)), "{word} is lost\n{}", guard.story());
    }
    assert!(words.len() >= 4, "too little got through at once to tell");
    for file in &files {
        assert!(kept.iter().any(|one| one.path == *file), "evidence of {}", file.display());
    }
}

#[test]
fn nothing_is_left_over_by_daemons_that_are_killed() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("a.py", GOOD).file("b.py", b"other\n").start();
    let slot = guard.state().join("replicas");
    kill_again_and_again(guard, &slot);
}

#[test]
fn nothing_is_left_over_on_another_filesystem_by_daemons_that_are_killed() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let slot = place.mount_point().join(".steadfast");
    let guard = Guard::on(place).file("a.py", GOOD).file("b.py", b"other\n").start();
    kill_again_and_again(guard, &slot);
}

/// Stopped, with something put in the slot that the next daemon has to judge.
fn find(name: impl Fn(u64) -> String, content: &[u8]) -> (Guard, PathBuf) {
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    guard.wait_settled();
    guard.stop();
    let slot = guard.state().join("replicas");
    let new = slot.join("new");
    std::fs::write(&new, content).unwrap();
    let left = slot.join(name(common::inode(&new)));
    std::fs::rename(&new, &left).unwrap();
    guard.start();
    assert_tidy(&guard, &slot);
    assert!(!left.exists(), "{}", guard.story());
    (guard, left)
}

#[test]
fn a_copy_that_was_cut_short_is_removed_and_is_no_evidence() {
    skip_unless!(not_root());
    let (guard, _) = find(|_| "unfinished-64a1f0-1c-0".into(), &GOOD[..5]);
    assert!(guard.quarantine().is_empty());
}

#[test]
fn a_copy_that_somebody_wrote_to_is_evidence() {
    skip_unless!(not_root());
    let (guard, _) = find(|ino| format!("64a1f0-1c-0-1-{ino:x}"), b"TAMPERED");
    assert!(guard.quarantine_holds(b"TAMPERED"));
}

#[test]
fn what_was_taken_out_is_told_with_its_path_and_shown_by_diff() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let first = common::inode(&guard.file());
    guard.wait_settled();
    guard.stop();
    let left = guard.state().join("replicas").join(format!("64a1f0-1c-0-{first:x}-1"));
    std::fs::write(&left, "TAMPERED\n").unwrap();
    guard.start();
    assert_tidy(&guard, &guard.state().join("replicas"));
    let file = guard.file();
    let lines = guard.events_about(&file);
    let told = |line: &&serde_json::Value| {
        line["note"].as_str().is_some_and(|note| note.contains("quarantine"))
    };
    assert_eq!(lines.iter().filter(told).count(), 1, "{}", guard.story());
    let last = guard.steadfast_os(&["diff".as_ref(), "--last".as_ref(), file.as_os_str()]);
    common::assert_code(&last, 1, "diff --last");
    assert!(common::text(&last.stdout).contains("+TAMPERED"), "{}", common::text(&last.stdout));
}

#[test]
fn what_lies_in_the_quarantine_without_an_entry_is_entered_again() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let file = guard.file();
    guard.write_surely(&file, |file| file.write_all(b"TAMPERED"));
    guard.wait_whole();
    guard.wait_settled();
    guard.stop();
    let baseline = Baseline::open(&guard.state()).unwrap();
    let before = baseline.evidence(None).unwrap();
    assert!(!before.is_empty());
    for one in &before {
        baseline.remove_evidence(one.id).unwrap();
    }
    drop(baseline);
    guard.start();
    assert_tidy(&guard, &guard.state().join("replicas"));
    let places = |all: Vec<steadfast::baseline::Evidence>| -> BTreeSet<_> {
        all.into_iter().map(|one| (one.path, one.incident, one.location)).collect()
    };
    assert_eq!(places(database(&guard).evidence(Some(&file)).unwrap()), places(before));
}

#[test]
fn diff_shows_what_was_left_on_its_own_filesystem() {
    skip_unless!(not_root());
    let place = match Place::new("tmpfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let guard = Guard::on(place).file("main.py", GOOD).start();
    let file = guard.file();
    guard.write_surely(&file, |file| file.write_all(b"TAMPERED"));
    guard.wait_whole();
    guard.wait_settled();
    let last = guard.steadfast_os(&["diff".as_ref(), "--last".as_ref(), file.as_os_str()]);
    common::assert_code(&last, 1, "diff --last");
    let shown = common::text(&last.stdout);
    assert!(shown.contains("+TAMPERED") && !shown.contains("symlink"), "{shown}");
}
