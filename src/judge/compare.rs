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

    /// Whether a look does not show it: one that found nothing says nothing of it.
    pub(crate) fn takes_reading(&self) -> bool {
        let read = ["flags", "xattrs"].iter().any(|fact| self.after.contains_key(*fact));
        self.kind == Kind::ContentChanged || read
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
#[path = "compare_tests.rs"]
mod tests;
