//! Who started whoever did it, when all of them are gone.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::Value;
use steadfast::attribute::fastest_round;

use crate::common::{
    GOOD, Guard, Incident, chattr, clear_through_file_setattr, incident_of, missing, not_root,
    poll, run_with_pid, skip_unless,
};
use crate::named::assert_exact;
use crate::no_audit;
use crate::tamper::{ARGUMENTS, finish, let_loose, start_with_descriptor};

/// Tampers with one file and waits; then starts whoever tampers with the other, and ends at once.
const ONCE: &str = r#"
STEADFAST_TAMPER_FILE="$1/first.py" "$3" $4 </dev/null >/dev/null 2>&1
read -r go
export STEADFAST_TAMPER_FILE="$1/main.py" STEADFAST_TAMPER_WITHOUT="${2:-/proc/$$}"
"$3" $4 </dev/null >/dev/null 2>&1 &
echo $!
"#;

/// The same with one more between the two.
const TWICE: &str = r#"
STEADFAST_TAMPER_FILE="$1/first.py" "$3" $4 </dev/null >/dev/null 2>&1
read -r go
export STEADFAST_TAMPER_FILE="$1/main.py" STEADFAST_TAMPER_WITHOUT="${2:-/proc/$$}"
( "$3" $4 </dev/null >/dev/null 2>&1 & echo $! )
true
"#;

/// Why this machine cannot play it.
fn no_room() -> Option<String> {
    let probe = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    if let Err(error) = clear_through_file_setattr(probe.path()) {
        return Some(format!("needs file_setattr(2), Linux 6.17 or later: {error}"));
    }
    let error = steadfast::sys::connector::Connector::open().err()?;
    Some(format!("needs the process connector: {error}"))
}

/// A shell that was looked at, and is about to start the tamperer.
struct Shell {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Shell {
    /// Whoever it starts waits until `sign` is gone, or else the shell.
    fn start(guard: &Guard, script: &str, sign: Option<&Path>) -> Self {
        let path = guard.path("maintenance.sh");
        std::fs::write(&path, script).unwrap();
        let seq = guard.last_seq();
        let mut child = Command::new("sh")
            .args([&path, guard.dir(), sign.unwrap_or(Path::new(""))])
            .arg(std::env::current_exe().unwrap())
            .arg(ARGUMENTS.join(" "))
            .env("STEADFAST_TAMPER", "file_setattr nothing")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        // Whoever is told to have started the first one was looked at.
        let first = incident_of(guard, &guard.path("first.py"), seq);
        let line = first.changes().next().unwrap();
        assert_eq!(line["actor"]["ancestry"][0]["pid"], child.id(), "{line}");
        Self { child, output }
    }

    /// Its pid and the tamperer's; by then it is gone.
    fn go(mut self) -> (u32, u32) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let tamperer = line.trim().parse().unwrap();
        assert!(self.child.wait().unwrap().success());
        (self.child.id(), tamperer)
    }
}

fn guarded() -> Guard {
    Guard::on_disk().file("main.py", GOOD).file("first.py", GOOD).start()
}

/// Those above whoever did it, who is this one.
fn above(incident: &Incident, tamperer: u32) -> Vec<Value> {
    assert_exact(incident, tamperer);
    let line = incident.changes().next().unwrap();
    line["actor"]["ancestry"].as_array().unwrap().clone()
}

fn assert_told(guard: &Guard, above: &[Value], shells: &[u32]) {
    let script = guard.path("maintenance.sh");
    for (one, pid) in above.iter().zip(shells) {
        assert_eq!(one["pid"], *pid, "{above:?}");
        assert_eq!(one["cmdline"][1], script.to_str().unwrap(), "{above:?}");
    }
    assert!(above.len() > shells.len(), "{above:?}");
    assert_eq!(above[shells.len()]["pid"], std::process::id(), "{above:?}");
    assert_eq!(above.last().unwrap()["pid"], 1, "{above:?}");
}

