//! The usual configuration is gone.

use std::ffi::OsStr;

use crate::common::{self, GOOD, Guard, is_immutable, missing, not_root, skip_unless, text};

#[test]
fn a_daemon_whose_usual_configuration_is_gone_releases_nothing_and_says_so() {
    skip_unless!(not_root().or_else(|| missing(&["unshare"])));
    let mut guard = Guard::on_disk().file("main.py", GOOD).start();
    guard.stop();
    // With another root of its own the usual places are this test's.
    let script = r#"set -e
        mount -t tmpfs none /var/lib; mkdir /var/lib/steadfast
        mount --bind "$STATE" /var/lib/steadfast
        mount -t tmpfs none /run
        [ ! -d /etc/steadfast ] || mount -t tmpfs none /etc/steadfast
        unset STEADFAST_CONFIG
        exec timeout -s KILL 30 "$PROGRAM" run"#;
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script].map(OsStr::new))
        .env("STATE", guard.state())
        .env("PROGRAM", env!("CARGO_BIN_EXE_steadfast"))
        .output()
        .unwrap();
    let said = text(&output.stderr);
    common::assert_code(&output, 2, "run");
    for what in ["/etc/steadfast/steadfast.toml is gone", "1 path is protected", "--config"] {
        assert!(said.contains(what), "{said}");
    }
    assert_eq!(is_immutable(&guard.file()), Some(true), "{said}");
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
}
