//! The self-test tampers for real and tells what came of it, and nobody is alerted of a canary.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::{GOOD, Guard, Place, missing, must, not_root, poll, skip_unless, text};
use serde_json::Value;

/// Those that a guard without Linux audit can name.
const NAMED: [&str; 9] = [
    "setflags",
    "fssetxattr",
    "write",
    "mapping",
    "truncate",
    "rename-over",
    "unlink",
    "metadata",
    "short-lived",
];
/// Those that only Linux audit can.
const BY_AUDIT: [&str; 2] = ["file-setattr", "old-descriptor"];

fn selftest(guard: &Guard, code: i32) -> Value {
    guard.json(code, &["selftest".as_ref(), "--json".as_ref()])
}

fn route<'a>(test: &'a Value, name: &str) -> &'a Value {
    let found = test["routes"].as_array().unwrap().iter().find(|one| one["route"] == name);
    found.unwrap_or_else(|| panic!("{name}: {test}"))
}

/// The journal lines that tell of the self-test itself.
fn told(guard: &Guard, kind: &str) -> Vec<Value> {
    let about = |line: &Value| {
        line["kind"] == kind && line["note"].as_str().is_some_and(|n| n.contains("self-test"))
    };
    guard.events().into_iter().filter(about).collect()
}

#[test]
fn every_route_is_seen_and_healed_and_the_right_process_is_named() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let seq = guard.last_seq();
    let test = selftest(&guard, 0);
    for name in NAMED {
        let one = route(&test, name);
        assert_eq!((&one["seen"], &one["healed"]), (&true.into(), &true.into()), "{one}");
        assert_eq!(one["named"], true, "{one}");
        assert_ne!(one["source"], "none", "{one}");
        assert!(one["healed_in_us"].as_u64().is_some(), "{one}");
    }
    let tried = test["not_possible"].as_array().unwrap();
    for name in BY_AUDIT {
        if tried.iter().any(|one| one["route"] == name && one["absent"] == true) {
            continue;
        }
        let one = route(&test, name);
        assert_eq!((&one["seen"], &one["healed"]), (&true.into(), &true.into()), "{one}");
        assert!(one["named"] == true || one["result"] == "limit", "{one}");
    }
    let count = test["routes"].as_array().unwrap().len();
    assert_eq!((&test["passed"], &test["failed"]), (&count.into(), &0.into()), "{test}");

    // It is on nobody's record, and nothing is left of it.
    assert_eq!(guard.last_seq(), seq, "{}", guard.story());
    let status = guard.status();
    assert_eq!(status["selftest"]["passed"], test["passed"], "{status}");
    assert_eq!((&status["protected"], &status["open_incidents"]), (&1.into(), &0.into()));
    assert!(guard.quarantine().is_empty());
    poll(
        || (!guard.state().join("canary").exists()).then_some(()),
        || format!("the canaries are still there\n{}", guard.log()),
    );
    assert!(!guard.log().contains("WARN"), "{}", guard.log());

    let shown = guard.steadfast(&["selftest"]);
    common::assert_code(&shown, 0, "selftest");
    assert!(text(&shown.stdout).contains("short-lived     ok"), "{}", text(&shown.stdout));
    let status = text(&guard.steadfast(&["status"]).stdout);
    assert!(status.contains("self-test"), "{status}");
}

#[test]
fn a_real_incident_in_the_middle_of_a_test_is_healed_and_told_as_ever() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let mut command = guard.command(&["selftest".as_ref(), "--json".as_ref()]);
    let mut test = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    poll(
        || guard.state().join("canary").exists().then_some(()),
        || format!("no test begins\n{}", guard.log()),
    );
    let seq = guard.last_seq();
    guard.sh(r#"chattr -i "$FILE""#);
    guard.wait_whole();
    common::incident_of(&guard, &guard.file(), seq).assert_only(&[]).assert_healed();
    assert!(test.wait().unwrap().success());
    let path = guard.state().join("canary");
    let of_a_canary =
        |line: &Value| line["path"].as_str().is_some_and(|name| Path::new(name).starts_with(&path));
    assert!(!guard.events().iter().any(of_a_canary), "{}", guard.story());
}

