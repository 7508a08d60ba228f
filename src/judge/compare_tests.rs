use serde_json::json;

use super::*;
use crate::judge::{Common, Digest, FS_APPEND, FileTime};

fn good() -> Facts {
    Facts {
        size: 3,
        sha256: Some(Digest([1; 32])),
        mtime: FileTime { sec: 1_000_000_000, nsec: 5 },
        ino: 2,
        common: Common {
            kind: FileKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            flags: Some(FS_IMMUTABLE | 0x0008_0000),
            xattrs: [(b"user.note".to_vec(), b"kept".to_vec())].into(),
            nlink: 1,
            target: None,
            dev: 1,
        }
        .into(),
    }
}

fn only(baseline: &Facts, seen: &Facts) -> Difference {
    let mut all = differences(baseline, seen, &Policy::default());
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn changed(change: impl FnOnce(&mut Facts)) -> Difference {
    let mut seen = good();
    change(&mut seen);
    only(&good(), &seen)
}

#[test]
fn the_same_facts_differ_in_nothing() {
    assert_eq!(differences(&good(), &good(), &Policy::default()), []);
}

#[test]
fn another_inode_or_device_or_extent_flag_is_no_drift() {
    let mut seen = Facts { ino: 9, ..good() };
    (seen.dev, seen.flags) = (8, Some(FS_IMMUTABLE));
    assert_eq!(differences(&good(), &seen, &Policy::default()), []);
}

#[test]
fn a_changed_content_takes_its_modification_time_along() {
    let difference = changed(|seen| {
        seen.size = 4;
        seen.sha256 = Some(Digest([2; 32]));
        seen.mtime.sec += 1;
    });
    assert_eq!(difference.kind, Kind::ContentChanged);
    assert_eq!(
        Value::from(difference.before),
        json!({
            "size": 3, "sha256": "01".repeat(32), "mtime": "2001-09-09T01:46:40.000000005Z",
        })
    );
    assert_eq!(
        Value::from(difference.after),
        json!({
            "size": 4, "sha256": "02".repeat(32), "mtime": "2001-09-09T01:46:41.000000005Z",
        })
    );
}

#[test]
fn another_size_is_drift_without_a_digest_and_a_missing_digest_alone_is_none() {
    let difference = changed(|seen| (seen.size, seen.sha256) = (1 << 40, None));
    assert_eq!(difference.kind, Kind::ContentChanged);
    assert_eq!(difference.after["sha256"], Value::Null);
    let unread = Facts { sha256: None, ..good() };
    assert_eq!(differences(&good(), &unread, &Policy::default()), []);
}

#[test]
fn every_piece_of_metadata_is_compared_and_rendered() {
    let difference = changed(|seen| {
        seen.mode = 0o4755;
        seen.uid = 7;
        seen.gid = 8;
        seen.nlink = 2;
        seen.mtime.nsec = 6;
        seen.flags = Some(FS_IMMUTABLE | FS_APPEND);
        seen.xattrs = [(b"user.\x1b".to_vec(), vec![0xff, 0])].into();
    });
    assert_eq!(difference.kind, Kind::MetadataChanged);
    assert_eq!(
        Value::from(difference.before),
        json!({
            "mode": "0644", "uid": 0, "gid": 0, "nlink": 1, "flags": "",
            "mtime": "2001-09-09T01:46:40.000000005Z",
            "xattrs": {"user.note": "kept", "user.\\x1b": null},
        })
    );
    assert_eq!(
        Value::from(difference.after),
        json!({
            "mode": "4755", "uid": 7, "gid": 8, "nlink": 2, "flags": "a",
            "mtime": "2001-09-09T01:46:40.000000006Z",
            "xattrs": {"user.note": null, "user.\\x1b": "0xff00"},
        })
    );
}

#[test]
fn a_cleared_immutable_bit_has_a_kind_of_its_own() {
    let difference = changed(|seen| seen.flags = Some(0));
    assert_eq!(difference.kind, Kind::ImmutableCleared);
    assert_eq!(Value::from(difference.after), json!({"immutable": false}));
}

#[test]
fn the_policy_asks_for_the_bit_even_where_the_baseline_was_taken_without_it() {
    let mut baseline = good();
    baseline.flags = Some(0);
    assert_eq!(differences(&baseline, &good(), &Policy::default()), []);
    assert_eq!(only(&baseline, &baseline).kind, Kind::ImmutableCleared);
    let relaxed = Policy { immutable: false, ..Policy::default() };
    assert_eq!(differences(&baseline, &baseline, &relaxed), []);
    let set = differences(&baseline, &good(), &relaxed);
    assert_eq!(set[0].kind, Kind::MetadataChanged);
    assert_eq!(Value::from(set[0].after.clone()), json!({"flags": "i"}));
}

#[test]
fn a_filesystem_without_flags_has_no_immutable_bit_to_lose() {
    let mut plain = good();
    plain.flags = None;
    assert_eq!(differences(&plain, &plain, &Policy::default()), []);
    assert_eq!(only(&good(), &plain).kind, Kind::ImmutableCleared);
}

#[test]
fn content_and_lock_are_two_differences() {
    let mut seen = Facts { size: 9, ..good() };
    seen.flags = Some(0);
    let kinds: Vec<_> =
        differences(&good(), &seen, &Policy::default()).iter().map(|d| d.kind).collect();
    assert_eq!(kinds, [Kind::ContentChanged, Kind::ImmutableCleared]);
}

#[test]
fn another_type_of_file_is_one_replacement_with_all_that_differs() {
    let mut link = Facts { sha256: None, size: 0, ..good() };
    (link.kind, link.flags) = (FileKind::Symlink, None);
    link.target = Some(b"/etc/\xffshadow".to_vec());
    let difference = only(&good(), &link);
    assert_eq!(difference.kind, Kind::Replaced);
    assert_eq!(
        Value::from(difference.after),
        json!({
            "type": "symlink", "size": 0, "target": "/etc/\\xffshadow",
            "target_bytes": "2f6574632fff736861646f77",
        })
    );
    assert_eq!(difference.before["type"], "file");
    assert!(!difference.before.contains_key("mode"));
}

#[test]
fn a_link_that_points_elsewhere_has_other_content() {
    let link = |target: &[u8]| {
        let mut link = Facts { sha256: None, ..good() };
        (link.kind, link.flags) = (FileKind::Symlink, None);
        link.target = Some(target.to_vec());
        link
    };
    let difference = only(&link(b"a"), &link(b"b"));
    assert_eq!(difference.kind, Kind::ContentChanged);
    assert_eq!(Value::from(difference.after), json!({"target": "b"}));
}

#[test]
fn what_its_entries_move_is_no_drift_of_a_directory() {
    let mut before = Facts { sha256: None, ..good() };
    (before.kind, before.flags) = (FileKind::Directory, Some(0));
    let mut after = Facts { size: 9, ..before.clone() };
    (after.nlink, after.mtime.sec) = (9, after.mtime.sec + 9);
    assert_eq!(differences(&before, &after, &Policy::default()), []);
    after.mode = 0o777;
    assert_eq!(only(&before, &after).kind, Kind::MetadataChanged);
}

#[test]
fn thousands_of_attributes_make_no_thousands_of_lines() {
    let difference = changed(|seen| {
        for n in 0..5000 {
            seen.xattrs.insert(format!("user.{n:05}").into_bytes(), vec![b'x'; 60_000]);
        }
    });
    assert_eq!(difference.after["xattrs"]["…"], "and 4968 more");
    assert!(serde_json::to_string(&difference.after).unwrap().len() < 32_000);
}

#[test]
fn a_missing_file_and_a_stranger_show_all_that_is_known() {
    assert_eq!(deleted(&good()).before["sha256"], "01".repeat(32));
    assert!(deleted(&good()).after.is_empty());
    assert_eq!(created(&good()).after["type"], "file");
    assert!(created(&good()).before.is_empty());
}
