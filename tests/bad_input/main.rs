//! What cannot work is refused with exit code 2 and one clear sentence, and nothing is left
//! half-done: no baseline, no copy, no bit.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod copies;
mod start;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{
    GOOD, Guard, Place, Sandbox, Whole, clear_everything, incident_of, is_immutable, missing,
    not_root, skip_unless, text,
};
use rustix::fs::{CWD, FileType, Mode};

fn sandbox() -> Sandbox {
    Sandbox::on(Place::disk())
}

/// Exit code 2, nothing on stdout, and on stderr a short message that has `names` in it.
fn assert_refused(output: &Output, names: &[&str]) {
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{}\n{message}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "");
    assert!((1..=3).contains(&message.lines().count()), "one sentence and a hint: {message}");
    for internal in ["panicked", "RUST_BACKTRACE", "Os {", "Error {", "src/"] {
        assert!(!message.contains(internal), "for people: {message}");
    }
    for name in names {
        assert!(message.contains(name), "{name:?} is not in: {message}");
    }
}

/// `protect` and `run` both refuse `path`, and both leave nothing behind.
fn assert_unprotectable(sandbox: &Sandbox, path: &Path, names: &[&str]) {
    let good = sandbox.path("good");
    common::write_old(&good, GOOD);
    let before = Whole::of(&good).unwrap();
    let all: [&[&std::ffi::OsStr]; 3] = [
        &["protect".as_ref(), path.as_ref()],
        &["protect".as_ref(), good.as_ref(), path.as_ref()],
        &["run".as_ref(), "--protect".as_ref(), good.as_ref(), "--protect".as_ref(), path.as_ref()],
    ];
    for args in all {
        let mut names = names.to_vec();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        names.push(&name);
        assert_refused(&sandbox.steadfast_os(args), &names);
        assert_eq!(before.differences(&good), "", "{args:?} is half-done");
        assert_nothing_kept(sandbox);
    }
}

/// No copy in the vault, nothing but state files below the state directory.
fn assert_nothing_kept(sandbox: &Sandbox) {
    let vault = std::fs::read_dir(sandbox.state().join("vault"));
    let kept: Vec<_> = vault.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

#[test]
fn a_path_that_does_not_exist_is_refused() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    assert_unprotectable(&sandbox, &sandbox.path("absent"), &["not exist"]);
}

#[test]
fn a_path_below_a_file_is_refused() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    common::write_old(&sandbox.path("plain"), GOOD);
    assert_unprotectable(&sandbox, &sandbox.path("plain/below"), &[]);
}

#[test]
fn a_symlink_loop_is_refused() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    symlink(sandbox.path("there"), sandbox.path("here")).unwrap();
    symlink(sandbox.path("here"), sandbox.path("there")).unwrap();
    assert_unprotectable(&sandbox, &sandbox.path("here/main.py"), &[]);
}

#[test]
fn a_file_on_a_read_only_filesystem_is_refused() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(reason) => return common::report_skip(&reason),
    };
    let file = place.dir().join("main.py");
    common::write_old(&file, GOOD);
    place.remount("ro");
    let sandbox = Sandbox::on(place);
    assert_refused(&sandbox.expect(2, "protect", &file), &["read-only", "main.py"]);
    assert_nothing_kept(&sandbox);
    let run = sandbox.steadfast_os(&["run".as_ref(), "--protect".as_ref(), file.as_ref()]);
    assert_refused(&run, &["read-only", "main.py"]);
    assert_nothing_kept(&sandbox);
}

#[test]
fn devices_pipes_and_sockets_are_refused_without_being_opened() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let node = |name: &str, kind, device| {
        let path = sandbox.path(name);
        rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), device).unwrap();
        path
    };
    // /dev/zero: whoever reads it never ends. A pipe without a writer: nor does its open.
    let zero = rustix::fs::makedev(1, 5);
    assert_unprotectable(&sandbox, &node("zero", FileType::CharacterDevice, zero), &["device"]);
    assert_unprotectable(&sandbox, &node("pipe", FileType::Fifo, 0), &["pipe"]);
    let socket = sandbox.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_unprotectable(&sandbox, &socket, &["socket"]);
}

#[test]
fn every_problem_of_a_configuration_is_told_at_once_with_line_and_column() {
    let sandbox = sandbox();
    sandbox.configure(
        "[[protect]]\n\
         paths = [\"relative/path\"]\n\
         imutable = true\n\
         alert = \"sometimes\"\n\
         \n\
         [daemon]\n\
         state = \"/nonexistent/steadfast-test\"\n\
         content_sweep = \"often\"\n\
         \n\
         [surprise]\n\
         key = 1\n\
         \n\
         [alert.email]\n\
         server = \"nonsense\"\n\
         tls = 3\n",
    );
    let check = sandbox.steadfast(&["config", "check"]);
    assert_eq!(check.status.code(), Some(1), "{}", text(&check.stderr));
    let run = sandbox.steadfast(&["run"]);
    assert_eq!(run.status.code(), Some(2), "{}", text(&run.stderr));
    for output in [check, run] {
        let told = text(&output.stdout) + &text(&output.stderr);
        for place in ["2:", "3:1", "4:", "8:", "10:", "14:10", "15:7"] {
            assert!(told.contains(place), "{place} is not in: {told}");
        }
        for word in
            ["relative/path", "imutable", "sometimes", "often", "surprise", "nonsense", "`tls`"]
        {
            assert!(told.contains(word), "{word} is not in: {told}");
        }
    }
    assert!(!Path::new("/nonexistent").exists());
}