#[test]
fn without_fanotify_and_audit_the_routes_that_nobody_is_named_for_fail_and_it_is_told_once() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let guard = Guard::on_disk().file("main.py", GOOD).without("sys_admin");
    let guard = guard.without("audit_control").without("audit_read").start();
    let test = selftest(&guard, 1);
    for name in NAMED {
        let one = route(&test, name);
        assert_eq!((&one["seen"], &one["healed"]), (&true.into(), &true.into()), "{one}");
        assert_eq!((&one["named"], &one["result"]), (&false.into(), &"failed".into()), "{one}");
    }
    assert_eq!(test["failed"], NAMED.len(), "{test}");
    assert_eq!(told(&guard, "sensor-degraded").len(), 1, "{}", guard.story());
    selftest(&guard, 1);
    assert_eq!(told(&guard, "sensor-degraded").len(), 1, "{}", guard.story());
    let status = guard.status();
    let sensors = status["sensors"].as_array().unwrap();
    let line = sensors.iter().find(|one| one["name"] == "selftest").unwrap();
    assert_eq!(line["state"], "degraded", "{status}");
}

/// Where the canaries are, with nothing in it.
fn empty_room(guard: &Guard) -> std::path::PathBuf {
    let room = guard.state().join("canary");
    poll(|| (!room.exists()).then_some(()), || "the canaries are still there".to_owned());
    std::fs::create_dir(&room).unwrap();
    room
}

#[test]
fn a_test_that_cannot_be_carried_out_is_told_and_mailed_once_and_so_is_its_recovery() {
    skip_unless!(not_root());
    // Nobody takes mail at the discard port, so that it stays in the spool.
    let mail = r#"
[alert.email]
from = "guard@example.com"
to = ["ops@example.com"]
server = "smtp://127.0.0.1:9"
tls = "none"
"#;
    let guard = Guard::on_disk().file("main.py", GOOD).policy(mail).start();
    selftest(&guard, 0);
    assert!(told(&guard, "sensor-degraded").is_empty());
    assert_eq!(guard.mailed("selftest"), 0);

    // Room for one canary.
    let room = empty_room(&guard);
    must(
        "mount",
        &["-t", "tmpfs", "-o", "size=4k", "none", room.to_str().unwrap()].map(AsRef::as_ref),
    );
    for _ in 0..2 {
        let output = guard.steadfast(&["selftest"]);
        common::assert_code(&output, 2, "selftest");
        assert!(text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
        assert_eq!(told(&guard, "sensor-degraded").len(), 1, "{}", guard.story());
        assert_eq!(guard.mailed("selftest"), 1);
    }
    must("umount", &[room.as_ref()]);
    for _ in 0..2 {
        selftest(&guard, 0);
        assert_eq!(told(&guard, "sensor-recovered").len(), 1, "{}", guard.story());
        assert_eq!(guard.mailed("selftest"), 2);
    }
}

#[test]
fn a_btrfs_subvolume_beside_another_filesystem_is_watched_by_fanotify_too() {
    skip_unless!(not_root().or_else(|| missing(&["btrfs", "setpriv"])));
    let place = match Place::new("btrfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    // With audit, every route would be named by that alone.
    let guard = Guard::on_disk().without("audit_control").without("audit_read");
    let guard = guard.file("main.py", GOOD).start();
    selftest(&guard, 0);

    // Beside the subvolume, on a disk whose files are in the first group.
    let subvolume = place.dir().join("subvolume");
    must("btrfs", &["subvolume".as_ref(), "create".as_ref(), subvolume.as_ref()]);
    let room = empty_room(&guard);
    must("mount", &["--bind".as_ref(), subvolume.as_ref(), room.as_ref()]);
    for _ in 0..2 {
        let test = selftest(&guard, 0);
        for name in NAMED {
            let one = route(&test, name);
            assert_eq!((&one["named"], &one["result"]), (&true.into(), &"passed".into()), "{one}");
            assert_ne!(one["sensor"], "inotify", "{one}");
        }
        assert_eq!(route(&test, "unlink")["sensor"], "fanotify", "{test}");
    }
    must("umount", &[room.as_ref()]);
}

/// Those on this filesystem.
fn on<'a>(test: &'a Value, filesystem: &Path) -> Vec<&'a Value> {
    let there = |one: &&Value| one["filesystem"].as_str() == filesystem.to_str();
    test["routes"].as_array().unwrap().iter().filter(there).collect()
}

