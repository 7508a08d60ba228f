//! The words and numbers of a message: short, escaped, and never longer than intended.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::attribute::{Actor, Confidence};
use crate::record::{Event, Kind, PathText};
use crate::text::{escape, escape_path};

/// What a kind of event says of a path, as the end of a sentence.
pub(super) fn deed(kind: Kind) -> &'static str {
    match kind {
        Kind::ImmutableCleared => "unlocked (+i cleared)",
        Kind::ContentChanged => "changed",
        Kind::MetadataChanged => "changed in its metadata",
        Kind::Deleted => "deleted",
        Kind::Replaced => "replaced",
        Kind::Moved => "moved away",
        Kind::Created => "newly created",
        Kind::Shadowed => "covered by a mount",
        Kind::MassChange => "changed with many others",
        Kind::DriftFound => "found changed",
        Kind::Restored => "restored",
        Kind::Relocked => "locked again",
        Kind::RestoreFailed => "could not be restored",
        Kind::Contested => "changed again and again",
        Kind::WindowOpened => "maintenance window opened",
        Kind::WindowClosed => "maintenance window closed",
        Kind::Accepted => "accepted as it is",
        Kind::Protected => "now protected",
        Kind::Released => "no longer protected",
        Kind::Started => "steadfast started",
        Kind::Stopped => "steadfast stopped",
        Kind::ConfigurationLoaded => "configuration loaded",
        Kind::ConfigurationRefused => "configuration refused",
        Kind::SensorDegraded => "a sensor does less than it should",
        Kind::SensorRecovered => "a sensor works again",
        Kind::EventsLost => "the kernel dropped events",
        Kind::AlertFailed => "a message could not be delivered",
        Kind::EvidenceRemoved => "evidence removed",
    }
}

/// Which of several deeds heads the message: the higher, the worse.
pub(super) fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::MassChange => 9,
        Kind::Deleted | Kind::Replaced | Kind::Moved | Kind::Shadowed => 8,
        Kind::ContentChanged => 7,
        Kind::Created => 6,
        Kind::DriftFound => 5,
        Kind::MetadataChanged => 4,
        Kind::ImmutableCleared => 3,
        Kind::RestoreFailed | Kind::Contested => 2,
        _ => 1,
    }
}

/// How sure it is who did it.
pub(super) fn confidence(event: &Event) -> String {
    let known = match (event.attribution.confidence, &event.actor) {
        (_, None) | (Confidence::Unknown, _) => match &event.note {
            Some(note) => return format!("No process can be named: {}.", bounded(note, 300)),
            None => "No process can be named: none was seen with the file when it changed.",
        },
        (Confidence::Exact, _) => "Certain: the kernel tied this process to this change.",
        (Confidence::Opener, _) => match event.kind {
            Kind::Shadowed => {
                "Not known: this process had the file open meanwhile, which says nothing of who \
                 mounted over it."
            }
            _ => {
                "Not certain: this process had the file open when it changed; another that had \
                 opened it earlier may have done it."
            }
        },
    };
    known.to_owned()
}

/// A process on one line.
pub(super) fn process(actor: &Actor) -> String {
    let mut text = format!("{} (pid {})", bounded(&actor.comm, 64), actor.pid);
    if let Some(exe) = &actor.exe {
        text.push_str(&format!(", {}", bounded(exe, 256)));
    }
    text.push_str(&format!(", run by {}", user(actor.uid, actor.user.as_deref())));
    text
}

/// A user's name and number.
pub(super) fn user(uid: u32, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{} (uid {uid})", bounded(name, 64)),
        None => format!("uid {uid}"),
    }
}

/// A command line as a shell would take it.
pub(super) fn command_line(arguments: &[String]) -> String {
    let quoted: Vec<String> =
        arguments.iter().take(64).map(|argument| quote(argument.as_bytes())).collect();
    bounded(&quoted.join(" "), 1000)
}

/// `bytes` as one word of a shell command that can be pasted.
pub(super) fn quote(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(b);
    let text = escape(bytes);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return text;
    }
    if text.as_bytes() == bytes {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let byte = |b: &u8| match b {
        b' '..=b'~' if !b"'\\".contains(b) => char::from(*b).to_string(),
        _ => format!("\\x{b:02x}"),
    };
    format!("$'{}'", bytes.iter().map(byte).collect::<String>())
}

/// A path for reading; of one that is too long, the end, which tells more, is kept.
pub(super) fn path(path: &PathText, max: usize) -> String {
    let text = escape_path(path.to_path());
    let length = text.chars().count();
    if length <= max {
        return text;
    }
    format!("…{}", text.chars().skip(length - max).collect::<String>())
}

/// `text`, escaped, and cut after `max` characters.
pub(super) fn bounded(text: &str, max: usize) -> String {
    let escaped = escape(text.as_bytes());
    match escaped.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

/// A fact's value.
pub(super) fn value(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) => bounded(text, 200),
        Some(other) => bounded(&other.to_string(), 200),
    }
}

/// A moment in local time and in UTC.
pub(super) fn moment(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f %Z").to_string();
    let utc = time.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string();
    if local == utc { utc } else { format!("{local} ({utc})") }
}

/// The day and the time of day, for a list.
pub(super) fn clock_and_day(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The time of day, for a list.
pub(super) fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S%.3f").to_string()
}

/// A number of microseconds.
pub(super) fn took(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_can_be_pasted_into_a_shell_unharmed() {
        let names: [&[u8]; 6] = [
            b"/srv/plain.py",
            b"",
            b"a b",
            b"it's; rm -rf $HOME `x`",
            b"\n\x1b\xff'\\",
            "é".as_bytes(),
        ];
        for name in names {
            let command = format!("printf %s {}", quote(name));
            let output = std::process::Command::new("bash").args(["-c", &command]).output();
            assert_eq!(output.unwrap().stdout, name, "{command}");
        }
    }

    #[test]
    fn a_long_path_keeps_its_end() {
        let long = PathText { path: format!("/{}/main.py", "d".repeat(300)), path_bytes: None };
        let shown = path(&long, 20);
        assert!(shown.starts_with('…') && shown.ends_with("/main.py"));
        assert_eq!(shown.chars().count(), 21);
    }

    #[test]
    fn durations_read_well() {
        assert_eq!([took(31), took(5_250), took(1_530_000)], ["31 µs", "5.2 ms", "1.5 s"]);
    }

    #[test]
    fn a_moment_is_given_in_both_zones_unless_they_are_one() {
        let time = Timestamp::from_millisecond(1_795_229_488_123).unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            moment(time, &zone),
            "2026-11-21 04:51:28.123 +02 (2026-11-21 02:51:28.123 UTC)"
        );
        assert_eq!(moment(time, &TimeZone::UTC), "2026-11-21 02:51:28.123 UTC");
    }
}
