//! What `release` says of a path that something still names.

use std::path::Path;

use rustix::process::Signal;

use crate::common::{self, Guard, Place, Sandbox, is_immutable, not_root, poll, skip_unless, text};

/// What is said where a start would take the path again.
const AGAIN: [&str; 4] = [
    "is no longer protected; the configuration still names it",
    "the next start protects it again, and so does a reload",
    "as it is then",
    "take it out of the configuration",
];

fn assert_all(told: &str, expected: &[&str]) {
    assert!(expected.iter().all(|part| told.contains(part)), "{told}");
}

fn configure(sandbox: &Sandbox, paths: &[&Path]) {
    let table = match paths {
        [] => String::new(),
        _ => format!("[[protect]]\npaths = {paths:?}\n"),
    };
    sandbox.configure(&(sandbox.daemon_table("") + &table));
}

#[test]
fn release_tells_of_a_configuration_that_takes_the_file_again_as_it_is_then() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let file = sandbox.path("file");
    std::fs::write(&file, "before").unwrap();
    configure(&sandbox, &[&file]);
    let mut guard = Guard::of(sandbox);
    guard.start();
    assert_all(&text(&guard.expect(0, "release", &file).stdout), &AGAIN);
    std::fs::write(&file, "changed").unwrap();
    guard.signal(Signal::HUP);
    poll(|| (is_immutable(&file) == Some(true)).then_some(()), || guard.story());
    let json = guard.json(0, &["release".as_ref(), "--json".as_ref(), file.as_os_str()]);
    assert_all(json["paths"][0]["message"].as_str().unwrap(), &AGAIN);
    std::fs::write(&file, "changed again").unwrap();
    guard.stop();
    guard.start();
    guard.expect(0, "audit", &file);
    guard.stop();
    assert_all(&text(&guard.expect(0, "release", &file).stdout), &AGAIN);
    assert_eq!(std::fs::read(&file).unwrap(), b"changed again");
}

#[test]
fn release_tells_of_a_configuration_that_names_what_a_person_protected_first() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let (file, link) = (sandbox.path("file"), sandbox.path("link"));
    std::fs::write(&file, "x").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    sandbox.expect(0, "protect", &file);
    configure(&sandbox, &[&file, &link]);
    let mut guard = Guard::of(sandbox);
    guard.start();
    assert_eq!(guard.status()["protected"], 2);
    assert_all(&text(&guard.expect(0, "release", &file).stdout), &AGAIN);
    assert_all(&text(&guard.expect(0, "release", &link).stdout), &AGAIN);
    guard.stop();
    guard.start();
    assert_eq!(guard.status()["protected"], 2);
    // The file is named by the link alone: while that stays, nobody takes it again.
    configure(&guard, &[&link]);
    guard.stop();
    guard.start();
    for (path, again) in [(&file, false), (&link, true)] {
        let told = text(&guard.expect(0, "release", path).stdout);
        assert_eq!(told.contains("still names it"), again, "{told}");
    }
    // Nor what is in no configuration any more.
    guard.expect(0, "protect", &file);
    let told = text(&guard.expect(0, "release", &file).stdout);
    assert!(told.contains("still names it"), "the link leads to it: {told}");
    configure(&guard, &[]);
    guard.stop();
    guard.start();
    guard.expect(0, "protect", &file);
    let told = text(&guard.expect(0, "release", &file).stdout);
    assert!(told.trim_end().ends_with("is no longer protected"), "{told}");
}

#[test]
fn release_says_of_a_file_in_a_protected_directory_that_it_does_not_belong_there_then() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let (dir, file) = (sandbox.path("d"), sandbox.path("d/file"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(&file, "x").unwrap();
    configure(&sandbox, &[&dir, &file]);
    let mut guard = Guard::of(sandbox);
    guard.start();
    for offline in [false, true] {
        if offline {
            guard.stop();
        }
        let told = text(&guard.expect(0, "release", &file).stdout);
        assert_all(&told, &["no longer protected", "does not belong", dir.to_str().unwrap()]);
        assert!(!told.contains("configuration"), "no start takes it again: {told}");
        let told = text(&guard.expect(1, "audit", &dir).stdout);
        assert!(told.contains("appeared where nothing new is expected"), "{told}");
        guard.expect(0, "accept", &file);
        common::assert_code(&guard.steadfast(&["audit"]), 0, "audit");
    }
    // The directory with all that is in it.
    let told = text(&guard.expect(0, "release", &dir).stdout);
    assert_eq!(told.matches("still names it").count(), 2, "{told}");
}
