//! Many tamperers at once, each by a route of its own, and a ledger of who they were.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{
    Builder, GOOD, Guard, PATIENCE, TAMPERING, missing, not_root, poll, skip_unless,
};
use crate::no_audit;
use crate::tamper::{ACTS, CLEARINGS, finish, start};

/// How many tamper at the same time.
const AT_ONCE: usize = 4;

/// How many there are in all: `STEADFAST_LEDGER`, or as many as a patient developer waits for.
fn count(usual: usize) -> usize {
    std::env::var("STEADFAST_LEDGER").map_or(usual, |count| count.parse().unwrap())
}

/// Records that one of them makes: of clearing the bit, opening the file and changing it; and
/// one more, as some are refused at first.
const RECORDS: usize = 4;

/// Files that others read while somebody tampers with them.
const READ_FILES: usize = 30;

/// Who tampered with what, and how.
struct Entry {
    file: PathBuf,
    pid: u32,
    clearing: &'static str,
    act: &'static str,
}

fn guard_many(count: usize, builder: Builder) -> Guard {
    let name = |number| format!("f{number:05}");
    (0..count).fold(builder, |builder, number| builder.file(name(number), GOOD)).start()
}

/// Lets them loose, each on a file of its own, and waits until all is told.
fn tamper_with_all(guard: &Guard, count: usize) -> Vec<Entry> {
    tamper_at_pace(guard, count, |_| ())
}

/// The same, each once `may_go` has returned for its number.
fn tamper_at_pace(guard: &Guard, count: usize, may_go: impl Fn(usize) + Sync) -> Vec<Entry> {
    let dir = guard.dir();
    let (next, ledger) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = &|| loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        may_go(number);
        let file = dir.join(format!("f{number:05}"));
        // Every route comes, in an order that has no pattern in time.
        let dice = number.wrapping_mul(0x9e37_79b9) >> 7;
        let (clearing, act) = (CLEARINGS[dice % 3], ACTS[dice / 3 % ACTS.len()]);
        let child = start(clearing, act, &file);
        ledger.lock().unwrap().push(Entry { file, pid: child.id(), clearing, act });
        finish(child);
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let ledger = ledger.into_inner().unwrap();
    wait_told(guard, &ledger);
    ledger
}

