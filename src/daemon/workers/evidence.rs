//! What was taken out of a protected place on its way to the quarantine: the stager's part.
//!
//! The first pieces of an incident are read, and the journal tells what they are. Those that
//! come after are kept unread, as long as the disk has room; what has to go instead is told.
//! A directory with something in it is kept in any case: nobody has seen yet what that is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use super::{Report, is_pinned};
use crate::attribute::InodeKey;
use crate::baseline::snapshot::snapshot;
use crate::baseline::{Content, Evidence};
use crate::daemon::failures::Failure;
use crate::daemon::scribe::Note;
use crate::daemon::scribe::discarded::Discarded;
use crate::daemon::wake::Mailer;
use crate::judge::{Facts, FileKind};
use crate::respond::{self, Quarantine, Shown};
use crate::sense::FileId;
use crate::text::escape_path;

/// Evidence up to this size is read to tell what was done to it, in bytes.
const EVIDENCE_READ: u64 = 256 << 20;
/// Where less than one part in so many of a disk is free, nothing unread is kept.
const ROOM: u64 = 10;

/// Something that was taken out.
#[derive(Debug)]
pub(in crate::daemon) struct Piece {
    /// Where it lies.
    pub(in crate::daemon) from: PathBuf,
    /// The protected path it was found at.
    pub(in crate::daemon) path: PathBuf,
    /// In which incident.
    pub(in crate::daemon) incident: String,
}

/// One of the first of an incident.
pub(super) fn keep(
    file: FileId,
    piece: Piece,
    quarantine: &Quarantine,
    scribe: &Sender<Note>,
    reports: &Mailer<Report>,
) {
    let Piece { from, path, incident } = piece;
    let found = read(&from);
    let facts = found.as_ref().map(|(facts, _)| facts.as_ref());
    let kind = facts.map_or(FileKind::File, |facts| facts.kind);
    let bytes = facts.map(|facts| facts.size);
    let kept = match shown(&from, facts) {
        false => Some(from),
        true => {
            let copy = respond::copy_out(&from).ok().flatten();
            let read = facts.and_then(|facts| facts.sha256);
            reports.send(Report::Shown(file, incident.clone(), Shown { from, read }));
            copy
        }
    };
    reports.send(Report::Evidence(file, incident.clone(), found));
    match kept {
        Some(from) => {
            enter(quarantine.take(&from, &path, &incident), &path, scribe);
        }
        None => {
            let why = "it is still shown by another mount, and there is no room for a copy";
            let lost = Discarded { path, incident, name: None, kind, bytes, why };
            let _ = scribe.send(Note::Discarded(lost));
        }
    }
}

/// One of those that come after.
pub(super) fn keep_surplus(piece: Piece, quarantine: &Quarantine, scribe: &Sender<Note>) {
    let Piece { from, path, incident } = piece;
    let Ok(found) = crate::sys::stat::stat(&from) else { return };
    let holds_something = || std::fs::read_dir(&from).is_ok_and(|mut all| all.next().is_some());
    if has_room(&from) || (found.kind == FileKind::Directory && holds_something()) {
        return enter(quarantine.take(&from, &path, &incident), &path, scribe);
    }
    discard(&from);
    let why = "the disk is nearly full";
    let (kind, bytes) = (found.kind, Some(found.size));
    let _ =
        scribe.send(Note::Discarded(Discarded { path, incident, name: None, kind, bytes, why }));
}

/// Removes what is no evidence.
pub(super) fn discard(path: &Path) {
    if let Err(e) = respond::remove_path(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{}: {e}", escape_path(path));
    }
}

/// A stranger in a protected directory goes to the slot, on its own filesystem, and from there
/// to the quarantine.
pub(super) fn evict(
    quarantine: &Quarantine,
    from: &Path,
    slot: &Path,
    incident: &str,
    scribe: &Sender<Note>,
) {
    match respond::take_out(from, slot) {
        Ok(to) => enter(quarantine.take(&to, from, incident), from, scribe),
        Err(e) => lost(scribe, from, e.to_string()),
    }
}

fn enter<E: std::fmt::Display>(kept: Result<Evidence, E>, path: &Path, scribe: &Sender<Note>) {
    match kept {
        Ok(evidence) => drop(scribe.send(Note::Evidence(evidence))),
        Err(e) => lost(scribe, path, format!("what was found there: {e}")),
    }
}

fn lost(scribe: &Sender<Note>, path: &Path, why: String) {
    tracing::error!("{}: {why}", escape_path(path));
    let _ = scribe.send(Note::Failure(Failure::EvidenceLost, Some(path.to_owned()), why));
}

/// Reads what was taken out of a path, but not its content where that is so much that others
/// would wait for the stager.
fn read(from: &Path) -> Option<(Box<Facts>, InodeKey)> {
    let found = snapshot(from, Content::Hash(0, EVIDENCE_READ), &|_| ()).ok()?;
    Some((Box::new(found.facts), InodeKey::of(&found.stat)))
}

/// Whether a mount, of any namespace, shows the file that lies at `from`: it was given to a
/// container by itself, and the container did not notice that it was taken out of its path.
fn shown(from: &Path, facts: Option<&Facts>) -> bool {
    facts.is_some_and(|facts| facts.kind == FileKind::File) && is_pinned(from)
}

fn has_room(at: &Path) -> bool {
    // A filesystem that does not tell is tried.
    rustix::fs::statvfs(at.parent().unwrap_or(at))
        .is_ok_and(|disk| disk.f_blocks == 0 || disk.f_bfree >= disk.f_blocks / ROOM)
}
