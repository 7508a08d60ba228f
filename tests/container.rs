//! Tampering from inside a real container: the event says which one it was, and the container
//! sees the healed file.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{
    GOOD, Guard, TAMPERING, is_immutable, missing, must, not_root, poll, skip_unless, text,
};
use serde_json::Value;

/// A container with a shell, `chattr` and `cat`, that gets one file as a bind mount at `/f`.
struct Container {
    home: tempfile::TempDir,
    name: String,
    id: String,
}

impl Container {
    fn start(file: &Path) -> Self {
        let home = tempfile::Builder::new().prefix("sf-").tempdir_in("/var/tmp").unwrap();
        let name = format!("web-{}", std::process::id());
        let mut container = Self { home, name, id: String::new() };
        let image = container.image();
        container.podman(&["import".as_ref(), image.as_os_str(), "steadfast-test".as_ref()]);
        let mount = format!("{}:/f", file.display());
        let run = ["--runtime", "runc", "--cgroup-manager=cgroupfs", "run", "-d", "--name"];
        let how = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        let more = ["--network=none", "--cap-add", "LINUX_IMMUTABLE", "-v", &mount];
        let what = ["steadfast-test", "/bin/sleep", "1000"];
        let all: Vec<&str> =
            run.into_iter().chain([&*container.name]).chain(how).chain(more).chain(what).collect();
        container.id = container.podman(&all).trim().to_owned();
        container
    }

    /// A tar of the few programs and what they are linked with.
    fn image(&self) -> PathBuf {
        let root = self.home.path().join("root");
        let script = r#"
            mkdir -p "$1/bin" "$1/tmp"
            for name in bash cat chattr sleep; do
                program=$(command -v "$name")
                cp -L "$program" "$1/bin/"
                for library in $(ldd "$program" | grep -o '/[^ ]*'); do
                    mkdir -p "$1${library%/*}"
                    cp -L "$library" "$1$library"
                done
            done
            tar -C "$1" -cf "$2" .
        "#;
        let tar = self.home.path().join("image.tar");
        let args = ["-euc", script, "sh"].map(OsStr::new);
        must("bash", &[&args[..], &[root.as_os_str(), tar.as_os_str()]].concat());
        tar
    }

    fn podman(&self, args: &[impl AsRef<OsStr>]) -> String {
        let output = self.command().args(args).output().unwrap();
        assert!(output.status.success(), "podman: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Podman with storage of its own, so that nothing of it stays on the machine.
    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.home.path().join("p"));
        command.arg("--runroot").arg(self.home.path().join("r"));
        command.arg("--tmpdir").arg(self.home.path().join("t"));
        command.stdin(Stdio::null());
        command
    }

    fn exec(&self, script: &str) -> String {
        let how = ["--runtime", "runc", "--cgroup-manager=cgroupfs", "exec", &self.name];
        self.podman(&[&how[..], &["/bin/bash", "-c", script]].concat())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "-f", "-t", "0", &self.name]).output();
        let _ = self.command().args(["rmi", "-f", "steadfast-test"]).output();
        let overlay = self.home.path().join("p/overlay");
        let _ = Command::new("umount").arg(overlay).stderr(Stdio::null()).status();
    }
}

fn audit_works(guard: &Guard) -> bool {
    let status = guard.status();
    let mut sensors = status["sensors"].as_array().unwrap().iter();
    sensors.any(|one| one["name"] == "audit" && one["state"] == "working")
}

#[test]
fn tampering_in_a_container_names_the_container_and_is_healed_in_its_sight() {
    skip_unless!(not_root());
    skip_unless!(missing(&["podman", "runc", "chattr", "bash", "tar"]));
    // Before the daemon, which looks for such mounts when it starts and then every minute.
    let mut container = None;
    let prepare = |dir: &Path| container = Some(Container::start(&dir.join("main.py")));
    let guard = Guard::on_disk().file("main.py", GOOD).prepare(prepare).start();
    let (file, container) = (guard.file(), container.unwrap());

    container.exec("/bin/chattr -i /f; echo TAMPERED >> /f || true");
    guard.wait_whole();
    guard.wait_settled();
    assert_eq!(is_immutable(&file), Some(true));
    poll(
        || (container.exec("/bin/cat /f").as_bytes() == GOOD).then_some(()),
        || format!("the container sees something else\n{}", guard.story()),
    );

    let lines = guard.events_about(&file);
    let named: Vec<_> = lines.iter().filter(|line| line["actor"].is_object()).collect();
    assert!(!named.is_empty(), "nobody is named\n{}", guard.story());
    if audit_works(&guard) {
        // Where a look comes before the event, that is told too, of nobody's doing in particular.
        let told = |line: &&Value| {
            let kind = line["kind"].as_str().unwrap();
            TAMPERING.contains(&kind) && kind != "drift-found"
        };
        for line in lines.iter().filter(told) {
            assert_eq!(line["attribution"]["confidence"], "exact", "{line}");
        }
    }
    for line in named {
        assert_eq!(line["actor"]["container"], *container.id, "{line}");
        assert_eq!(line["actor"]["container_name"], *container.name, "{line}");
    }
    let who = text(&guard.expect(0, "who", &file).stdout);
    assert!(who.contains(&format!("container {}", container.name)), "{who}");
}
