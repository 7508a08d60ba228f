//! What is printed as JSON has the promised shape.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;

use serde_json::Value;

use crate::common::{self, GOOD, Guard, MARKER, incident_of, not_root, skip_unless, text};
use crate::{keys, set};

#[test]
fn status_has_the_promised_shape() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let status = guard.status();
    for key in ["state", "pid", "since", "protected", "sensors", "windows", "open_incidents"] {
        assert!(status.get(key).is_some(), "{key} is not in {status}");
    }
    assert_eq!(status["pid"], guard.pid());
    assert_eq!(status["protected"], 1);
    assert_eq!(status["open_incidents"], 0);
    assert!(status["worst_case_notice_ms"].as_u64() > Some(0));
    let sensors = status["sensors"].as_array().unwrap();
    for sensor in sensors {
        assert_eq!(keys(sensor), set(&["name", "state", "why"]));
        let state = sensor["state"].as_str().unwrap();
        assert!(["working", "degraded", "unavailable"].contains(&state), "{sensor}");
        assert_eq!(state == "working", sensor["why"] == "", "{sensor}");
    }
    for name in ["fanotify", "open-permission", "mounts", "sweep"] {
        assert!(sensors.iter().any(|sensor| sensor["name"] == name), "{name}: {status}");
    }
    let told = text(&guard.steadfast(&["status"]).stdout);
    assert!(told.contains("watching") || told.contains("degraded"), "{told}");
}

#[test]
fn events_have_the_promised_shape() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    // Its shell is to be alive when it is looked at.
    guard.sh(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE"; sleep 1"#);
    // Nobody else is to have it open meanwhile, so it is not read before that.
    let incident = incident_of(&guard, &guard.file(), 0);
    guard.wait_whole();
    let promised = set(&[
        "seq",
        "time",
        "kind",
        "path",
        "incident",
        "severity",
        "before",
        "after",
        "actor",
        "attribution",
        "others",
        "response",
        "prev",
        "hash",
    ]);
    for line in &incident.lines {
        let mut keys = keys(line);
        keys.remove("note");
        assert_eq!(keys, promised, "{line}");
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.contains('T'), "RFC 3339 in UTC: {time}");
        assert_eq!(crate::keys(&line["attribution"]), set(&["source", "confidence"]));
        for response in line["response"].as_array().unwrap() {
            assert_eq!(crate::keys(response), set(&["action", "outcome", "took_us"]));
        }
    }
    let alive = |line: &&Value| line["actor"]["ancestry"].as_array().is_some_and(|a| !a.is_empty());
    let named = incident.lines.iter().find(alive).expect("a name");
    assert_eq!(
        keys(&named["actor"]),
        set(&[
            "pid",
            "start_time",
            "comm",
            "exe",
            "cmdline",
            "cwd",
            "tty",
            "uid",
            "user",
            "login_uid",
            "login_user",
            "session",
            "ppid",
            "ancestry",
            "cgroup",
            "unit",
            "user_unit",
            "container",
            "container_name",
        ])
    );
    let ancestry = named["actor"]["ancestry"].as_array().unwrap();
    for ancestor in ancestry {
        assert_eq!(keys(ancestor), set(&["pid", "comm", "exe", "cmdline"]));
    }
    assert!(ancestry.iter().any(|one| one["pid"] == std::process::id()), "{named}");
    assert_eq!(ancestry.last().unwrap()["pid"], 1, "up to pid 1: {named}");
    let daemons_life: BTreeSet<_> =
        guard.events().iter().map(|l| l["kind"].clone().to_string()).collect();
    assert!(daemons_life.contains("\"started\""), "{daemons_life:?}");
}

#[test]
fn events_can_be_narrowed_to_a_path_and_a_time() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("a.py", GOOD).file("b.py", GOOD).start();
    for name in ["a.py", "b.py"] {
        guard.write_surely(&guard.path(name), |file| file.write_all_at(MARKER, 2));
        guard.wait_whole_at(&guard.path(name));
        incident_of(&guard, &guard.path(name), 0);
    }
    let lines = |args: &[&str]| {
        let output = guard.steadfast(&[&["events", "--json"], args].concat());
        common::assert_code(&output, 0, "events");
        text(&output.stdout)
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect::<Vec<Value>>()
    };
    let a = guard.path("a.py");
    let about_a = lines(&[a.to_str().unwrap()]);
    assert!(!about_a.is_empty());
    assert!(about_a.iter().all(|line| line["path"].as_str() == a.to_str()));
    assert_eq!(lines(&["--since", "24h"]).len(), guard.events().len());
    let told = text(&guard.steadfast(&["events"]).stdout);
    assert!(told.contains("a.py") && told.contains("content changed"), "{told}");
}

#[test]
fn who_ranks_the_culprits_of_a_file() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    for _ in 0..3 {
        let seq = guard.last_seq();
        guard.sh(r#"chattr -i "$FILE""#);
        incident_of(&guard, &guard.file(), seq).assert_names(&["chattr".to_owned()]);
        guard.wait_whole();
    }
    let file = guard.file();
    let who = guard.json(0, &["who".as_ref(), "--json".as_ref(), file.as_os_str()]);
    assert_eq!(
        keys(&who),
        set(&[
            "path",
            "incidents",
            "culprits",
            "hours",
            "weekdays",
            "undated",
            "pattern",
            "pattern_unit",
            "timeline",
            "last",
        ])
    );
    assert_eq!(who["path"].as_str(), file.to_str());
    assert_eq!(who["incidents"], 3);
    let hours = who["hours"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    assert_eq!(hours.iter().filter_map(Value::as_u64).sum::<u64>(), 3);
    let culprit = &who["culprits"][0];
    assert_eq!(
        keys(culprit),
        set(&[
            "exe",
            "comm",
            "cmdline",
            "user",
            "login_user",
            "unit",
            "user_unit",
            "timer",
            "container",
            "container_name",
            "count",
            "first",
            "last",
            "names",
            "only_opener",
            "pattern",
        ])
    );
    assert_eq!((culprit["comm"].as_str(), &culprit["count"]), (Some("chattr"), &3.into()));
    assert_eq!(culprit["user"], "root");
    assert!(who["last"]["seq"].is_u64(), "an event: {who}");
    let timeline = who["timeline"].as_array().unwrap();
    assert_eq!(timeline.len(), 3, "incidents, not lines: {who}");
    assert!(timeline.iter().all(|moment| moment["culprit"] == 0), "{who}");
    // Three times within moments are not three times a day.
    assert!(who["pattern"].is_null(), "{who}");
    let directory = guard.json(0, &["who".as_ref(), "--json".as_ref(), guard.dir().as_os_str()]);
    assert_eq!(directory["incidents"], 3);
    let told = text(&guard.expect(0, "who", &file).stdout);
    assert!(told.contains("chattr"), "{told}");
}
