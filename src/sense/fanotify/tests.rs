//! Against the kernel, on the disk's filesystem and on tmpfs. Our own events are dropped, so
//! every deed is done by a shell.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::*;
use crate::sense::Hint;
use crate::sys::rename::exchange;
use crate::sys::test::rooms;

const A: FileId = FileId(1);
const B: FileId = FileId(2);
const C: FileId = FileId(3);

struct Room {
    dir: tempfile::TempDir,
    sensor: FanotifySensor,
    captures: Captures,
}

impl Room {
    fn both() -> impl Iterator<Item = Self> {
        rooms().into_iter().map(|dir| Self {
            dir,
            sensor: FanotifySensor::new().unwrap(),
            captures: Captures::new(),
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Written by a shell: a descriptor of ours would be closed once more, and late, by a child
    /// that another test forks in this moment.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", "printf good > \"$0\""]).arg(&path);
        assert!(shell.status().unwrap().success());
        path
    }

    fn watch(&mut self, id: FileId, name: &str) {
        let path = self.path(name);
        self.sensor.watch(id, &path.into(), Watched::File).unwrap();
    }

    /// Has a shell do it, and says what was seen.
    fn shell(&mut self, script: &str) -> Vec<(FileId, Hint)> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(self.dir.path());
        assert!(command.status().unwrap().success(), "{script}");
        self.seen()
    }

    fn seen(&mut self) -> Vec<(FileId, Hint)> {
        let mut out = Vec::new();
        let outcome = self.sensor.read(Instant::now(), &mut Vec::new());
        self.sensor.name(&self.captures, &mut out);
        assert_eq!(outcome, ReadOutcome { lost: false });
        out.into_iter().map(|seen| (seen.file, seen.hint)).collect()
    }
}

fn saw(seen: &[(FileId, Hint)], id: FileId, hint: Hint) {
    assert!(seen.contains(&(id, hint.clone())), "no {hint:?} in {seen:?}");
}

#[test]
fn every_way_of_changing_a_file_is_seen_for_what_it_is() {
    for (script, hint) in [
        ("echo x >> f", Hint::Written),
        ("cat f > /dev/null", Hint::Closed),
        ("exec 3< f", Hint::Opened),
        ("chmod 600 f", Hint::Metadata),
        ("touch -h -d 2001-01-01 f", Hint::Metadata),
        ("rm f", Hint::Removed),
        ("mv f g", Hint::Moved),
        ("echo x > n; mv n f", Hint::Arrived),
        ("rm f; mkdir f", Hint::Arrived),
        ("ln f g; rm f", Hint::Removed),
    ] {
        for mut room in Room::both() {
            room.file("f");
            room.watch(A, "f");
            let seen = room.shell(script);
            saw(&seen, A, hint.clone());
        }
    }
}

#[test]
fn the_second_file_of_a_directory_is_watched_as_well_as_the_first() {
    for (script, hint) in [
        ("echo x >> a/b/f2", Hint::Written),
        ("rm a/b/f2", Hint::Removed),
        ("rm a/b/f2; echo x > n; mv n a/b/f2", Hint::Arrived),
        ("mv a/b a/c", Hint::Moved),
        ("mv a c", Hint::Moved),
        ("rm -r a", Hint::Gone),
    ] {
        for mut room in Room::both() {
            std::fs::create_dir_all(room.path("a/b")).unwrap();
            for (id, name) in [(A, "a/b/f1"), (B, "a/b/f2")] {
                room.file(name);
                room.watch(id, name);
            }
            room.sensor.unwatch(A);
            let seen = room.shell(script);
            saw(&seen, B, hint.clone());
            assert!(seen.iter().all(|(id, _)| *id == B), "{script}: {seen:?}");
            // Nothing is left of it once it is watched no longer.
            room.sensor.unwatch(B);
            assert_eq!(room.shell("echo x >> f; mkdir -p a; mv a d"), []);
        }
    }
}

#[test]
fn a_directory_that_was_put_in_the_place_of_one_above_is_watched_with_the_next_file() {
    for mut room in Room::both() {
        std::fs::create_dir_all(room.path("a/b")).unwrap();
        room.file("a/b/f1");
        room.watch(A, "a/b/f1");
        room.shell("mv a old; mkdir -p a/b");
        room.file("a/b/f2");
        room.watch(B, "a/b/f2");
        saw(&room.shell("mv a c"), B, Hint::Moved);
        saw(&room.shell("mv old/b b"), A, Hint::Moved);
        // The same directory below another one.
        room.shell("mkdir a; mv c/b a/b");
        room.file("a/b/f3");
        room.watch(C, "a/b/f3");
        saw(&room.shell("mv a d"), C, Hint::Moved);
    }
}

#[test]
fn whoever_lets_go_last_of_a_file_that_is_gone_is_not_taken_for_who_removed_it() {
    for mut room in Room::both() {
        room.file("f");
        room.watch(A, "f");
        let seen = room.shell("exec 3< f; rm f; exec 3<&-");
        saw(&seen, A, Hint::Gone);
        let removed = seen.iter().filter(|(_, hint)| *hint == Hint::Removed).count();
        assert_eq!(removed, 1, "{seen:?}");
    }
}

#[test]
fn what_we_do_ourselves_and_what_is_done_to_neighbours_is_not_seen() {
    for mut room in Room::both() {
        let path = room.file("f");
        room.file("g");
        room.watch(A, "f");
        assert!(room.shell("echo x > g; rm g; echo x > h").is_empty());
        // Another test that forks in this moment closes our file a second time, in its child.
        let ours = |room: &mut Room| {
            std::fs::write(&path, "ours").unwrap();
            room.seen().is_empty()
        };
        assert!((0..10).any(|_| ours(&mut room)));
    }
}

/// What is told of a child that closes a file which we opened for writing; `None` where it is not
/// seen to be the last: what other tests start just then has it too, until it runs its program.
fn told_of_a_child_that_closes(room: &mut Room, path: &Path) -> Option<Vec<Observation>> {
    let mut child = Command::new("sh")
        .args(["-c", "read line; exec >&-; read line"])
        .stdin(Stdio::piped())
        .stdout(std::fs::File::options().write(true).open(path).unwrap())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"now\n").unwrap();
    let deadline = Instant::now() + Duration::from_secs(1);
    let seen = loop {
        let _complete = room.sensor.read(Instant::now(), &mut Vec::new());
        let seen = room.sensor.unnamed.iter().any(|event| event.pid == child.id());
        if seen || Instant::now() > deadline {
            break seen;
        }
        std::thread::yield_now();
    };
    let mut named = Vec::new();
    room.sensor.name(&room.captures, &mut named);
    drop(stdin);
    child.wait().unwrap();
    seen.then_some(named)
}

