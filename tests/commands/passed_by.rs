//! What a protected directory holds and what cannot be protected: it is said, and hangs nothing.

use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::common::{Guard, Place, Sandbox, assert_code, not_root, skip_unless, text};

const NAMES: [&str; 3] = ["device null", "named pipe fifo", "socket sock"];

fn fill(dir: &Path) {
    let app = dir.join("app");
    std::fs::create_dir(&app).unwrap();
    std::fs::write(app.join("main.py"), "good").unwrap();
    let make = |name: &str, kind, device| {
        mknodat(CWD, app.join(name), kind, Mode::RUSR | Mode::WUSR, device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    make("null", FileType::CharacterDevice, makedev(1, 3));
    // The name stays when nobody listens any more.
    drop(UnixListener::bind(app.join("sock")).unwrap());
}

#[test]
fn what_has_no_content_to_keep_is_named_when_its_directory_is_protected_or_checked() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    fill(sandbox.dir());
    let app = sandbox.path("app");
    let table = format!("[[protect]]\npaths = [{app:?}]\n");
    sandbox.configure(&format!("{}{table}", sandbox.daemon_table("")));
    let check = sandbox.steadfast_os(
        &["config", "check"]
            .map(std::ffi::OsStr::new)
            .as_slice()
            .iter()
            .copied()
            .chain([sandbox.config().as_os_str()])
            .collect::<Vec<_>>(),
    );
    assert_code(&check, 0, "config check");
    let said = text(&check.stderr);
    for what in ["null is a device", "fifo is a named pipe", "sock is a socket"] {
        assert!(said.contains(what), "{said}");
    }
    let said = text(&sandbox.expect(0, "protect", &app).stdout);
    for what in NAMES {
        assert!(said.contains(what) && said.contains("not protected"), "{said}");
    }
    for command in ["audit", "restore", "accept"] {
        sandbox.expect(0, command, &app);
    }
    sandbox.expect(2, "protect", &app.join("fifo"));
}

#[test]
fn status_names_what_is_not_protected_in_a_directory_as_long_as_it_is_there() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().prepare(fill).protect("app").start();
    let shortcoming = || {
        let status = guard.status();
        let all = status["shortcomings"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["path"] == guard.path("app").to_str().unwrap())
    };
    let told = shortcoming().unwrap();
    for what in NAMES {
        assert!(told["why"].as_str().unwrap().contains(what), "{told}");
    }
    for name in ["fifo", "null", "sock"] {
        std::fs::remove_file(guard.path("app").join(name)).unwrap();
    }
    crate::common::poll(|| shortcoming().is_none().then_some(()), || guard.status().to_string());
    let kinds: Vec<_> =
        guard.events_about(&guard.path("app")).iter().map(|e| e["kind"].clone()).collect();
    assert!(!kinds.iter().any(|kind| kind == "created" || kind == "deleted"), "{kinds:?}");
}
