//! An event as one line for a person: what happened, to what, by whom, what was done.
//!
//! `run` prints it live, `events` prints it from the journal and mail carries it. It claims no
//! more than the attribution does: a process that only had the file open is not called the
//! culprit. Everything is escaped again here, whoever wrote the journal.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::{Event, Kind, Response, Span};
use crate::attribute::{Actor, Confidence};
use crate::text::{escape, escape_path};

/// At most this many facts are spelt out in the line.
const FACTS_SHOWN: usize = 4;

/// The line of [`describe`] behind the time in `zone`, to the second.
#[must_use]
pub fn describe_at(event: &Event, zone: &TimeZone) -> String {
    format!("{}  {}", moment(event.time, zone), describe_in(event, zone))
}

fn moment(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// What happened, to what, by which process, and how the answer to it went; times in `zone`.
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

/// A process for a person: its name, and where it comes from.
///
/// The executable is spelt out unless it is the program of that name in a system directory:
/// a process chooses its own name, and `/tmp/bash` is not bash.
#[must_use]
pub fn describe_actor(actor: &Actor) -> String {
    let mut facts = Vec::new();
    if let Some(exe) = &actor.exe
        && !is_system_program(exe, &actor.comm)
    {
        facts.push(exe.clone());
    }
    facts.push(format!("pid {}", actor.pid));
    facts.push(actor.user.clone().unwrap_or_else(|| format!("uid {}", actor.uid)));
    match (&actor.login_user, actor.login_uid) {
        (Some(login), _) if Some(login) != actor.user.as_ref() => {
            facts.push(format!("login {login}"));
        }
        (None, Some(uid)) if uid != actor.uid => facts.push(format!("login uid {uid}")),
        _ => {}
    }
    match (&actor.unit, &actor.user_unit) {
        (Some(manager), Some(own)) => facts.push(format!("unit {own} of {manager}")),
        (Some(unit), None) => facts.push(format!("unit {unit}")),
        _ => {}
    }
    if let Some(container) = &actor.container {
        let short: String = container.chars().take(12).collect();
        facts.push(match &actor.container_name {
            Some(name) => format!("container {name}, {short}"),
            None => format!("container {short}"),
        });
    }
    let name = if actor.comm.is_empty() { "a process" } else { &actor.comm };
    escape(format!("{name} ({})", facts.join(", ")).as_bytes())
}

/// `took_us` in the unit that suits it.
#[must_use]
pub fn describe_duration(took_us: u64) -> String {
    let (whole, tenth) = (took_us / 1000, took_us % 1000 / 100);
    match took_us {
        0..1_000 => format!("{took_us} µs"),
        1_000..10_000 => format!("{whole}.{tenth} ms"),
        10_000..1_000_000 => format!("{whole} ms"),
        _ => format!("{}.{} s", whole / 1000, whole % 1000 / 100),
    }
}

fn is_system_program(exe: &str, comm: &str) -> bool {
    ["/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/"]
        .iter()
        .any(|directory| exe.strip_prefix(directory) == Some(comm))
}

fn what(event: &Event) -> String {
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

/// What is said of the process depends on how sure it is.
fn by_whom(event: &Event) -> String {
    match (&event.actor, event.attribution.confidence) {
        (Some(actor), Confidence::Opener) if event.kind.is_tampering() => {
            let unknown = match event.kind {
                Kind::Shadowed => ", which says nothing of who mounted it",
                Kind::ImmutableCleared => ", as others may have had for longer",
                _ => "",
            };
            format!(" while {} had it open{unknown}", describe_actor(actor))
        }
        (Some(actor), Confidence::Unknown) if event.kind.is_tampering() => {
            format!(", perhaps by {}", describe_actor(actor))
        }
        (Some(actor), _) => format!(" by {}", describe_actor(actor)),
        (None, _) if event.kind.is_tampering() => ", no process could be named".to_owned(),
        (None, _) => String::new(),
    }
}

/// One phrase for what went well, with the time until all of it was done, and one for each
/// thing that did not.
fn answer(response: &[Response]) -> Option<String> {
    let (done, failed): (Vec<_>, Vec<_>) = response.iter().partition(|r| r.outcome == "done");
    let mut parts = Vec::new();
    if let Some(chief) = done.iter().min_by_key(|r| rank(&r.action)) {
        let until = done.iter().filter(|r| r.action != "quarantine").map(|r| r.took_us).max();
        let took = describe_duration(until.unwrap_or(chief.took_us));
        parts.push(format!("{} in {took}", outcome(&chief.action)));
    }
    parts.extend(failed.iter().map(|r| {
        escape(format!("{} failed: {}", r.action.replace('-', " "), r.outcome).as_bytes())
    }));
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The action that tells most about a response comes first.
fn rank(action: &str) -> usize {
    [
        "exchange",
        "place",
        "rewrite",
        "rejoin",
        "put-back-parent",
        "unmount",
        "repair-metadata",
        "relock",
    ]
    .iter()
    .position(|known| *known == action)
    .unwrap_or(usize::MAX)
}

fn outcome(action: &str) -> String {
    match action {
        "exchange" | "place" | "rewrite" => "restored".to_owned(),
        "rejoin" => "restored in other mounts too".to_owned(),
        "put-back-parent" => "directory put back".to_owned(),
        "unmount" => "unmounted".to_owned(),
        "repair-metadata" => "metadata put right".to_owned(),
        "relock" => "locked again".to_owned(),
        "quarantine" => "moved to quarantine".to_owned(),
        other => format!("{} done", escape(other.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::attribute::{Attribution, Source};
    use crate::record::Severity;

    fn event(kind: Kind) -> Event {
        Event::new(Timestamp::UNIX_EPOCH, kind, Severity::Warning).about(Path::new("/srv/main.py"))
    }

    fn told(event: &Event) -> String {
        describe_in(event, &TimeZone::UTC)
    }

    fn bash() -> Actor {
        Actor {
            pid: 4211,
            comm: "bash".to_owned(),
            exe: Some("/usr/bin/bash".to_owned()),
            user: Some("root".to_owned()),
            login_user: Some("alice".to_owned()),
            ..Actor::default()
        }
    }

    fn by(mut event: Event, actor: Actor, confidence: Confidence) -> Event {
        event.actor = Some(actor);
        event.attribution = Attribution { source: Source::OpenPermission, confidence };
        event
    }

    fn response(action: &str, outcome: &str, took_us: u64) -> Response {
        Response { action: action.to_owned(), outcome: outcome.to_owned(), took_us }
    }

    #[test]
    fn the_line_says_what_happened_to_what_by_whom_and_how_fast_it_was_healed() {
        let mut event = by(event(Kind::ContentChanged), bash(), Confidence::Exact);
        event.response = vec![
            response("exchange", "done", 97),
            response("relock", "done", 112),
            response("quarantine", "done", 900),
        ];
        assert_eq!(
            describe_at(&event, &TimeZone::UTC),
            "1970-01-01 00:00:00  /srv/main.py  content changed by bash \
             (pid 4211, root, login alice) — restored in 112 µs"
        );
    }

    #[test]
    fn a_process_that_had_the_file_open_is_not_called_the_culprit() {
        let event = by(event(Kind::Deleted), bash(), Confidence::Opener);
        assert_eq!(
            told(&event),
            "/srv/main.py  deleted while bash (pid 4211, root, login alice) had it open"
        );
    }

    #[test]
    fn who_had_it_open_is_not_said_to_have_mounted_over_it_or_cleared_the_bit() {
        for (kind, said) in [
            (Kind::Shadowed, "had it open, which says nothing of who mounted it"),
            (Kind::ImmutableCleared, "had it open, as others may have had for longer"),
        ] {
            let line = told(&by(event(kind), bash(), Confidence::Opener));
            assert!(line.ends_with(said), "{line}");
        }
    }

    #[test]
    fn all_times_in_a_line_are_of_one_zone() {
        let mut event = event(Kind::DriftFound);
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        event.window = Some(Span { from, to });
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            describe_at(&event, &zone),
            "1970-01-01 02:00:00  /srv/main.py  found different from the known-good copy, no \
             process could be named; it happened between 1970-01-01 02:00:00 and \
             1970-01-01 02:01:00"
        );
    }

    #[test]
    fn what_was_moved_is_told_with_where_it_went() {
        let mut event = event(Kind::Moved);
        event.after.insert("path".to_owned(), "/srv/elsewhere".into());
        assert!(told(&event).contains("moved away to /srv/elsewhere, no"), "{}", told(&event));
    }

    #[test]
    fn an_unnamed_process_is_said_to_be_unnamed_but_our_own_doing_is_not() {
        assert_eq!(
            told(&event(Kind::ImmutableCleared)),
            "/srv/main.py  immutable bit cleared, no process could be named"
        );
        assert_eq!(told(&event(Kind::Relocked)), "/srv/main.py  immutable bit set again");
    }

    #[test]
    fn a_program_that_only_bears_the_name_is_shown_with_its_path() {
        let fake = Actor {
            exe: Some("/tmp/bash".to_owned()),
            user: None,
            uid: 33,
            login_user: None,
            login_uid: Some(1000),
            unit: Some("nginx.service".to_owned()),
            container: Some("0123456789abcdef".to_owned()),
            ..bash()
        };
        assert_eq!(
            describe_actor(&fake),
            "bash (/tmp/bash, pid 4211, uid 33, login uid 1000, unit nginx.service, \
             container 0123456789ab)"
        );
        let named = Actor {
            unit: Some("user@7.service".to_owned()),
            user_unit: Some("backup.service".to_owned()),
            container_name: Some("web".to_owned()),
            ..fake
        };
        assert!(
            describe_actor(&named)
                .ends_with("unit backup.service of user@7.service, container web, 0123456789ab)")
        );
    }

    #[test]
    fn changed_metadata_is_spelt_out_and_kept_short() {
        let mut event = event(Kind::MetadataChanged);
        event.before = json!({"mode": "0644"}).as_object().unwrap().clone();
        event.after = json!({"mode": "0666", "xattrs": {"a": 1, "b": 2, "c": 3, "d": 4}})
            .as_object()
            .unwrap()
            .clone();
        assert_eq!(
            told(&event),
            "/srv/main.py  metadata changed (mode 0644 → 0666, xattrs a, xattrs b, xattrs c, \
             1 more), no process could be named"
        );
    }

    #[test]
    fn what_failed_is_said_beside_what_went_well() {
        let mut event = by(event(Kind::Replaced), bash(), Confidence::Exact);
        event.after = json!({"type": "fifo"}).as_object().unwrap().clone();
        event.response =
            vec![response("exchange", "done", 1_250), response("quarantine", "disk\nfull", 9)];
        assert_eq!(
            told(&event),
            "/srv/main.py  replaced with a fifo by bash (pid 4211, root, login alice) \
             — restored in 1.2 ms; quarantine failed: disk\\nfull"
        );
    }

    #[test]
    fn nothing_in_the_line_can_speak_to_the_terminal() {
        let mut actor = bash();
        actor.comm = "\x1b[2J".to_owned();
        actor.unit = Some("\u{202e}".to_owned());
        let mut event = by(event(Kind::MetadataChanged), actor, Confidence::Exact);
        event = event.about(Path::new("/srv/\n\x07")).noting("\x1b]0;");
        event.after.insert("mode\x1b".to_owned(), "\r".into());
        let line = told(&event);
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }

    #[test]
    fn durations_take_the_unit_that_suits_them() {
        let shown: Vec<_> = [0, 999, 1_000, 9_999, 10_000, 999_999, 1_000_000, 62_300_000]
            .map(describe_duration)
            .into();
        assert_eq!(
            shown,
            ["0 µs", "999 µs", "1.0 ms", "9.9 ms", "10 ms", "999 ms", "1.0 s", "62.3 s"]
        );
    }
}