#[test]
fn what_we_wrote_and_a_child_of_ours_is_the_last_to_close_is_laid_on_nobody() {
    for mut room in Room::both() {
        let path = room.file("f");
        room.watch(A, "f");
        let told = (0..20).find_map(|_| told_of_a_child_that_closes(&mut room, &path));
        let mut told = told.expect("no child was the last to close it");
        told.retain(|one| one.hint == Hint::WriterClosed);
        assert!(told.is_empty(), "{told:?}");
    }
}

#[test]
fn a_directory_above_that_is_renamed_or_removed_is_seen_and_watched_again_when_it_is_back() {
    for mut room in Room::both() {
        std::fs::create_dir_all(room.path("a/b")).unwrap();
        room.file("a/b/f");
        room.watch(A, "a/b/f");
        let seen = room.shell("mv a z");
        saw(&seen, A, Hint::Moved);
        room.watch(A, "a/b/f");
        let seen = room.shell("mkdir a");
        saw(&seen, A, Hint::Arrived);
        room.watch(A, "a/b/f");
        let seen = room.shell("mkdir a/b");
        saw(&seen, A, Hint::Arrived);
        room.watch(A, "a/b/f");
        let seen = room.shell("echo new > a/b/f");
        saw(&seen, A, Hint::Arrived);
        room.watch(A, "a/b/f");
        assert!(room.shell("echo x > z/b/f; rm -r z").is_empty(), "the old inodes are forgotten");
        let seen = room.shell("rm -r a");
        saw(&seen, A, Hint::Removed);
    }
}

#[test]
fn a_replica_is_watched_before_and_after_it_is_exchanged_and_evidence_until_the_next_watch() {
    for mut room in Room::both() {
        room.file("f");
        room.file("replica");
        room.watch(A, "f");
        let dir = open_dir(room.dir.path()).unwrap();
        room.sensor.watch_replica(A, dir.as_fd(), OsStr::new("replica")).unwrap();
        saw(&room.shell("echo x >> replica"), A, Hint::Written);
        exchange(dir.as_fd(), OsStr::new("f"), dir.as_fd(), OsStr::new("replica")).unwrap();
        room.sensor.adopt(A);
        saw(&room.shell("echo x >> f"), A, Hint::Written);
        saw(&room.shell("echo x >> replica"), A, Hint::Written);
        saw(&room.shell("echo x >> f"), A, Hint::Written);
        // The next replica, and a watch that finds everything in place.
        room.file("next");
        room.sensor.watch_replica(A, dir.as_fd(), OsStr::new("next")).unwrap();
        room.watch(A, "f");
        assert!(room.shell("echo x >> replica").is_empty());
        saw(&room.shell("echo x >> f"), A, Hint::Written);
        saw(&room.shell("echo x >> next"), A, Hint::Written);
        room.file("other");
        room.sensor.watch_replica(A, dir.as_fd(), OsStr::new("other")).unwrap();
        assert!(room.shell("echo x >> next").is_empty());
    }
}

