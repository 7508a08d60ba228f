//! Making an event fit into a line.
//!
//! What is long is what a tamperer can make long: command lines, attribute values, the number
//! of processes that have a file open. What identifies (who, what, when, which file) is short.

use serde_json::{Map, Value};

use super::event::Event;
use crate::attribute::Actor;

/// Longest text that is kept, in characters.
const TEXT: usize = 512;
/// Most arguments of a command line that are kept.
const ARGUMENTS: usize = 8;
/// Most processes of a parent chain that are kept.
const ANCESTORS: usize = 8;
/// Most facts that are kept on each side.
const FACTS: usize = 16;
/// Most actions that are kept.
const ACTIONS: usize = 16;

/// `event` without what is too long about it, and a note that says so.
pub(super) fn abridged(event: &Event) -> Event {
    let mut event = event.clone();
    event.others.clear();
    event.actor.as_mut().map(shorten_actor);
    event.before = shorten_facts(&event.before);
    event.after = shorten_facts(&event.after);
    event.response.truncate(ACTIONS);
    for response in &mut event.response {
        shorten(&mut response.action);
        shorten(&mut response.outcome);
    }
    if let Some(incident) = &mut event.incident {
        shorten(incident);
    }
    let mut note = event.note.take().unwrap_or_default();
    shorten(&mut note);
    let gap = if note.is_empty() { "" } else { "; " };
    event.noting(format!("{note}{gap}this event was too long for a line and is abridged"))
}

fn shorten_actor(actor: &mut Actor) {
    for text in [&mut actor.exe, &mut actor.cwd, &mut actor.cgroup, &mut actor.unit]
        .into_iter()
        .chain([&mut actor.user_unit, &mut actor.container, &mut actor.container_name])
        .chain([&mut actor.tty, &mut actor.user, &mut actor.login_user])
        .flatten()
    {
        shorten(text);
    }
    shorten(&mut actor.comm);
    shorten_arguments(&mut actor.cmdline);
    actor.ancestry.truncate(ANCESTORS);
    for ancestor in &mut actor.ancestry {
        shorten(&mut ancestor.comm);
        shorten_arguments(&mut ancestor.cmdline);
        ancestor.exe.as_mut().map(shorten);
    }
}

fn shorten_arguments(arguments: &mut Vec<String>) {
    arguments.truncate(ARGUMENTS);
    arguments.iter_mut().for_each(shorten);
}

fn shorten_facts(facts: &Map<String, Value>) -> Map<String, Value> {
    facts.iter().take(FACTS).map(|(name, value)| (clipped(name), shorten_value(value))).collect()
}

fn shorten_value(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(clipped(text)),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.len() > TEXT { Value::String(clipped(&text)) } else { value.clone() }
        }
        other => other.clone(),
    }
}

fn shorten(text: &mut String) {
    *text = clipped(text);
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}
