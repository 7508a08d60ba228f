//! The virtual machine: a kernel of the distribution, a disk with the daemon and a script, and
//! what the script told.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::common::{missing, must, not_root, quiet, text};

/// On the kernel's command line of the virtual machine.
pub const MARK: &str = "steadfast-virtual-machine";
/// The whole story, which takes half a minute on a machine that does nothing else.
const PATIENCE: Duration = Duration::from_secs(1800);

const NEEDS: [&str; 8] = [
    "qemu-system-x86_64",
    "busybox",
    "mke2fs",
    "chattr",
    "strip",
    "setpriv",
    "apt-get",
    "dpkg-deb",
];
/// Why no machine can be had, or `None`.
pub fn no_machine() -> Option<String> {
    let foreign = (!cfg!(target_arch = "x86_64")).then(|| "needs an x86-64 machine".to_owned());
    foreign
        .or_else(not_root)
        .or_else(|| missing(&NEEDS))
        .or_else(|| kernel().as_ref().err().cloned())
}

/// The kernel and the modules for its disk, fetched once and kept below `target/`.
fn kernel() -> &'static Result<PathBuf, String> {
    static KERNEL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let lock = File::create(home.join("stock-kernel.lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let kernel = home.join("stock-kernel");
        if kernel.is_dir() {
            return Ok(kernel);
        }
        let making = home.join("stock-kernel.part");
        let _ = std::fs::remove_dir_all(&making);
        let fetch = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stock_kernel/fetch");
        let made = quiet(fetch, &[making.as_os_str()]);
        if !made.status.success() {
            let said = text(&made.stderr);
            let last = said.lines().last().unwrap_or("it says nothing").to_owned();
            return Err(format!("no kernel of the distribution can be had: {last}"));
        }
        std::fs::rename(&making, &kernel).unwrap();
        Ok(kernel)
    })
}

/// What the script told. Shown, it is the whole story, for a failing test.
pub struct Told {
    lines: Vec<Value>,
    console: String,
}

/// The machine boots with the first test that asks, and all look at the same story.
pub fn told() -> &'static Told {
    static TOLD: OnceLock<Result<Told, String>> = OnceLock::new();
    // Not again where it failed: that takes as long again.
    TOLD.get_or_init(run).as_ref().unwrap_or_else(|why| panic!("{why}"))
}

impl Told {
    /// Every line about this at this place in the story.
    pub fn all(&self, say: &str, at: &str) -> impl DoubleEndedIterator<Item = &Value> {
        let of = move |line: &&Value| line["say"] == say && line["at"] == at;
        self.lines.iter().filter(of).map(|line| &line["is"])
    }

    /// The only one.
    pub fn one(&self, say: &str, at: &str) -> &Value {
        self.all(say, at).next().unwrap_or_else(|| panic!("no {say} at {at}\n{self}"))
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        write!(f, "--- console\n{}", self.console)
    }
}

/// Ends with this, however the test ends.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run() -> Result<Told, String> {
    let home = tempfile::Builder::new().prefix("steadfast-vm-").tempdir_in("/var/tmp").unwrap();
    let home = home.path();
    let kernel = kernel().as_ref().unwrap();
    let start = initial(home, kernel);
    let disk = disk(home);
    let (console, results) = (home.join("console"), home.join("results"));
    let image = kernel.join("vmlinuz");
    let file = |path: &Path| format!("file:{}", path.display());
    // On a busy machine the timer is late, which the kernel would take for a broken one.
    let kernel = format!("console=ttyS0 quiet panic=-1 no_timer_check {MARK}");
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"])
        .args(["-accel", "tcg", "-cpu", "max", "-m", "768", "-smp", "2", "-no-reboot"])
        .args(["-nodefaults", "-display", "none", "-monitor", "none"])
        .args(["-serial", &file(&console), "-serial", &file(&results)])
        .args(["-append", &kernel])
        .args(["-drive", &format!("file={},if=virtio,format=raw", disk.display())])
        .args(["-kernel".as_ref(), image.as_os_str(), "-initrd".as_ref(), start.as_os_str()])
        .stdin(Stdio::null())
        .stdout(File::create(home.join("qemu")).unwrap())
        .stderr(File::options().append(true).open(home.join("qemu")).unwrap());
    let ended = wait(Machine(command.spawn().unwrap()));
    let read = |name: &str| text(&std::fs::read(home.join(name)).unwrap_or_default());
    let lines = read("results");
    let lines: Vec<_> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = Told { lines, console: read("console") + &read("qemu") };
    let whole = ended && told.all("end", "-").next().is_some();
    if whole { Ok(told) } else { Err(format!("the story did not come to its end\n{told}")) }
}

/// Whether it ended by itself.
fn wait(mut machine: Machine) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if machine.0.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// The first filesystem: a shell and the modules for the disk.
fn initial(home: &Path, kernel: &Path) -> PathBuf {
    let tree = home.join("initial");
    for dir in ["bin", "dev", "disk"] {
        std::fs::create_dir_all(tree.join(dir)).unwrap();
    }
    add(&tree, Path::new("busybox"), "bin/busybox");
    script(&tree.join("init"), include_str!("init"));
    for entry in std::fs::read_dir(kernel).unwrap() {
        let from = entry.unwrap().path();
        if from.extension() == Some("ko".as_ref()) {
            std::fs::copy(&from, tree.join(from.file_name().unwrap())).unwrap();
        }
    }
    let archive = home.join("initial.cpio");
    let made = Command::new("sh")
        .args(["-c", r#"cd "$0" && find . | busybox cpio -o -H newc >"$1""#])
        .args([&tree, &archive])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    archive
}

/// The disk: the program, what tampers, and what they need of libraries.
fn disk(home: &Path) -> PathBuf {
    let tree = home.join("disk");
    for dir in ["bin", "dev", "proc", "run", "srv", "sys", "tmp", "etc/steadfast", "var/lib"] {
        std::fs::create_dir_all(tree.join(dir)).unwrap();
    }
    for program in ["busybox", "chattr", "lsattr", "rm", "mv"] {
        add(&tree, Path::new(program), &format!("bin/{program}"));
    }
    add(&tree, Path::new(env!("CARGO_BIN_EXE_steadfast")), "bin/steadfast");
    add(&tree, &std::env::current_exe().unwrap(), "bin/locker");
    for program in ["bin/steadfast", "bin/locker"] {
        must("strip", &[tree.join(program).as_os_str()]);
    }
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(tree.join("etc/steadfast/steadfast.toml"), include_str!("steadfast.toml"))
        .unwrap();
    script(&tree.join("scenario"), include_str!("scenario"));
    let disk = home.join("disk.ext4");
    let options = ["-q", "-t", "ext4", "-d"].map(OsStr::new);
    let what = [tree.as_os_str(), disk.as_os_str(), "512M".as_ref()];
    must("mke2fs", &[&options[..], &what].concat());
    disk
}

/// A program of this machine, with the libraries that it names.
fn add(tree: &Path, program: &Path, to: &str) {
    let found = quiet("sh", &["-c".as_ref(), r#"command -v "$0""#.as_ref(), program.as_ref()]);
    let from = text(&found.stdout);
    must("cp", &["-L".as_ref(), from.trim_end().as_ref(), tree.join(to).as_os_str()]);
    // One that is static has none, and says so with an error.
    let needs = quiet("ldd", &[from.trim_end().as_ref()]);
    for library in text(&needs.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
        let to = tree.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        must("cp", &["-L".as_ref(), library.as_ref(), to.as_os_str()]);
    }
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