#[test]
fn two_names_of_one_inode_are_both_told_and_let_go_one_by_one() {
    for mut room in Room::both() {
        let f = room.file("f");
        std::fs::hard_link(f, room.path("g")).unwrap();
        room.watch(A, "f");
        room.watch(B, "g");
        let seen = room.shell("echo x >> g");
        saw(&seen, A, Hint::Written);
        saw(&seen, B, Hint::Written);
        room.sensor.unwatch(B);
        let seen = room.shell("echo x >> g; rm g");
        saw(&seen, A, Hint::Written);
        assert!(seen.iter().all(|(id, _)| *id == A), "{seen:?}");
        room.sensor.unwatch(A);
        assert!(room.shell("echo x >> f; rm f").is_empty());
    }
}

#[test]
fn a_protected_directory_tells_the_names_that_come_up_in_it() {
    for mut room in Room::both() {
        std::fs::create_dir(room.path("d")).unwrap();
        let path = room.path("d");
        room.sensor.watch(A, &path.as_path().into(), Watched::Directory).unwrap();
        let seen = room.shell("touch d/x && mv d/x d/y && chmod 700 d");
        saw(&seen, A, Hint::Child(b"x".to_vec()));
        saw(&seen, A, Hint::Child(b"y".to_vec()));
        saw(&seen, A, Hint::Metadata);
    }
}

#[test]
fn a_planted_symlink_and_any_bytes_are_watched_as_what_they_are() {
    for mut room in Room::both() {
        let name = OsStr::from_bytes(b"\xff\n");
        let path = room.dir.path().join(name);
        room.sensor.watch(A, &path.as_path().into(), Watched::File).unwrap();
        assert!(room.seen().is_empty());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        room.sensor.watch(A, &path.as_path().into(), Watched::File).unwrap();
        let seen = room.shell("cat /etc/passwd > /dev/null; rm -- *");
        saw(&seen, A, Hint::Removed);
        assert!(!seen.contains(&(A, Hint::Opened)), "{seen:?}");
    }
}

#[test]
fn an_event_of_a_process_that_still_lives_names_it() {
    for mut room in Room::both() {
        room.file("f");
        room.watch(A, "f");
        let mut child = Command::new("sh")
            .args(["-c", "exec 3>> f; read line"])
            .current_dir(room.dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut out = Vec::new();
        let by_child = |seen: &Observation| matches!(&seen.by, By::Process { actor, .. } if actor.pid == child.id());
        while !out.iter().any(by_child) {
            assert!(Instant::now() < deadline, "{out:?}");
            let _ = room.sensor.read(Instant::now(), &mut Vec::new());
            room.sensor.name(&room.captures, &mut out);
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}

#[test]
fn a_chattr_that_is_gone_before_its_events_are_read_is_named_nevertheless() {
    for mut room in Room::both() {
        let path = room.file("f");
        let _unlock = crate::sys::test::Unlock(path);
        room.watch(A, "f");
        let captures = Arc::new(Captures::new());
        let asked = crate::sense::PermissionSensor::start(
            captures.clone(),
            Arc::new(EventFd::new().unwrap()),
            Box::new(|_| ()),
        )
        .unwrap();
        let dir = open_dir(room.dir.path()).unwrap();
        asked.watch(dir.as_fd(), OsStr::new("f"), Watched::File).unwrap();
        let mut named = 0;
        for change in ["+i", "-i"].into_iter().cycle().take(20) {
            let mut chattr = Command::new("chattr");
            let mut child =
                chattr.args([change, "f"]).current_dir(room.dir.path()).spawn().unwrap();
            assert!(child.wait().unwrap().success());
            let mut out = Vec::new();
            let _ = room.sensor.read(Instant::now(), &mut Vec::new());
            room.sensor.name(&captures, &mut out);
            assert!(out.iter().any(|seen| seen.hint == Hint::Closed), "{out:?}");
            for seen in out {
                let By::Process { actor, .. } = seen.by else {
                    // Where pids go round fast, a slow machine cannot be sure.
                    continue;
                };
                // Another test that forks in this moment closes our file in its child.
                if actor.pid != child.id() && actor.ppid == std::process::id() {
                    continue;
                }
                assert_eq!((actor.pid, actor.comm.as_str()), (child.id(), "chattr"));
                assert_eq!(actor.cmdline, ["chattr", change, "f"]);
                named += 1;
            }
        }
        assert!(named > 0);
    }
}
