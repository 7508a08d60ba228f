//! An event as one line for a person: what happened, to what, by whom, what was done.
//!
//! `run` prints it live, `events` prints it from the journal and mail carries it. It claims no
//! more than the attribution does: a process that only had the file open is not called the
//! culprit. Everything is escaped again here, whoever wrote the journal.

mod actor;
mod answer;
mod change;
#[cfg(test)]
mod tests;

pub use actor::describe_actor;
pub use answer::describe_duration;
pub use change::describe_change;

use answer::answer;
use change::what;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Event, Kind, Span};
use crate::attribute::{Actor, Confidence};
use crate::text::{escape, escape_path};

/// So many that may have done it are named in a line; the journal has all that are known.
const MOST_NAMED: usize = 3;

/// What happened, to what, by which process, and how the answer to it went, behind the time in
/// `zone`, to the second.
#[must_use]
pub fn describe_at(event: &Event, zone: &TimeZone) -> String {
    format!("{}  {}", moment(event.time, zone), describe_in(event, zone))
}

fn moment(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The line without its time; others in it are in `zone`.
fn describe_in(event: &Event, zone: &TimeZone) -> String {
    let mut line = String::new();
    if let Some(path) = &event.path {
        line.push_str(&escape_path(path.to_path()));
        line.push_str("  ");
    }
    line.push_str(&what(event));
    line.push_str(&by_whom(event));
    if let Some(answer) = answer(&event.response) {
        line.push_str(" — ");
        line.push_str(&answer);
    }
    if let Some(note) = &event.note {
        line.push_str(": ");
        line.push_str(&escape(note.as_bytes()));
    }
    if let Some(Span { from, to }) = event.window {
        let (from, to) = (moment(from, zone), moment(to, zone));
        line.push_str(&format!("; it happened between {from} and {to}"));
    }
    line
}

/// Those that may all have done it, as far as a line has room for them.
fn all(actor: &Actor, others: &[Actor]) -> String {
    let mut named: Vec<_> =
        std::iter::once(actor).chain(others).take(MOST_NAMED).map(describe_actor).collect();
    match (1 + others.len()).saturating_sub(named.len()) {
        0 => {}
        1 => named.push("one more".to_owned()),
        more => named.push(format!("{more} more")),
    }
    let last = named.pop().unwrap_or_default();
    if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) }
}

/// What is said of the process depends on how sure it is.
fn by_whom(event: &Event) -> String {
    match (&event.actor, event.attribution.confidence) {
        (Some(actor), Confidence::Opener) if event.kind.is_tampering() => {
            let unknown = match event.kind {
                Kind::Shadowed => ", which says nothing of who mounted it",
                Kind::ImmutableCleared => ", as others may have had for longer",
                _ => "",
            };
            format!(" while {} had it open{unknown}", all(actor, &event.others))
        }
        (Some(actor), Confidence::Unknown) if event.kind.is_tampering() => {
            format!(", perhaps by {}", describe_actor(actor))
        }
        (Some(actor), _) => format!(" by {}", describe_actor(actor)),
        (None, _) if event.kind.is_tampering() => ", no process could be named".to_owned(),
        (None, _) => String::new(),
    }
}
