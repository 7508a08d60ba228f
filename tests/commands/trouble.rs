//! When something stands in a command's way, nothing is half done and a person can act on what is
//! said.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{
    self, GOOD, Guard, Place, Sandbox, assert_code, is_immutable, not_root, skip_unless, text,
};
use crate::protected;

#[test]
fn a_file_on_a_read_only_filesystem_stays_protected_when_it_is_to_be_released() {
    skip_unless!(not_root());
    for daemon in [false, true] {
        let place = match Place::new("ext4") {
            Ok(place) => place,
            Err(why) => return common::report_skip(&why),
        };
        let sandbox = Sandbox::on(place);
        let file = sandbox.path("main.py");
        common::write_old(&file, GOOD);
        sandbox.expect(0, "protect", &file);
        let mut guard = Guard::of(sandbox);
        if daemon {
            guard.start();
            guard.wait_settled();
        }
        let at = guard.place.mount_point().as_os_str().to_owned();
        let args = ["-o".as_ref(), "remount,ro".as_ref(), at.as_os_str()];
        // The daemon may be writing its copy just then.
        let read_only = || common::quiet("mount", &args).status.success().then_some(());
        common::poll(read_only, || "it stays writable".into());
        let told = text(&guard.expect(2, "release", &file).stderr);
        assert!(told.contains("stays protected") && told.contains("read-only"), "{told}");
        guard.expect(0, "audit", &file);
        assert_eq!(guard.json(0, &["audit".as_ref(), "--json".as_ref()])["checked"], 1);
        assert_eq!(is_immutable(&file), Some(true));
        let released = |g: &Guard| g.events_about(&file).iter().any(|l| l["kind"] == "released");
        assert!(!released(&guard), "{}", guard.story());

        guard.place.remount("rw");
        guard.expect(0, "release", &file);
        assert_eq!(is_immutable(&file), Some(false));
        assert!(released(&guard));
    }
}

#[test]
fn whoever_may_not_read_the_state_is_told_so_once_and_what_is_needed() {
    skip_unless!(not_root());
    let (sandbox, file, _) = protected();
    let open = |path: &Path| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let program = sandbox.path("steadfast");
    // Not by this process, whose other tests fork: what is open for writing cannot be run.
    let original = env!("CARGO_BIN_EXE_steadfast").as_ref();
    common::must("cp", &[original, program.as_os_str()]);
    [&program, sandbox.dir(), sandbox.dir().parent().unwrap()].into_iter().for_each(open);
    open(sandbox.config().parent().unwrap());
    for command in ["audit", "events", "who", "diff", "release"] {
        let output = Command::new(&program)
            .args([command.as_ref(), file.as_os_str()])
            .env("STEADFAST_CONFIG", sandbox.config())
            .uid(65534)
            .gid(65534)
            .output()
            .unwrap();
        assert_code(&output, 2, command);
        let told = text(&output.stderr);
        assert!(told.contains("root"), "{command}: {told}");
        assert!(told.matches("Permission denied").count() <= 1, "{command}: {told}");
    }
}

#[test]
fn a_path_that_nobody_knows_is_said_to_be_unknown() {
    skip_unless!(not_root());
    let (sandbox, _, _) = protected();
    let typo = sandbox.path("mian.py");
    for (command, code) in [
        ("audit", 2),
        ("diff", 2),
        ("restore", 2),
        ("release", 2),
        ("accept", 2),
        ("protect", 2),
        ("who", 0),
        ("events", 0),
    ] {
        let told = text(&sandbox.expect(code, command, &typo).stderr);
        let said = ["does not exist", "nothing is on record"].iter().any(|s| told.contains(s));
        assert!(said && told.contains("mian.py"), "{command}: {told}");
    }
}

#[test]
fn a_daemon_that_hangs_is_noticed_and_a_person_told_what_to_do() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let pid = Pid::from_raw(i32::try_from(guard.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let began = Instant::now();
    let told = text(&guard.expect(2, "restore", &guard.file()).stderr);
    let took = began.elapsed();
    kill_process(pid, Signal::CONT).unwrap();
    assert!(took < Duration::from_secs(25), "it gave up after {took:?}");
    assert!(told.contains("did not answer") && told.contains("restart"), "{told}");
    guard.expect(0, "restore", &guard.file());
}

#[test]
fn a_command_that_takes_long_is_waited_for() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let large = guard.path("large");
    // Longer than a line of progress needs to come.
    std::fs::File::create(&large).unwrap().set_len(3 << 30).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(guard.control()).unwrap();
    let body = serde_json::json!({"paths": [{"path": large}]}).to_string();
    std::io::Write::write_all(
        &mut stream,
        format!(
            "POST /protect HTTP/1.1\r\nHost: x\r\nAccept: application/x-ndjson\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    )
    .unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    assert!(answer.contains(r#"{"progress":{"done":0,"of":1,"bytes":"#), "{answer}");
    assert!(answer.contains(r#"{"report":{"#) && answer.contains("immutable"), "{answer}");
}

#[test]
fn a_second_daemon_is_told_who_has_the_state_and_a_lock_of_a_killed_one_never_blocks() {
    skip_unless!(not_root());
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let other = guard.state().with_file_name("other.toml");
    let control = guard.state().with_file_name("other.sock");
    let table = format!("[daemon]\nstate = {:?}\ncontrol = {control:?}\n", guard.state());
    std::fs::write(&other, table).unwrap();
    let args = [OsStr::new("run"), OsStr::new("--config"), other.as_os_str()];
    let second = guard.steadfast_os(&args);
    assert_code(&second, 2, "run");
    let told = text(&second.stderr);
    for said in [
        format!("pid {}, since 20", guard.pid()),
        format!("answers on {}", guard.control().display()),
    ] {
        assert!(told.contains(&said), "{told}");
    }
    // Whoever asks where nobody answers is not sent to the system's service.
    let status = guard.steadfast_os(&["status".as_ref(), "--config".as_ref(), other.as_os_str()]);
    assert_code(&status, 2, "status");
    let told = text(&status.stderr);
    assert!(told.contains("--config") && !told.contains("systemctl"), "{told}");
    for _ in 0..3 {
        guard.kill();
        guard.expect(0, "audit", &guard.file());
        guard.start();
    }
}
