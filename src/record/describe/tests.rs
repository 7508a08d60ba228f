use std::path::Path;

use serde_json::json;

use super::*;
use crate::attribute::{Actor, Attribution, Source};
use crate::record::{Response, Severity};

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
fn all_that_had_the_file_open_are_named_as_far_as_there_is_room() {
    let mut event = by(event(Kind::Deleted), bash(), Confidence::Opener);
    let other = |pid| Actor { pid, comm: "cp".to_owned(), uid: 7, ..Actor::default() };
    for (others, said) in [
        (1, "alice) and cp (pid 1, uid 7) had it open"),
        (2, "alice), cp (pid 1, uid 7) and cp (pid 2, uid 7) had it open"),
        (3, "cp (pid 2, uid 7) and one more had it open"),
        (9, "cp (pid 2, uid 7) and 7 more had it open"),
    ] {
        event.others = (1..=others).map(other).collect();
        assert!(told(&event).ends_with(said), "{}", told(&event));
    }
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
    assert_eq!(shown, ["0 µs", "999 µs", "1.0 ms", "9.9 ms", "10 ms", "999 ms", "1.0 s", "62.3 s"]);
}