#[test]
fn a_configuration_that_is_no_toml_is_refused_with_its_place() {
    let sandbox = sandbox();
    sandbox.configure("[daemon]\nstate = \"/var/lib/x\nlisten = 3\n");
    assert_eq!(sandbox.steadfast(&["config", "check"]).status.code(), Some(1));
    let output = sandbox.steadfast(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("2:"), "{}", text(&output.stderr));
}

#[test]
fn a_configuration_that_is_absent_is_refused_where_it_was_named() {
    let sandbox = sandbox();
    let absent = sandbox.path("absent.toml");
    let args = ["--config".as_ref(), absent.as_os_str(), "status".as_ref()];
    assert_refused(&sandbox.steadfast_os(&args), &["absent.toml"]);
}

#[test]
fn a_path_of_the_configuration_that_does_not_exist_stops_the_start() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let table = sandbox.daemon_table("");
    sandbox.configure(&format!("{table}[[protect]]\npaths = [{:?}]\n", sandbox.path("absent")));
    assert_refused(&sandbox.steadfast(&["run"]), &["absent"]);
    assert_nothing_kept(&sandbox);
}

#[test]
fn a_baseline_from_a_newer_version_is_left_alone() {
    skip_unless!(not_root().or_else(|| missing(&["python3"])));
    let sandbox = sandbox();
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let baseline = sandbox.state().join("baseline.db");
    let bump = "import sqlite3, sys\n\
                base = sqlite3.connect(sys.argv[1])\n\
                base.execute('PRAGMA user_version = 9999')\n\
                base.commit()\n";
    common::must("/usr/bin/python3", &["-c".as_ref(), bump.as_ref(), baseline.as_ref()]);
    for args in [&["audit"][..], &["run"], &["restore", file.to_str().unwrap()]] {
        assert_refused(&sandbox.steadfast(args), &["9999", "later"]);
    }
    assert_eq!(is_immutable(&file), Some(true));
    assert_eq!(std::fs::read(&file).unwrap(), GOOD);
}

#[test]
fn a_baseline_that_is_rubbish_is_left_alone() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let baseline = sandbox.state().join("baseline.db");
    for extra in ["baseline.db-wal", "baseline.db-shm"] {
        let _ = std::fs::remove_file(sandbox.state().join(extra));
    }
    let rubbish = vec![b'?'; 8192];
    std::fs::write(&baseline, &rubbish).unwrap();
    for args in [&["audit"][..], &["run"]] {
        assert_refused(&sandbox.steadfast(args), &["baseline"]);
    }
    assert_eq!(std::fs::read(&baseline).unwrap(), rubbish);
    assert_eq!(is_immutable(&file), Some(true));
}

// Who runs it, and how often.

#[test]
fn without_root_nothing_is_done() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    // Everything in reach of nobody, so that only the missing privilege is in the way.
    let open = |path: PathBuf| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    };
    let program = sandbox.path("steadfast");
    // Not by this process, whose other tests fork: what is open for writing cannot be run.
    let original = env!("CARGO_BIN_EXE_steadfast").as_ref();
    common::must("cp", &[original, program.as_os_str()]);
    open(program.clone());
    open(sandbox.dir().to_owned());
    open(sandbox.dir().parent().unwrap().to_owned());
    open(sandbox.config().parent().unwrap().to_owned());
    std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    let before = Whole::of(&file).unwrap();
    for args in [&["protect"][..], &["run", "--protect"]] {
        let output = std::process::Command::new(&program)
            .args(args)
            .arg(&file)
            .env("STEADFAST_CONFIG", sandbox.config())
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert_refused(&output, &["root"]);
        assert_eq!(before.differences(&file), "");
        assert!(!sandbox.state().exists());
    }
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let pid = guard.pid().to_string();
    let second = guard.steadfast(&["run"]);
    assert_eq!(second.status.code(), Some(2), "{}", text(&second.stderr));
    assert!(text(&second.stderr).contains(&pid), "{}", text(&second.stderr));
    assert!(guard.is_alive());
    guard.sh(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE""#);
    guard.wait_whole();
    incident_of(&guard, &guard.file(), 0).assert_healed();
}

#[test]
fn a_command_for_a_path_that_is_not_protected_is_refused() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let (file, stranger) = (sandbox.path("main.py"), sandbox.path("stranger"));
    common::write_old(&file, GOOD);
    common::write_old(&stranger, GOOD);
    sandbox.expect(0, "protect", &file);
    for command in ["release", "restore", "accept", "diff", "audit"] {
        assert_refused(&sandbox.expect(2, command, &stranger), &["stranger", "not protected"]);
    }
    assert_eq!(is_immutable(&stranger), Some(false));
}

#[test]
fn a_command_line_that_makes_no_sense_is_a_usage_error() {
    let sandbox = sandbox();
    for args in [&["protect"][..], &["frobnicate"], &["events", "--since", "yesterdayish"]] {
        let output = sandbox.steadfast(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn status_without_a_daemon_says_so() {
    let sandbox = sandbox();
    assert_refused(&sandbox.steadfast(&["status"]), &["daemon"]);
    let json = sandbox.steadfast(&["status", "--json"]);
    assert_eq!(json.status.code(), Some(2));
    clear_everything(&sandbox.state());
}
