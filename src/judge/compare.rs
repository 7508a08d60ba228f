//! What differs between the facts that should be and the facts that are.
//!
//! Pure, and used by the engine, the audit and `diff` alike, so that all three call the same
//! thing drift. Three rules that are easy to get wrong live here:
//!
//! - Device and inode numbers are never drift by themselves: a heal gives a path a new inode
//!   and a reboot can give a filesystem a new device number.
//! - A directory's size, times and link count belong to its entries, which are compared (and
//!   strangers found) by themselves; a heal inside it would move them.
//! - What was not taken is not compared: a digest nobody computed proves nothing. A size that
//!   differs needs no digest.

use serde_json::{Map, Value};

use super::render::{flag_letters, insert_time, render_facts, render_target, render_xattr};
use super::{COMPARED_FLAGS, FS_IMMUTABLE, Facts, FileKind, Policy};
use crate::record::Kind;

/// At most this many differing attributes are spelt out; an attacker can set thousands.
const XATTRS_SHOWN: usize = 32;

/// One way in which a file is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Difference {
    /// What to call it.
    pub kind: Kind,
    /// The facts that differ, as they should be.
    pub before: Map<String, Value>,
    /// The same facts as they were found.
    pub after: Map<String, Value>,
}

impl Difference {
    fn new(kind: Kind) -> Self {
        Self { kind, before: Map::new(), after: Map::new() }
    }

    fn put(&mut self, name: &str, before: impl Into<Value>, after: impl Into<Value>) {
        self.before.insert(name.to_owned(), before.into());
        self.after.insert(name.to_owned(), after.into());
    }

    fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// Whether the immutable bit has to be set on the file that `baseline` describes.
///
/// The policy asks for it on regular files where the filesystem has the bit. Anything else
/// (a directory, or a file whose owner does not ask) keeps the bit if it had it.
#[must_use]
pub fn should_be_immutable(baseline: &Facts, policy: &Policy) -> bool {
    baseline.flags.is_some_and(|flags| {
        flags & FS_IMMUTABLE != 0 || (policy.immutable && baseline.kind == FileKind::File)
    })
}

/// Every difference, most telling first; none where all is as it should be.
///
/// A file that became another type of file is one [`Kind::Replaced`] and nothing else.
/// Otherwise there is at most one each of [`Kind::ContentChanged`] (which carries the
/// modification time along), [`Kind::MetadataChanged`] and [`Kind::ImmutableCleared`].
#[must_use]
pub fn differences(baseline: &Facts, seen: &Facts, policy: &Policy) -> Vec<Difference> {
    if baseline.kind != seen.kind {
        return vec![replaced(baseline, seen)];
    }
    let mut content = Difference::new(Kind::ContentChanged);
    compare_content(baseline, seen, &mut content);
    let mut metadata = Difference::new(Kind::MetadataChanged);
    let with_time = if content.is_empty() { &mut metadata } else { &mut content };
    compare_time(baseline, seen, with_time);
    compare_owner(baseline, seen, &mut metadata);
    compare_flags(baseline, seen, policy, &mut metadata);
    compare_xattrs(baseline, seen, &mut metadata);

    let mut lock = Difference::new(Kind::ImmutableCleared);
    if should_be_immutable(baseline, policy) && !is_immutable(seen) {
        lock.put("immutable", true, false);
    }
    [content, metadata, lock].into_iter().filter(|difference| !difference.is_empty()).collect()
}

/// The difference of a file that is not there at all: all that is known of it was.
pub fn deleted(baseline: &Facts) -> Difference {
    Difference { before: render_facts(baseline), ..Difference::new(Kind::Deleted) }
}

/// The difference of a file whose directory was moved away, so that its path leads elsewhere.
pub fn moved(baseline: &Facts) -> Difference {
    Difference { before: render_facts(baseline), ..Difference::new(Kind::Moved) }
}

/// The difference of a file in a protected directory that the baseline does not know.
pub fn created(seen: &Facts) -> Difference {
    Difference { after: render_facts(seen), ..Difference::new(Kind::Created) }
}

fn replaced(baseline: &Facts, seen: &Facts) -> Difference {
    let (mut before, mut after) = (render_facts(baseline), render_facts(seen));
    before.retain(|name, value| match after.get(name) {
        Some(other) if other == value => {
            after.remove(name);
            false
        }
        _ => true,
    });
    Difference { kind: Kind::Replaced, before, after }
}

fn is_immutable(facts: &Facts) -> bool {
    facts.flags.is_some_and(|flags| flags & FS_IMMUTABLE != 0)
}

fn compare_content(baseline: &Facts, seen: &Facts, content: &mut Difference) {
    if baseline.kind == FileKind::File && baseline.size != seen.size {
        content.put("size", baseline.size, seen.size);
    }
    match (baseline.sha256, seen.sha256) {
        (Some(before), Some(after)) if before != after => {
            content.put("sha256", before.to_string(), after.to_string());
        }
        (Some(before), None) if baseline.size != seen.size => {
            content.put("sha256", before.to_string(), Value::Null);
        }
        _ => {}
    }
    if baseline.target != seen.target {
        render_target(baseline, &mut content.before);
        render_target(seen, &mut content.after);
    }
}

fn compare_time(baseline: &Facts, seen: &Facts, into: &mut Difference) {
    if baseline.kind != FileKind::Directory && baseline.mtime != seen.mtime {
        insert_time(baseline, &mut into.before);
        insert_time(seen, &mut into.after);
    }
}

fn compare_owner(baseline: &Facts, seen: &Facts, metadata: &mut Difference) {
    if baseline.mode != seen.mode {
        metadata.put("mode", format!("{:04o}", baseline.mode), format!("{:04o}", seen.mode));
    }
    if baseline.uid != seen.uid {
        metadata.put("uid", baseline.uid, seen.uid);
    }
    if baseline.gid != seen.gid {
        metadata.put("gid", baseline.gid, seen.gid);
    }
    // A name more is another way to write to the file; a name less takes nothing from it.
    if baseline.kind != FileKind::Directory && baseline.nlink < seen.nlink {
        metadata.put("nlink", baseline.nlink, seen.nlink);
    }
}

/// All flags but the immutable bit where that has to be set: it has a kind of its own.
fn compare_flags(baseline: &Facts, seen: &Facts, policy: &Policy, metadata: &mut Difference) {
    let Some(before) = baseline.flags else { return };
    let own = if should_be_immutable(baseline, policy) { FS_IMMUTABLE } else { 0 };
    let mask = COMPARED_FLAGS & !own;
    match seen.flags {
        Some(after) if before & mask != after & mask => {
            metadata.put("flags", flag_letters(before & mask), flag_letters(after & mask));
        }
        None if before & mask != 0 => {
            metadata.put("flags", flag_letters(before & mask), Value::Null);
        }
        _ => {}
    }
}

fn compare_xattrs(baseline: &Facts, seen: &Facts, metadata: &mut Difference) {
    let names = baseline.xattrs.keys().chain(
        // Those of `seen` that the baseline has too were in the first half already.
        seen.xattrs.keys().filter(|name| !baseline.xattrs.contains_key(*name)),
    );
    let (mut before, mut after, mut left_out) = (Map::new(), Map::new(), 0_usize);
    for name in names {
        let (old, new) = (baseline.xattrs.get(name), seen.xattrs.get(name));
        if old == new {
            continue;
        }
        if before.len() == XATTRS_SHOWN {
            left_out += 1;
            continue;
        }
        let shown = crate::text::escape(name);
        before.insert(shown.clone(), render_xattr(old));
        after.insert(shown, render_xattr(new));
    }
    if left_out > 0 {
        after.insert("…".to_owned(), format!("and {left_out} more").into());
    }
    if !before.is_empty() {
        metadata.put("xattrs", before, after);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::judge::{Digest, FS_APPEND, FileTime};

    fn good() -> Facts {
        Facts {
            kind: FileKind::File,
            size: 3,
            sha256: Some(Digest([1; 32])),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: FileTime { sec: 1_000_000_000, nsec: 5 },
            flags: Some(FS_IMMUTABLE | 0x0008_0000),
            xattrs: [(b"user.note".to_vec(), b"kept".to_vec())].into(),
            nlink: 1,
            target: None,
            dev: 1,
            ino: 2,
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
        let seen = Facts { dev: 8, ino: 9, flags: Some(FS_IMMUTABLE), ..good() };
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
        let baseline = Facts { flags: Some(0), ..good() };
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
        let plain = Facts { flags: None, ..good() };
        assert_eq!(differences(&plain, &plain, &Policy::default()), []);
        assert_eq!(only(&good(), &plain).kind, Kind::ImmutableCleared);
    }

    #[test]
    fn content_and_lock_are_two_differences() {
        let seen = Facts { size: 9, flags: Some(0), ..good() };
        let kinds: Vec<_> =
            differences(&good(), &seen, &Policy::default()).iter().map(|d| d.kind).collect();
        assert_eq!(kinds, [Kind::ContentChanged, Kind::ImmutableCleared]);
    }

    #[test]
    fn another_type_of_file_is_one_replacement_with_all_that_differs() {
        let link = Facts {
            kind: FileKind::Symlink,
            sha256: None,
            size: 0,
            flags: None,
            target: Some(b"/etc/\xffshadow".to_vec()),
            ..good()
        };
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
        let link = |target: &[u8]| Facts {
            kind: FileKind::Symlink,
            sha256: None,
            flags: None,
            target: Some(target.to_vec()),
            ..good()
        };
        let difference = only(&link(b"a"), &link(b"b"));
        assert_eq!(difference.kind, Kind::ContentChanged);
        assert_eq!(Value::from(difference.after), json!({"target": "b"}));
    }

    #[test]
    fn what_its_entries_move_is_no_drift_of_a_directory() {
        let before = Facts { kind: FileKind::Directory, sha256: None, flags: Some(0), ..good() };
        let mut after = Facts { size: 9, nlink: 9, ..before.clone() };
        after.mtime.sec += 9;
        assert_eq!(differences(&before, &after, &Policy::default()), []);
        assert_eq!(only(&before, &Facts { mode: 0o777, ..after }).kind, Kind::MetadataChanged);
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
}
