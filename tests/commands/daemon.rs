//! While the daemon runs.

use std::os::unix::fs::FileExt as _;

use crate::common::{
    GOOD, Guard, MARKER, Whole, incident_of, is_immutable, not_root, poll, skip_unless, text,
};

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
fn who_protects_accepts_and_releases_is_on_record_with_a_daemon_and_without() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).bystander("other", GOOD).start();
    let other = guard.path("other");
    let asked = |guard: &Guard| {
        for (command, kind) in
            [("protect", "protected"), ("accept", "accepted"), ("release", "released")]
        {
            let mut child = guard.command(&[command.as_ref(), other.as_os_str()]).spawn().unwrap();
            let pid = child.id();
            assert!(child.wait().unwrap().success(), "{command}");
            let told = guard.events_about(&other).pop().unwrap();
            assert_eq!(
                (&told["kind"], &told["actor"]["pid"]),
                (&kind.into(), &pid.into()),
                "{told}"
            );
            assert_eq!(told["actor"]["cmdline"][1], command, "{told}");
            // An older kernel does not say whether it still is the one that asked.
            assert_ne!(told["attribution"]["confidence"], "unknown", "{told}");
        }
    };
    asked(&guard);
    guard.stop();
    asked(&guard);
}

#[test]
fn what_is_accepted_while_the_daemon_runs_is_no_tampering() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).policy("restore = false").start();
    let file = guard.file();
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    poll(
        || guard.events_about(&file).iter().any(|l| l["kind"] == "content-changed").then_some(()),
        || guard.story(),
    );
    guard.expect(0, "accept", &file);
    guard.expect(0, "audit", &file);
    assert!(text(&std::fs::read(&file).unwrap()).contains("TAMPERED"));
    assert_eq!(is_immutable(&file), Some(true));
}

#[test]
fn of_two_who_protect_a_file_at_once_neither_makes_known_good_what_the_other_took() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let large = guard.path("large");
    // Long enough to read that the second asks before the first is answered.
    std::fs::File::create(&large).unwrap().set_len(256 << 20).unwrap();
    let args = ["protect".as_ref(), large.as_os_str()];
    let both = [0, 1].map(|_| guard.command(&args).spawn().unwrap());
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    let lines = guard.events_about(&large);
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["protected"]);
}

#[test]
fn a_control_socket_whose_name_is_taken_away_is_made_again_and_told_of() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let control = guard.control();
    let answers = || guard.steadfast(&["status"]).status.success().then_some(());
    let told = |what: &str| {
        let events = guard.events();
        let notes = events.iter().filter_map(|line| line["note"].as_str());
        notes.filter(|note| note.contains("control socket") && note.contains(what)).count()
    };
    std::fs::remove_file(&control).unwrap();
    poll(answers, || guard.story());
    // A socket that nobody answers on has the name.
    std::fs::remove_file(&control).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&control).unwrap());
    poll(answers, || guard.story());
    poll(|| (told("made again") == 2).then_some(()), || guard.story());
    // What is no socket is somebody's, and stays.
    std::fs::remove_file(&control).unwrap();
    std::fs::write(&control, "mine").unwrap();
    poll(|| (told("is not a socket") == 1).then_some(()), || guard.log());
    assert_eq!(std::fs::read(&control).unwrap(), b"mine");
    std::fs::remove_file(&control).unwrap();
    poll(answers, || guard.story());
    guard.stop();
    assert!(!control.exists());
}