#[test]
fn each_filesystem_that_holds_protected_files_has_a_canary_of_its_own() {
    skip_unless!(not_root());
    for kind in ["xfs", "btrfs", "tmpfs"] {
        let place = match Place::new(kind) {
            Ok(place) => place,
            Err(why) => {
                common::report_skip(&format!("no {kind} here: {why}"));
                continue;
            }
        };
        let there = place.mount_point().to_owned();
        let guard = Guard::on(place).file("main.py", GOOD).start();
        let seq = guard.last_seq();
        let test = selftest(&guard, 0);
        let routes = on(&test, &there);
        for name in NAMED {
            let one = routes.iter().find(|one| one["route"] == name);
            let one = one.unwrap_or_else(|| panic!("{kind} {name}: {test}"));
            assert_eq!(
                (&one["seen"], &one["healed"]),
                (&true.into(), &true.into()),
                "{kind} {one}"
            );
            assert_eq!(one["named"], true, "{kind} {one}");
        }
        assert!(test["routes"].as_array().unwrap().len() > routes.len(), "{test}");
        assert_eq!(guard.last_seq(), seq, "{}", guard.story());
        poll(
            || (!there.join(".steadfast/canary").exists()).then_some(()),
            || format!("{kind}: the canaries are still there\n{}", guard.log()),
        );
        assert!(!guard.log().contains("WARN"), "{}", guard.log());
    }
}

#[test]
fn where_others_could_put_something_in_its_place_there_is_no_canary_and_files_are_looked_at_often()
{
    skip_unless!(not_root());
    let place = match Place::new("tmpfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let there = place.mount_point().to_owned();
    let open = |mode| {
        std::fs::set_permissions(&there, std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    };
    open(0o777);
    let guard = Guard::on(place).file("main.py", GOOD).start();
    let test = selftest(&guard, 0);
    assert!(on(&test, &there).is_empty(), "{test}");
    assert_eq!(test["untested"][0]["filesystem"].as_str(), there.to_str(), "{test}");
    assert!(test["untested"][0]["why"].as_str().unwrap().contains("others than root"), "{test}");
    assert_eq!(guard.status()["worst_case_notice_ms"], 1000);
    open(0o755);
    let test = selftest(&guard, 0);
    assert!(!on(&test, &there).is_empty() && test["untested"].is_null(), "{test}");
    let told = on(&test, &there).iter().take(4).all(|one| one["sensor"] != "sweep");
    let pace = if told { 30_000 } else { 1000 };
    assert_eq!(guard.status()["worst_case_notice_ms"], pace, "{test}");
}

#[test]
fn canaries_of_a_run_that_was_killed_are_gone_with_the_next_and_no_evidence_of_anything() {
    skip_unless!(not_root());
    let place = match Place::new("xfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let room = place.mount_point().join(".steadfast/canary");
    let mut guard = Guard::on(place).file("main.py", GOOD).start();
    let mut command = guard.command(&["selftest".as_ref()]);
    let mut test = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    poll(
        || room.join("steadfast-canary-plain").exists().then_some(()),
        || format!("no test begins\n{}", guard.log()),
    );
    guard.kill();
    test.wait().unwrap();
    assert!(room.exists());
    guard.start();
    assert!(!room.exists(), "{}", guard.story());
    assert!(guard.quarantine().is_empty(), "{}", guard.story());
    assert!(!guard.log().contains("taken out of a protected place"), "{}", guard.log());
    selftest(&guard, 0);
}

#[test]
fn without_a_daemon_it_says_so_and_could_not_do_its_work() {
    skip_unless!(not_root());
    let sandbox = common::Sandbox::on(Place::disk());
    let output = sandbox.steadfast(&["selftest", "--json"]);
    common::assert_code(&output, 2, "selftest");
    assert!(text(&output.stderr).contains("no daemon answers"), "{}", text(&output.stderr));
}

#[test]
fn the_guard_tests_itself_after_its_start() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let test = poll(
        || Some(guard.status()["selftest"].clone()).filter(Value::is_object),
        || format!("no self-test by itself\n{}", guard.log()),
    );
    assert_eq!(test["failed"], 0, "{test}");
}
