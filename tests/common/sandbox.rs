//! A place for files, a state directory and a configuration of its own, and the program.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::place::clear_mounts_below;
use super::{Place, clear_everything, text};

/// Everything one test needs, and nothing that outlives it.
pub struct Sandbox {
    /// Where the protected files lie.
    pub place: Place,
    /// Configuration, state and control socket.
    home: TempDir,
    /// The program is to watch for the name of a fault point.
    faults: bool,
}

impl Sandbox {
    /// With files on `place`; the state is always on the machine's disk.
    pub fn on(place: Place) -> Self {
        let root = std::fs::canonicalize("/var/tmp").unwrap();
        let home = tempfile::Builder::new().prefix("steadfast-home-").tempdir_in(root).unwrap();
        let sandbox = Self { place, home, faults: false };
        sandbox.configure(&sandbox.daemon_table(""));
        sandbox
    }

    /// The directory for the files.
    pub fn dir(&self) -> &Path {
        self.place.dir()
    }

    /// A file among them.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir().join(name.as_ref())
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.home.path().join("control.sock")
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("steadfast.toml")
    }

    /// The `[daemon]` table that keeps this sandbox apart from every other, with `more` in it.
    pub fn daemon_table(&self, more: &str) -> String {
        let (state, control) = (self.state(), self.control());
        format!(
            "[daemon]\nstate = {:?}\ncontrol = {:?}\n{more}\n",
            state.to_str().unwrap(),
            control.to_str().unwrap()
        )
    }

    /// From now on the program dies where [`Self::fault_file`] says, and tests itself only when
    /// asked.
    pub fn watch_for_faults(&mut self) {
        self.faults = true;
    }

    /// Holds the name of the point where the program is to die.
    pub fn fault_file(&self) -> PathBuf {
        self.home.path().join("fault")
    }

    /// Replaces the configuration.
    pub fn configure(&self, toml: &str) {
        std::fs::write(self.config(), toml).unwrap();
    }

    /// The program with `args` and this sandbox's configuration, ready to start.
    pub fn command(&self, args: &[&OsStr]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        command
            .args(args)
            .env("STEADFAST_CONFIG", self.config())
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        if self.faults {
            command.env("STEADFAST_FAULT", self.fault_file());
        }
        command
    }

    /// Runs the program to its end.
    pub fn steadfast(&self, args: &[&str]) -> Output {
        self.steadfast_os(&args.iter().map(OsStr::new).collect::<Vec<_>>())
    }

    /// Runs the program to its end, with any bytes for arguments.
    pub fn steadfast_os(&self, args: &[&OsStr]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `command` on `path`, which has to exit with `code`.
    pub fn expect(&self, code: i32, command: &str, path: &Path) -> Output {
        let output = self.steadfast_os(&[command.as_ref(), path.as_os_str()]);
        assert_code(&output, code, command);
        output
    }

    /// What `args` print as JSON; they have to exit with `code`.
    pub fn json(&self, code: i32, args: &[&OsStr]) -> Value {
        let output = self.steadfast_os(args);
        assert_code(&output, code, &format!("{args:?}"));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}: {}", text(&output.stdout)))
    }

    /// Every line of the journal.
    pub fn events(&self) -> Vec<Value> {
        let output = self.steadfast(&["events", "--json"]);
        assert_code(&output, 0, "events --json");
        output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {line:?}")))
            .collect()
    }

    /// The lines about `path`.
    pub fn events_about(&self, path: &Path) -> Vec<Value> {
        let hex: String = path.as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        let about = |event: &Value| match event.get("path_bytes").and_then(Value::as_str) {
            Some(bytes) => bytes == hex,
            None => event.get("path").and_then(Value::as_str).map(Path::new) == Some(path),
        };
        self.events().into_iter().filter(about).collect()
    }

    /// How many messages of this sort are in the spool; each stands there under its own name.
    pub fn mailed(&self, sort: &str) -> usize {
        let mut dirs = vec![self.state().join("spool")];
        let mut names = BTreeSet::new();
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name().into_string().unwrap();
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(entry.path());
                } else if let Some(id) = name.strip_prefix(&format!("{sort}-")) {
                    // An item and its receipt begin alike.
                    names.insert(
                        id.chars().take("20260101T000000.000000".len()).collect::<String>(),
                    );
                }
            }
        }
        names.len()
    }

    /// What lies in the quarantine: names and content; a link there leads to evidence that was
    /// left on the file's own filesystem. What is no regular file has no content.
    pub fn quarantine(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.state().join("quarantine"), &mut found);
        found
    }

    /// Whether something in the quarantine has `marker` in it.
    pub fn quarantine_holds(&self, marker: &[u8]) -> bool {
        let has = |content: &[u8]| content.windows(marker.len()).any(|bytes| bytes == marker);
        self.quarantine().iter().any(|(_, content)| has(content))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        clear_mounts_below(self.home.path());
        clear_everything(self.home.path());
    }
}

fn collect(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, found);
            continue;
        }
        let small = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() < 256 << 20);
        let content = if small { std::fs::read(&path).unwrap_or_default() } else { Vec::new() };
        found.push((path, content));
    }
}

/// Says everything a program printed, where its exit code is not `code`.
pub fn assert_code(output: &Output, code: i32, what: &str) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{what}: {}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}
