//! The journal: its bit, its lines, its file.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::{assert_guards, assert_said, guard, verify, wait_told};
use crate::common::{self, Guard, not_root, skip_unless};

fn journal(guard: &Guard) -> PathBuf {
    guard.state().join("journal/journal.jsonl")
}

fn soften(path: &Path) {
    common::chattr("-a", path);
}

#[test]
fn a_cleared_append_only_bit_of_the_journal_is_told_and_set_again() {
    skip_unless!(not_root());
    let guard = guard();
    soften(&journal(&guard));
    wait_told(&guard, "append-only");
    assert_said(&guard, "append-only");
    assert!(fs::File::options().write(true).open(journal(&guard)).is_err(), "+a is set again");
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn an_edited_line_of_the_journal_is_noticed_and_verify_still_tells_where() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let path = journal(&guard);
    let text = fs::read_to_string(&path).unwrap();
    let at = text.find("main.py").unwrap();
    let line = text[..at].lines().count();
    soften(&path);
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"X", at as u64).unwrap();
    wait_told(&guard, &format!("from line {line} of journal.jsonl"));
    assert_guards(&guard);
    let (code, said) = verify(&guard);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("line {line}")), "{said}");
}

#[test]
fn a_line_that_somebody_adds_or_cuts_off_is_noticed_and_verify_still_tells_where() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let path = journal(&guard);
    let text = fs::read_to_string(&path).unwrap();
    let foul = text.lines().count() + 1;
    let first = format!("{}\n", text.lines().next().unwrap());
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, first.as_bytes()).unwrap();
    wait_told(&guard, &format!("from line {foul} of journal.jsonl"));
    let (code, said) = verify(&guard);
    assert!(code == Some(1) && said.contains(&format!("line {foul}")), "{said}");

    soften(&path);
    let text = fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap().len() as u64 + 1;
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(text.len() as u64 - last).unwrap();
    let cut =
        wait_told(&guard, &format!("{} bytes and not {}", text.len() as u64 - last, text.len()));
    assert_guards(&guard);
    let (code, said) = verify(&guard);
    assert_eq!(code, Some(1), "{said}");
    assert!(guard.last_seq() > cut["seq"].as_u64().unwrap());
}

#[test]
fn a_removed_journal_file_is_written_again_from_what_is_open() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let before = guard.events();
    soften(&journal(&guard));
    fs::remove_file(journal(&guard)).unwrap();
    wait_told(&guard, "replaced the journal");
    assert_eq!(guard.events()[..before.len()], before[..]);
    assert_eq!(verify(&guard).0, Some(0));
}

/// Lines that tell, critically, that somebody was at the journal.
fn told(guard: &Guard) -> usize {
    let events = guard.events();
    let is = |event: &&serde_json::Value| {
        event["kind"] == "sensor-degraded"
            && event["note"].as_str().is_some_and(|note| note.contains("journal"))
    };
    events.iter().filter(is).count()
}

#[test]
fn what_was_cut_or_edited_while_it_was_stopped_is_told_and_mailed_at_the_start_and_once() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", common::GOOD).mail().start();
    assert_guards(&guard);
    guard.stop();
    let path = journal(&guard);
    soften(&path);
    let text = fs::read_to_string(&path).unwrap();
    let kept: String = text
        .lines()
        .rev()
        .skip(2)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(String::new(), |all, line| all + line + "\n");
    fs::write(&path, &kept).unwrap();
    guard.start();
    wait_told(&guard, &format!("lacks line {}", text.lines().count()));
    assert_said(&guard, "lacks line");
    let items = guard.state().join("spool/items");
    let mailed = || {
        let mut items = fs::read_dir(&items).unwrap().flatten();
        let tells = |text: String| text.contains("lacks line");
        items.any(|item| fs::read_to_string(item.path()).is_ok_and(tells)).then_some(())
    };
    common::poll(mailed, || guard.story());

    // Nothing new at the next start, though the file keeps its fault.
    guard.stop();
    guard.start();
    assert_guards(&guard);
    assert_eq!(told(&guard), 1, "{}", guard.story());
    let status = guard.status();
    let is_state = |one: &&serde_json::Value| one["name"] == "state";
    let state = status["sensors"].as_array().unwrap().iter().find(is_state).unwrap();
    assert_eq!(state["state"], "working", "{status}");

    guard.stop();
    soften(&path);
    let at = fs::read_to_string(&path).unwrap().find("main.py").unwrap();
    let line = kept[..at].lines().count();
    fs::File::options().write(true).open(&path).unwrap().write_all_at(b"X", at as u64).unwrap();
    guard.start();
    wait_told(&guard, &format!("from line {line} of journal.jsonl"));
    guard.stop();
    guard.start();
    assert_guards(&guard);
    assert_eq!(told(&guard), 2, "{}", guard.story());
    let (code, said) = verify(&guard);
    assert!(code == Some(1) && said.contains(&format!("line {line}")), "{said}");
}
