//! A running daemon with files to guard.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::IFlags;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::{Builder, PATIENCE, Place, Sandbox, Whole, clear_through_file_setattr, poll};
use super::{run_before_the_guard, set_flags, text};

/// A daemon on guard. Everything of [`Sandbox`] is at hand too.
pub struct Guard {
    sandbox: Sandbox,
    child: Option<Child>,
    /// Capabilities taken from the daemon, as `setpriv` wants them.
    without: Vec<String>,
    /// What the daemon is run from, if not from where it was built.
    program: Option<PathBuf>,
    /// The control group that it is to be in.
    group: Option<PathBuf>,
    /// Protected by `--protect`.
    by_option: Vec<PathBuf>,
    /// What each protected file has to be.
    good: BTreeMap<PathBuf, Whole>,
    /// How often the last tampering that had to get through was tried.
    tries: Cell<usize>,
}

impl Deref for Guard {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

impl Guard {
    /// What [`Builder::start`] has made ready.
    pub(super) fn new(
        sandbox: Sandbox,
        by_option: Vec<PathBuf>,
        good: BTreeMap<PathBuf, Whole>,
        without: Vec<String>,
    ) -> Self {
        let (child, program, group, tries) = (None, None, None, Cell::new(0));
        Self { sandbox, child, without, program, group, by_option, good, tries }
    }

    /// A guard with the configuration that `sandbox` has.
    pub fn of(sandbox: Sandbox) -> Self {
        Self::new(sandbox, Vec::new(), BTreeMap::new(), Vec::new())
    }

    /// A guard for files on the machine's disk.
    pub fn on_disk() -> Builder {
        Self::on(Place::disk())
    }

    /// A guard for files on `place`.
    pub fn on(place: Place) -> Builder {
        Builder::on(place)
    }

    /// From its next start on the daemon is run from this copy of the program.
    pub fn run_from(&mut self, program: PathBuf) {
        // Not by this process, whose other tests fork: what is open for writing cannot be run.
        super::must("cp", &[env!("CARGO_BIN_EXE_steadfast").as_ref(), program.as_os_str()]);
        self.program = Some(program);
    }

    /// From its next start on the daemon is in this control group.
    pub fn run_in(&mut self, group: PathBuf) {
        self.group = Some(group);
    }

    /// The place, to unmount and mount it.
    pub fn place_mut(&mut self) -> &mut Place {
        &mut self.sandbox.place
    }

    /// The only protected file, or the first by name.
    pub fn file(&self) -> PathBuf {
        self.good.keys().next().expect("a protected file").clone()
    }

    /// What `path` has to be.
    pub fn good(&self, path: &Path) -> &Whole {
        &self.good[path]
    }

    /// Takes what `path` is now, made by the test, for what it has to be.
    pub fn regard_as_good(&mut self, path: &Path, whole: Whole) {
        self.good.insert(path.to_owned(), whole);
    }

    /// Starts the daemon (again) and waits until it is on guard.
    pub fn start(&mut self) {
        assert!(self.try_start(), "the daemon ended\n{}", self.log());
    }

    /// The same, where it may refuse to start. False if it did.
    pub fn try_start(&mut self) -> bool {
        assert!(self.child.is_none(), "it runs already");
        let mut args: Vec<OsString> = vec!["run".into()];
        for path in &self.by_option {
            args.extend(["--protect".into(), path.into()]);
        }
        let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let mut command = self.daemon_command(&args);
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        self.child = Some(command.spawn().unwrap());
        self.wait_until_on_guard()
    }

