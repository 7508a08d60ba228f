//! Without a daemon.

use serde_json::Value;

use crate::common::{
    self, GOOD, MARKER, Place, Sandbox, Whole, chattr, is_immutable, not_root, skip_unless, text,
};
use crate::{keys, protected, set, tamper};

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
    chattr("-i", &file);
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

    chattr("-i", &file);
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
