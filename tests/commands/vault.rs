//! The vault: what a copy costs, and what is said where there is no room for it.

use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::common::{self, GOOD, Guard, MARKER, Place, Sandbox, not_root, poll, skip_unless, text};

/// Every regular file at and below `dir`, with the bytes that it takes.
fn occupied(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(occupied(&entry.path())),
            false => found.push((entry.path(), entry.metadata().unwrap().blocks() * 512)),
        }
    }
    found
}

#[test]
fn a_sparse_file_stays_sparse_in_the_vault_in_its_copies_and_when_it_is_healed() {
    skip_unless!(not_root());
    const LENGTH: u64 = 512 << 20;
    let make = |dir: &Path| {
        let file = std::fs::File::create(dir.join("sparse")).unwrap();
        file.write_all_at(GOOD, 256 << 20).unwrap();
        file.set_len(LENGTH).unwrap();
        std::fs::hard_link(dir.join("sparse"), dir.join("name")).unwrap();
        std::fs::copy("/bin/true", dir.join("other")).unwrap();
    };
    let guard = Guard::on_disk().prepare(make).file("main.py", GOOD).start();
    let file = guard.path("sparse");
    guard.expect(0, "protect", &file);
    let small = || {
        let large = |(_, bytes): &(PathBuf, u64)| *bytes > 16 << 20;
        let found = [occupied(&guard.state()), occupied(guard.dir())].concat();
        assert_eq!(found.into_iter().find(large), None);
    };
    let ready = || guard.status()["shortcomings"].as_array().is_some_and(Vec::is_empty);
    poll(|| ready().then_some(()), || guard.story());
    small();

    // It has two names, so it is written in place.
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 5 << 20));
    let healed = |event: &serde_json::Value| event["kind"] == "restored";
    poll(|| guard.events_about(&file).iter().any(healed).then_some(()), || guard.story());
    guard.wait_settled();
    guard.expect(0, "audit", &file);
    let now = file.metadata().unwrap();
    assert_eq!((now.len(), now.nlink()), (LENGTH, 2));
    small();
}

#[test]
fn what_room_is_missing_for_a_copy_is_told_before_it_is_begun() {
    skip_unless!(not_root());
    let small = match Place::new("tmpfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    small.remount("size=4m");
    let sandbox = Sandbox::on(Place::disk());
    let state = small.dir().join("state");
    sandbox.configure(&format!(
        "[daemon]\nstate = {state:?}\ncontrol = {:?}\n",
        sandbox.control().to_str().unwrap()
    ));
    let (large, other) = (sandbox.path("large"), sandbox.path("main.py"));
    std::fs::write(&large, vec![b'x'; 32 << 20]).unwrap();
    common::write_old(&other, GOOD);
    let told = text(&sandbox.expect(2, "protect", &large).stderr);
    assert!(told.contains("it takes 32.0 MiB") && told.contains("make 2"), "{told}");
    assert!(told.contains(state.join("vault").to_str().unwrap()), "{told}");
    assert!(!told.contains("incoming"), "{told}");
    assert_eq!(common::is_immutable(&large), Some(false));
    // Smaller ones still fit, and so does what is there already.
    sandbox.expect(0, "protect", &other);
    let output = sandbox.steadfast_os(&["run".as_ref(), "--protect".as_ref(), large.as_os_str()]);
    common::assert_code(&output, 2, "run --protect");
    assert!(text(&output.stderr).contains("make 2"), "{}", text(&output.stderr));
}
