//! Mounts that come and go.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{self, GOOD, Guard, MARKER, Place, incident_of, not_root, skip_unless};

/// Busy for a moment is fair; held for good is not.
fn unmount(guard: &Guard) {
    let at = guard.place.mount_point();
    common::poll(|| guard.place.unmount().ok(), || format!("{} is held", at.display()));
}

/// What a health check hears.
fn readiness(guard: &Guard) -> String {
    let mut stream = UnixStream::connect(guard.control()).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: steadfast\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer
}

/// The paths of which `status` says that they are not mounted.
fn said_to_be_away(status: &Value) -> Vec<PathBuf> {
    let away = |lack: &&Value| lack["why"].as_str().unwrap().contains("is not mounted");
    let lacks = status["shortcomings"].as_array().unwrap().iter().filter(away);
    let mut paths: Vec<_> = lacks.map(|lack| lack["path"].as_str().unwrap().into()).collect();
    paths.sort();
    paths
}

/// The lines about a sensor, by kind, that have `words`.
fn told(guard: &Guard, kind: &str, words: &str) -> Vec<Value> {
    let is = |line: &Value| line["kind"] == kind && line["note"].to_string().contains(words);
    guard.events().into_iter().filter(is).collect()
}

#[test]
fn status_says_what_is_not_mounted_and_it_is_told_when_it_is_again() {
    skip_unless!(not_root());
    let mut guard = Guard::on(place!("ext4")).file("a", GOOD).file("b", GOOD).start();
    let at = guard.place.mount_point().to_owned();
    assert!(!readiness(&guard).contains("filesystems"));
    unmount(&guard);
    let says = |answer: String| answer.contains("degraded: ") && answer.contains("filesystems");
    common::poll(|| says(readiness(&guard)).then_some(()), || guard.story());
    let status = guard.status();
    assert_eq!(status["state"], "degraded");
    assert_eq!(said_to_be_away(&status), [guard.path("a"), guard.path("b")], "{status}");
    let lines = status["sensors"].as_array().unwrap();
    let line = lines.iter().find(|line| line["name"] == "filesystems").unwrap();
    assert_eq!(line["state"], "degraded");
    assert!(line["why"].as_str().unwrap().contains(at.to_str().unwrap()), "{line}");

    guard.place_mut().mount().unwrap();
    let says = || (!readiness(&guard).contains("filesystems")).then_some(());
    common::poll(says, || guard.story());
    assert_eq!(said_to_be_away(&guard.status()), [] as [PathBuf; 0]);
    guard.wait_whole();
    guard.wait_settled();
    // One line for all that is there, each time.
    for (kind, words) in
        [("sensor-degraded", "is not mounted"), ("sensor-recovered", "a filesystem is mounted at")]
    {
        let lines = told(&guard, kind, words);
        assert_eq!(lines.len(), 1, "{kind}\n{}", guard.story());
        assert_eq!(lines[0]["path"].as_str().map(Path::new), Some(&*at));
    }
    let tampering = |line: &Value| line["incident"].is_string();
    assert!(!guard.events().iter().any(tampering), "{}", guard.story());
}

#[test]
fn what_another_filesystem_at_the_same_place_lacks_is_put_back_and_each_file_told_of() {
    skip_unless!(not_root());
    let place = place!("ext4");
    let at = place.mount_point().to_owned();
    let top = ["f", "g"].map(|name| at.join(name));
    top.iter().for_each(|path| common::write_old(path, GOOD));
    let guard = Guard::on(place).file("a", GOOD).protect(&top[0]).protect(&top[1]).start();
    let image = at.with_file_name("other");
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    common::must("mkfs.ext4", &["-q".as_ref(), image.as_ref()]);
    let seq = guard.last_seq();
    unmount(&guard);
    common::must("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
    for path in top.iter().chain([&guard.file()]) {
        let back = || std::fs::read(path).is_ok_and(|is| is == GOOD).then_some(());
        common::poll(back, || guard.story());
        incident_of(&guard, path, seq).assert_any(&["deleted"]).assert_healed().assert_honest();
    }
}

#[test]
fn a_filesystem_can_be_unmounted_while_its_files_are_guarded_and_comes_back_guarded() {
    skip_unless!(not_root());
    let mut guard = Guard::on(place!("ext4")).file("main.py", GOOD).start();
    let at = guard.place.mount_point().to_owned();
    unmount(&guard);

    // Long enough for two sweeps: what must not happen has no event to wait for.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let below: Vec<_> = std::fs::read_dir(&at).unwrap().flatten().map(|e| e.path()).collect();
    assert!(below.is_empty(), "restored onto the mount point: {below:?}\n{}", guard.story());
    assert!(guard.is_alive());

    guard.place_mut().mount().unwrap();
    guard.wait_whole();
    guard.wait_settled();
    let seq = guard.last_seq();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &guard.file(), seq).assert_healed();
}

