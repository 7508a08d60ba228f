//! Who put something new into a protected directory, though it is gone by then.

use std::process::Command;

use serde_json::Value;

use crate::common::{Builder, GOOD, Guard, missing, not_root, poll, skip_unless};
use crate::no_audit;

/// A protected directory `watched`, and a file beside it to take from.
fn guarded(builder: Builder) -> Guard {
    let make = |dir: &std::path::Path| std::fs::create_dir(dir.join("watched")).unwrap();
    builder.file("main.py", GOOD).bystander("other", GOOD).prepare(make).protect("watched").start()
}

/// Has a program that lives for a moment put `name` there, and checks who is said to have.
fn assert_maker_named(guard: &Guard, program: &[&str], name: &str) {
    let (other, made) = (guard.path("other"), guard.path("watched").join(name));
    let fill = |word: &&str| match *word {
        "OTHER" => other.clone().into_os_string(),
        "MADE" => made.clone().into_os_string(),
        word => word.into(),
    };
    let mut child = Command::new(program[0]).args(program[1..].iter().map(fill)).spawn().unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    let told = || guard.events_about(&made).into_iter().find(|line| line["kind"] == "created");
    let line = poll(told, || format!("{program:?}\n{}", guard.story()));
    let story = || format!("{program:?} was {pid}: {line}\n{}", guard.story());
    assert_eq!(line["actor"]["pid"], pid, "{}", story());
    assert_eq!(line["attribution"]["confidence"], "exact", "{}", story());
    assert!(line["actor"]["exe"].is_string(), "{}", story());
    let named: &Value = &line["actor"]["ancestry"][0]["pid"];
    assert_eq!(*named, std::process::id(), "{}", story());
}

#[test]
fn without_audit_whoever_makes_a_file_by_opening_it_is_named() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let _room = crate::alone();
    let guard = guarded(Guard::on_disk().without("audit_control").without("audit_read"));
    for number in 0..10 {
        assert_maker_named(&guard, &["touch", "MADE"], &format!("touched {number}"));
        assert_maker_named(&guard, &["cp", "OTHER", "MADE"], &format!("copied {number}"));
    }
}

#[test]
fn with_audit_whoever_makes_anything_in_a_protected_directory_is_named() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let guard = guarded(Guard::on_disk());
    for number in 0..5 {
        let named = |how: &[&str], what: &str| {
            assert_maker_named(&guard, how, &format!("{what} {number}"));
        };
        named(&["touch", "MADE"], "touched");
        named(&["ln", "-s", "nowhere", "MADE"], "link");
        named(&["ln", "OTHER", "MADE"], "second name");
        named(&["mkdir", "MADE"], "directory");
        std::fs::write(guard.path("moved"), "new").unwrap();
        named(&["mv", guard.path("moved").to_str().unwrap(), "MADE"], "moved");
    }
}