/// Waits until all that they did is told.
fn wait_told(guard: &Guard, ledger: &[Entry]) {
    let deadline = Instant::now() + PATIENCE + Duration::from_millis(50) * ledger.len() as u32;
    loop {
        let told = changes(guard);
        let all = ledger.iter().all(|entry| told.contains_key(&entry.file));
        if all && guard.status()["open_incidents"] == 0 {
            break;
        }
        let missing = ledger.iter().filter(|entry| !told.contains_key(&entry.file));
        let missing: Vec<_> =
            missing.map(|entry| (&entry.file, entry.clearing, entry.act)).collect();
        let open = &guard.status()["open_incidents"];
        assert!(Instant::now() < deadline, "{open} incidents open; not told of {missing:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Every line that tells of a change, by file.
fn changes(guard: &Guard) -> HashMap<PathBuf, Vec<Value>> {
    let mut all: HashMap<PathBuf, Vec<Value>> = HashMap::new();
    for line in guard.events() {
        let kind = line["kind"].as_str().unwrap();
        if let (Some(path), true) = (line["path"].as_str(), TAMPERING.contains(&kind)) {
            all.entry(path.into()).or_default().push(line);
        }
    }
    all
}

/// Every line about these files names the one who did it, exactly.
// The figures are what it is also run for.
#[allow(clippy::print_stdout)]
fn assert_named(guard: &Guard, ledger: &[Entry]) {
    let told = changes(guard);
    let (mut lines, mut wrong, mut open) = (0, Vec::new(), Vec::new());
    for entry in ledger {
        for line in told[&entry.file].iter().filter(|line| line["kind"] != "drift-found") {
            lines += 1;
            let right = line["actor"]["pid"] == entry.pid;
            match (right, line["attribution"]["confidence"] == "exact") {
                (true, true) => {}
                (false, true) => wrong.push(describe(entry, line)),
                (_, false) => open.push(describe(entry, line)),
            }
        }
    }
    let audit = crate::sensor(guard, "audit");
    assert!(wrong.is_empty(), "exactly, and wrong, {audit}:\n{}", wrong.join("\n"));
    println!("{} tamperers, {lines} lines, {} left open", ledger.len(), open.len());
    assert!(open.is_empty(), "{} of {lines}, {audit}:\n{}", open.len(), open.join("\n"));
    assert_whole(guard, ledger);
}

fn describe(entry: &Entry, line: &Value) -> String {
    let Entry { file, pid, clearing, act } = entry;
    let (named, comm, how) = (&line["actor"]["pid"], &line["actor"]["comm"], &line["attribution"]);
    format!(
        "{} by {pid} with {clearing} {act}: {} is {how} by {named} {comm}, others {:?}, {} ({} {})",
        file.display(),
        line["kind"],
        line["others"]
            .as_array()
            .unwrap()
            .iter()
            .map(|other| format!("{} {}", other["pid"], other["comm"]))
            .collect::<Vec<_>>(),
        line["note"],
        line["before"],
        line["after"],
    )
}

fn assert_whole(guard: &Guard, ledger: &[Entry]) {
    for entry in ledger {
        guard.wait_whole_at(&entry.file);
    }
}

#[test]
fn many_tamperers_are_named_and_nobody_else_is() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(600);
    let guard = guard_many(count, Guard::on_disk());
    let ledger = tamper_with_all(&guard, count);
    assert_named(&guard, &ledger);
}

#[test]
fn tamperers_are_named_among_processes_that_only_read() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(600) / 10;
    let guard = guard_many(count, Guard::on_disk());
    let readers = [0, 1].map(|_| {
        Background::start(guard.dir(), r#"while :; do cat "$0"/f* >/dev/null 2>&1; done"#)
    });
    let ledger = tamper_with_all(&guard, count);
    drop(readers);
    assert_named(&guard, &ledger);
}

#[test]
fn chattr_is_named_and_not_whoever_reads_the_same_file_all_the_time() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let guard = guard_many(READ_FILES, Guard::on_disk());
    let dir = guard.dir();
    let _reader = Background::start(dir, r#"while :; do cat "$0"/f* >/dev/null 2>&1; done"#);
    let mut ledger = Vec::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The test itself reads too; not so often that openers are no longer looked at.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for number in 0..READ_FILES {
                    let _replaced_meanwhile = std::fs::read(dir.join(format!("f{number:05}")));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for number in 0..READ_FILES {
            let file = dir.join(format!("f{number:05}"));
            let child = Command::new("chattr").arg("-i").arg(&file).spawn().unwrap();
            ledger.push(Entry { file, pid: child.id(), clearing: "chattr", act: "nothing" });
            finish(child);
        }
        wait_told(&guard, &ledger);
        stop.store(true, Ordering::Relaxed);
    });
    assert_named(&guard, &ledger);
}

#[test]
fn tamperers_are_named_among_fifty_times_as_many_other_records() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(600) / 10;
    let guard = guard_many(count, Guard::on_disk());
    // chattr on files that nobody protects: the same call, and the record tells no file.
    let script = r#"mkdir "$0/noise"; touch "$0/noise/"{1..50}
        while :; do
            chattr +d "$0"/noise/*; sleep 0.01; chattr -d "$0"/noise/*; sleep 0.01
            printf x >>"$0/rounds"
        done"#;
    let noise = Background::start(guard.dir(), script);
    let rounds = guard.path("rounds");
    let others = || std::fs::metadata(&rounds).map_or(0, |rounds| rounds.len() as usize * 100);
    let ledger = tamper_at_pace(&guard, count, |number| {
        poll(
            || (others() >= 50 * RECORDS * number).then_some(()),
            || format!("only {} other records by the {number}th", others()),
        );
    });
    drop(noise);
    assert_named(&guard, &ledger);
}

#[test]
fn without_audit_nobody_is_named_exactly_who_did_not_do_it() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let _alone = crate::alone();
    let count = count(600) / 4;
    let guard = Guard::on_disk().without("audit_control").without("audit_read");
    let guard = guard_many(count, guard);
    let ledger = tamper_with_all(&guard, count);
    let told = changes(&guard);
    let mut wrong = Vec::new();
    for entry in &ledger {
        let lines = &told[&entry.file];
        let named = |line: &&Value| line["actor"]["pid"] == entry.pid;
        for line in lines.iter().filter(|line| line["actor"].is_object() && !named(line)) {
            wrong.push(describe(entry, line));
        }
        // Whoever opens the file to clear the bit is seen opening it.
        let opened = entry.clearing != "file_setattr";
        if opened && !lines.iter().any(|line| named(&line)) {
            wrong.extend(lines.iter().map(|line| describe(entry, line)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ledger.len(), wrong.join("\n"));
    assert_whole(&guard, &ledger);
}

/// A shell script with a directory as `$0` that runs until it is dropped.
pub struct Background(Child);

impl Background {
    /// Starts it.
    pub fn start(dir: &Path, script: &str) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("bash");
        command.args(["-c", script]).arg(dir).stdin(Stdio::null()).process_group(0);
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}
