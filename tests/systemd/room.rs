//! A machine to boot: a tree with Debian 12 and the daemon, and systemd-nspawn.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::common::{clear_everything, missing, not_root, text};

/// A machine boots and ends within this time, even a busy one.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is protected in every room.
pub const FILE: &str = "/srv/app/main.py";
pub const GOOD: &str = "print('good')\n";

/// Why no room can be had, or `None`.
pub fn no_room() -> Option<String> {
    not_root()
        .or_else(|| missing(&["debootstrap", "systemd-nspawn", "systemctl", "nsenter"]))
        .or_else(|| base().as_ref().err().cloned())
}

/// A tree of Debian 12 without the daemon, made once and kept below `target/`.
fn base() -> &'static Result<PathBuf, String> {
    static BASE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BASE.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let _lock = lock("debian-12.lock");
        let base = home.join("debian-12");
        if base.is_dir() {
            return Ok(base);
        }
        let making = home.join("debian-12.part");
        clear_everything(&making);
        let _ = std::fs::remove_dir_all(&making);
        let packages = "--include=systemd,systemd-sysv,dbus,curl";
        let args = ["--variant=minbase", packages, "bookworm", making.to_str().unwrap()];
        let made = crate::common::quiet("debootstrap", &args.map(OsStr::new));
        if !made.status.success() {
            let said = text(&made.stdout);
            let last = said.lines().last().unwrap_or("it says nothing").to_owned();
            return Err(format!("debootstrap cannot make a Debian 12: {last}"));
        }
        for dir in ["var/cache/apt/archives", "var/lib/apt/lists"] {
            let _ = std::fs::remove_dir_all(making.join(dir));
        }
        std::fs::rename(&making, &base).unwrap();
        Ok(base)
    })
}

fn lock(name: &str) -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = File::options().create(true).truncate(false).write(true).open(path).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}

/// See the module.
pub struct Room {
    home: tempfile::TempDir,
    machine: Option<Child>,
    /// Machines share their control groups: one at a time.
    _turn: File,
}

impl Room {
    /// A machine that is off, with the daemon installed and enabled and [`FILE`] protected;
    /// `more` is added to the configuration.
    pub fn installed(more: &str) -> Self {
        let base = base().as_ref().unwrap();
        let turn = lock("nspawn.lock");
        let home = tempfile::Builder::new().prefix("steadfast-room-").tempdir_in("/var/tmp");
        let room = Self { home: home.unwrap(), machine: None, _turn: turn };
        let copy = ["-a", "--reflink=auto"].map(OsStr::new);
        let tree = room.tree();
        crate::common::must("cp", &[&copy[..], &[base.as_os_str(), tree.as_os_str()]].concat());
        room.write("/etc/hostname", "room\n");
        room.write(FILE, GOOD);
        let config = format!("[[protect]]\npaths = [\"{FILE}\"]\n{more}");
        room.write("/etc/steadfast/steadfast.toml", &config);
        room.install();
        room
    }

    /// Installs the program, as the README says.
    pub fn install(&self) {
        let installed = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/install"))
            .env("DESTDIR", self.tree())
            .env("PROGRAM", env!("CARGO_BIN_EXE_steadfast"))
            .output()
            .unwrap();
        assert!(installed.status.success(), "{}", text(&installed.stderr));
    }

    fn tree(&self) -> PathBuf {
        self.home.path().join("tree")
    }

