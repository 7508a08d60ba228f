//! The commands a person types, without a daemon and with one, and the shapes of their JSON.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use common::{
    GOOD, Guard, MARKER, Place, Sandbox, Whole, incident_of, is_immutable, not_root, set_flags,
    skip_unless, text,
};
use rustix::fs::IFlags;
use serde_json::Value;

/// A sandbox without a daemon, and one protected file in it.
fn protected() -> (Sandbox, PathBuf, Whole) {
    let sandbox = Sandbox::on(Place::disk());
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let good = Whole::of(&file).unwrap();
    assert_eq!(good.immutable, Some(true));
    (sandbox, file, good)
}

fn tamper(file: &Path) {
    set_flags(file, |flags| flags - IFlags::IMMUTABLE).unwrap();
    std::fs::write(file, b"# good\nprint('TAMPERED')\n").unwrap();
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

fn set<'a>(names: &'a [&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

// Without a daemon.

#[test]
fn an_audit_of_whole_files_finds_nothing() {
    skip_unless!(not_root());
    let (sandbox, file, good) = protected();
    let audit = sandbox.json(0, &["audit".as_ref(), "--json".as_ref()]);
    assert_eq!(keys(&audit), set(&["checked", "drifted", "unreadable", "duration_ms", "findings"]));
    assert_eq!((&audit["checked"], &audit["drifted"]), (&1.into(), &0.into()));
    assert_eq!(audit["findings"], Value::Array(Vec::new()));
    assert_eq!(good.differences(&file), "", "an audit touches nothing");
}

#[test]
fn an_audit_finds_drift_a_restore_heals_it_and_the_next_audit_is_content() {
    skip_unless!(not_root());
    let (sandbox, file, good) = protected();
    tamper(&file);
    let args = ["audit".as_ref(), "--json".as_ref(), file.as_os_str()];
    let audit = sandbox.json(1, &args);
    assert_eq!((&audit["drifted"], &audit["unreadable"]), (&1.into(), &0.into()));
    let finding = &audit["findings"][0];
    assert_eq!(keys(finding), set(&["path", "kinds", "expected", "actual"]));
    assert_eq!(finding["path"].as_str(), file.to_str());
    let kinds: Vec<_> = finding["kinds"].as_array().unwrap().iter().collect();
    assert!(kinds.contains(&&"content-changed".into()), "{finding}");
    assert!(kinds.contains(&&"immutable-cleared".into()), "{finding}");
    let (expected, actual) = (keys(&finding["expected"]), keys(&finding["actual"]));
    assert_eq!(expected, actual, "the same facts, before and after");
    assert!(expected.contains("sha256") && expected.contains("size"), "{finding}");
    assert!(!expected.contains("uid"), "only facts that differ: {finding}");

    let told = text(&sandbox.expect(1, "audit", &file).stdout);
    assert!(told.contains("main.py") && told.contains("content"), "{told}");
    assert_eq!(is_immutable(&file), Some(false), "an audit puts nothing right");

    sandbox.expect(0, "restore", &file);
    assert_eq!(good.differences(&file), "");
    sandbox.expect(0, "audit", &file);
    assert!(sandbox.quarantine_holds(MARKER), "what was restored over is kept");
}

#[test]
fn an_audit_finds_a_missing_file_and_goes_on_with_the_others() {
    skip_unless!(not_root());
    let (sandbox, file, good) = protected();
    let other = sandbox.path("other");
    common::write_old(&other, b"other");
    sandbox.expect(0, "protect", &other);
    set_flags(&file, |flags| flags - IFlags::IMMUTABLE).unwrap();
    std::fs::remove_file(&file).unwrap();
    let audit = sandbox.json(1, &["audit".as_ref(), "--json".as_ref()]);
    assert_eq!((&audit["checked"], &audit["drifted"]), (&2.into(), &1.into()));
    assert_eq!(audit["findings"][0]["kinds"][0], "deleted");
    sandbox.expect(0, "restore", &file);
    assert_eq!(good.differences(&file), "");
}

#[test]
fn a_released_file_stays_as_it_is_and_loses_the_bit() {
    skip_unless!(not_root());
    let (sandbox, file, good) = protected();
    sandbox.expect(0, "release", &file);
    assert_eq!(is_immutable(&file), Some(false));
    assert_eq!(Whole { immutable: Some(false), ..good }.differences(&file), "");
    let audit = sandbox.json(0, &["audit".as_ref(), "--json".as_ref()]);
    assert_eq!(audit["checked"], 0);
    assert!(sandbox.events_about(&file).iter().any(|line| line["kind"] == "released"));
}

#[test]
fn what_is_accepted_is_known_good_from_then_on() {
    skip_unless!(not_root());
    let (sandbox, file, _) = protected();
    tamper(&file);
    let args = ["accept".as_ref(), "--reason".as_ref(), "a deploy".as_ref(), file.as_os_str()];
    assert_eq!(sandbox.steadfast_os(&args).status.code(), Some(0));
    assert_eq!(is_immutable(&file), Some(true));
    let accepted = Whole::of(&file).unwrap();
    assert!(text(&accepted.content).contains("TAMPERED"));
    sandbox.expect(0, "audit", &file);
    let events = sandbox.events_about(&file);
    let line = events.iter().find(|line| line["kind"] == "accepted").expect("a line");
    assert!(line["note"].as_str().is_some_and(|note| note.contains("a deploy")), "{line}");

    set_flags(&file, |flags| flags - IFlags::IMMUTABLE).unwrap();
    std::fs::write(&file, b"something else").unwrap();
    sandbox.expect(0, "restore", &file);
    assert_eq!(accepted.differences(&file), "");
}

#[test]
fn a_diff_shows_what_is_known_good_against_what_is_there() {
    skip_unless!(not_root());
    let (sandbox, file, _) = protected();
    let same = text(&sandbox.steadfast_os(&["diff".as_ref(), file.as_os_str()]).stdout);
    assert!(!same.contains("+print"), "{same}");
    tamper(&file);
    let diff = text(&sandbox.steadfast_os(&["diff".as_ref(), file.as_os_str()]).stdout);
    assert!(diff.contains("-print('good')") && diff.contains("+print('TAMPERED')"), "{diff}");
}

#[test]
fn protecting_twice_changes_nothing() {
    skip_unless!(not_root());
    let (sandbox, file, good) = protected();
    sandbox.expect(0, "protect", &file);
    assert_eq!(good.differences(&file), "");
    let audit = sandbox.json(0, &["audit".as_ref(), "--json".as_ref()]);
    assert_eq!(audit["checked"], 1);
}

#[test]
fn a_symlink_to_a_file_protects_the_file_it_leads_to() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let file = sandbox.path("real.py");
    common::write_old(&file, GOOD);
    std::os::unix::fs::symlink("real.py", sandbox.path("link.py")).unwrap();
    std::os::unix::fs::symlink(sandbox.dir(), sandbox.path("dir-link")).unwrap();
    sandbox.expect(0, "protect", &sandbox.path("dir-link/real.py"));
    assert_eq!(is_immutable(&file), Some(true));
    tamper(&file);
    let audit = sandbox.json(1, &["audit".as_ref(), "--json".as_ref()]);
    assert_eq!(audit["findings"][0]["path"].as_str(), file.to_str(), "by its real name");
}

// With one.

#[test]
fn commands_go_through_the_daemon_while_it_runs() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).bystander("other", GOOD).start();
    let other = guard.path("other");
    guard.expect(0, "protect", &other);
    let good = Whole::of(&other).unwrap();
    assert_eq!(good.immutable, Some(true));
    assert_eq!(guard.status()["protected"], 2);
    guard.regard_as_good(&other, good);
    guard.write_surely(&other, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole_at(&other);
    incident_of(&guard, &other, 0).assert_healed();

    guard.expect(0, "release", &other);
    assert_eq!(is_immutable(&other), Some(false));
    std::fs::write(&other, b"mine again").unwrap();
    assert_eq!(guard.status()["protected"], 1);
    guard.expect(0, "protect", &other);
    assert_eq!(std::fs::read(&other).unwrap(), b"mine again");

    // What a person protected stays protected over a restart.
    guard.stop();
    guard.start();
    assert_eq!(guard.status()["protected"], 2);
}

