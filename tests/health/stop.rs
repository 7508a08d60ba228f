//! The end: what is under way is ended, and everything is on record.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::common::{GOOD, Guard, missing, not_root, poll, skip_unless, text};
use crate::http::try_ask;

#[test]
fn a_heal_that_is_under_way_ends_and_is_on_record_before_the_daemon_stops() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let file = guard.file();
    // What is found there takes a moment to read, and the record waits for it.
    let long = vec![b'x'; 128 << 20];
    guard.write_surely(&file, |file| file.write_all_at(&long, 0));
    guard.signal(Signal::TERM);
    let socket = guard.control();
    // Whoever asks is answered as long as it lives.
    let mut states = Vec::new();
    let asked = std::thread::spawn(move || {
        while let Some(answer) = try_ask(&socket, "/readyz") {
            if states.last() != Some(&answer) {
                states.push(answer);
            }
        }
        states
    });
    guard.wait_ended();
    let states = asked.join().unwrap();
    let (code, told) = states.last().expect("an answer");
    assert_eq!((*code, told.starts_with("draining: ")), (503, true), "{states:?}");
    guard.wait_whole();
    let kinds: Vec<String> =
        guard.events().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
    let place = |kind: &str| kinds.iter().position(|known| known == kind);
    let (changed, stopped) = (place("content-changed"), place("stopped"));
    assert!(changed.is_some() && stopped == Some(kinds.len() - 1), "{kinds:?}");
    assert!(place("restored").is_some(), "{kinds:?}");
    assert!(guard.steadfast(&["journal", "verify"]).status.success());
}

/// A file whose reading does not end while the test lasts.
fn make_endless(guard: &Guard) -> PathBuf {
    let endless = guard.path("endless");
    File::create(&endless).unwrap().set_len(1 << 40).unwrap();
    endless
}

/// Waits until the daemon reads it.
fn wait_read(guard: &Guard, file: &Path) {
    let open = format!("/proc/{}/fd", guard.pid());
    let is_read = || {
        let mut links = std::fs::read_dir(&open).unwrap().flatten();
        links.any(|link| std::fs::read_link(link.path()).is_ok_and(|to| to == file)).then_some(())
    };
    poll(is_read, || guard.story());
}

#[test]
fn a_worker_that_does_not_end_holds_up_nothing() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let endless = make_endless(&guard);
    let asking = guard.command(&["protect".as_ref(), endless.as_ref()]);
    let mut asking = { asking }.stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_read(&guard, &endless);
    let began = Instant::now();
    guard.signal(Signal::TERM);
    guard.wait_ended();
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let output = asking.wait().unwrap();
    assert_eq!(output.code(), Some(2), "{}", guard.log());
    assert!(guard.log().contains("a worker did not come to an end"), "{}", guard.log());
    assert_eq!(guard.events().last().unwrap()["kind"], "stopped");
    // What it left half done is gone after the next start.
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
    skip_unless!(missing(&["lsattr"]));
    let flags = crate::common::quiet("lsattr", &[endless.as_os_str()]);
    assert!(!text(&flags.stdout).split(' ').next().unwrap().contains('i'));
}

#[test]
fn what_does_not_end_in_time_is_left_to_the_next_start_and_said() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let endless = make_endless(&guard);
    let before = std::fs::read_to_string(guard.config()).unwrap();
    guard.configure(&format!("{before}\n[[protect]]\npaths = [{endless:?}]\n"));
    guard.signal(Signal::HUP);
    wait_read(&guard, &endless);
    guard.signal(Signal::TERM);
    guard.wait_ended();
    let stopped = guard.events().pop().unwrap();
    assert_eq!((&stopped["kind"], &stopped["severity"]), (&"stopped".into(), &"warning".into()));
    assert!(stopped["note"].as_str().unwrap().contains("under way"), "{stopped}");
}
