//! Protected directories, and what appears in them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::Value;

use super::WRITE;
use crate::common::{
    self, GOOD, Guard, MARKER, Place, Sandbox, Whole, incident_of, is_immutable, not_root,
    skip_unless,
};

#[test]
fn a_file_below_a_protected_directory_is_whole_again() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().bystander("conf.d/a/one.conf", GOOD).protect("conf.d").start();
    let path = guard.path("conf.d/a/one.conf");
    assert_eq!(is_immutable(&path), Some(true));
    let good = Whole::of(&path).unwrap();
    guard.regard_as_good(&path, good);
    let seq = guard.last_seq();
    guard.write_surely(&path, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole_at(&path);
    incident_of(&guard, &path, seq).assert_any(WRITE).assert_healed();
}

#[test]
fn a_file_that_appears_in_a_protected_directory_is_reported_and_stays() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().bystander("conf.d/one.conf", GOOD).protect("conf.d").start();
    let stranger = guard.path("conf.d/stranger.conf");
    std::fs::write(&stranger, MARKER).unwrap();
    common::poll(
        || guard.events_about(&stranger).iter().any(|line| line["kind"] == "created").then_some(()),
        || guard.story(),
    );
    assert_eq!(std::fs::read(&stranger).unwrap(), MARKER);
}

#[test]
fn a_file_that_appears_in_a_protected_directory_is_quarantined_where_that_is_wanted() {
    skip_unless!(not_root());
    let guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .protect("conf.d")
        .policy("unexpected = \"quarantine\"")
        .start();
    let stranger = guard.path("conf.d/stranger.conf");
    std::fs::write(&stranger, MARKER).unwrap();
    common::poll(
        || (!stranger.exists() && guard.quarantine_holds(MARKER)).then_some(()),
        || guard.story(),
    );
    assert!(guard.events_about(&stranger).iter().any(|line| line["kind"] == "created"));
}

#[test]
fn protected_files_are_no_strangers_and_one_that_came_while_the_daemon_was_down_is_reported() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .bystander("conf.d/deep/two.conf", GOOD)
        .protect("conf.d")
        .start();
    guard.stop();
    let stranger = guard.path("conf.d/stranger.conf");
    std::fs::write(&stranger, MARKER).unwrap();
    guard.start();
    wait_created(&guard, &stranger);
    guard.wait_settled();
    assert_eq!(std::fs::read(&stranger).unwrap(), MARKER);
    assert_eq!(created(&guard), [stranger]);
}

#[test]
fn a_stranger_that_came_while_the_daemon_was_down_is_quarantined_where_that_is_wanted() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .protect("conf.d")
        .policy("unexpected = \"quarantine\"")
        .start();
    guard.stop();
    let stranger = guard.path("conf.d/stranger.conf");
    std::fs::write(&stranger, MARKER).unwrap();
    guard.start();
    common::poll(
        || (!stranger.exists() && guard.quarantine_holds(MARKER)).then_some(()),
        || guard.story(),
    );
    guard.wait_settled();
    assert_eq!(created(&guard), [stranger]);
    assert_eq!(std::fs::read(guard.path("conf.d/one.conf")).unwrap(), GOOD);
}

#[test]
fn pipes_sockets_and_devices_that_appear_in_a_protected_directory_are_taken_away_unopened() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk()
        .bystander("conf.d/one.conf", GOOD)
        .protect("conf.d")
        .policy("unexpected = \"quarantine\"")
        .start();
    let [pipe, socket, device] =
        ["pipe", "socket", "device"].map(|name| guard.path("conf.d").join(name));
    let make = |path: &Path, kind, device| {
        rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device).unwrap();
    };
    make(&pipe, FileType::Fifo, 0);
    drop(UnixListener::bind(&socket).unwrap());
    // /dev/full: whoever reads it reads for ever.
    make(&device, FileType::CharacterDevice, rustix::fs::makedev(1, 7));
    for path in [&pipe, &socket, &device] {
        wait_created(&guard, path);
        let gone = || std::fs::symlink_metadata(path).is_err().then_some(());
        common::poll(gone, || guard.story());
    }
    guard.wait_settled();
    assert!(guard.is_alive());
}