#[test]
fn what_is_accepted_while_the_daemon_runs_is_no_tampering() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).policy("restore = false").start();
    let file = guard.file();
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    common::poll(
        || guard.events_about(&file).iter().any(|l| l["kind"] == "content-changed").then_some(()),
        || guard.story(),
    );
    guard.expect(0, "accept", &file);
    guard.expect(0, "audit", &file);
    assert!(text(&std::fs::read(&file).unwrap()).contains("TAMPERED"));
    assert_eq!(is_immutable(&file), Some(true));
}

#[test]
fn status_has_the_promised_shape() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let status = guard.status();
    for key in ["state", "pid", "since", "protected", "sensors", "windows", "open_incidents"] {
        assert!(status.get(key).is_some(), "{key} is not in {status}");
    }
    assert_eq!(status["pid"], guard.pid());
    assert_eq!(status["protected"], 1);
    assert_eq!(status["open_incidents"], 0);
    assert!(status["worst_case_notice_ms"].as_u64() > Some(0));
    let sensors = status["sensors"].as_array().unwrap();
    for sensor in sensors {
        assert_eq!(keys(sensor), set(&["name", "state", "why"]));
        let state = sensor["state"].as_str().unwrap();
        assert!(["working", "degraded", "unavailable"].contains(&state), "{sensor}");
        assert_eq!(state == "working", sensor["why"] == "", "{sensor}");
    }
    for name in ["fanotify", "open-permission", "mounts", "sweep"] {
        assert!(sensors.iter().any(|sensor| sensor["name"] == name), "{name}: {status}");
    }
    let told = text(&guard.steadfast(&["status"]).stdout);
    assert!(told.contains("watching") || told.contains("degraded"), "{told}");
}

