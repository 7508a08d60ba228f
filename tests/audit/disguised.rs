//! Tamperers that do not look like what they are.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};

use crate::common::{GOOD, Guard, Incident, incident_of, missing, not_root, skip_unless};
use crate::named::assert_exact;
use crate::no_audit;
use crate::tamper::{command, finish, let_loose, start_program_with_descriptor};

/// Has a tamperer end, and returns what the journal says of the file afterwards.
fn play(guard: &Guard, tamper: impl FnOnce() -> Child) -> (u32, Incident) {
    let seq = guard.last_seq();
    let child = tamper();
    let pid = child.id();
    finish(child);
    let incident = incident_of(guard, &guard.file(), seq);
    guard.wait_whole();
    (pid, incident)
}

#[test]
fn whatever_a_process_calls_itself_it_is_named_and_its_name_is_printed_safely() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let program = std::env::current_exe().unwrap();
    for name in ["a) R 1 1 (b", "  (((  \n\n)) ", "x\n\"y\"\u{1b}[2J", "pid=1 uid=0"] {
        let (pid, incident) = play(&guard, || {
            let mut command = command(&program, "setflags", "nothing", &guard.file());
            command.env("STEADFAST_TAMPER_COMM", name).spawn().unwrap()
        });
        assert_exact(&incident, pid);
        for line in incident.changes() {
            let actor = &line["actor"];
            assert_eq!(actor["comm"], steadfast::text::escape(name.as_bytes()), "{line}");
            assert_eq!((&actor["ppid"], &actor["uid"]), (&std::process::id().into(), &0.into()));
        }
    }
}

#[test]
fn a_process_whose_program_was_deleted_is_named() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let program = guard.path("gone");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let (pid, incident) = play(&guard, || {
        let mut child = start_program_with_descriptor(&program, &guard.file());
        std::fs::remove_file(&program).unwrap();
        let_loose(&mut child);
        child
    });
    assert_exact(&incident, pid);
    for line in incident.changes() {
        let exe = line["actor"]["exe"].as_str().unwrap();
        assert!(exe.starts_with(program.to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_process_in_another_mount_and_pid_namespace_is_named() {
    skip_unless!(not_root().or_else(no_audit).or_else(|| missing(&["unshare", "chattr"])));
    let _room = crate::alone();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    // There the file has another path, and the process another pid.
    let script = r#"mount --bind "$1" /mnt && chattr -i /mnt/main.py; wait"#;
    let (outside, incident) = play(&guard, || {
        let how = ["--mount", "--pid", "--fork", "bash", "-c", script, "bash"].map(OsStr::new);
        let mut command = Command::new("unshare");
        command.args(how).arg(guard.dir()).stdin(Stdio::null()).spawn().unwrap()
    });
    let changes: Vec<_> = incident.changes().collect();
    assert!(!changes.is_empty(), "{}", incident.story);
    for line in changes {
        let actor = &line["actor"];
        assert_eq!(line["attribution"]["confidence"], "exact", "{line}");
        assert_eq!(
            (&actor["comm"], &actor["cmdline"][2]),
            (&"chattr".into(), &"/mnt/main.py".into())
        );
        let above = actor["ancestry"].as_array().unwrap();
        assert!(above.iter().any(|parent| parent["pid"] == outside), "{line}");
    }
}
