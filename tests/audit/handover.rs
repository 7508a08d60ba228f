//! A daemon that starts again takes up the records of what was done meanwhile.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::common::{GOOD, Guard, incident_of, missing, not_root, skip_unless};
use crate::lifecycle::rules_of;
use crate::no_audit;
use crate::tamper::{finish, start};

const PYTHON: &str = "/usr/bin/python3";

/// A service manager with one daemon.
struct Manager {
    child: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Manager {
    /// For the configuration of a guard that does not run.
    fn of(guard: &Guard) -> Self {
        let log = std::fs::File::create(guard.config().with_file_name("managed")).unwrap();
        let mut child = Command::new(PYTHON)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit/manager.py"))
            .arg(env!("CARGO_BIN_EXE_steadfast"))
            .arg(guard.config().with_file_name("notify"))
            .env("STEADFAST_CONFIG", guard.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, orders, said }
    }

    fn order(&mut self, what: &str) -> String {
        writeln!(self.orders, "{what}").unwrap();
        // The daemon's own lines go there too.
        let answer = |line: &String| line.starts_with("ready ") || line == "killed";
        self.said.by_ref().map(Result::unwrap).find(answer).expect("an answer")
    }

    /// Starts the daemon, and returns its pid and the names of what is kept once it is on guard.
    fn start(&mut self) -> (u32, Vec<String>) {
        let told = self.order("start");
        let mut words = told.split_ascii_whitespace().skip(1).map(str::to_owned);
        (words.next().unwrap().parse().unwrap(), words.collect())
    }

    fn kill(&mut self) {
        assert_eq!(self.order("kill"), "killed");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = writeln!(self.orders, "stop");
        let _ = self.child.wait();
    }
}

/// Both are gone when the next daemon starts. The queue of events has the number of the process,
/// and the record what that was.
#[test]
fn whoever_tampers_between_two_daemons_and_is_gone_is_named_from_the_records() {
    skip_unless!(not_root().or_else(no_audit).or_else(|| missing(&[PYTHON])));
    let _room = crate::alone();
    let mut guard = Guard::on_disk().file("main.py", GOOD).file("other.py", GOOD).start();
    guard.stop();
    let mut manager = Manager::of(&guard);
    let (first, kept) = manager.start();
    assert_eq!(kept, [format!("events-{first}"), format!("records-{first}")]);
    manager.kill();
    assert_ne!(rules_of(first), [], "they stay in force");

    let mut pids = Vec::new();
    for (name, act) in [("main.py", "write"), ("other.py", "replace")] {
        let child = start("setflags", act, &guard.path(name));
        pids.push(child.id());
        finish(child);
    }
    let seq = guard.last_seq();
    let (second, kept) = manager.start();
    assert_eq!(kept, [format!("events-{second}"), format!("records-{second}")]);
    assert_eq!(rules_of(first), [], "they are replaced");
    assert_ne!(rules_of(second), []);

    let program = std::env::current_exe().unwrap();
    for ((name, kind), pid) in
        [("main.py", "content-changed"), ("other.py", "replaced")].iter().zip(pids)
    {
        let incident = incident_of(&guard, &guard.path(name), seq);
        guard.wait_whole_at(&guard.path(name));
        let mut of_kind = incident.changes().filter(|line| line["kind"] == *kind);
        let line = of_kind.next().unwrap_or_else(|| panic!("{}", incident.story));
        assert_eq!(line["actor"]["pid"], pid, "{line}\n{}", incident.story);
        assert_eq!(line["actor"]["exe"], program.to_str().unwrap(), "{line}");
        // What the killed one saw last of all nobody knows.
        assert_eq!(line["attribution"]["confidence"], "opener", "{line}");
        assert!(line["window"]["from"].is_string(), "{line}");
        assert!(!incident.has("drift-found"), "{}", incident.story);
    }
    drop(manager);
    assert_eq!(rules_of(second), [], "it was stopped");
}
