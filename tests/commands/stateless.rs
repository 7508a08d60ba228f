//! Where nothing was ever protected, or the baseline was taken away.

use std::ffi::OsStr;
use std::path::Path;

use crate::common::{self, Place, Sandbox, not_root, skip_unless, text};
use crate::protected;

/// Everything that only reads, or refuses.
fn harmless(path: &Path) -> Vec<Vec<&OsStr>> {
    let one = |words: &[&'static str]| words.iter().map(|w| OsStr::new(*w)).collect::<Vec<_>>();
    let mut all = vec![
        one(&["audit"]),
        one(&["audit", "--json"]),
        one(&["events"]),
        one(&["events", "--json"]),
        one(&["journal", "verify"]),
        one(&["journal", "verify", "--json"]),
        one(&["status"]),
    ];
    for command in ["restore", "accept", "release", "audit", "diff", "who", "events"] {
        all.push(vec![OsStr::new(command), path.as_os_str()]);
    }
    all.push(vec![OsStr::new("diff"), OsStr::new("--last"), path.as_os_str()]);
    all
}

fn refused(sandbox: &Sandbox, args: &[&OsStr]) -> String {
    let output = sandbox.steadfast_os(args);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
    assert_eq!(said.lines().count(), 1, "{args:?}: one sentence: {said}");
    said
}

#[test]
fn what_only_reads_or_refuses_makes_nothing_and_says_the_same_everywhere() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let file = sandbox.path("main.py");
    std::fs::write(&file, "x").unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(sandbox.state()).unwrap();
        }
        for args in harmless(&file) {
            let said = refused(&sandbox, &args);
            let what_to_do = match args[0].to_str() {
                Some("status") => "no daemon answers on",
                _ => "nothing is protected, there is no baseline at",
            };
            assert!(said.contains(what_to_do) && said.contains("--config"), "{args:?}: {said}");
            let made = sandbox.state().read_dir().map_or(0, Iterator::count);
            assert!(sandbox.state().exists() == empty && made == 0, "{args:?} made something");
        }
    }
}

#[test]
fn what_cannot_be_protected_leaves_no_state_behind() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let fifo = sandbox.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for path in [sandbox.path("nothing"), fifo] {
        refused(&sandbox, &["protect".as_ref(), path.as_os_str()]);
        assert!(!sandbox.state().exists(), "{}", path.display());
    }
}

#[test]
fn a_baseline_that_was_taken_away_or_emptied_is_missed_by_every_command() {
    skip_unless!(not_root());
    let (sandbox, file, good) = protected();
    let baseline = sandbox.state().join("baseline.db");
    let away = sandbox.state().join("away");
    std::fs::rename(&baseline, &away).unwrap();
    for emptied in [false, true] {
        if emptied {
            std::fs::write(&baseline, "").unwrap();
        }
        let config = sandbox.config();
        let run = ["run".as_ref(), "--config".as_ref(), config.as_os_str()].to_vec();
        let protect = vec!["protect".as_ref(), file.as_os_str()];
        for args in [vec![run, protect], harmless(&file)].concat() {
            let reads = ["status", "events", "who"].map(OsStr::new).contains(&args[0]);
            // What the journal tells it tells all the same.
            if !reads {
                let said = refused(&sandbox, &args);
                let told = said.contains("is gone, but the journal") && said.contains("backup");
                assert!(told, "{args:?}: {said}");
            }
        }
    }
    std::fs::rename(&away, &baseline).unwrap();
    sandbox.expect(0, "audit", &file);
    assert_eq!(good.differences(&file), "");
    common::assert_code(&sandbox.steadfast(&["journal", "verify"]), 0, "journal verify");
}
