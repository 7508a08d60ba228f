//! One daemon a state directory.

use std::process::Command;

use crate::common::{GOOD, Guard, missing, not_root, skip_unless, text};

/// Runs what follows in a mount and a pid namespace of its own.
const APART: &[&str] =
    &["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];

#[test]
fn a_second_daemon_stops_and_says_who_has_the_state_also_in_other_namespaces() {
    skip_unless!(not_root().or_else(|| missing(&["unshare"])));
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    let first = guard.pid();
    // The same state, and another socket to answer on.
    let config = std::fs::read_to_string(guard.config()).unwrap();
    let here = guard.control().to_str().unwrap().to_owned();
    let other = guard.path("other.toml");
    std::fs::write(&other, config.replace(&here, &format!("{here}.other"))).unwrap();
    for prefix in [&["env"][..], APART] {
        let mut second = Command::new(prefix[0]);
        second.args(&prefix[1..]).arg(env!("CARGO_BIN_EXE_steadfast")).arg("run");
        let output = second.env("STEADFAST_CONFIG", &other).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(&format!("steadfast run, pid {first}, since ")), "{told}");
        assert!(told.contains(&here) && told.contains("it answers on"), "{told}");
    }
    assert_eq!(guard.status()["pid"], first);

    // Whoever was killed blocks nobody.
    guard.kill();
    guard.start();
    assert_ne!(guard.pid(), first);
}