#[test]
fn nothing_is_made_where_a_filesystem_is_not_mounted_and_a_mount_that_comes_back_stays() {
    skip_unless!(not_root());
    let mut guard = Guard::on(place!("xfs")).file("main.py", GOOD).start();
    let at = guard.place.mount_point().to_owned();
    unmount(&guard);
    // Its canaries and copies have no place now.
    let tested = guard.steadfast(&["selftest"]);
    let entries = || std::fs::read_dir(&at).unwrap().flatten().map(|e| e.path());
    assert_eq!(entries().count(), 0, "{:?}\n{tested:?}", entries().collect::<Vec<_>>());

    guard.place_mut().mount().unwrap();
    guard.wait_whole();
    guard.wait_settled();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    let kinds: Vec<_> = guard.events().iter().map(|line| line["kind"].clone()).collect();
    assert!(!kinds.iter().any(|kind| kind == "shadowed"), "{}", guard.story());
}

#[test]
fn where_a_whole_filesystem_is_guarded_strangers_go_and_what_steadfast_keeps_there_stays() {
    skip_unless!(not_root());
    let place = place!("ext4");
    let root = place.mount_point().to_owned();
    let guard = Guard::on(place)
        .file("main.py", GOOD)
        .protect(&root)
        .policy("unexpected = \"quarantine\"")
        .start();
    let stranger = root.join("stranger");
    std::fs::write(&stranger, MARKER).unwrap();
    common::poll(|| (!stranger.exists()).then_some(()), || guard.story());
    common::poll(|| guard.quarantine_holds(MARKER).then_some(()), || guard.story());
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    guard.wait_settled();
    let told = guard.events_about(&stranger);
    let kinds: Vec<_> = told.iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["created"], "{}", guard.story());
    let own = root.join(".steadfast");
    assert!(own.is_dir());
    assert_eq!(guard.events_about(&own), [] as [Value; 0]);
}

#[test]
fn a_filesystem_changed_while_it_was_unmounted_is_put_right_when_it_comes_back() {
    skip_unless!(not_root());
    let mut guard = Guard::on(place!("ext4")).file("main.py", GOOD).start();
    unmount(&guard);
    // Mounted somewhere else, as a tamperer would.
    let at = guard.place.mount_point().to_owned();
    let (image, other) = (at.with_file_name("image"), at.with_file_name("other"));
    std::fs::create_dir(&other).unwrap();
    common::must("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), other.as_ref()]);
    guard.sh_on(&other.join("files/main.py"), r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE""#);
    common::must("umount", &[other.as_ref()]);
    guard.place_mut().mount().unwrap();
    guard.wait_whole();
    common::poll(|| guard.quarantine_holds(MARKER).then_some(()), || guard.story());
}

#[test]
fn files_reached_through_a_bind_mount_are_guarded() {
    skip_unless!(not_root());
    let guard = Guard::on_disk()
        .file("app/main.py", GOOD)
        .prepare(|dir| {
            let app = dir.join("app");
            common::must("mount", &["--bind".as_ref(), app.as_ref(), app.as_ref()]);
        })
        .start();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &guard.file(), 0).assert_any(&["content-changed"]).assert_healed();
    assert!(guard.quarantine_holds(MARKER));
}
