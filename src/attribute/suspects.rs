//! From what sensors told about one file to the process behind one change.
//!
//! It never guesses. A process is named `exact` when an event of the very kind that makes this
//! change carried it, or audit recorded it, and no other process made such a change meanwhile;
//! `opener` when all that is known is that it had the file open; several candidates are all
//! listed, and none is exact.
//! Pure: the caller brings observations and openers.

use std::sync::Arc;

use super::{Actor, Attribution, Confidence, Nature, Source, Testimony, Window};
use crate::record::Kind;
use crate::sense::{By, Hint};

/// Something a process was seen doing to a file.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// What it did.
    pub hint: Hint,
    /// Who.
    pub by: By,
}

/// The answer to "who did it".
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// The likeliest process.
    pub actor: Option<Actor>,
    /// How that is known, and how surely.
    pub attribution: Attribution,
    /// The other candidates.
    pub others: Vec<Actor>,
    /// What is known when no process can be named.
    pub note: Option<String>,
    /// Somebody did it whom audit will tell of: the system call has not returned yet.
    pub awaited: bool,
}

impl Named {
    /// Who gave a command.
    #[must_use]
    pub fn in_command(actor: Actor, confidence: Confidence) -> Self {
        let attribution = Attribution { source: Source::Pidfd, confidence };
        Self { actor: Some(actor), attribution, ..Self::default() }
    }
}

/// What is known of one change beside the suspects.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// What audit says of the file.
    pub testimony: &'a Testimony,
    /// When it was seen to have happened, each time.
    pub windows: &'a [Window],
    /// What differs.
    pub nature: Nature,
}

/// At most this many further candidates are listed.
const MOST_OTHERS: usize = 16;
/// Said of a process that only an audit record tells of.
const NO_START: &str = "it had exited before it could be looked at: what is told of it is from its audit record, \
     which has no start time";

/// Names the process behind a change of this `kind`. `openers` are the processes that opened
/// the file since it was last whole, newest first.
#[must_use]
pub fn name_culprit(
    kind: Kind,
    suspects: &[Suspect],
    openers: &[Arc<Actor>],
    evidence: &Evidence<'_>,
) -> Named {
    let mut named = culprit(kind, suspects, openers, evidence);
    if named.note.is_none() && named.actor.as_ref().is_some_and(|actor| actor.start_time == 0) {
        named.note = Some(NO_START.to_owned());
    }
    named
}

fn culprit(
    kind: Kind,
    suspects: &[Suspect],
    openers: &[Arc<Actor>],
    evidence: &Evidence<'_>,
) -> Named {
    let nature = evidence.nature;
    let doers: Vec<&Suspect> = suspects.iter().filter(|s| makes(&s.hint, kind, nature)).collect();
    let recorded = evidence.testimony.doers(kind, nature, evidence.windows);
    let mut named = distinct(doers.iter().filter_map(|s| process(&s.by)));
    let mut gone = None;
    for suspect in &doers {
        let By::Gone { pid } = suspect.by else { continue };
        // A process that had exited when the event was read is known from its records.
        match evidence.testimony.by_pid(pid, evidence.windows) {
            Some(actor) => add(&mut named, actor, Source::Audit),
            None if named.iter().any(|(known, _)| known.pid == pid) => {}
            None => gone = Some(pid),
        }
    }
    let by_event = !named.is_empty();
    for actor in &recorded.actors {
        add(&mut named, actor, Source::Audit);
    }
    let sure = by_event || recorded.complete;
    match (named.as_slice(), gone) {
        ([], Some(pid)) => exited(pid, openers),
        ([], None) if kind == Kind::ContentChanged || nature.times => {
            mapped(suspects, openers, evidence)
        }
        ([], None) => {
            let done = is_done_by_calls(kind);
            let awaited = done && evidence.testimony.hears(evidence.windows);
            match kind {
                // Nobody has to open a file to mount something over it.
                Kind::Shadowed => Named { awaited, ..Named::default() },
                _ => Named { awaited, ..opener(suspects, openers) },
            }
        }
        ([(actor, source)], None) => Named {
            actor: Some((*actor).clone()),
            attribution: Attribution {
                source: *source,
                confidence: if sure { Confidence::Exact } else { Confidence::Opener },
            },
            others: strip(openers.iter().map(Arc::as_ref).filter(|other| !other.is_same(actor))),
            note: None,
            awaited: false,
        },
        ([(actor, source), rest @ ..], _) => Named {
            actor: Some((*actor).clone()),
            attribution: Attribution { source: *source, confidence: Confidence::Opener },
            others: strip(rest.iter().map(|(actor, _)| *actor)),
            note: gone.map(|pid| format!(
                    "process {pid} changed it at the same time and had exited before it could be looked at"
                )),
            awaited: false,
        },
    }
}

/// An event names a process that was gone by then. One that had it open under that pid is most
/// likely the same; nobody else is named.
fn exited(pid: u32, openers: &[Arc<Actor>]) -> Named {
    let note = Some(format!("process {pid} did it and had exited before it could be looked at"));
    let Some(actor) = openers.iter().find(|opener| opener.pid == pid) else {
        let others = strip(openers.iter().map(Arc::as_ref));
        return Named { note, others, ..Named::default() };
    };
    Named {
        actor: Some(actor.as_ref().clone()),
        attribution: Attribution { source: Source::OpenPermission, confidence: Confidence::Opener },
        others: strip(openers.iter().map(Arc::as_ref).filter(|other| !other.is_same(actor))),
        note,
        awaited: false,
    }
}

