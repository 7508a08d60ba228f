//! The program itself and its configuration: watched by default, told of, and left as they are.

use std::fs;
use std::path::Path;

use serde_json::Value;

use rustix::process::Signal;

use super::{assert_guards, guard};
use crate::common::{self, GOOD, Guard, TAMPERING, incident_of, not_root, poll, skip_unless};

/// Waits until these are watched, beside the protected file.
fn wait_watched(guard: &Guard, paths: &[&Path]) {
    let watched = |status: &Value| {
        let own = status["own"].as_array().unwrap();
        paths.iter().all(|path| own.iter().any(|one| one["path"] == path.to_str().unwrap()))
    };
    poll(|| watched(&guard.status()).then_some(()), || format!("{}", guard.status()));
    assert_eq!(guard.status()["protected"], 1);
}

/// Waits until what is at `path` counts as right again.
fn wait_adopted(guard: &Guard, path: &Path, after: u64) {
    let later = |line: &Value| line["seq"].as_u64() > Some(after) && line["kind"] == "accepted";
    poll(
        || guard.events_about(path).iter().any(later).then_some(()),
        || format!("{} is not taken for right\n{}", path.display(), guard.story()),
    );
}

fn changes(guard: &Guard, path: &Path) -> usize {
    let lines = guard.events_about(path);
    let told = |line: &&Value| TAMPERING.contains(&line["kind"].as_str().unwrap());
    lines.iter().filter(told).count()
}

/// The messages that wait and tell of `path`.
fn messages(guard: &Guard, path: &Path) -> Vec<String> {
    let name = path.to_str().unwrap();
    let items = fs::read_dir(guard.state().join("spool/items")).unwrap();
    let text = items.filter_map(|item| fs::read_to_string(item.unwrap().path()).ok());
    text.filter(|text| text.contains(name)).collect()
}

fn append(path: &Path, line: &str) -> String {
    format!("echo '{line}' >> {}", path.display())
}

#[test]
fn an_edited_configuration_is_told_of_once_with_who_did_it_and_stays_as_it_was_edited() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).mail().start();
    let config = guard.config();
    wait_watched(&guard, &[&config]);
    let seq = guard.last_seq();
    guard.sh(&append(&config, "# by hand"));
    let incident = incident_of(&guard, &config, seq);
    incident.assert_only(&["content-changed"]).assert_honest();
    wait_adopted(&guard, &config, seq);
    let line = incident.changes().next().unwrap();
    assert_eq!(line["actor"]["comm"], "bash", "{line}");
    assert!(fs::read_to_string(&config).unwrap().ends_with("# by hand\n"));
    assert_ne!(common::is_immutable(&config), Some(true));
    assert_eq!(messages(&guard, &config).len(), 1);

    // Neither a reload tells of it again, nor the next start.
    let told = changes(&guard, &config);
    guard.signal(Signal::HUP);
    let loaded = |line: &Value| line["kind"] == "configuration-loaded";
    poll(|| guard.events().iter().any(loaded).then_some(()), || guard.story());
    guard.stop();
    guard.start();
    wait_watched(&guard, &[&config]);
    assert_eq!(changes(&guard, &config), told, "{}", guard.story());
    assert_eq!(messages(&guard, &config).len(), 1);
    assert_eq!(guard.status()["open_incidents"], 0);
    assert_guards(&guard);
}

#[test]
fn a_configuration_that_is_edited_while_it_is_stopped_is_told_of_at_the_start_and_once() {
    skip_unless!(not_root());
    let mut guard = guard();
    let config = guard.config();
    wait_watched(&guard, &[&config]);
    guard.stop();
    let seq = guard.last_seq();
    guard.sh(&append(&config, "# meanwhile"));
    guard.start();
    let incident = incident_of(&guard, &config, seq);
    incident.assert_any(&["drift-found"]);
    let drift = incident.lines.iter().find(|line| line["kind"] == "drift-found").unwrap();
    assert!(drift["window"].is_object(), "{drift}");
    wait_adopted(&guard, &config, seq);
    let told = changes(&guard, &config);
    guard.stop();
    guard.start();
    wait_watched(&guard, &[&config]);
    assert_guards(&guard);
    assert_eq!(changes(&guard, &config), told, "{}", guard.story());
}

#[test]
fn an_upgrade_is_one_message_about_program_and_configuration_and_none_at_the_restart_after_it() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).mail().start();
    let (config, program) = (guard.config(), guard.path("steadfast"));
    guard.stop();
    guard.run_from(program.clone());
    guard.start();
    wait_watched(&guard, &[&config, &program]);
    let new = program.with_extension("new");
    common::must("cp", &[program.as_os_str(), new.as_os_str()]);
    let seq = guard.last_seq();
    guard.sh(&format!(
        "mv -f {} {}; {}",
        new.display(),
        program.display(),
        append(&config, "# upgraded")
    ));
    let both_told =
        || (changes(&guard, &program) > 0 && changes(&guard, &config) > 0).then_some(());
    poll(both_told, || guard.story());
    // At once, as an installer does: it is on record by then, or told at the start.
    guard.stop();
    guard.start();
    wait_watched(&guard, &[&config, &program]);
    let program_told = incident_of(&guard, &program, seq);
    program_told.assert_any(&["replaced", "deleted", "moved"]);
    incident_of(&guard, &config, seq);
    let about = messages(&guard, &program);
    assert_eq!(about.len(), 1, "{about:#?}");
    assert!(about[0].contains(config.to_str().unwrap()), "{about:#?}");
    assert_guards(&guard);
}

#[test]
fn who_wants_its_configuration_protected_like_any_file_has_it_so_and_lets_it_go_again() {
    skip_unless!(not_root());
    let guard = guard();
    let config = guard.config();
    wait_watched(&guard, &[&config]);
    let not_protected = guard.expect(2, "release", &config);
    assert!(common::text(&not_protected.stderr).contains("not protected"));
    guard.expect(0, "protect", &config);
    assert_eq!(common::is_immutable(&config), Some(true));
    let status = guard.status();
    assert_eq!(status["protected"], 2, "{status}");
    let own = status["own"].as_array().unwrap();
    assert!(own.iter().all(|one| one["path"] != config.to_str().unwrap()), "{status}");
    let before = fs::read(&config).unwrap();
    guard.sh(&format!("chattr -i {0}; {1}", config.display(), append(&config, "# tampered")));
    poll(|| (common::is_immutable(&config) == Some(true)).then_some(()), || guard.story());
    assert_eq!(fs::read(&config).unwrap(), before);
    guard.expect(0, "release", &config);
    wait_watched(&guard, &[&config]);
    // What is watched is none of what an audit compares.
    assert_eq!(guard.json(0, &["audit".as_ref(), "--json".as_ref()])["checked"], 1);
}
