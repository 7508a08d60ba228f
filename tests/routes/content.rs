//! Content changed in one breath with the clearing of the bit, so that it is sure to land.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use super::{REPLACE, WRITE, with_evil};
use crate::common::{
    self, GOOD, Guard, MARKER, Route, cleared_surely, exchange_surely, missing, not_root, poll,
    skip_unless,
};

#[test]
fn an_append_that_surely_lands_is_undone() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        guard.write_surely(&guard.file(), |file| {
            file.seek(SeekFrom::End(0))?;
            file.write_all(MARKER)
        });
    })
    .kinds(WRITE)
    .evidence(MARKER)
    .check();
}

#[test]
fn a_write_that_keeps_size_and_times_is_undone() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        guard.write_surely(&guard.file(), |file| {
            file.write_all_at(MARKER, 2)?;
            file.set_modified(common::long_ago())
        });
    })
    .kinds(WRITE)
    .evidence(MARKER)
    .check();
}

#[test]
fn a_write_through_a_shared_mapping_is_undone() {
    skip_unless!(not_root().or_else(|| missing(&["python3"])));
    Route::surely(|guard| guard.map_and_write_surely(&guard.file(), MARKER))
        .named(&["python3"])
        .kinds(WRITE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_emptied_at_once_is_whole_again() {
    skip_unless!(not_root());
    Route::surely(|guard| guard.write_surely(&guard.file(), |file| file.set_len(0)))
        .kinds(WRITE)
        .check();
}

#[test]
fn a_file_replaced_at_once_is_whole_again() {
    skip_unless!(not_root());
    Route::surely(|guard| exchange_surely(guard, &guard.file(), &guard.path("evil")))
        .with(with_evil)
        .kinds(REPLACE)
        .evidence(MARKER)
        .check();
}

#[test]
fn a_file_removed_at_once_is_whole_again() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let file = guard.file();
        cleared_surely(guard, &file, || std::fs::remove_file(&file));
    })
    .kinds(&["deleted"])
    .check();
}

#[test]
fn a_file_renamed_away_at_once_is_whole_again() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let (file, away) = (guard.file(), guard.path("away"));
        cleared_surely(guard, &file, || std::fs::rename(&file, &away));
    })
    .kinds(&["moved", "deleted"])
    .check();
}

#[test]
fn that_a_file_was_renamed_away_and_not_removed_is_told() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let (file, away) = (guard.file(), guard.path("away"));
    cleared_surely(&guard, &file, || std::fs::rename(&file, &away));
    guard.wait_whole();
    let gone = |line: &serde_json::Value| ["moved", "deleted"].iter().any(|k| line["kind"] == *k);
    let told = || {
        let told: Vec<_> = guard.events_about(&file).into_iter().filter(gone).collect();
        (!told.is_empty()).then_some(told)
    };
    let told = poll(told, || guard.story());
    assert!(told.iter().all(|line| line["kind"] == "moved"), "{told:?}");
}

#[test]
fn a_large_file_is_whole_again() {
    skip_unless!(not_root());
    let large: Vec<u8> = (0..64_u32 << 18).flat_map(u32::to_le_bytes).collect();
    Route::surely(|guard| {
        guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 40 << 20));
    })
    .with(move |builder| builder.file("large", &large))
    .kinds(WRITE)
    .evidence(MARKER)
    .also(|guard| {
        let known = |value: &serde_json::Value| value["sha256"].is_string();
        let told = guard.events_about(&guard.file()).into_iter().any(|line| {
            line["kind"] == "content-changed" && known(&line["before"]) && known(&line["after"])
        });
        assert!(told, "no digests of before and after\n{}", guard.story());
    })
    .check();
}