#[test]
fn a_shell_that_ended_before_whoever_it_started_did_it_is_told_of() {
    skip_unless!(not_root().or_else(no_audit).or_else(no_room));
    let _room = crate::alone();
    let guard = guarded();
    let shell = Shell::start(&guard, ONCE, None);
    let seq = guard.last_seq();
    let (shell, tamperer) = shell.go();
    let incident = incident_of(&guard, &guard.path("main.py"), seq);
    assert_told(&guard, &above(&incident, tamperer), &[shell]);
}

#[test]
fn all_who_ended_before_the_last_one_did_it_are_told_of() {
    skip_unless!(not_root().or_else(no_audit).or_else(no_room));
    let _room = crate::alone();
    let guard = guarded();
    let shell = Shell::start(&guard, TWICE, None);
    let seq = guard.last_seq();
    let (shell, tamperer) = shell.go();
    let incident = incident_of(&guard, &guard.path("main.py"), seq);
    let above = above(&incident, tamperer);
    // The one between is the same shell once more.
    let between = u32::try_from(above[0]["pid"].as_u64().unwrap()).unwrap();
    assert_told(&guard, &above, &[between, shell]);
}

#[test]
fn whoever_has_the_pid_of_a_shell_that_ended_is_not_taken_for_it() {
    skip_unless!(not_root().or_else(no_audit).or_else(no_room));
    let _room = crate::alone();
    let guard = guarded();
    let sign = guard.path("sign");
    std::fs::write(&sign, "").unwrap();
    let shell = Shell::start(&guard, ONCE, Some(&sign));
    let seq = guard.last_seq();
    let (shell, tamperer) = shell.go();
    let impostor = Impostor::start(shell);
    std::fs::remove_file(&sign).unwrap();
    let incident = incident_of(&guard, &guard.path("main.py"), seq);
    assert_told(&guard, &above(&incident, tamperer), &[shell]);
    drop(impostor);
}

/// By then it is gone, and its pid might be somebody else's already, had the kernel told of one.
#[test]
fn whoever_opened_the_file_long_before_is_named_where_the_record_is_read_when_it_is_gone() {
    skip_unless!(not_root().or_else(no_audit).or_else(no_room).or_else(|| missing(&["chattr"])));
    let _room = crate::alone();
    let guard = Guard::on_disk().file("main.py", GOOD).bystander("other", b"").start();
    let (file, seq) = (guard.file(), guard.last_seq());
    let mut holder = start_with_descriptor(&file);
    let pid = holder.id();
    // Where it takes longer until all pids are given, nobody doubts whose it is.
    std::thread::sleep(2 * fastest_round().min(Duration::from_secs(1)));
    guard.signal(rustix::process::Signal::STOP);
    let_loose(&mut holder);
    finish(holder);
    // These are no more likely to have done it than anybody, but for that one.
    for change in ["+d", "-d", "+d"] {
        chattr(change, &guard.path("other"));
    }
    guard.signal(rustix::process::Signal::CONT);
    let incident = incident_of(&guard, &file, seq);
    guard.wait_whole();
    assert_exact(&incident, pid);
    let line = incident.changes().next().unwrap();
    assert!(line["actor"]["start_time"].as_u64().unwrap() > 0, "{line}");
}

/// Another process with a pid that somebody had before.
struct Impostor(Pid);

impl Impostor {
    fn start(pid: u32) -> Self {
        let started = || run_with_pid(pid, &[c"/bin/sleep", c"600"]).ok();
        poll(started, || format!("the pid {pid} is not to be had"));
        let pid_ = Pid::from_raw(i32::try_from(pid).unwrap());
        let runs = || {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
            line.starts_with(b"/bin/sleep").then_some(())
        };
        poll(runs, || format!("{pid} runs nothing"));
        Self(pid_)
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGKILL).unwrap();
        waitpid(self.0, None).unwrap();
    }
}
