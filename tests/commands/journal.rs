//! The journal's chain, and what was done to it.

use std::path::PathBuf;

use rustix::fs::IFlags;
use serde_json::Value;

use crate::common::{self, Sandbox, chattr, not_root, skip_unless, text};
use crate::{protected, tamper};

/// A journal of several lines, its file and its bytes.
fn journal() -> (Sandbox, PathBuf, Vec<u8>) {
    let (sandbox, file, _) = protected();
    for _ in 0..4 {
        tamper(&file);
        sandbox.expect(0, "restore", &file);
    }
    let dir = sandbox.state().join("journal");
    let holds_lines = |path: &PathBuf| std::fs::read(path).is_ok_and(|b| b.starts_with(b"{"));
    let files: Vec<_> =
        std::fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()).filter(holds_lines).collect();
    let [journal] = files.as_slice() else { panic!("one journal file: {files:?}") };
    let bytes = std::fs::read(journal).unwrap();
    assert!(bytes.iter().filter(|byte| **byte == b'\n').count() >= 5, "{}", text(&bytes));
    (sandbox, journal.clone(), bytes)
}

/// Writes `lines` in place of the journal; `journal verify` has to find it and say where.
fn assert_found(lines: impl Fn(&mut Vec<String>), wherein: &[&str]) {
    let (sandbox, journal, pristine) = journal();
    assert_eq!(sandbox.steadfast(&["journal", "verify"]).status.code(), Some(0));
    let mut all: Vec<_> = text(&pristine).lines().map(|line| format!("{line}\n")).collect();
    lines(&mut all);
    chattr("-ai", &journal);
    std::fs::write(&journal, all.concat()).unwrap();
    let verify = sandbox.steadfast(&["journal", "verify"]);
    common::assert_code(&verify, 1, "journal verify");
    let told = text(&verify.stdout) + &text(&verify.stderr);
    assert!(wherein.iter().any(|place| told.contains(place)), "{wherein:?} is not in: {told}");
}

#[test]
fn the_journal_is_append_only() {
    skip_unless!(not_root());
    let (_sandbox, journal, _) = journal();
    let file = std::fs::File::open(&journal).unwrap();
    assert!(rustix::fs::ioctl_getflags(&file).unwrap().contains(IFlags::APPEND));
    assert!(std::fs::OpenOptions::new().write(true).open(&journal).is_err());
}

#[test]
fn an_edited_line_of_the_journal_is_found() {
    skip_unless!(not_root());
    assert_found(|lines| lines[2] = lines[2].replace("main.py", "mail.py"), &["3"]);
}

#[test]
fn a_removed_line_of_the_journal_is_found() {
    skip_unless!(not_root());
    assert_found(|lines| drop(lines.remove(2)), &["3"]);
}

#[test]
fn reordered_lines_of_the_journal_are_found() {
    skip_unless!(not_root());
    assert_found(|lines| lines.swap(2, 3), &["3"]);
}

#[test]
fn a_line_of_the_journal_that_was_cut_is_found() {
    skip_unless!(not_root());
    assert_found(
        |lines| {
            let last = lines.last_mut().unwrap();
            last.truncate(last.len() / 2);
        },
        &["cut", "line", "incomplete"],
    );
}

#[test]
fn what_a_crash_may_have_left_behind_the_last_line_is_said_to_be_no_line() {
    skip_unless!(not_root());
    let (sandbox, journal, pristine) = journal();
    chattr("-ai", &journal);
    std::fs::write(&journal, [pristine.as_slice(), &[0; 100]].concat()).unwrap();
    let verify = sandbox.steadfast(&["journal", "verify"]);
    common::assert_code(&verify, 0, "journal verify");
    let told = text(&verify.stdout);
    assert!(told.contains("100 bytes at its end are no whole line"), "{told}");
}

#[test]
fn a_journal_that_lost_its_last_lines_is_found_out() {
    skip_unless!(not_root());
    assert_found(|lines| lines.truncate(lines.len() - 2), &["line", "missing", "shorter"]);
}

#[test]
fn the_whole_journal_gone_is_found_out() {
    skip_unless!(not_root());
    assert_found(Vec::clear, &["journal"]);
}

#[test]
fn a_journal_that_was_rehashed_after_an_edit_is_not_taken_for_the_old_one() {
    skip_unless!(not_root());
    // Whoever forges the last line with a hash of its own still differs from what is known.
    assert_found(
        |lines| {
            let last = lines.last_mut().unwrap();
            let mut line: Value = serde_json::from_str(last).unwrap();
            line["hash"] = "0".repeat(64).into();
            *last = format!("{line}\n");
        },
        &["line", "hash"],
    );
}
