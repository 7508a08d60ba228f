//! What became of an incident: the word for its subject, and the sentence for its body.

use std::collections::BTreeMap;

use crate::record::{Event, Kind};

/// How it stands with the files of an incident, best first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Accepted,
    Restored,
    Relocked,
    Open,
    Contested,
    Failed,
}

impl Outcome {
    pub(super) fn in_subject(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Restored => "restored",
            Self::Relocked => "locked again",
            Self::Open => "not restored",
            Self::Contested => "AGAIN AND AGAIN",
            Self::Failed => "NOT RESTORED",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Accepted => "What is there now was accepted as good.",
            Self::Restored => "The known-good state is back.",
            Self::Relocked => "The content was not touched, and the file is locked (+i) again.",
            Self::Open => "It has not been put right.",
            Self::Contested => {
                "It is changed again and again, faster than it makes sense to restore it: stop \
                 the process that does it."
            }
            Self::Failed => "It could NOT be put right, and stays wrong until a person acts.",
        }
    }
}

/// The worst that holds for any of the paths; `None` if nothing was done to any.
pub(super) fn outcome(events: &[Event]) -> Option<Outcome> {
    let mut of_path: BTreeMap<Option<&str>, Outcome> = BTreeMap::new();
    // What was read late is told after what was done about it.
    let mut in_order: Vec<&Event> = events.iter().collect();
    in_order.sort_by_key(|event| event.time);
    for event in in_order {
        let path = path_of(event);
        let now = of_path.get(&path).copied();
        let then = match event.kind {
            Kind::RestoreFailed => Outcome::Failed,
            Kind::Contested => Outcome::Contested,
            Kind::Accepted => Outcome::Accepted,
            Kind::Restored => Outcome::Restored,
            Kind::Relocked => Outcome::Relocked,
            kind if kind.is_tampering() => answered(event).unwrap_or(Outcome::Open),
            _ => continue,
        };
        let then = match now {
            // Of a file whose content was restored, or could not be, that is the news.
            Some(now) if then == Outcome::Relocked && now != Outcome::Open => now,
            _ => then,
        };
        of_path.insert(path, then);
    }
    let touched = |path: Option<&str>| {
        events.iter().any(|event| path_of(event) == path && touches_content(event.kind))
    };
    let put_back = |(path, outcome)| match outcome {
        Outcome::Relocked if touched(path) => Outcome::Restored,
        outcome => outcome,
    };
    of_path.into_iter().map(put_back).max()
}

fn path_of(event: &Event) -> Option<&str> {
    event.path.as_ref().map(|path| path.path.as_str())
}

/// Whether the content at the path was another then, or none.
fn touches_content(kind: Kind) -> bool {
    use Kind::{ContentChanged, Deleted, Moved, Replaced, Shadowed};
    matches!(kind, ContentChanged | Deleted | Moved | Replaced | Shadowed)
}

/// What the event's own responses amount to; `None` if there are none.
fn answered(event: &Event) -> Option<Outcome> {
    let failed = event.response.iter().any(|response| response.outcome != "done");
    let relocked = event.response.iter().all(|response| response.action == "relock");
    match event.response.is_empty() {
        true => None,
        false if failed => Some(Outcome::Failed),
        false if relocked => Some(Outcome::Relocked),
        false => Some(Outcome::Restored),
    }
}
