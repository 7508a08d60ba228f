//! Evidence that is not kept, or kept no longer: nothing of it goes unsaid.
//!
//! What goes within the same second and for the same reason is told in one line for each path,
//! so that a storm of tampering is no storm in the journal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::baseline::Evidence;
use crate::judge::FileKind;
use crate::record::{Event, Kind, Severity};
use crate::respond::Quarantine;
use crate::text::{escape, size};

/// So many pieces are told of one by one.
const LISTED: usize = 16;
/// So many paths have a line of their own.
const MOST_PATHS: usize = 64;

/// One piece that is gone.
#[derive(Debug)]
pub struct Discarded {
    /// The protected path it was found at.
    pub path: PathBuf,
    /// The incident.
    pub incident: String,
    /// Its name in the quarantine; `None` where it never came there.
    pub name: Option<String>,
    /// What it was.
    pub kind: FileKind,
    /// How long, where that is known.
    pub bytes: Option<u64>,
    /// Why it went.
    pub why: &'static str,
}

impl Discarded {
    /// What was kept until now.
    pub(super) fn evicted(piece: &Evidence, now: Timestamp) -> Self {
        let why = match Quarantine::is_too_old(piece, now) {
            true => "nothing is kept for longer than 30 days",
            false => "the quarantine is full, and newer evidence came",
        };
        Self::of(piece, why)
    }

    /// What was kept until now, where a file cannot be put back for lack of room.
    pub(super) fn for_room(piece: &Evidence) -> Self {
        Self::of(piece, "the disk is full, and a known-good copy needs the room")
    }

    fn of(piece: &Evidence, why: &'static str) -> Self {
        let name = piece.location.file_name().unwrap_or_default();
        Self {
            path: piece.path.clone(),
            incident: piece.incident.clone(),
            name: Some(name.to_string_lossy().into_owned()),
            kind: piece.kind,
            bytes: Some(piece.size),
            why,
        }
    }

    fn describe(&self) -> String {
        let kind = self.kind;
        let name = self.name.as_ref().map(|name| format!("{}: ", escape(name.as_bytes())));
        let bytes = self.bytes.map(|bytes| format!(" of {bytes} bytes"));
        format!("{}{kind}{}", name.unwrap_or_default(), bytes.unwrap_or_default())
    }
}

/// What went since it was last told.
#[derive(Default)]
pub(super) struct Discards {
    groups: BTreeMap<(PathBuf, &'static str), Group>,
}

#[derive(Default)]
struct Group {
    count: u64,
    bytes: u64,
    incident: String,
    /// What they were, each once.
    listed: Vec<String>,
    unlisted: u64,
}

impl Discards {
    pub(super) fn add(&mut self, piece: &Discarded) {
        let mut key = (piece.path.clone(), piece.why);
        if self.groups.len() >= MOST_PATHS && !self.groups.contains_key(&key) {
            key.0 = PathBuf::new();
        }
        let group = self.groups.entry(key).or_default();
        group.count += 1;
        group.bytes = group.bytes.saturating_add(piece.bytes.unwrap_or(0));
        group.incident.clone_from(&piece.incident);
        let piece = piece.describe();
        match group.listed.contains(&piece) {
            true => {}
            false if group.listed.len() < LISTED => group.listed.push(piece),
            false => group.unlisted += 1,
        }
    }

    /// One event for each path and reason.
    pub(super) fn tell(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.groups)
            .into_iter()
            .map(|((path, why), group)| group.event(&path, why))
            .collect()
    }
}

impl Group {
    fn event(self, path: &Path, why: &str) -> Event {
        let Self { count, bytes, incident, mut listed, unlisted } = self;
        if unlisted > 0 {
            listed.push(format!("{unlisted} more"));
        }
        let pieces = if count == 1 { "piece" } else { "pieces" };
        let mut event = Event::new(Timestamp::now(), Kind::EvidenceRemoved, Severity::Warning)
            .noting(format!(
                "{count} {pieces} of what was found there, {} in all: {}; {why}",
                size(bytes),
                listed.join(", ")
            ));
        event.after.insert("pieces".into(), count.into());
        event.after.insert("bytes".into(), bytes.into());
        if path.as_os_str().is_empty() {
            return event;
        }
        event.incident = Some(incident);
        event.about(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_at_once_is_one_line_for_each_path_and_tells_how_much_it_was() {
        let mut discards = Discards::default();
        for n in 0..20 {
            discards.add(&Discarded {
                path: "/a".into(),
                incident: "i".into(),
                name: Some(format!("i-{n}")),
                kind: FileKind::Fifo,
                bytes: Some(100),
                why: "went",
            });
        }
        let told = discards.tell();
        let [line] = told.as_slice() else { panic!("{told:?}") };
        let note = line.note.as_deref().unwrap();
        assert!(note.starts_with("20 pieces of what was found there, 1.9 KiB in all: "));
        assert!(
            note.contains("i-15: named pipe of 100 bytes, 4 more; went") && !note.contains("i-16"),
            "{note}"
        );
        assert_eq!((&line.after["pieces"], &line.after["bytes"]), (&20.into(), &2000.into()));
        assert!(discards.tell().is_empty());
    }
}
