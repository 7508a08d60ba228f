//! A guard that dies where it is told, and what has to hold after its next start.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use steadfast::baseline::Baseline;
use steadfast::fault::Point;

use crate::common::{Builder, Guard, assert_code, is_immutable, poll};

/// See the module.
pub struct Room {
    pub guard: Guard,
}

impl Room {
    /// With the daemon running.
    pub fn new(builder: Builder) -> Self {
        Self { guard: builder.watch_for_faults().start() }
    }

    /// From now on, whatever of the program comes to `point` first dies there.
    pub fn arm(&self, point: Point) {
        let file = self.guard.fault_file();
        let _ = std::fs::remove_file(reached(&file));
        let new = file.with_extension("new");
        std::fs::write(&new, point.name()).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Has the daemon die at each of `points` while `act` is done, and be started again.
    pub fn play(&mut self, points: &[Point], act: impl Fn(&Guard)) {
        for &point in points {
            self.arm(point);
            act(&self.guard);
            self.wait_for_death(point);
            self.guard.start();
            self.assert_consistent(point);
        }
    }

    /// Has a command die at each of `points`, with no daemon, and then starts one. `prepare` says
    /// which, once everything is ready for it; `after` looks at what came of it.
    pub fn play_command(
        &mut self,
        points: &[Point],
        prepare: impl Fn(&Guard, Point) -> Vec<OsString>,
        after: impl Fn(&Guard, Point),
    ) {
        for &point in points {
            if !self.guard.is_stopped() {
                self.guard.stop();
            }
            let args = prepare(&self.guard, point);
            let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
            self.arm(point);
            let mut child = self.guard.command(&args).stdout(Stdio::null()).spawn().unwrap();
            let ended = poll(|| child.try_wait().unwrap(), || format!("death at {point:?}"));
            assert_eq!(ended.signal(), Some(9), "{point:?}");
            assert!(reached(&self.guard.fault_file()).exists(), "{point:?}");
            self.guard.start();
            self.assert_consistent(point);
            after(&self.guard, point);
        }
    }

    fn wait_for_death(&mut self, point: Point) {
        let guard = &mut self.guard;
        let mut waited = 0;
        while guard.is_alive() {
            waited += 1;
            assert!(waited < 3000, "it does not come to {point:?}\n{}", guard.story());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(reached(&guard.fault_file()).exists(), "{point:?}\n{}", guard.log());
        guard.kill();
    }

    /// Waits until a copy of each file lies ready.
    pub fn wait_ready(&self) {
        let ready = || {
            let baseline = Baseline::open_read_only(&self.guard.state()).unwrap();
            baseline.all().unwrap().iter().all(|record| record.replica.is_some()).then_some(())
        };
        poll(ready, || self.guard.story());
    }

    /// Everything that has to be so after a start, whatever came before it.
    pub fn assert_consistent(&self, point: Point) {
        let guard = &self.guard;
        let faults = || self.faults();
        poll(
            || faults().is_empty().then_some(()),
            || format!("after {point:?}:\n{}\n{}", faults().join("\n"), guard.story()),
        );
        assert_code(&guard.steadfast(&["audit"]), 0, &format!("audit after {point:?}"));
        let verify = guard.steadfast(&["journal", "verify"]);
        assert_code(&verify, 0, &format!("journal verify after {point:?}"));
    }

    /// What is not as it should be, in words.
    fn faults(&self) -> Vec<String> {
        let guard = &self.guard;
        let mut faults = Vec::new();
        if guard.status()["open_incidents"] != 0 {
            faults.push("an incident is open".to_owned());
        }
        let baseline = Baseline::open_read_only(&guard.state()).unwrap();
        let records = baseline.all().unwrap();
        let evidence = baseline.evidence(None).unwrap();
        for record in &records {
            let shown = record.path.display();
            if record.policy.immutable && is_immutable(&record.path) != Some(true) {
                faults.push(format!("{shown} is not immutable"));
            }
            match &record.replica {
                Some(replica) if !replica.path.exists() => {
                    faults.push(format!("the copy for {shown} is gone: {:?}", replica.path));
                }
                None if record.policy.restore => faults.push(format!("no copy for {shown}")),
                _ => {}
            }
        }
        let state = guard.state();
        let ready = records.iter().filter_map(|r| Some(r.replica.as_ref()?.path.clone()));
        let kept = evidence.iter().map(|one| one.lies_at());
        let known: BTreeSet<PathBuf> = ready.chain(kept).collect();
        let slots: BTreeSet<PathBuf> =
            known.iter().filter_map(|path| path.parent().map(Path::to_path_buf)).collect();
        let slots = slots.into_iter().chain([state.join("replicas")]);
        let lying: BTreeSet<PathBuf> = slots.flat_map(|slot| names(&slot)).collect();
        faults.extend(lying.difference(&known).map(|left| format!("{left:?} is left over")));
        let entered: BTreeSet<PathBuf> = evidence.iter().map(|one| one.location.clone()).collect();
        if names(&state.join("quarantine")) != entered {
            faults.push(format!("quarantine and index differ: {entered:?}"));
        }
        faults.extend(vault_faults(&state.join("vault"), &records));
        faults.extend(strange(&state));
        faults
    }
}

fn vault_faults(vault: &Path, records: &[steadfast::baseline::Record]) -> Vec<String> {
    let wanted: BTreeSet<PathBuf> = records
        .iter()
        .filter_map(|record| Some(vault.join(record.facts.sha256?.to_string())))
        .collect();
    let mut faults = Vec::new();
    let there = names(vault);
    if there != wanted {
        faults.push(format!("the vault has {there:?} and should have {wanted:?}"));
    }
    for copy in there.intersection(&wanted) {
        let name = copy.file_name().unwrap().to_str().unwrap().to_owned();
        let content = std::fs::read(copy).unwrap();
        if steadfast::baseline::sha256(&content).to_string() != name {
            faults.push(format!("{copy:?} does not hold what its name says"));
        }
        if is_immutable(copy) == Some(false) {
            faults.push(format!("{copy:?} is not immutable"));
        }
    }
    faults
}

/// Names in the state directory and the spool that nobody would look for there.
fn strange(state: &Path) -> Vec<String> {
    const KNOWN: [&str; 11] = [
        "audit",
        "baseline.db",
        "baseline.db-shm",
        "baseline.db-wal",
        "journal",
        "lock",
        "quarantine",
        "replicas",
        "reserve",
        "spool",
        "vault",
    ];
    let known: BTreeSet<PathBuf> = KNOWN.iter().map(|name| state.join(name)).collect();
    let mut strange: Vec<PathBuf> = names(state).difference(&known).cloned().collect();
    let hidden = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    strange.extend(names(&state.join("spool/items")).into_iter().filter(hidden));
    strange.into_iter().map(|path| format!("{path:?} does not belong there")).collect()
}

fn names(dir: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn reached(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".reached");
    name.into()
}
