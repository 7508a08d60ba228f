//! The chain: what a line of the journal is, to the byte, and how anybody can check one.
//!
//! A line is one JSON object, without spaces between its tokens, and a newline. It begins
//! with `{"seq":N,` and ends with `,"prev":"P","hash":"H"}`, where N counts from 1 without a
//! gap, and P and H are 64 lower-case hexadecimal digits each:
//!
//! - **H is the SHA-256 of the line as it was before H was added**: take the line without its
//!   newline, remove its last 75 bytes (`,"hash":"H"}`) and append `}`. That is again a whole
//!   JSON object, and its bytes are hashed as they stand; nothing is ever parsed and written
//!   again to check it.
//! - **P is the H of the line before**, in an older segment if need be; 64 zeros in line 1.
//!
//! With no more than a shell, this prints the H that the first line should have:
//!
//! ```sh
//! head -n 1 journal.jsonl | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum
//! ```
//!
//! The chain has no key. Whoever can write the journal *and* the baseline as root can make up
//! both; against that, send the head (`journal verify` prints it) to another machine.

use serde::Serialize;

use super::event::{Entry, Event};
use crate::baseline::{Hasher, sha256};
use crate::judge::Digest;

/// Longest line in bytes, newline not counted. Nothing longer is written or read.
pub const MAX_LINE: usize = 1 << 20;

const HASH_TAIL: usize = r#","hash":""}"#.len() + 64;
const PREV_TAIL: usize = r#","prev":"""#.len() + 64;

/// A line's place in the chain: its number and its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: Digest,
}

impl Link {
    /// What comes before the first line.
    pub const START: Self = Self { seq: 0, hash: Digest([0; 32]) };
}

/// What a line says of its place, and whether it is the text that was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) seq: u64,
    pub(super) prev: Digest,
    pub(super) hash: Digest,
    /// The hash is that of the text.
    pub(super) genuine: bool,
}

impl Claim {
    /// Reads the place out of a line without its newline; `None` if it is not built like one.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let (body, hash) = line.split_at_checked(line.len().checked_sub(HASH_TAIL)?)?;
        let hash = hash.strip_prefix(br#","hash":""#)?.strip_suffix(br#""}"#)?;
        let (_, prev) = body.split_at_checked(body.len().checked_sub(PREV_TAIL)?)?;
        let prev = prev.strip_prefix(br#","prev":""#)?.strip_suffix(br#"""#)?;
        let mut hasher = Hasher::new();
        hasher.update(body);
        hasher.update(b"}");
        let hash = digest(hash)?;
        let genuine = hasher.finish() == hash;
        Some(Self { seq: number(line)?, prev: digest(prev)?, hash, genuine })
    }

    /// Whether this is the line after `link`, unchanged.
    pub(super) fn follows(&self, link: Link) -> bool {
        self.genuine && Some(self.seq) == link.seq.checked_add(1) && self.prev == link.hash
    }

    pub(super) fn link(&self) -> Link {
        Link { seq: self.seq, hash: self.hash }
    }
}

/// Upper-case digits would be an edit that leaves the value as it was, so they do not count.
fn digest(text: &[u8]) -> Option<Digest> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    Digest::parse(str::from_utf8(text).ok()?)
}

fn number(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(br#"{"seq":"#)?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

/// An [`Entry`] before it has a hash; the order of the fields is the order in the line.
#[derive(Serialize)]
struct Unhashed<'a> {
    seq: u64,
    #[serde(flatten)]
    event: &'a Event,
    prev: Digest,
}

/// The line for `event` after `link`, with its newline; the same as an entry; and its place.
///
/// # Errors
///
/// Only where serialising fails, which no [`Event`] makes happen.
pub(super) fn line_after(link: Link, event: &Event) -> serde_json::Result<(Vec<u8>, Entry, Link)> {
    let seq = link.seq.saturating_add(1);
    let mut line = serde_json::to_vec(&Unhashed { seq, event, prev: link.hash })?;
    let hash = sha256(&line);
    line.pop();
    line.extend_from_slice(format!(",\"hash\":\"{hash}\"}}\n").as_bytes());
    let (prev, text) = (link.hash.to_string(), hash.to_string());
    let entry = Entry { seq, event: event.clone(), prev, hash: text };
    Ok((line, entry, Link { seq, hash }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::super::event::{Kind, Severity};
    use super::*;

    fn event(note: &str) -> Event {
        Event::new(Timestamp::UNIX_EPOCH, Kind::Deleted, Severity::Warning)
            .about(Path::new("/srv/a"))
            .noting(note)
    }

    fn line(note: &str) -> Vec<u8> {
        let (mut line, ..) = line_after(Link::START, &event(note)).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        line
    }

    #[test]
    fn a_line_begins_with_its_number_and_ends_with_prev_and_hash() {
        let text = String::from_utf8(line("x")).unwrap();
        assert!(text.starts_with(r#"{"seq":1,"time":"1970-01-01T00:00:00Z","#), "{text}");
        let zeros = "0".repeat(64);
        let (body, hash) = text.split_at(text.len() - HASH_TAIL);
        assert!(body.ends_with(&format!(r#","prev":"{zeros}""#)), "{text}");
        assert_eq!(hash, format!(r#","hash":"{}"}}"#, sha256(format!("{body}}}").as_bytes())));
    }

    #[test]
    fn a_line_reads_back_as_the_entry_it_was_made_of() {
        let (line, entry, _) = line_after(Link::START, &event("why")).unwrap();
        assert_eq!(serde_json::from_slice::<Entry>(&line).unwrap(), entry);
    }

    #[test]
    fn the_rule_holds_for_anybody_with_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("line");
        std::fs::write(&path, [line("it's"), b"\n".to_vec()].concat()).unwrap();
        let script =
            r#"head -n 1 "$1" | sed 's/,"hash":"[0-9a-f]*"}$/}/' | tr -d '\n' | sha256sum"#;
        let shell = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&path)
            .output()
            .unwrap();
        let claim = Claim::read(&line("it's")).unwrap();
        let printed = String::from_utf8(shell.stdout).unwrap();
        assert_eq!(printed.split_whitespace().next(), Some(claim.hash.to_string().as_str()));
    }

    #[test]
    fn a_hash_in_upper_case_is_an_edit() {
        let mut line = line("x");
        let at = line.len() - 66;
        line[at..].make_ascii_uppercase();
        assert_eq!(Claim::read(&line), None);
    }

    proptest! {
        #[test]
        fn no_byte_of_a_line_can_be_changed_unnoticed(
            note in ".{0,40}", at: prop::sample::Index, flip in 1_u8..,
        ) {
            let mut line = line(&note);
            prop_assert!(Claim::read(&line).unwrap().follows(Link::START));
            let at = at.index(line.len());
            line[at] ^= flip;
            prop_assert!(!Claim::read(&line).is_some_and(|claim| claim.follows(Link::START)));
        }

        #[test]
        fn rubbish_is_no_line(bytes: Vec<u8>) {
            prop_assert_eq!(Claim::read(&bytes), None);
        }
    }
}
