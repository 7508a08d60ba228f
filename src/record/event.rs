//! One line of the journal.
//!
//! The field names are a contract: `events --json`, the journal and mail all carry them.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attribute::{Actor, Attribution, Named};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The immutable bit was cleared.
    ImmutableCleared,
    /// The content differs.
    ContentChanged,
    /// Mode, owner, times, flags, attributes or link count differ.
    MetadataChanged,
    /// The name is gone.
    Deleted,
    /// Another inode has the name.
    Replaced,
    /// The file, or a directory above it, was renamed away.
    Moved,
    /// A file appeared in a protected directory.
    Created,
    /// A mount covers the path.
    Shadowed,
    /// Many files changed at once.
    MassChange,
    /// A sweep or the start found a difference that no event had told.
    DriftFound,
    /// The known-good copy is in place again.
    Restored,
    /// The immutable bit is set again.
    Relocked,
    /// The file could not be healed.
    RestoreFailed,
    /// The same file again and again.
    Contested,
    /// A maintenance window was opened.
    WindowOpened,
    /// A maintenance window was closed.
    WindowClosed,
    /// What was there became known good.
    Accepted,
    /// A path was taken under protection.
    Protected,
    /// A path is no longer protected.
    Released,
    /// The daemon started.
    Started,
    /// The daemon stopped.
    Stopped,
    /// A configuration was put in force.
    ConfigurationLoaded,
    /// A configuration was refused.
    ConfigurationRefused,
    /// A sensor does less than it should.
    SensorDegraded,
    /// A sensor works again.
    SensorRecovered,
    /// The kernel dropped events.
    EventsLost,
    /// A message could not be delivered.
    AlertFailed,
    /// What was found at a protected path was not kept, or is kept no longer.
    EvidenceRemoved,
}

impl Kind {
    /// Every one.
    pub const ALL: [Self; 27] = [
        Self::ImmutableCleared,
        Self::ContentChanged,
        Self::MetadataChanged,
        Self::Deleted,
        Self::Replaced,
        Self::Moved,
        Self::Created,
        Self::Shadowed,
        Self::MassChange,
        Self::DriftFound,
        Self::Restored,
        Self::Relocked,
        Self::RestoreFailed,
        Self::Contested,
        Self::WindowOpened,
        Self::WindowClosed,
        Self::Accepted,
        Self::Protected,
        Self::Released,
        Self::Started,
        Self::Stopped,
        Self::ConfigurationLoaded,
        Self::ConfigurationRefused,
        Self::SensorDegraded,
        Self::SensorRecovered,
        Self::EventsLost,
        Self::AlertFailed,
    ];

    /// The name in JSON, such as `content-changed`.
    #[must_use]
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(name)) => name,
            _ => String::new(),
        }
    }

    /// Whether this is somebody's doing to a protected file, as against our answer to it or
    /// the daemon's own life.
    #[must_use]
    pub fn is_tampering(self) -> bool {
        matches!(
            self,
            Self::ImmutableCleared
                | Self::ContentChanged
                | Self::MetadataChanged
                | Self::Deleted
                | Self::Replaced
                | Self::Moved
                | Self::Created
                | Self::Shadowed
                | Self::MassChange
                | Self::DriftFound
        )
    }
}

/// How much it matters.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Nothing to do.
    #[default]
    Info,
    /// Something happened and was put right, or works less well than it should.
    Warning,
    /// Something is wrong and stays wrong until a person acts.
    Critical,
}

/// An action that was taken, and how it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// `exchange`, `place`, `rewrite`, `relock`, `repair-metadata`, `put-back-parent`,
    /// `unmount` or `quarantine`.
    pub action: String,
    /// `done`, or why not.
    pub outcome: String,
    /// Microseconds from the moment steadfast learned of the change to the end of the action.
    pub took_us: u64,
}

/// A path as JSON can carry it. A name that is not UTF-8 is shown with escapes and comes with
/// its bytes in hexadecimal beside it, so that nothing is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathText {
    /// The path, byte for byte where it is UTF-8.
    pub path: String,
    /// All its bytes in hexadecimal; only where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
}

impl PathText {
    /// The JSON form of `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Self { path: text.to_owned(), path_bytes: None },
            None => Self {
                path: crate::text::escape_path(path),
                path_bytes: Some(crate::text::hex_encode(path.as_os_str().as_bytes())),
            },
        }
    }

    /// The path that this stands for.
    #[must_use]
    pub fn to_path(&self) -> PathBuf {
        match self.path_bytes.as_deref().and_then(crate::text::hex_decode) {
            Some(bytes) => PathBuf::from(std::ffi::OsString::from_vec(bytes)),
            None => PathBuf::from(OsStr::new(&self.path)),
        }
    }
}