    /// The daemon, in its control group, with root's capabilities less those that were taken.
    fn daemon_command(&self, args: &[&OsStr]) -> Command {
        let plain = self.sandbox.command(args);
        let mut words: Vec<OsString> = Vec::new();
        if let Some(group) = &self.group {
            let join = r#"echo $$ > "$0" && exec "$@""#;
            words.extend([
                "sh".into(),
                "-c".into(),
                join.into(),
                group.join("cgroup.procs").into(),
            ]);
        }
        if !self.without.is_empty() {
            let less = format!("--bounding-set={}", self.without.join(","));
            words.extend(["setpriv".into(), less.into()]);
        }
        let program = self.program.as_ref().map_or(plain.get_program(), |program| program.as_ref());
        words.push(program.to_owned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).stdin(Stdio::null());
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    fn wait_until_on_guard(&mut self) -> bool {
        let many = u32::try_from(self.good.len()).unwrap();
        let deadline = Instant::now() + PATIENCE + Duration::from_millis(10) * many;
        loop {
            let child = self.child.as_mut().expect("started");
            let gone = child.try_wait().unwrap();
            if gone.is_some() {
                self.child = None;
                return false;
            }
            if self
                .try_status()
                .is_some_and(|s| s["state"] == "watching" || s["state"] == "degraded")
            {
                return true;
            }
            assert!(Instant::now() < deadline, "not on guard in time\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn try_status(&self) -> Option<Value> {
        let output = self.sandbox.steadfast(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
    }

    /// What `status --json` prints.
    pub fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|| panic!("no status\n{}", self.log()))
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running daemon").id()
    }

    /// Whether the daemon still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|gone| gone.is_none()))
    }

    /// Whether no daemon was left running.
    pub fn is_stopped(&self) -> bool {
        self.child.is_none()
    }

    /// Asks the daemon to end, and waits; it has to end by itself and well.
    pub fn stop(&mut self) {
        signal(self.child.as_ref().expect("a running daemon"), Signal::TERM);
        self.wait_ended();
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, which: Signal) {
        signal(self.child.as_ref().expect("a running daemon"), which);
    }

    /// Waits for the end of a daemon that was told to stop.
    pub fn wait_ended(&mut self) {
        let mut child = self.child.take().expect("a running daemon");
        let ended = poll(|| child.try_wait().unwrap(), || format!("its end\n{}", self.log()));
        kill_group(&child);
        assert!(ended.success(), "the daemon ended with {ended}\n{}", self.log());
    }

    /// Kills the daemon as the kernel does when memory is short.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a running daemon");
        kill_group(&child);
        let _ = child.wait();
    }

    /// Runs a shell script with `$FILE` (the protected file) and `$DIR`, in `/`. What it gives
    /// back is for the curious: the daemon may be faster than the tamperer.
    pub fn sh(&self, script: &str) -> Output {
        self.sh_on(&self.file(), script)
    }

