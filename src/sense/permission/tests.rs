//! Against the kernel; other processes do the opening, because our own opens pass unseen.

use std::process::Command;
use std::time::Instant;

use super::*;
use crate::sys::test::{file, rooms};

/// A loaded machine is no hanging worker.
const LONG: Duration = Duration::from_secs(60);

fn nobody() -> TellHot {
    Box::new(|_| ())
}

/// Nobody listens to it.
fn bell() -> Arc<EventFd> {
    Arc::new(EventFd::new().unwrap())
}

#[test]
fn a_process_that_lives_for_a_moment_is_named_and_long_gone() {
    for room in rooms() {
        let start = Instant::now();
        let captures = Arc::new(Captures::new());
        let (dir, path) = file(room.path(), "f", b"x");
        let sensor =
            PermissionSensor::with_patience(Arc::clone(&captures), LONG, bell(), nobody()).unwrap();
        sensor.watch(dir.as_fd(), "f".as_ref(), Watched::File).unwrap();
        let mut pids = Vec::new();
        for _ in 0..20 {
            let mut child =
                Command::new("cat").arg(&path).stdout(std::process::Stdio::null()).spawn().unwrap();
            pids.push(child.id());
            assert!(child.wait().unwrap().success());
        }
        let stat = crate::sys::stat::stat(&path).unwrap();
        let openers = captures.openers_since(InodeKey::of(&stat), start);
        pids.reverse();
        assert_eq!(openers.iter().map(|actor| actor.pid).collect::<Vec<_>>(), pids);
        for actor in &openers {
            assert_eq!(actor.cmdline, ["cat", path.to_str().unwrap()]);
            assert_eq!(actor.ancestry[0].pid, std::process::id());
        }
        assert_eq!(sensor.health(), Health::Working);
        sensor.leave_alone(dir.as_fd(), "f".as_ref()).unwrap();
        assert!(Command::new("cat").arg(&path).status().unwrap().success());
        let now = captures.openers_since(InodeKey::of(&stat), start);
        assert_eq!(now.len(), 20);
    }
}

#[test]
fn who_opens_or_makes_a_file_in_a_watched_directory_is_named_unless_the_file_is_to_be_left_alone() {
    for room in rooms() {
        let start = Instant::now();
        let captures = Arc::new(Captures::new());
        let (dir, path) = file(room.path(), "f", b"x");
        let up = crate::sys::open::open_dir(room.path().parent().unwrap()).unwrap();
        let (up, name) = (up.as_fd(), room.path().file_name().unwrap());
        let sensor =
            PermissionSensor::with_patience(Arc::clone(&captures), LONG, bell(), nobody()).unwrap();
        sensor.watch(up, name, Watched::Directory).unwrap();
        let made = room.path().join("made");
        let opened = |path: &std::path::Path| {
            let script = r#"exec <>"$0""#;
            let mut child = Command::new("sh").args(["-c", script]).arg(path).spawn().unwrap();
            assert!(child.wait().unwrap().success());
            let stat = crate::sys::stat::stat(path).unwrap();
            let key = InodeKey::of(&stat);
            captures.openers_since(key, start).iter().filter(|a| a.pid == child.id()).count()
        };
        assert_eq!((opened(&path), opened(&made)), (1, 1));
        sensor.leave_alone(dir.as_fd(), "made".as_ref()).unwrap_err();
        sensor.watch(dir.as_fd(), "f".as_ref(), Watched::File).unwrap();
        sensor.leave_alone(dir.as_fd(), "f".as_ref()).unwrap();
        assert_eq!((opened(&path), opened(&made)), (0, 1));
        sensor.watch(dir.as_fd(), "f".as_ref(), Watched::File).unwrap();
        sensor.unwatch_children(up, name).unwrap();
        assert_eq!((opened(&path), opened(&made)), (1, 0));
    }
}

#[test]
fn our_own_opens_are_let_through_unseen() {
    for room in rooms() {
        let start = Instant::now();
        let captures = Arc::new(Captures::new());
        let (dir, path) = file(room.path(), "f", b"x");
        let sensor =
            PermissionSensor::with_patience(Arc::clone(&captures), LONG, bell(), nobody()).unwrap();
        sensor.watch(dir.as_fd(), "f".as_ref(), Watched::File).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"x");
        let stat = crate::sys::stat::stat(&path).unwrap();
        let key = InodeKey::of(&stat);
        assert!(captures.openers_since(key, start).is_empty());
    }
}

#[test]
fn dropping_the_sensor_releases_everybody_and_ends_the_threads() {
    for room in rooms() {
        let captures = Arc::new(Captures::new());
        let (dir, path) = file(room.path(), "f", b"x");
        let sensor =
            PermissionSensor::with_patience(Arc::clone(&captures), LONG, bell(), nobody()).unwrap();
        sensor.watch(dir.as_fd(), "f".as_ref(), Watched::File).unwrap();
        let script = "for i in 1 2 3 4 5 6 7 8 9; do read x < \"$0\"; done; true";
        let mut children: Vec<_> = (0..8)
            .map(|_| Command::new("sh").args(["-c", script]).arg(&path).spawn().unwrap())
            .collect();
        let desk = Arc::downgrade(&sensor.desk);
        drop(sensor);
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        let deadline = Instant::now() + Duration::from_secs(10);
        while desk.upgrade().is_some() {
            assert!(Instant::now() < deadline, "a thread stays");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_worker_that_hangs_is_relieved_and_no_opener_waits_for_it() {
    let [room, _] = rooms();
    let captures = Arc::new(Captures::new());
    let (dir, path) = file(room.path(), "f", b"x");
    let sensor = PermissionSensor::with_patience(
        Arc::clone(&captures),
        Duration::from_millis(100),
        bell(),
        nobody(),
    )
    .unwrap();
    sensor.watch(dir.as_fd(), "f".as_ref(), Watched::File).unwrap();
    let hung = captures.hold();
    let open = || Command::new("cat").arg(&path).status().unwrap().success();
    assert!(open() && open());
    assert!(sensor.desk.shift().hanging >= 2);
    drop(hung);
    let deadline = Instant::now() + Duration::from_secs(10);
    while sensor.desk.shift().hanging > 0 {
        assert!(Instant::now() < deadline, "those that hung do not come back");
        std::thread::yield_now();
    }
    assert!(open());
    assert_eq!(sensor.health(), Health::Working);
}
