//! Many tamperers at once, each by a route of its own, and a ledger of who they were.

mod with_audit;
mod without_audit;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use steadfast::attribute::procfs::Process;

use crate::common::{Builder, GOOD, Guard, PATIENCE, TAMPERING};
use crate::tamper::{ACTS, CLEARINGS, finish, start};

/// How many tamper at the same time.
const AT_ONCE: usize = 4;

/// How many there are in all: `STEADFAST_LEDGER`, or as many as a patient developer waits for.
fn count(usual: usize) -> usize {
    std::env::var("STEADFAST_LEDGER").map_or(usual, |count| count.parse().unwrap())
}

/// How long is waited for what takes the longer the more they are.
fn patience(count: usize) -> Duration {
    PATIENCE + Duration::from_millis(50) * u32::try_from(count).unwrap()
}

/// What somebody is to do.
struct Case {
    number: usize,
    file: PathBuf,
    clearing: &'static str,
    act: &'static str,
}

/// Whoever does it.
struct Tamperer {
    /// Ends as it does.
    child: Child,
    pid: u32,
    /// In clock ticks after boot, where somebody looked while it was surely there.
    started: Option<u64>,
}

impl Tamperer {
    fn new(case: &Case) -> Self {
        Self::of(start(case.clearing, case.act, &case.file))
    }

    /// The child itself, for which nobody has waited yet.
    fn of(child: Child) -> Self {
        let (pid, process) = (child.id(), Process::open(child.id()).unwrap());
        Self { child, pid, started: Some(process.start_time().unwrap()) }
    }
}

/// Who did what.
struct Entry {
    case: Case,
    pid: u32,
    started: Option<u64>,
}

impl Entry {
    /// Whether this line names who did it. Where a record is all there is of a process, its start
    /// is 0.
    fn is_named_by(&self, line: &Value) -> bool {
        let told = line["actor"]["start_time"].as_u64().filter(|told| *told != 0);
        let same_start = self.started.is_none_or(|started| told.is_none_or(|told| told == started));
        line["actor"]["pid"] == self.pid && same_start
    }
}

/// A daemon that protects so many files, `f00000` and so on.
pub fn guard_many(count: usize, builder: Builder) -> Guard {
    let name = |number| format!("f{number:05}");
    (0..count).fold(builder, |builder, number| builder.file(name(number), GOOD)).start()
}

/// Lets them loose, each on a file of its own, and waits until all is told.
fn tamper_with_all(guard: &Guard, count: usize) -> Vec<Entry> {
    tamper_by(guard, count, Tamperer::new)
}

/// The same with tamperers of another sort.
fn tamper_by(guard: &Guard, count: usize, start: impl Fn(&Case) -> Tamperer + Sync) -> Vec<Entry> {
    let dir = guard.dir();
    let (next, ledger) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = &|| loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let file = dir.join(format!("f{number:05}"));
        // Every route comes, in an order that has no pattern in time.
        let dice = number.wrapping_mul(0x9e37_79b9) >> 7;
        let (clearing, act) = (CLEARINGS[dice % 3], ACTS[dice / 3 % ACTS.len()]);
        let case = Case { number, file, clearing, act };
        let Tamperer { child, pid, started } = start(&case);
        ledger.lock().unwrap().push(Entry { case, pid, started });
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
    let deadline = Instant::now() + patience(ledger.len());
    loop {
        let told = changes(guard);
        let all = ledger.iter().all(|entry| told.contains_key(&entry.case.file));
        if all && guard.status()["open_incidents"] == 0 {
            break;
        }
        let missing = ledger.iter().filter(|entry| !told.contains_key(&entry.case.file));
        let missing: Vec<_> =
            missing.map(|entry| (&entry.case.file, entry.case.clearing, entry.case.act)).collect();
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

/// What was told of these, by who is named and how surely.
struct Told {
    lines: usize,
    /// Somebody else, and exactly.
    wrong: Vec<String>,
    /// Neither.
    open: Vec<String>,
}

impl Told {
    // The figures are what it is also run for.
    #[allow(clippy::print_stdout)]
    fn of(guard: &Guard, ledger: &[Entry]) -> Self {
        let told = changes(guard);
        let (mut all, mut how) =
            (Self { lines: 0, wrong: Vec::new(), open: Vec::new() }, BTreeMap::new());
        for entry in ledger {
            for line in told[&entry.case.file].iter().filter(|line| line["kind"] != "drift-found") {
                all.lines += 1;
                let right = entry.is_named_by(line);
                let confidence = line["attribution"]["confidence"].as_str().unwrap();
                *how.entry((confidence.to_owned(), right)).or_insert(0) += 1;
                match (right, confidence == "exact") {
                    (true, true) => {}
                    (false, true) => all.wrong.push(describe(entry, line)),
                    (_, false) => all.open.push(describe(entry, line)),
                }
            }
        }
        println!(
            "{} tamperers, {} lines; how, and whether right: {how:?}",
            ledger.len(),
            all.lines
        );
        all
    }
}

/// Every line about these files names the one who did it, exactly.
fn assert_named(guard: &Guard, ledger: &[Entry]) {
    let Told { lines, wrong, open } = Told::of(guard, ledger);
    let audit = crate::sensor(guard, "audit");
    assert!(wrong.is_empty(), "exactly, and wrong, {audit}:\n{}", wrong.join("\n"));
    assert!(open.is_empty(), "{} of {lines}, {audit}:\n{}", open.len(), open.join("\n"));
    assert_whole(guard, ledger);
}

fn describe(entry: &Entry, line: &Value) -> String {
    let Entry { case: Case { file, clearing, act, .. }, pid, .. } = entry;
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
        guard.wait_whole_at(&entry.case.file);
    }
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