    /// Where a path of the machine is on ours.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.tree().join(inside.trim_start_matches('/'))
    }

    /// Writes a file of the machine.
    pub fn write(&self, inside: &str, content: &str) {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Boots, and waits until all services were started.
    pub fn boot(&mut self) {
        assert!(self.machine.is_none(), "it runs already");
        let console = File::create(self.home.path().join("console")).unwrap();
        // It ends with the test, however that ends.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "systemd-nspawn"])
            .args(["-q", "--register=no", "--keep-unit", "--private-network", "--capability=all"])
            .arg("--system-call-filter=fanotify_init fanotify_mark @debug")
            .args(["-b", "-D"])
            .arg(self.tree())
            .stdin(Stdio::null())
            .stdout(console.try_clone().unwrap())
            .stderr(console)
            .process_group(0);
        self.machine = Some(command.spawn().unwrap());
        self.wait_until("the machine is up", |room| {
            room.try_sh("systemctl is-active multi-user.target").is_some_and(|o| o.status.success())
        });
    }

    /// Asks until `check` says so.
    pub fn wait_until(&self, what: &str, mut check: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !check(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", self.story());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Shuts the machine down as a person would.
    pub fn power_off(&mut self) {
        self.sh("systemctl poweroff --no-block");
        let mut machine = self.machine.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while machine.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not go off\n{}", self.console());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The first process of the machine, by our number.
    fn first_process(&self) -> Option<u32> {
        let machine = self.machine.as_ref()?.id();
        let children = format!("/proc/{machine}/task/{machine}/children");
        std::fs::read_to_string(children).ok()?.split_ascii_whitespace().next()?.parse().ok()
    }

    fn try_sh(&self, script: &str) -> Option<Output> {
        let first = self.first_process()?.to_string();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        Command::new("nsenter")
            .args(["-t", &first, "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i", path])
            .args(["bash", "-c", script])
            .stdin(Stdio::null())
            // Whatever a script signals is not us.
            .process_group(0)
            .output()
            .ok()
    }

    /// Runs a script in the machine, whatever comes of it.
    pub fn sh(&self, script: &str) -> Output {
        self.try_sh(script).unwrap_or_else(|| panic!("no machine\n{}", self.console()))
    }

    /// What a script prints that has to succeed.
    pub fn told(&self, script: &str) -> String {
        let output = self.sh(script);
        let (said, complained) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{script}: {said}{complained}\n{}", self.story());
        said.trim_end().to_owned()
    }

    /// A property of the daemon's unit.
    pub fn property(&self, name: &str) -> String {
        self.told(&format!("systemctl show -p {name} --value steadfast.service"))
    }

    /// The daemon's process, and waits until it is another than `before` and on guard.
    pub fn process_after(&self, before: Option<&str>) -> String {
        let mut process = String::new();
        self.wait_until("the daemon is on guard", |room| {
            let show = "systemctl show -p MainPID,SubState --value steadfast.service";
            let shown = room.told(show);
            let (pid, state) = shown.split_once('\n').unwrap_or_default();
            process = pid.to_owned();
            state == "running" && pid != "0" && Some(pid) != before
        });
        process
    }

    /// Whether the protected file is whole and `+i`.
    pub fn is_whole(&self) -> bool {
        std::fs::read_to_string(self.path(FILE)).is_ok_and(|found| found == GOOD)
            && crate::common::is_immutable(&self.path(FILE)) == Some(true)
    }

    /// The journal.
    pub fn all_events(&self) -> Vec<Value> {
        let lines = self.told("steadfast events --json");
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The journal's lines of [`FILE`] whose kind is one of `kinds`.
    pub fn events(&self, kinds: &[&str]) -> Vec<Value> {
        let mut all = self.all_events();
        all.retain(|event| {
            event["path"] == FILE && kinds.iter().any(|kind| event["kind"] == *kind)
        });
        all
    }

    fn console(&self) -> String {
        text(&std::fs::read(self.home.path().join("console")).unwrap_or_default())
    }

    /// What a person would look at.
    pub fn story(&self) -> String {
        let script = "systemctl status -l --no-pager steadfast; steadfast status; \
                      journalctl --no-pager -b -u steadfast | tail -100; steadfast events | tail -60";
        let told = self.try_sh(script).map_or_else(|| self.console(), |o| text(&o.stdout));
        format!("--- story\n{told}")
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(mut machine) = self.machine.take() {
            // Everything in it goes with its first process.
            if let Some(first) = self.first_process_of(&machine) {
                let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
            }
            let _ = machine.wait();
        }
        clear_everything(self.home.path());
    }
}

impl Room {
    fn first_process_of(&self, machine: &Child) -> Option<rustix::process::Pid> {
        let id = machine.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        let first = children.split_ascii_whitespace().next()?.parse().ok()?;
        rustix::process::Pid::from_raw(first)
    }
}
