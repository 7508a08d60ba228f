//! What happened to a file.

use serde_json::{Map, Value};

use crate::record::{Event, Kind};
use crate::text::escape;

/// At most this many facts are spelt out in the line.
const FACTS_SHOWN: usize = 4;

pub(super) fn what(event: &Event) -> String {
    match event.kind {
        Kind::MetadataChanged | Kind::DriftFound | Kind::Replaced | Kind::Moved => {
            describe_change(event.kind, &event.before, &event.after)
        }
        kind => words(kind).to_owned(),
    }
}

/// What happened to a file, with the facts that differ.
#[must_use]
pub fn describe_change(
    kind: Kind,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
) -> String {
    let words = words(kind);
    let detail = match (kind, after.get("type").and_then(Value::as_str)) {
        (Kind::Replaced, Some(kind)) => {
            return format!("{words} with a {}", escape(kind.as_bytes()));
        }
        (Kind::Moved, _) => {
            let to = after.get("path").and_then(Value::as_str);
            let to = to.map(|to| format!(" to {}", escape(to.as_bytes())));
            return format!("{words}{}", to.unwrap_or_default());
        }
        (Kind::ImmutableCleared | Kind::Deleted | Kind::Created, _) => None,
        _ => changes(before, after),
    };
    detail.map_or_else(|| words.to_owned(), |detail| format!("{words} ({detail})"))
}

fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::ImmutableCleared => "immutable bit cleared",
        Kind::ContentChanged => "content changed",
        Kind::MetadataChanged => "metadata changed",
        Kind::Deleted => "deleted",
        Kind::Replaced => "replaced",
        Kind::Moved => "moved away",
        Kind::Created => "appeared where nothing new is expected",
        Kind::Shadowed => "covered by a mount",
        Kind::MassChange => "many files changed at once",
        Kind::DriftFound => "found different from the known-good copy",
        Kind::Restored => "known-good copy put back",
        Kind::Relocked => "immutable bit set again",
        Kind::RestoreFailed => "could not be restored",
        Kind::Contested => "changed again and again",
        Kind::WindowOpened => "maintenance window opened",
        Kind::WindowClosed => "maintenance window closed",
        Kind::Accepted => "accepted as known good",
        Kind::Protected => "protected",
        Kind::Released => "no longer protected",
        Kind::Started => "steadfast started",
        Kind::Stopped => "steadfast stopped",
        Kind::ConfigurationLoaded => "configuration loaded",
        Kind::ConfigurationRefused => "configuration refused",
        Kind::SensorDegraded => "a sensor is degraded",
        Kind::SensorRecovered => "a sensor works again",
        Kind::EventsLost => "the kernel dropped events",
        Kind::AlertFailed => "an alert could not be delivered",
        Kind::EvidenceRemoved => "evidence removed",
    }
}

/// `mode 0644 → 0666, uid 0 → 7`; attributes by name alone.
fn changes(before: &Map<String, Value>, after: &Map<String, Value>) -> Option<String> {
    let mut parts = Vec::new();
    for (name, new) in after {
        let old = before.get(name).unwrap_or(&Value::Null);
        match new {
            Value::Object(entries) => {
                parts.extend(entries.keys().map(|entry| format!("{name} {entry}")));
            }
            _ => parts.push(format!("{name} {} → {}", scalar(old), scalar(new))),
        }
    }
    let left_out = parts.len().saturating_sub(FACTS_SHOWN);
    parts.truncate(FACTS_SHOWN);
    if left_out > 0 {
        parts.push(format!("{left_out} more"));
    }
    (!parts.is_empty()).then(|| escape(parts.join(", ").as_bytes()))
}

/// A digest is cut to what a person compares.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::String(text) if text.chars().count() > 40 => {
            text.chars().take(12).chain(['…']).collect()
        }
        Value::String(text) => text.clone(),
        Value::Null => "none".to_owned(),
        other => other.to_string(),
    }
}
