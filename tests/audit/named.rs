//! Each route by itself: the right process, exactly, though it is gone.

use std::path::Path;

use serde_json::Value;

use crate::common::{GOOD, Guard, Incident, incident_of, missing, not_root, skip_unless};
use crate::ledger::Background;
use crate::tamper::{finish, let_loose, start, start_with_descriptor};
use crate::{no_audit, sensor};

/// Plays a tamperer, and returns its pid with what the journal says.
fn play(clearing: &str, act: &str) -> (u32, Incident) {
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    assert_eq!(sensor(&guard, "audit")["state"], "working", "{}", guard.status());
    let (file, seq) = (guard.file(), guard.last_seq());
    let child = start(clearing, act, &file);
    let pid = child.id();
    finish(child);
    // The file is left alone until then: whoever opens it is a suspect.
    let incident = incident_of(&guard, &file, seq);
    guard.wait_whole();
    (pid, incident)
}

fn check(clearing: &str, act: &str, kinds: &[&str]) {
    let (pid, incident) = play(clearing, act);
    incident.assert_healed();
    if act != "nothing" {
        incident.assert_any(kinds);
    }
    assert_exact(&incident, pid);
}

/// Every change of the incident is this process's, exactly.
pub fn assert_exact(incident: &Incident, pid: u32) {
    let changes: Vec<&Value> = incident.changes().collect();
    assert!(!changes.is_empty(), "nothing was noticed\n{}", incident.story);
    for line in changes {
        let kind = line["kind"].as_str().unwrap();
        assert_eq!(line["actor"]["pid"], pid, "{kind}: {line}\n{}", incident.story);
        let confidence = &line["attribution"]["confidence"];
        assert!(confidence == "exact", "{kind}: {line}\n{}", incident.story);
    }
}

macro_rules! routes {
    ($($name:ident: $clearing:literal $act:literal $kinds:expr;)*) => {$(
        #[test]
        fn $name() {
            skip_unless!(not_root().or_else(no_audit));
            let _room = crate::alone();
            check($clearing, $act, &$kinds);
        }
    )*};
}

routes! {
    whoever_clears_the_bit_by_setflags_is_named: "setflags" "nothing" [];
    whoever_clears_the_bit_by_fssetxattr_is_named: "fssetxattr" "nothing" [];
    whoever_clears_the_bit_by_file_setattr_is_named: "file_setattr" "nothing" [];
    whoever_writes_is_named: "setflags" "write" ["content-changed"];
    whoever_cuts_it_by_name_is_named: "setflags" "truncate" ["content-changed"];
    whoever_writes_through_a_mapping_is_named: "setflags" "map" ["content-changed"];
    whoever_changes_the_mode_is_named: "file_setattr" "chmod" ["metadata-changed"];
    whoever_changes_the_owner_is_named: "file_setattr" "chown" ["metadata-changed"];
    whoever_changes_the_times_is_named: "file_setattr" "touch" ["metadata-changed", "content-changed"];
    whoever_changes_the_attributes_is_named: "file_setattr" "setfattr" ["metadata-changed"];
    whoever_renames_another_over_it_is_named: "setflags" "replace" ["replaced", "deleted"];
    whoever_removes_it_is_named: "file_setattr" "unlink" ["deleted"];
    whoever_renames_it_away_is_named: "file_setattr" "rename" ["moved", "deleted"];
}

/// Mounts something and takes it away again, as the guard does, for whoever comes first.
fn mount_over(name: &str, script: &str) {
    let guard = Guard::on_disk().file("main.py", GOOD).file("app/main.py", GOOD).start();
    let (file, seq) = (guard.path(name), guard.last_seq());
    let reader = Background::start(guard.dir(), r#"while :; do cat "$0"/main.py >/dev/null; done"#);
    let child =
        std::process::Command::new("bash").args(["-c", script]).arg(guard.dir()).spawn().unwrap();
    let pid = child.id();
    finish(child);
    let incident = incident_of(&guard, &file, seq);
    drop(reader);
    guard.wait_whole_at(&file);
    let mut covered = incident.changes().filter(|line| line["kind"] == "shadowed");
    let line = covered.next().unwrap_or_else(|| panic!("{}", incident.story));
    let (actor, how) = (&line["actor"], &line["attribution"]["confidence"]);
    // The shell becomes the program.
    assert_eq!((&actor["comm"], &actor["pid"]), (&"mount".into(), &pid.into()), "{line}");
    assert_eq!(how, "exact", "{line}");
}

#[test]
fn whoever_mounts_something_over_a_file_is_named() {
    skip_unless!(not_root().or_else(no_audit).or_else(|| missing(&["mount"])));
    let _room = crate::alone();
    mount_over("main.py", r#"echo evil >"$0/evil"; exec mount --bind "$0/evil" "$0/main.py""#);
}

#[test]
fn whoever_mounts_something_over_a_directory_above_is_named() {
    skip_unless!(not_root().or_else(no_audit).or_else(|| missing(&["mount"])));
    let _room = crate::alone();
    mount_over("app/main.py", r#"exec mount -t tmpfs none "$0/app""#);
}

#[test]
fn whoever_clears_the_bit_through_a_descriptor_older_than_the_daemon_is_named() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    // Audit records no process that is older than its own first use.
    drop(Guard::on_disk().file("first", GOOD).start());
    let holder = std::cell::RefCell::new(None);
    let guard = Guard::on_disk().file("main.py", GOOD).prepare(|dir: &Path| {
        *holder.borrow_mut() = Some(start_with_descriptor(&dir.join("main.py")));
    });
    let guard = guard.start();
    let mut holder = holder.take().unwrap();
    let seq = guard.last_seq();
    let_loose(&mut holder);
    let pid = holder.id();
    finish(holder);
    let incident = incident_of(&guard, &guard.file(), seq);
    guard.wait_whole();
    incident.assert_healed();
    assert_exact(&incident, pid);
    assert!(!incident.has("drift-found"), "audit is an event too\n{}", incident.story);
}

#[test]
fn a_process_that_is_gone_is_told_of_in_full() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let (file, seq) = (guard.file(), guard.last_seq());
    let script = guard.path("maintenance.sh");
    std::fs::write(&script, "chattr -i \"$1\"\ntrue\n").unwrap();
    let ended = std::process::Command::new("sh").arg(&script).arg(&file).status().unwrap();
    assert!(ended.success());
    let incident = incident_of(&guard, &file, seq);
    guard.wait_whole();
    let line = incident.changes().next().unwrap();
    let actor = &line["actor"];
    assert_eq!(actor["comm"], "chattr", "{line}");
    assert_eq!(actor["cmdline"][1], "-i", "{line}");
    assert!(actor["start_time"].as_u64().unwrap() > 0, "{line}");
    assert_eq!((&actor["uid"], &actor["user"]), (&0.into(), &"root".into()), "{line}");
    let parent = &actor["ancestry"][0];
    assert_eq!(parent["pid"], actor["ppid"], "{line}");
    assert_eq!(parent["cmdline"][1], script.to_str().unwrap(), "{line}");
}