    /// [`Self::sh`] for one of several protected files.
    pub fn sh_on(&self, file: &Path, script: &str) -> Output {
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new("bash")
            .args(["-c", script])
            .env("FILE", file)
            .env("DIR", self.dir())
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// A change by the test itself that is sure to land: the bit is cleared, the file opened
    /// for writing in the same breath and `write` called, again and again until the file that
    /// was written is seen to stand at `path` after the write.
    pub fn write_surely(&self, path: &Path, write: impl Fn(&mut File) -> std::io::Result<()>) {
        self.tamper_surely(|| {
            let _ = set_flags(path, |flags| flags - IFlags::IMMUTABLE);
            let Ok(mut file) = File::options().read(true).write(true).open(path) else {
                return false;
            };
            if write(&mut file).is_err() {
                return false;
            }
            let written = file.metadata().unwrap();
            std::fs::symlink_metadata(path)
                .is_ok_and(|now| (now.dev(), now.ino()) == (written.dev(), written.ino()))
        });
    }

    /// A change by the first write: the bit is cleared without an event, and the writer runs before
    /// the guard. On another processor the guard may be quicker all the same: then nothing was
    /// written, and it is tried again.
    pub fn write_at_once(
        &self,
        path: &Path,
        write: impl Fn(&mut File) -> std::io::Result<()> + Sync,
    ) {
        let write = || {
            run_before_the_guard()?;
            clear_through_file_setattr(path)?;
            write(&mut File::options().read(true).write(true).open(path)?)
        };
        let refused = |tried: &std::io::Result<()>| matches!(tried, Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied);
        let deadline = Instant::now() + PATIENCE;
        let tried = std::thread::scope(|scope| {
            let mut tries = std::iter::repeat_with(|| scope.spawn(write).join().unwrap());
            let over = |tried: &std::io::Result<()>| !refused(tried) || Instant::now() > deadline;
            tries.find(over)
        });
        tried.unwrap().unwrap();
    }

    /// [`Self::write_surely`] through a shared mapping, which makes no event. By another
    /// process: where the bit comes back in the middle of it, ext4 answers with SIGBUS.
    pub fn map_and_write_surely(&self, path: &Path, marker: &[u8]) {
        const SCRIPT: &str = "\
import fcntl, mmap, os, struct, sys
path, marker = os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2])
get, put, immutable = 0x80086601, 0x40086602, 0x10
with open(path, 'rb') as file:
    flags, = struct.unpack('l', fcntl.ioctl(file, get, struct.pack('l', 0)))
    fcntl.ioctl(file, put, struct.pack('l', flags & ~immutable))
with open(path, 'r+b') as file, mmap.mmap(file.fileno(), 0) as bytes:
    bytes[2:2 + len(marker)] = marker
    written = os.fstat(file.fileno())
sys.exit(not os.path.samestat(written, os.lstat(path)))
";
        let marker = std::str::from_utf8(marker).expect("text");
        self.tamper_surely(|| {
            let args = ["-c".as_ref(), SCRIPT.as_ref(), path.as_os_str(), marker.as_ref()];
            super::quiet("python3", &args).status.success()
        });
    }

    /// Calls `tamper` until it says that it got through.
    pub fn tamper_surely(&self, mut tamper: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        self.tries.set(1);
        while !tamper() {
            self.tries.set(self.tries.get() + 1);
            assert!(Instant::now() < deadline, "no tampering got through\n{}", self.log());
        }
    }

    /// How often the last [`Self::tamper_surely`] had to try.
    pub fn tries(&self) -> usize {
        self.tries.get()
    }

    /// Waits until the protected file is as it was in every respect.
    pub fn wait_whole(&self) {
        self.wait_whole_at(&self.file());
    }

    /// [`Self::wait_whole`] for one of several.
    pub fn wait_whole_at(&self, path: &Path) {
        let good = self.good(path);
        poll(
            || good.differences(path).is_empty().then_some(()),
            || {
                let differences = good.differences(path);
                format!("{} is not whole: {differences}\n{}", path.display(), self.story())
            },
        );
    }

    /// The number of the last journal line.
    pub fn last_seq(&self) -> u64 {
        self.events().last().and_then(|line| line["seq"].as_u64()).unwrap_or(0)
    }

    /// Waits until no incident is open.
    pub fn wait_settled(&self) {
        poll(
            || (self.status()["open_incidents"] == 0).then_some(()),
            || format!("an incident stays open\n{}", self.story()),
        );
    }

    /// What the daemon printed.
    pub fn log(&self) -> String {
        text(&std::fs::read(self.log_file()).unwrap_or_default())
    }

    /// What the daemon printed and what is in the journal, for a failing test.
    pub fn story(&self) -> String {
        let journal = self.sandbox.steadfast(&["events", "--json"]);
        format!("--- daemon\n{}--- journal\n{}", self.log(), text(&journal.stdout))
    }

    fn log_file(&self) -> PathBuf {
        self.config().with_file_name("log")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        signal(&child, Signal::TERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while child.try_wait().is_ok_and(|gone| gone.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill_group(&child);
        let _ = child.wait();
        if std::thread::panicking() {
            let _ = std::io::stderr().write_all(self.log().as_bytes());
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn signal(child: &Child, signal: Signal) {
    let _ = rustix::process::kill_process(pid_of(child), signal);
}

/// The daemon and whatever it started: it leads a process group of its own.
fn kill_group(child: &Child) {
    let _ = rustix::process::kill_process_group(pid_of(child), Signal::KILL);
}