#[test]
fn a_storm_of_strangers_is_one_incident_one_message_and_little_memory() {
    skip_unless!(not_root());
    const STRANGERS: usize = 5000;
    // Nobody listens there, so that what is to be told stays in the spool.
    let mail = "[alert.email]\nfrom = \"guard@example.com\"\nto = [\"ops@example.com\"]\n\
                server = \"smtp://127.0.0.1:9\"\ntls = \"none\"";
    let guard =
        Guard::on_disk().daemon(mail).bystander("conf.d/one.conf", GOOD).protect("conf.d").start();
    let before = peak_memory(guard.pid());
    for n in 0..STRANGERS {
        std::fs::write(guard.path(format!("conf.d/{n}")), MARKER).unwrap();
    }
    let rest = |line: &Value| {
        let (number, _) = line["note"].as_str()?.split_once(" further changes")?;
        number.parse::<usize>().ok()
    };
    let lines = common::poll(
        || {
            let of_incident = |line: &Value| line["incident"].is_string();
            let lines: Vec<_> = guard.events().into_iter().filter(of_incident).collect();
            lines.iter().any(|line| rest(line).is_some()).then_some(lines)
        },
        || "no line about what is not listed".to_owned(),
    );
    let incidents: BTreeSet<_> = lines.iter().filter_map(|l| l["incident"].as_str()).collect();
    assert_eq!(incidents.len(), 1, "{incidents:?}");
    let listed = lines.iter().filter(|line| line["kind"] == "created").count();
    assert!((1000..STRANGERS).contains(&listed), "{listed} lines");
    let unlisted: Vec<_> = lines.iter().filter_map(rest).collect();
    assert_eq!(unlisted, [STRANGERS - listed]);
    guard.wait_settled();
    let messages = std::fs::read_dir(guard.state().join("spool/items")).unwrap().flatten();
    let names: Vec<_> = messages.map(|entry| entry.file_name()).collect();
    let about = |name: &&OsString| incidents.iter().any(|id| name.to_string_lossy().contains(id));
    assert_eq!(names.iter().filter(about).count(), 1, "{names:?}");
    let grown = peak_memory(guard.pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB for {STRANGERS} names");
}

fn wait_created(guard: &Guard, path: &Path) {
    let told = || guard.events_about(path).iter().any(|line| line["kind"] == "created");
    common::poll(|| told().then_some(()), || guard.story());
}

/// The strangers that the journal tells of, in order.
fn created(guard: &Guard) -> Vec<PathBuf> {
    let events = guard.events().into_iter().filter(|line| line["kind"] == "created");
    events.map(|line| line["path"].as_str().unwrap().into()).collect()
}

/// The most memory that a process has had so far, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_protected_directory_that_is_moved_is_told_with_where_it_went_and_put_back_whole() {
    skip_unless!(not_root());
    let guard = Guard::on_disk()
        .prepare(|dir| {
            std::fs::create_dir_all(dir.join("big/sub")).unwrap();
            for name in ["big/one", "big/two", "big/sub/three"] {
                std::fs::write(dir.join(name), name).unwrap();
            }
        })
        .protect("big")
        .start();
    let (big, away) = (guard.path("big"), guard.path("bigx"));
    let inode = common::inode(&big);
    std::fs::rename(&big, &away).unwrap();
    let whole = || {
        let all = ["one", "two", "sub/three"];
        let there = all.iter().all(|name| big.join(name).is_file());
        (there && common::inode(&big) == inode && !away.exists()).then_some(())
    };
    common::poll(whole, || format!("it is not back\n{}", guard.story()));
    let moved = || {
        let lines = guard.events_about(&big);
        lines
            .into_iter()
            .find(|line| line["kind"] == "moved" && line["after"]["path"] != Value::Null)
    };
    let line = common::poll(moved, || format!("not told as moved\n{}", guard.story()));
    assert_eq!(line["after"]["path"].as_str(), away.to_str());
}

#[test]
fn what_comes_to_match_a_pattern_is_told_and_the_next_start_does_not_take_it_for_good() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    std::fs::write(sandbox.path("a.conf"), "a").unwrap();
    let pattern = sandbox.path("*.conf");
    sandbox.configure(&format!("{}[[protect]]\npaths = [{pattern:?}]\n", sandbox.daemon_table("")));
    let mut guard = Guard::of(sandbox);
    guard.start();
    let late = guard.path("late.conf");
    std::fs::write(&late, "late").unwrap();
    let told = |guard: &Guard| {
        let lines = guard.events_about(&late);
        lines.into_iter().filter(|line| line["kind"] == "created").count()
    };
    common::poll(|| (told(&guard) == 1).then_some(()), || guard.story());
    guard.stop();
    guard.start();
    assert_eq!(guard.status()["protected"], 1, "it is not adopted");
    common::poll(|| (told(&guard) == 2).then_some(()), || guard.story());
    guard.expect(0, "protect", &late);
    assert_eq!(is_immutable(&late), Some(true));
    guard.stop();
    guard.start();
    assert_eq!(guard.status()["protected"], 2);
}

#[test]
fn what_is_released_and_matches_a_pattern_is_no_stranger_and_is_protected_again_by_the_next_start()
{
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    std::fs::write(sandbox.path("a.conf"), "a").unwrap();
    std::fs::write(sandbox.path("b.conf"), "b").unwrap();
    let pattern = sandbox.path("*.conf");
    let table = format!("[[protect]]\npaths = [{pattern:?}]\nunexpected = \"quarantine\"\n");
    sandbox.configure(&format!("{}{table}", sandbox.daemon_table("")));
    let mut guard = Guard::of(sandbox);
    guard.start();
    let (one, late) = (guard.path("a.conf"), guard.path("late.conf"));
    let told = common::text(&guard.expect(0, "release", &one).stdout);
    assert!(told.contains("next start protects it again"), "{told}");
    // By the time that this is taken away the patterns were looked through.
    std::fs::write(&late, "late").unwrap();
    common::poll(|| (!late.exists()).then_some(()), || guard.story());
    assert_eq!(std::fs::read(&one).unwrap(), b"a", "what is released stays as it is");
    let kinds: Vec<_> = guard.events_about(&one).iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(kinds.last().unwrap(), "released", "{kinds:?}");
    guard.stop();
    guard.start();
    assert_eq!(guard.status()["protected"], 2);
    assert_eq!(is_immutable(&one), Some(true));
}

#[test]
fn a_file_in_a_directory_that_keeps_strangers_out_is_not_released_by_itself() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk()
        .prepare(|dir| {
            std::fs::create_dir(dir.join("d")).unwrap();
            std::fs::write(dir.join("d/file"), "x").unwrap();
        })
        .protect("d")
        .policy("unexpected = \"quarantine\"")
        .start();
    for offline in [false, true] {
        if offline {
            guard.stop();
        }
        let told = common::text(&guard.expect(2, "release", &guard.path("d/file")).stderr);
        assert!(told.contains("stays protected") && told.contains("quarantine"), "{told}");
        assert_eq!(is_immutable(&guard.path("d/file")), Some(true));
    }
    guard.expect(0, "release", &guard.path("d"));
}
