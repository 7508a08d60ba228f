//! Whoever writes through a mapping makes no event: all that is known is who opened the file.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{
    GOOD, Guard, Place, clear_through_descriptor, cleared_surely, incident_of, not_root, poll,
    report_skip, skip_unless, write_through_mapping_of,
};
use crate::ledger::guard_many;
use crate::named::assert_exact;
use crate::no_audit;

#[test]
fn whoever_only_opens_a_file_is_not_taken_for_one_who_has_had_it_mapped_all_the_time() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    // As a database or a lock file would be.
    let guard = Guard::on_disk().policy("immutable = false").file("main.py", GOOD).start();
    let (file, seq) = (guard.file(), guard.last_seq());
    let held = File::options().read(true).write(true).open(&file).unwrap();
    // Whoever opened it longer ago than a second is none of those who opened it just now.
    std::thread::sleep(Duration::from_millis(1500));
    let mut other = Command::new("bash")
        .args(["-c", r#"exec 3<>"$0"; echo ready; read"#])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(other.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    write_through_mapping_of(&held, b"TAMPERED").unwrap();
    let incident = incident_of(&guard, &file, seq);
    drop(other.stdin.take());
    let _read_nothing = other.wait().unwrap();
    guard.wait_settled();
    assert!(incident.has("content-changed"), "{}", incident.story);
    for line in incident.changes() {
        let exact = line["attribution"]["confidence"] == "exact";
        assert!(!exact || line["actor"]["pid"] == std::process::id(), "{line}\n{}", incident.story);
    }
}

/// What is taken for the file by a heal may have been opened long before, where it lay.
#[test]
fn whoever_opened_the_copies_that_lie_ready_and_writes_to_one_that_is_used_is_named() {
    skip_unless!(not_root().or_else(no_audit));
    let _room = crate::alone();
    let place = match Place::new("tmpfs") {
        Ok(place) => place,
        Err(reason) => return report_skip(&reason),
    };
    // More than are recorded one by one, the last first; the others are by their directory.
    let guard = guard_many(600, Guard::on(place));
    let file = guard.path("f00000");
    let seq = (0..10).find_map(|_| {
        guard.wait_settled();
        let (seq, began) = (guard.last_seq(), Instant::now());
        write_to_a_ready_copy(&guard, &file)?;
        // Whoever opened it longer before the change than a second is no suspect any more.
        (began.elapsed() < Duration::from_millis(900)).then_some(seq)
    });
    let incident = incident_of(&guard, &file, seq.expect("this machine is too slow"));
    guard.wait_whole_at(&file);
    assert!(incident.has("content-changed"), "{}", incident.story);
    assert_exact(&incident, std::process::id());
}

/// Opens all of them, removes the file, and writes to the one that is put in its place; `None`
/// where that was made only then.
fn write_to_a_ready_copy(guard: &Guard, file: &Path) -> Option<()> {
    let ready = std::fs::read_dir(guard.dir().with_file_name(".steadfast")).unwrap();
    let open = |path: PathBuf| File::options().read(true).write(true).open(path).ok();
    let held: Vec<File> = ready.filter_map(|entry| open(entry.unwrap().path())).collect();
    cleared_surely(guard, file, || std::fs::remove_file(file));
    let now = poll(
        || std::fs::symlink_metadata(file).ok().map(|now| now.ino()),
        || format!("it is not put back\n{}", guard.story()),
    );
    let used = held.iter().find(|held| held.metadata().unwrap().ino() == now)?;
    guard.tamper_surely(|| {
        let cleared = clear_through_descriptor(used);
        cleared.is_ok() && write_through_mapping_of(used, b"TAMPERED").is_ok()
    });
    Some(())
}
