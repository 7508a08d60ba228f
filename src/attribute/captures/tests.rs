//! With real processes, alive and gone.

use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::sys::pidfd;

const KEY: InodeKey = InodeKey { dev: 1, ino: 2 };

/// A process that lives until it is told to go.
fn child() -> Child {
    let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let is_cat = || Process::open(child.id()).unwrap().capture().unwrap().comm == "cat";
    while !is_cat() {}
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn named(by: &By) -> Option<(u32, Source)> {
    match by {
        By::Process { actor, source } => Some((actor.pid, *source)),
        _ => None,
    }
}

#[test]
fn an_opener_is_named_after_it_has_gone() {
    let captures = Captures::new();
    let start = Instant::now();
    let deadline = start + Duration::from_secs(10);
    loop {
        let child = child();
        let pid = child.id();
        let fd = pidfd::open(pid).unwrap();
        captures.opening(pid, Some(fd.as_fd()), (KEY, FileTime::default()), Instant::now);
        let by = captures.by_event(pid, Some(fd.as_fd()));
        assert_eq!(named(&by), Some((pid, Source::OpenPermission)));
        end(child);
        assert_eq!(captures.openers_since(KEY, start)[0].pid, pid);
        match captures.by_event(pid, None) {
            // Where pids go round fast, a slow machine cannot be sure; then once more.
            By::Gone { .. } => assert!(Instant::now() < deadline, "it never is named"),
            by => {
                assert_eq!(named(&by), Some((pid, Source::OpenPermission)));
                break;
            }
        }
    }
    assert!(captures.openers_since(KEY, Instant::now()).is_empty());
    assert!(captures.openers_since(InodeKey { dev: 1, ino: 3 }, start).is_empty());
}

#[test]
fn a_process_that_opened_nothing_is_named_while_it_lives() {
    let captures = Captures::new();
    let child = child();
    let pid = child.id();
    let fd = pidfd::open(pid).unwrap();
    let by = captures.by_event(pid, Some(fd.as_fd()));
    assert_eq!(named(&by), Some((pid, Source::Pidfd)));
    end(child);
    let stranger = self::child();
    assert!(matches!(captures.by_event(u32::MAX, None), By::Gone { .. }));
    assert!(matches!(captures.by_event(stranger.id(), None), By::Gone { .. }));
    assert!(matches!(captures.by_event(0, None), By::Nobody));
    end(stranger);
}

#[test]
fn what_was_captured_of_another_process_with_the_same_pid_is_not_believed() {
    let captures = Captures::new();
    let child = child();
    let pid = child.id();
    let other = Captured {
        actor: Arc::new(Actor { pid, start_time: 1, ..Actor::default() }),
        image: None,
        identity: Some(1),
        circle: Circle::now(),
    };
    captures.tables().captured(pid, other);
    assert!(matches!(captures.by_event(pid, None), By::Gone { .. }));
    let fd = pidfd::open(pid).unwrap();
    let By::Process { actor, source } = captures.by_event(pid, Some(fd.as_fd())) else {
        panic!("it lives")
    };
    assert_ne!(actor.start_time, 1);
    assert_eq!(source, Source::Pidfd);
    end(child);
}

#[test]
fn a_process_that_becomes_another_program_is_looked_at_again() {
    let captures = Captures::new();
    let start = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", "read line && exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    // A program has its name before it has its arguments.
    let open = |program: &str| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            captures.opening(pid, None, (KEY, FileTime::default()), Instant::now);
            let openers = captures.openers_since(KEY, start);
            if openers.first().unwrap().cmdline.first().is_some_and(|name| name == program) {
                return;
            }
            assert!(Instant::now() < deadline, "it never was {program}");
        }
    };
    open("sh");
    let known = captures.openers_since(KEY, start).len();
    captures.opening(pid, None, (KEY, FileTime::default()), Instant::now);
    assert_eq!(captures.openers_since(KEY, start).len(), known);
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    open("cat");
    end(child);
}

#[test]
fn the_tables_forget_the_oldest_and_never_grow_past_their_bounds() {
    let mut tables = Tables::default();
    for pid in 0..5000 {
        let actor = Arc::new(Actor { pid, ..Actor::default() });
        tables.captured(pid, Captured { actor, image: None, identity: None, circle: None });
    }
    assert_eq!((tables.processes.len(), tables.order.len()), (PROCESSES, PROCESSES));
    assert!(tables.processes.contains_key(&4999) && !tables.processes.contains_key(&0));
}