#[test]
fn events_have_the_promised_shape() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    guard.sh(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE""#);
    guard.wait_whole();
    let incident = incident_of(&guard, &guard.file(), 0);
    let promised = set(&[
        "seq",
        "time",
        "kind",
        "path",
        "incident",
        "severity",
        "before",
        "after",
        "actor",
        "attribution",
        "others",
        "response",
        "prev",
        "hash",
    ]);
    for line in &incident.lines {
        let mut keys = keys(line);
        keys.remove("note");
        assert_eq!(keys, promised, "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "RFC 3339 in UTC: {time}");
        assert_eq!(crate::keys(&line["attribution"]), set(&["source", "confidence"]));
        for response in line["response"].as_array().unwrap() {
            assert_eq!(crate::keys(response), set(&["action", "outcome", "took_us"]));
        }
    }
    let named = incident.lines.iter().find(|line| line["actor"].is_object()).expect("a name");
    assert_eq!(
        keys(&named["actor"]),
        set(&[
            "pid",
            "start_time",
            "comm",
            "exe",
            "cmdline",
            "cwd",
            "tty",
            "uid",
            "user",
            "login_uid",
            "login_user",
            "session",
            "ppid",
            "ancestry",
            "cgroup",
            "unit",
            "user_unit",
            "container",
            "container_name",
        ])
    );
    let ancestry = named["actor"]["ancestry"].as_array().unwrap();
    for ancestor in ancestry {
        assert_eq!(keys(ancestor), set(&["pid", "comm", "exe", "cmdline"]));
    }
    assert!(ancestry.iter().any(|one| one["pid"] == std::process::id()), "{named}");
    assert_eq!(ancestry.last().unwrap()["pid"], 1, "up to pid 1: {named}");
    let daemons_life: BTreeSet<_> =
        guard.events().iter().map(|l| l["kind"].clone().to_string()).collect();
    assert!(daemons_life.contains("\"started\""), "{daemons_life:?}");
}

#[test]
fn events_can_be_narrowed_to_a_path_and_a_time() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("a.py", GOOD).file("b.py", GOOD).start();
    for name in ["a.py", "b.py"] {
        guard.write_surely(&guard.path(name), |file| file.write_all_at(MARKER, 2));
        guard.wait_whole_at(&guard.path(name));
        incident_of(&guard, &guard.path(name), 0);
    }
    let lines = |args: &[&str]| {
        let output = guard.steadfast(&[&["events", "--json"], args].concat());
        common::assert_code(&output, 0, "events");
        text(&output.stdout)
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect::<Vec<Value>>()
    };
    let a = guard.path("a.py");
    let about_a = lines(&[a.to_str().unwrap()]);
    assert!(!about_a.is_empty());
    assert!(about_a.iter().all(|line| line["path"].as_str() == a.to_str()));
    assert_eq!(lines(&["--since", "24h"]).len(), guard.events().len());
    let told = text(&guard.steadfast(&["events"]).stdout);
    assert!(told.contains("a.py") && told.contains("content changed"), "{told}");
}

#[test]
fn who_ranks_the_culprits_of_a_file() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    for _ in 0..3 {
        let seq = guard.last_seq();
        guard.sh(r#"chattr -i "$FILE""#);
        guard.wait_whole();
        incident_of(&guard, &guard.file(), seq).assert_names(&["chattr".to_owned()]);
    }
    let file = guard.file();
    let who = guard.json(0, &["who".as_ref(), "--json".as_ref(), file.as_os_str()]);
    assert_eq!(
        keys(&who),
        set(&[
            "path",
            "incidents",
            "culprits",
            "hours",
            "weekdays",
            "undated",
            "pattern",
            "pattern_unit",
            "timeline",
            "last",
        ])
    );
    assert_eq!(who["path"].as_str(), file.to_str());
    assert_eq!(who["incidents"], 3);
    let hours = who["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    assert_eq!(hours.iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    let culprit = &who["culprits"][0];
    assert_eq!(
        keys(culprit),
        set(&[
            "exe",
            "comm",
            "cmdline",
            "user",
            "login_user",
            "unit",
            "user_unit",
            "timer",
            "container",
            "container_name",
            "count",
            "first",
            "last",
            "names",
            "only_opener",
            "pattern",
        ])
    );
    assert_eq!((culprit["comm"].as_str(), &culprit["count"]), (Some("chattr"), &3.into()));
    assert_eq!(culprit["user"], "root");
    assert!(who["last"]["seq"].is_u64(), "an event: {who}");
    let timeline = who["timeline"].as_array().unwrap();
    assert_eq!(timeline.len(), 3, "incidents, not lines: {who}");
    assert!(timeline.iter().all(|moment| moment["culprit"] == 0), "{who}");
    // Three times within moments are not three times a day.
    assert!(who["pattern"].is_null(), "{who}");
    let directory = guard.json(0, &["who".as_ref(), "--json".as_ref(), guard.dir().as_os_str()]);
    assert_eq!(directory["incidents"], 3);
    let told = text(&guard.expect(0, "who", &file).stdout);
    assert!(told.contains("chattr"), "{told}");
}

// The journal.

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
    set_flags(&journal, |flags| flags - IFlags::APPEND - IFlags::IMMUTABLE).unwrap();
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