fn add<'a>(named: &mut Vec<(&'a Actor, Source)>, actor: &'a Actor, source: Source) {
    match named.iter_mut().find(|(known, _)| known.is_same(actor)) {
        // The event found it dying, when it had no program any more; the record has it.
        Some(known) if known.0.exe.is_none() => *known = (actor, source),
        Some(_) => {}
        None => named.push((actor, source)),
    }
}

/// [`opener`], of a change that only who can write makes: they go before those who can only read,
/// as far as is known of each.
fn writer(suspects: &[Suspect], openers: &[Arc<Actor>], testimony: &Testimony) -> Named {
    let can = |actor: &&Arc<Actor>| testimony.writing.iter().any(|other| other.is_same(actor));
    let (able, others): (Vec<_>, Vec<_>) = openers.iter().partition(can);
    let openers: Vec<_> = able.into_iter().chain(others).cloned().collect();
    opener(suspects, &openers)
}

/// Nobody was seen writing: then it was written through a mapping, by somebody who had opened
/// it for writing.
fn mapped(suspects: &[Suspect], openers: &[Arc<Actor>], evidence: &Evidence<'_>) -> Named {
    let writers = evidence.testimony.writers(evidence.windows);
    let [actor] = writers.actors.as_slice() else {
        let awaited = writers.actors.is_empty() && evidence.testimony.hears(evidence.windows);
        return Named { awaited, ..writer(suspects, openers, evidence.testimony) };
    };
    let closed = suspects.iter().filter(|s| s.hint == Hint::WriterClosed);
    let alone = closed.filter_map(|s| process(&s.by)).all(|(other, _)| other.is_same(actor));
    let closed = evidence.windows.iter().all(|window| window.closed);
    if !writers.complete || !alone || !closed {
        return writer(suspects, openers, evidence.testimony);
    }
    Named {
        actor: Some(actor.as_ref().clone()),
        attribution: Attribution { source: Source::Audit, confidence: Confidence::Exact },
        others: strip(openers.iter().map(Arc::as_ref).filter(|other| !other.is_same(actor))),
        note: None,
        awaited: false,
    }
}

/// Nothing that happened names a process, but some had the file open. Who asked to open it is
/// known best to the permission group; only where that saw nobody do the events count.
fn opener(suspects: &[Suspect], openers: &[Arc<Actor>]) -> Named {
    let asked = openers.iter().map(|actor| (actor.as_ref(), Source::OpenPermission));
    let seen = suspects.iter().rev().filter_map(|s| process(&s.by));
    let candidates = match openers {
        [] => distinct(seen),
        _ => distinct(asked),
    };
    match candidates.as_slice() {
        [] => Named::default(),
        [(actor, source), rest @ ..] => Named {
            actor: Some((*actor).clone()),
            attribution: Attribution { source: *source, confidence: Confidence::Opener },
            others: strip(rest.iter().map(|(actor, _)| *actor)),
            note: None,
            awaited: false,
        },
    }
}

/// Whether nothing but a system call that audit records makes a change of this kind.
fn is_done_by_calls(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ImmutableCleared
            | Kind::MetadataChanged
            | Kind::Deleted
            | Kind::Moved
            | Kind::Replaced
            | Kind::Shadowed
    )
}

/// Whether what `hint` tells is the act that makes a change of this `kind`.
fn makes(hint: &Hint, kind: Kind, nature: Nature) -> bool {
    let arrived = nature.replaced && matches!(hint, Hint::Arrived);
    match kind {
        Kind::ContentChanged => matches!(hint, Hint::Written) || arrived,
        Kind::MetadataChanged => {
            matches!(hint, Hint::Metadata)
                || arrived
                || (nature.times && matches!(hint, Hint::Written))
        }
        Kind::Deleted => matches!(hint, Hint::Removed | Hint::Moved),
        Kind::Moved => matches!(hint, Hint::Moved),
        Kind::Replaced => matches!(hint, Hint::Arrived | Hint::Moved | Hint::Removed),
        Kind::Created => matches!(hint, Hint::Child(_)),
        _ => false,
    }
}

fn process(by: &By) -> Option<(&Actor, Source)> {
    match by {
        By::Process { actor, source } => Some((actor, *source)),
        By::Nobody | By::Gone { .. } => None,
    }
}

fn distinct<'a>(actors: impl Iterator<Item = (&'a Actor, Source)>) -> Vec<(&'a Actor, Source)> {
    let mut out: Vec<(&Actor, Source)> = Vec::new();
    for (actor, source) in actors {
        if !out.iter().any(|(known, _)| known.is_same(actor)) {
            out.push((actor, source));
        }
    }
    out
}

fn strip<'a>(actors: impl Iterator<Item = &'a Actor>) -> Vec<Actor> {
    actors.take(MOST_OTHERS).cloned().collect()
}

#[cfg(test)]
mod tests;
