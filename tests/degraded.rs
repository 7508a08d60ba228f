//! Less than it should have: the daemon goes on with what is left, says what is missing and
//! why, and still heals.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::os::unix::fs::FileExt as _;

use common::{GOOD, Guard, MARKER, incident_of, missing, not_root, skip_unless};
use serde_json::Value;

fn sensor<'a>(status: &'a Value, name: &str) -> &'a Value {
    let sensors = status["sensors"].as_array().unwrap();
    sensors.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {status}"))
}

#[test]
fn without_fanotify_it_watches_by_inotify_and_sweep_and_still_heals() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let guard = Guard::on_disk().file("main.py", GOOD).without("sys_admin").start();
    let status = guard.status();
    assert_eq!(status["state"], "degraded", "{status}");
    for name in ["fanotify", "open-permission"] {
        assert_ne!(sensor(&status, name)["state"], "working", "{status}");
        let why = sensor(&status, name)["why"].as_str().unwrap();
        assert!(why.contains("CAP_SYS_ADMIN"), "what to do about it: {why}");
    }
    assert_eq!(sensor(&status, "inotify")["state"], "working", "{status}");

    let file = guard.file();
    let seq = guard.last_seq();
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &file, seq)
        .assert_any(&["content-changed"])
        .assert_healed()
        .assert_honest();

    let seq = guard.last_seq();
    guard.sh(r#"chattr -i "$FILE""#);
    guard.wait_whole();
    incident_of(&guard, &file, seq).assert_only(&[]).assert_healed().assert_honest();

    let seq = guard.last_seq();
    common::cleared_surely(&guard, &file, || std::fs::remove_file(&file));
    guard.wait_whole();
    incident_of(&guard, &file, seq).assert_any(&["deleted"]).assert_healed().assert_honest();
    assert!(guard.quarantine_holds(MARKER));
}

#[test]
fn without_cap_linux_immutable_it_says_so() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let sandbox = common::Sandbox::on(common::Place::disk());
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    let plain = sandbox.command(&["protect".as_ref(), file.as_ref()]);
    let output = std::process::Command::new("setpriv")
        .arg("--bounding-set=-linux_immutable")
        .arg(plain.get_program())
        .args(plain.get_args())
        .env("STEADFAST_CONFIG", sandbox.config())
        .output()
        .unwrap();
    common::assert_code(&output, 2, "protect");
    let message = common::text(&output.stderr);
    assert!(message.contains("CAP_LINUX_IMMUTABLE"), "{message}");
}

/// Sets of capabilities that a daemon may have to do without, each with what it then says of it.
const LACKING: [(&[&str], &str); 4] = [
    (&["linux_immutable"], "CAP_LINUX_IMMUTABLE"),
    (&["sys_admin"], "CAP_SYS_ADMIN"),
    (&["audit_control", "audit_read"], "CAP_AUDIT_CONTROL"),
    (&["sys_nice"], "no real-time priority"),
];

/// What the daemon said in its log, without the times; what happened to files is not of it.
fn said(guard: &Guard) -> Vec<String> {
    let levels = ["ERROR", "WARN", "INFO"];
    let log = guard.log();
    let of = |line: &str| {
        levels.iter().find_map(|level| Some(line.split_once(level)?.1.trim().to_owned()))
    };
    log.lines().filter_map(of).collect()
}

#[test]
fn what_is_not_granted_is_one_line_and_not_one_a_second() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let start = |(capabilities, told): &(&[&str], &'static str)| {
        let builder = Guard::on_disk().file("main.py", GOOD).policy("immutable = false");
        let builder = capabilities.iter().fold(builder, |builder, one| builder.without(one));
        (builder.start(), *told)
    };
    let guards: Vec<_> = LACKING.iter().map(start).collect();
    let began = std::time::Instant::now();
    // Ten seconds of work: the sweeps, the self-test, and a heal each second.
    for round in 1..=10 {
        for (guard, _) in &guards {
            std::fs::write(guard.file(), MARKER).unwrap();
        }
        for (guard, _) in &guards {
            let healed = || (std::fs::read(guard.file()).unwrap() == GOOD).then_some(());
            common::poll(healed, || guard.story());
        }
        while began.elapsed().as_secs() < round {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    for (guard, told) in &guards {
        let mut said = said(guard);
        let everything = said.join("\n") + &guard.status().to_string();
        assert!(everything.contains(told), "{told}: {}", guard.log());
        let events = guard.events();
        let degraded = events.iter().filter(|event| event["kind"] == "sensor-degraded");
        said.extend(degraded.map(|event| event["note"].to_string()));
        said.sort();
        let twice: Vec<_> = said.windows(2).filter(|two| two[0] == two[1]).collect();
        assert!(twice.is_empty(), "{told}: {twice:#?}\n{}", guard.log());
    }
}