/// A stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// When everything was last known to be whole.
    pub from: Timestamp,
    /// When it was found not to be.
    pub to: Timestamp,
}

impl Span {
    /// What the note of a line from before there was a field says of it.
    fn told(note: &str) -> Option<Self> {
        let (from, to) = note.split_once("it happened between ")?.1.split_once(" and ")?;
        let to = to.split_whitespace().next()?;
        Some(Self { from: from.parse().ok()?, to: to.parse().ok()? })
    }
}

/// An event before the journal has given it its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, or was noticed.
    pub time: Timestamp,
    /// What happened.
    pub kind: Kind,
    /// The protected path; `None` for the daemon's own life.
    #[serde(flatten)]
    pub path: Option<PathText>,
    /// Joins the events of one incident.
    pub incident: Option<String>,
    /// How much it matters.
    pub severity: Severity,
    /// Facts that differ, as they should be.
    #[serde(default)]
    pub before: Map<String, Value>,
    /// Facts that differ, as they were found.
    #[serde(default)]
    pub after: Map<String, Value>,
    /// Who did it.
    pub actor: Option<Actor>,
    /// How that is known.
    #[serde(default)]
    pub attribution: Attribution,
    /// Further processes that had the file open.
    #[serde(default)]
    pub others: Vec<Actor>,
    /// What was done about it.
    #[serde(default)]
    pub response: Vec<Response>,
    /// Between what times it happened, where nobody saw it at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// More, in words, for a person: the reason given, the sensor's trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Event {
    /// An event with nothing but its time, kind and severity.
    #[must_use]
    pub fn new(time: Timestamp, kind: Kind, severity: Severity) -> Self {
        Self {
            time,
            kind,
            path: None,
            incident: None,
            severity,
            before: Map::new(),
            after: Map::new(),
            actor: None,
            attribution: Attribution::default(),
            others: Vec::new(),
            response: Vec::new(),
            window: None,
            note: None,
        }
    }

    /// Between what times it happened, where nobody saw it at the time.
    #[must_use]
    pub fn window(&self) -> Option<Span> {
        let told = || Span::told(self.note.as_deref()?);
        self.window.or_else(|| (self.kind == Kind::DriftFound).then(told)?)
    }

    /// The same event about `path`.
    #[must_use]
    pub fn about(mut self, path: &Path) -> Self {
        self.path = Some(PathText::new(path));
        self
    }

    /// The same event as what this process asked for.
    #[must_use]
    pub fn asked_by(mut self, by: &Named) -> Self {
        self.actor.clone_from(&by.actor);
        self.attribution = by.attribution;
        self
    }

    /// The same event with a sentence for a person.
    #[must_use]
    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// An event in its place in the chain: what a journal line holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1, without gaps.
    pub seq: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
    /// The hash of the line before; 64 zeros before the first.
    pub prev: String,
    /// The hash of this line.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_in_a_path_survive_the_journal() {
        let path = Path::new(OsStr::from_bytes(b"/srv/\xff\n\\x41"));
        let event = Event::new(Timestamp::UNIX_EPOCH, Kind::Deleted, Severity::Warning).about(path);
        let text = serde_json::to_string(&event).unwrap();
        let back: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(back.path.unwrap().to_path(), path);
    }

    #[test]
    fn the_window_of_a_drift_is_read_from_its_field_and_from_the_note_of_an_old_line() {
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(7).unwrap());
        let mut event = Event::new(to, Kind::DriftFound, Severity::Warning);
        assert_eq!(event.window(), None);
        event.note = Some(format!("no event told of it; it happened between {from} and {to}"));
        assert_eq!(event.window(), Some(Span { from, to }));
        event.note = None;
        event.window = Some(Span { from, to });
        let text = serde_json::to_string(&event).unwrap();
        assert!(text.contains(r#""window":{"from":"1970-01-01T00:00:00Z","to":"#), "{text}");
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap().window(), event.window);
    }

    #[test]
    fn an_event_without_a_path_reads_back_without_one() {
        let event = Event::new(Timestamp::UNIX_EPOCH, Kind::Started, Severity::Info);
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
