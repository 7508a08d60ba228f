//! Facts as JSON shows them: modes in octal, flags as `lsattr` letters, times in RFC 3339.
//!
//! The shapes are a contract; `audit --json` and the journal carry them. Values an attacker
//! can choose are escaped and bounded.

use jiff::Timestamp;
use rustix::fs::IFlags;
use serde_json::{Map, Value};

use super::{COMPARED_FLAGS, Facts};

/// At most this many bytes of an attribute's value are shown.
const XATTR_BYTES_SHOWN: usize = 256;

/// The flags that are compared, with the letters and in the order of `lsattr`.
const LETTERS: [(IFlags, char); 12] = [
    (IFlags::SECURE_REMOVAL, 's'),
    (IFlags::UNRM, 'u'),
    (IFlags::SYNC, 'S'),
    (IFlags::DIRSYNC, 'D'),
    (IFlags::IMMUTABLE, 'i'),
    (IFlags::APPEND, 'a'),
    (IFlags::NODUMP, 'd'),
    (IFlags::NOATIME, 'A'),
    (IFlags::JOURNALING, 'j'),
    (IFlags::NOTAIL, 't'),
    (IFlags::TOPDIR, 'T'),
    (IFlags::NOCOW, 'C'),
];

/// The letters `chattr` has for those of `flags` that steadfast compares.
#[must_use]
pub fn flag_letters(flags: u32) -> String {
    LETTERS.iter().filter(|(flag, _)| flags & flag.bits() != 0).map(|(_, letter)| letter).collect()
}

/// All that is known of a file and worth telling, by the names that JSON has for it.
#[must_use]
pub fn render_facts(facts: &Facts) -> Map<String, Value> {
    let mut map = Map::new();
    let kind = serde_json::to_value(facts.kind).unwrap_or_default();
    map.insert("type".to_owned(), kind);
    map.insert("size".to_owned(), facts.size.into());
    if let Some(digest) = facts.sha256 {
        map.insert("sha256".to_owned(), digest.to_string().into());
    }
    map.insert("mode".to_owned(), format!("{:04o}", facts.mode).into());
    map.insert("uid".to_owned(), facts.uid.into());
    map.insert("gid".to_owned(), facts.gid.into());
    map.insert("nlink".to_owned(), facts.nlink.into());
    insert_time(facts, &mut map);
    if let Some(flags) = facts.flags {
        map.insert("flags".to_owned(), flag_letters(flags & COMPARED_FLAGS).into());
    }
    render_target(facts, &mut map);
    map
}

/// The modification time, as `mtime`; in seconds where no calendar reaches that far.
pub(super) fn insert_time(facts: &Facts, map: &mut Map<String, Value>) {
    let time = facts.mtime;
    let nanoseconds = i32::try_from(time.nsec).unwrap_or(0);
    let value = match Timestamp::new(time.sec, nanoseconds) {
        Ok(time) => time.to_string().into(),
        Err(_) => time.sec.into(),
    };
    map.insert("mtime".to_owned(), value);
}

/// Where a symlink points, as `target`, with `target_bytes` beside it where it is not UTF-8.
pub(super) fn render_target(facts: &Facts, map: &mut Map<String, Value>) {
    let Some(target) = &facts.target else { return };
    match std::str::from_utf8(target) {
        Ok(text) => map.insert("target".to_owned(), text.into()),
        Err(_) => {
            map.insert("target_bytes".to_owned(), crate::text::hex_encode(target).into());
            map.insert("target".to_owned(), crate::text::escape(target).into())
        }
    };
}

/// The value of an attribute: its text where it is text, else `0x` and hexadecimal; null
/// where there is none.
pub(super) fn render_xattr(value: Option<&Vec<u8>>) -> Value {
    let Some(value) = value else { return Value::Null };
    let shown = value.get(..XATTR_BYTES_SHOWN).unwrap_or(value);
    let text = match std::str::from_utf8(shown) {
        Ok(text) if crate::text::escape(shown) == text && !text.starts_with("0x") => {
            text.to_owned()
        }
        _ => format!("0x{}", crate::text::hex_encode(shown)),
    };
    if shown.len() == value.len() {
        text.into()
    } else {
        format!("{text}… ({} bytes)", value.len()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Common;
    use crate::judge::{FileKind, FileTime, Xattrs};

    #[test]
    fn every_compared_flag_has_a_letter() {
        let lettered = LETTERS.iter().fold(0, |all, (flag, _)| all | flag.bits());
        assert_eq!(lettered, COMPARED_FLAGS);
        assert_eq!(flag_letters(COMPARED_FLAGS), "suSDiadAjtTC");
    }

    #[test]
    fn a_value_that_looks_like_hexadecimal_is_given_in_hexadecimal() {
        assert_eq!(render_xattr(Some(&b"0x41".to_vec())), "0x30783431");
        assert_eq!(render_xattr(Some(&b"plain".to_vec())), "plain");
        assert_eq!(render_xattr(Some(&b"line\n".to_vec())), "0x6c696e650a");
    }

    #[test]
    fn a_time_that_no_calendar_reaches_is_given_in_seconds() {
        let mut facts = Facts {
            size: 0,
            sha256: None,
            mtime: FileTime { sec: i64::MAX, nsec: 0 },
            ino: 0,
            common: Common {
                kind: FileKind::Fifo,
                mode: 0,
                uid: 0,
                gid: 0,
                flags: None,
                xattrs: Xattrs::new(),
                nlink: 1,
                target: None,
                dev: 0,
            }
            .into(),
        };
        assert_eq!(render_facts(&facts)["mtime"], i64::MAX);
        facts.mtime = FileTime::default();
        assert_eq!(render_facts(&facts)["mtime"], "1970-01-01T00:00:00Z");
    }
}
