//! Whoever opens a protected file waits for the daemon's answer: not for long, whatever the daemon
//! is kept from.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{GOOD, Guard, Place, not_root, poll, skip_unless};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than the stand-in lets anybody wait, and than a machine under load takes for the rest.
const STUCK: Duration = Duration::from_secs(20);

/// Goes on however the test ends.
struct Stopped(Pid);

impl Stopped {
    /// Returns once each of its threads stands still.
    fn stop(pid: u32) -> Self {
        let pid_of = Pid::from_raw(i32::try_from(pid).unwrap());
        kill(pid_of, Signal::SIGSTOP).unwrap();
        let stands = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('T'))
        };
        let all = || std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(stands);
        poll(|| all().then_some(()), || format!("{pid} does not stop"));
        Self(pid_of)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn opener(file: &Path) -> Child {
    Command::new("head")
        .args(["-c1".as_ref(), file.as_os_str()])
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits for it, and kills it where it is stuck.
fn assert_gets_through(mut opener: Child, guard: &Guard) {
    let began = Instant::now();
    loop {
        if let Some(status) = opener.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        if began.elapsed() > STUCK {
            opener.kill().unwrap();
            opener.wait().unwrap();
            panic!("an opener is stuck\n{}", guard.log());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The process that answers in the daemon's place.
fn stand_in(guard: &Guard) -> u32 {
    let children = |entry: std::fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        (parent == guard.pid() && line.ends_with(b"\0stand-in\0")).then_some(pid)
    };
    poll(
        || std::fs::read_dir("/proc").unwrap().flatten().find_map(children),
        || format!("there is no stand-in\n{}", guard.log()),
    )
}

fn sensor(guard: &Guard) -> serde_json::Value {
    let status = guard.status();
    let sensors = status["sensors"].as_array().unwrap();
    sensors.iter().find(|one| one["name"] == "open-permission").unwrap().clone()
}

#[test]
fn whoever_opens_a_file_while_the_daemon_is_stopped_gets_through_and_it_is_told() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("f", GOOD).start();
    stand_in(&guard);
    let stopped = Stopped::stop(guard.pid());
    for _ in 0..3 {
        let openers: Vec<_> = (0..5).map(|_| opener(&guard.file())).collect();
        openers.into_iter().for_each(|opener| assert_gets_through(opener, &guard));
    }
    drop(stopped);
    poll(
        || {
            sensor(&guard)["why"]
                .as_str()
                .unwrap()
                .contains("openers who passed unseen")
                .then_some(())
        },
        || format!("nobody says so\n{}", guard.story()),
    );
    // It is at its post again.
    guard.sh("chattr -i \"$FILE\"");
    guard.wait_whole();
}

#[test]
fn whoever_waits_when_the_daemon_or_the_stand_in_is_killed_gets_through() {
    skip_unless!(not_root());
    for stopped_too in [false, true] {
        let mut guard = Guard::on_disk().file("f", GOOD).start();
        let second = stand_in(&guard);
        // One that is stopped cannot see the daemon's end.
        let _second = stopped_too.then(|| Stopped::stop(second));
        let stopped = Stopped::stop(guard.pid());
        let waiting = opener(&guard.file());
        guard.kill();
        assert_gets_through(waiting, &guard);
        poll(
            || {
                std::fs::read(format!("/proc/{second}/cmdline"))
                    .map_or(true, |line| line.is_empty())
                    .then_some(())
            },
            || "the stand-in outlives the daemon".to_owned(),
        );
        drop(stopped);
    }
}

#[test]
fn a_stand_in_that_is_gone_has_a_successor() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("f", GOOD).start();
    let first = stand_in(&guard);
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    poll(|| (stand_in(&guard) != first).then_some(()), || "it stays away".to_owned());
    let _stopped = Stopped::stop(guard.pid());
    assert_gets_through(opener(&guard.file()), &guard);
}

#[test]
fn nobody_is_stuck_on_a_full_disk() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(reason) => return common::report_skip(&reason),
    };
    // What the daemon writes lies there too.
    let guard = Guard::on(place).file("f", GOOD).start();
    common::fill_up(&guard.path("filler"));
    for _ in 0..5 {
        guard.sh("chattr -i \"$FILE\"");
        let openers: Vec<_> = (0..5).map(|_| opener(&guard.file())).collect();
        openers.into_iter().for_each(|opener| assert_gets_through(opener, &guard));
        guard.wait_whole();
    }
    assert_eq!(sensor(&guard)["state"], "working", "{}", guard.story());
}

#[test]
fn nobody_is_stuck_while_every_processor_is_busy_and_many_open_at_once() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("f", GOOD).start();
    let busy = std::thread::available_parallelism().map_or(2, usize::from) * 4;
    let hogs: Vec<_> = (0..busy).map(|_| Hog::start()).collect();
    for _ in 0..10 {
        let openers: Vec<_> = (0..20).map(|_| opener(&guard.file())).collect();
        openers.into_iter().for_each(|opener| assert_gets_through(opener, &guard));
    }
    drop(hogs);
    assert_eq!(sensor(&guard)["state"], "working", "{}", guard.story());
}

/// Keeps a processor busy.
struct Hog(Child);

impl Hog {
    fn start() -> Self {
        Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
