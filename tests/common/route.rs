//! One way to tamper, played twice: while the daemon runs, and while it does not.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{CWD, IFlags, RenameFlags};

use super::{Builder, Guard, Incident, incident_of, set_flags};

/// What the protected file of a route holds.
pub const GOOD: &[u8] = b"# good\nprint('good')\n";

/// What every tamperer leaves behind, so that it can be found in the quarantine.
pub const MARKER: &[u8] = b"TAMPERED";

/// A way to tamper, and what has to come of it.
pub struct Route {
    tamper: Box<dyn Fn(&Guard)>,
    sure: bool,
    build: Box<dyn Fn(Builder) -> Builder>,
    kinds: Vec<&'static str>,
    evidence: Option<&'static [u8]>,
    same_inode: bool,
    nameless: bool,
    names: Vec<String>,
    also: Box<dyn Fn(&Guard)>,
}

impl Route {
    /// A shell script with `$FILE` and `$DIR`. A running daemon may be faster than it, so that
    /// parts of it are refused; it has to work out while the daemon is stopped.
    pub fn shell(script: &'static str) -> Self {
        Self::new(false, move |guard| {
            let output = guard.sh(script);
            if guard.is_stopped() {
                assert!(output.status.success(), "{}", super::text(&output.stderr));
            }
        })
    }

    /// Something the test itself does and that is sure to get through.
    pub fn surely(tamper: impl Fn(&Guard) + 'static) -> Self {
        Self::new(true, tamper)
    }

    fn new(sure: bool, tamper: impl Fn(&Guard) + 'static) -> Self {
        Self {
            tamper: Box::new(tamper),
            sure,
            build: Box::new(|builder| builder.file("main.py", GOOD)),
            kinds: Vec::new(),
            evidence: None,
            same_inode: false,
            nameless: false,
            names: tamperers(sure),
            also: Box::new(|_| {}),
        }
    }

    /// What is there before the tampering, instead of one file `main.py`.
    pub fn with(mut self, build: impl Fn(Builder) -> Builder + 'static) -> Self {
        self.build = Box::new(build);
        self
    }

    /// The kinds that the journal may name, besides the cleared bit and the drift.
    pub fn kinds(mut self, kinds: &[&'static str]) -> Self {
        self.kinds = kinds.to_vec();
        self
    }

    /// What has to be found in the quarantine.
    pub fn evidence(mut self, marker: &'static [u8]) -> Self {
        self.evidence = Some(marker);
        self
    }

    /// The heal has to leave the inode as it is.
    pub fn keeps_inode(mut self) -> Self {
        self.same_inode = true;
        self
    }

    /// Who did it, where that is not the test or one of the usual programs.
    pub fn named(mut self, programs: &[&str]) -> Self {
        self.names = programs.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// No sensor of this machine can tell who did it.
    pub fn nameless(mut self) -> Self {
        self.nameless = true;
        self
    }

    /// Further things that have to be so after the heal.
    pub fn also(mut self, also: impl Fn(&Guard) + 'static) -> Self {
        self.also = Box::new(also);
        self
    }

    /// Plays it both ways.
    pub fn check(&self) {
        self.check_live();
        self.check_stopped();
    }

    /// Plays it against a running daemon.
    pub fn check_live(&self) {
        let mut guard = (self.build)(Guard::on_disk()).start();
        let (ino, seq) = (inode(&guard.file()), guard.last_seq());
        (self.tamper)(&guard);
        guard.wait_whole();
        let incident = incident_of(&guard, &guard.file(), seq);
        incident.assert_only(&self.kinds).assert_healed().assert_honest();
        if self.sure && !self.kinds.is_empty() {
            incident.assert_any(&self.kinds);
        }
        if !self.nameless {
            incident.assert_names(&self.names);
        }
        self.check_evidence(&guard, &incident, self.sure);
        self.check_rest(&mut guard, ino);
    }

    /// Plays it while the daemon is stopped; the next start has to find it and say so.
    pub fn check_stopped(&self) {
        let mut guard = (self.build)(Guard::on_disk()).start();
        let (ino, seq) = (inode(&guard.file()), guard.last_seq());
        guard.stop();
        (self.tamper)(&guard);
        let file = guard.file();
        assert!(!guard.good(&file).differences(&file).is_empty(), "the tampering did nothing");
        guard.start();
        guard.wait_whole();
        let incident = incident_of(&guard, &file, seq);
        incident.assert_any(&["drift-found"]).assert_only(&self.kinds).assert_healed();
        self.check_evidence(&guard, &incident, true);
        self.check_rest(&mut guard, ino);
    }

    fn check_evidence(&self, guard: &Guard, incident: &Incident, landed: bool) {
        let held = guard.quarantine();
        let changed = ["content-changed", "replaced"].iter().any(|kind| incident.has(kind));
        match self.evidence {
            Some(marker) if landed => assert!(
                guard.quarantine_holds(marker),
                "no evidence of it in {held:?}\n{}",
                guard.story()
            ),
            Some(_) if changed => assert!(!held.is_empty(), "no evidence\n{}", guard.story()),
            Some(_) => {}
            None => {}
        }
        if self.same_inode && self.evidence.is_none() {
            assert!(held.is_empty(), "nothing was to be quarantined: {held:?}\n{}", guard.story());
        }
    }

    fn check_rest(&self, guard: &mut Guard, ino: u64) {
        if self.same_inode {
            assert_eq!(inode(&guard.file()), ino, "another inode\n{}", guard.story());
        }
        (self.also)(guard);
        assert!(guard.is_alive(), "the daemon ended\n{}", guard.log());
        assert!(guard.good(&guard.file()).differences(&guard.file()).is_empty());
    }
}

/// Who may be named: the programs of the shell routes, or the test where it tampers itself.
/// It reads the file after every tampering, and whoever only reads later did nothing.
fn tamperers(myself: bool) -> Vec<String> {
    let mine = ["/proc/self/comm", "/proc/thread-self/comm"];
    let programs = "bash chattr sed cp mv dd truncate rm ln tar rsync git chmod chown touch \
                    setfattr setfacl setcap cat mkfifo mount python3 xfs_io";
    match myself {
        true => mine.map(|at| std::fs::read_to_string(at).unwrap().trim().to_owned()).to_vec(),
        false => programs.split_whitespace().map(str::to_owned).collect(),
    }
}

/// The inode number at `path`.
pub fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

/// Clears the bit and exchanges the protected file with `other`, whatever that is.
pub fn exchange_surely(guard: &Guard, path: &Path, other: &Path) {
    guard.tamper_surely(|| {
        let _ = set_flags(path, |flags| flags - IFlags::IMMUTABLE);
        rustix::fs::renameat_with(CWD, other, CWD, path, RenameFlags::EXCHANGE).is_ok()
    });
}

/// Clears the bit and does `act`, until `act` works.
pub fn cleared_surely(guard: &Guard, path: &Path, act: impl Fn() -> std::io::Result<()>) {
    guard.tamper_surely(|| {
        let _ = set_flags(path, |flags| flags - IFlags::IMMUTABLE);
        act().is_ok()
    });
}
