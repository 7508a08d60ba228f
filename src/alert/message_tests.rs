use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::attribute::{Ancestor, Attribution, Source};
use crate::record::{Response, Severity};

fn place() -> Place {
    Place { host: "web1".into(), zone: TimeZone::fixed(jiff::tz::offset(1)) }
}

fn event(kind: Kind, path: &[u8]) -> Event {
    let time = Timestamp::from_millisecond(1_795_229_488_123).unwrap();
    Event {
        incident: Some("i-42".into()),
        ..Event::new(time, kind, Severity::Warning).about(Path::new(OsStr::from_bytes(path)))
    }
}

fn bash() -> Actor {
    let ancestor = |pid, comm: &str| Ancestor {
        pid,
        comm: comm.into(),
        exe: None,
        cmdline: vec![comm.into(), "-D".into()],
        started: 0,
    };
    Actor {
        pid: 4242,
        comm: "bash".into(),
        exe: Some("/usr/bin/bash".into()),
        cmdline: vec!["bash".into(), "-c".into(), "echo x >> main.py".into()],
        cwd: Some("/root".into()),
        tty: Some("pts/3".into()),
        user: Some("root".into()),
        login_uid: Some(1000),
        login_user: Some("alice".into()),
        session: Some(7),
        ancestry: vec![ancestor(812, "sshd"), ancestor(1, "systemd")],
        unit: Some("session-7.scope".into()),
        ..Actor::default()
    }
}

fn changed() -> Event {
    let mut event = event(Kind::ContentChanged, b"/srv/app/main.py");
    event.actor = Some(bash());
    event.attribution =
        Attribution { source: Source::OpenPermission, confidence: Confidence::Exact };
    event.before.insert("size".into(), json!(120));
    event.after.insert("size".into(), json!(122));
    let done =
        |action: &str, took_us| Response { action: action.into(), outcome: "done".into(), took_us };
    event.response = vec![done("exchange", 312), done("relock", 330)];
    event
}

#[test]
fn a_person_finds_everything_in_one_message() {
    let cleared = event(Kind::ImmutableCleared, b"/srv/app/main.py");
    let message = compose(&place(), &[cleared, changed()]);
    assert_eq!(message.subject, "[steadfast web1] /srv/app/main.py changed by bash, restored");
    for part in [
        "The known-good state is back.",
        "2026-11-21 03:51:28.123 +01 (2026-11-21 02:51:28.123 UTC)",
        "bash (pid 4242), /usr/bin/bash, run by root (uid 0)",
        "Certain: the kernel tied this process to this change.",
        "exchange: done, after 312 µs",
        "120 -> 122",
        "bash -c 'echo x >> main.py'",
        "alice (uid 1000)",
        "pts/3",
        "session-7.scope",
        "sshd (pid 812): sshd -D",
        "systemd (pid 1)",
        "immutable-cleared",
        "i-42",
        "steadfast who /srv/app/main.py",
        "steadfast diff --last /srv/app/main.py",
    ] {
        assert!(message.body.contains(part), "{part} is missing from\n{}", message.body);
    }
    assert!(!message.body.contains("steadfast restore"));
}

#[test]
fn a_heal_that_failed_is_the_news_even_if_the_lock_is_back() {
    let events = [
        Event { response: Vec::new(), ..changed() },
        event(Kind::RestoreFailed, b"/srv/app/main.py"),
        event(Kind::Relocked, b"/srv/app/main.py"),
    ];
    let message = compose(&place(), &events);
    assert_eq!(message.subject, "[steadfast web1] /srv/app/main.py changed by bash, NOT RESTORED");
    assert!(message.body.contains("steadfast restore /srv/app/main.py"));
}

/// The bit was cleared, by another, and set again.
fn cleared_by(name: &str, pid: u32, after_ms: i64) -> Event {
    let mut event = event(Kind::ImmutableCleared, b"/srv/app/main.py");
    event.time += jiff::SignedDuration::from_millis(after_ms);
    event.actor = Some(Actor { comm: name.into(), pid, ..bash() });
    event.attribution = Attribution { source: Source::Audit, confidence: Confidence::Exact };
    event.response =
        vec![Response { action: "relock".into(), outcome: "done".into(), took_us: 90 }];
    event
}

#[test]
fn where_content_was_changed_before_the_bit_was_cleared_nobody_is_told_that_it_was_not_touched() {
    let events = [changed(), cleared_by("chattr", 7, 900)];
    let message = compose(&place(), &events);
    assert_eq!(message.subject, "[steadfast web1] /srv/app/main.py changed by bash, restored");
    assert!(!message.body.contains("not touched"), "{}", message.body);
    // Nor where it was not steadfast that put the content back.
    let deleted = event(Kind::Deleted, b"/srv/app/main.py");
    let message = compose(&place(), &[deleted, event(Kind::Relocked, b"/srv/app/main.py")]);
    assert!(!message.body.contains("not touched"), "{}", message.body);
    let message = compose(&place(), &[cleared_by("chattr", 7, 0)]);
    assert!(message.body.contains("not touched"), "{}", message.body);
}

#[test]
fn everybody_who_did_something_is_named_where_it_is_told_in_order() {
    let mut late = cleared_by("perl", 9, 950);
    late.attribution.confidence = Confidence::Opener;
    late.others = vec![bash(), Actor { pid: 11, comm: "cat".into(), ..bash() }];
    let again = Event { others: late.others.clone(), ..cleared_by("perl", 9, 990) };
    let events = [cleared_by("chattr", 7, 900), changed(), late, again];
    let body = compose(&place(), &events).body;
    assert!(body.contains("2 others did something too"), "{body}");
    let (_, told) = body.split_once("in order").unwrap();
    let (changed, cleared) = ("content-changed  by bash (pid 4242)", "by chattr (pid 7)");
    let at = |words: &str| told.find(words).unwrap_or_else(|| panic!("no {words:?}:\n{body}"));
    assert!(at(changed) < at(cleared), "{body}");
    assert!(at(cleared) < at("perl (pid 9) had it open"), "{body}");
    let (_, open) = body.split_once("Also had it open\n").unwrap();
    assert_eq!(open.matches("(pid 11)").count(), 1, "{body}");
    assert!(!open.split_once("\n\n").unwrap().0.contains("bash (pid 4242)"), "{body}");
}

#[test]
fn whoever_only_cleared_the_bit_left_nothing_to_compare() {
    let body = compose(&place(), &[cleared_by("chattr", 7, 0)]).body;
    assert!(!body.contains("diff --last") && body.contains("steadfast who"), "{body}");
}

#[test]
fn a_failed_heal_that_succeeded_later_is_restored() {
    let path = b"/srv/app/main.py";
    let events = [changed(), event(Kind::RestoreFailed, path), event(Kind::Restored, path)];
    assert!(compose(&place(), &events).subject.ends_with("restored"));
    let one_of_two = [changed(), event(Kind::RestoreFailed, b"/etc/other")];
    let subject = compose(&place(), &one_of_two).subject;
    assert_eq!(
        subject,
        "[steadfast web1] /srv/app/main.py and 1 more changed by bash, NOT RESTORED"
    );
}

#[test]
fn what_is_read_late_of_a_file_that_is_whole_again_leaves_it_whole() {
    let restored = Event {
        time: changed().time + jiff::SignedDuration::from_millis(5),
        ..event(Kind::Restored, b"/srv/app/main.py")
    };
    let late = Event { response: Vec::new(), ..changed() };
    let subject = compose(&place(), &[changed(), restored, late]).subject;
    assert_eq!(subject, "[steadfast web1] /srv/app/main.py changed by bash, restored");
}

#[test]
fn what_was_put_right_before_this_run_is_said_to_be_once() {
    let message = compose(&place(), &[event(Kind::Restored, b"/srv/app/main.py")]);
    assert_eq!(message.subject, "[steadfast web1] /srv/app/main.py restored");
}

#[test]
fn a_process_that_only_had_it_open_is_not_called_certain() {
    let mut event = changed();
    event.attribution.confidence = Confidence::Opener;
    let message = compose(&place(), &[event]);
    assert!(message.subject.contains(", bash had it open"));
    assert!(message.body.contains("Not certain"));
}

#[test]
fn of_a_process_that_was_gone_before_it_could_be_looked_at_that_is_said() {
    let note = "process 77 did it and had exited before it could be looked at";
    let gone = event(Kind::Deleted, b"/srv/app/main.py").noting(note);
    let body = compose(&place(), &[gone]).body;
    assert!(body.contains(&format!("No process can be named: {note}.")), "{body}");
    assert!(!body.contains("none was seen"), "{body}");
}

#[test]
fn an_unknown_process_is_said_to_be_unknown() {
    let message = compose(&place(), &[event(Kind::Deleted, b"/etc/passwd")]);
    assert_eq!(message.subject, "[steadfast web1] /etc/passwd deleted, not restored");
    assert!(message.body.contains("No process can be named"));
}

#[test]
fn what_is_no_tampering_is_told_plainly() {
    let mut lost = Event::new(Timestamp::UNIX_EPOCH, Kind::EventsLost, Severity::Warning);
    lost.note = Some("queue overflow".into());
    let message = compose(&place(), &[lost]);
    assert_eq!(message.subject, "[steadfast web1] the kernel dropped events: queue overflow");
    assert!(!message.body.contains("tampered"));
}

#[test]
fn nothing_hostile_reaches_a_line_of_its_own_or_a_terminal() {
    let evil = b"/srv/\r\nBcc: evil@example.com\r\n\r\n\x1b[2J\xff\xe2\x80\xae";
    let mut event = Event { actor: Some(bash()), ..event(Kind::Replaced, evil) };
    if let Some(actor) = &mut event.actor {
        actor.comm = "x\nBcc: y".into();
        actor.cmdline = vec!["a\nb".into(), "\u{1b}]0;t\u{7}".into()];
    }
    event.note = Some("n\nBcc: z".into());
    event.after.insert("target\nBcc: k".into(), json!("v\nBcc: v"));
    event.response =
        vec![Response { action: "a\nBcc: b".into(), outcome: "\n".into(), took_us: 1 }];
    let message = compose(&Place { host: "h\nBcc: h".into(), ..place() }, &[event]);
    assert!(message.subject.chars().all(|c| !c.is_control()), "{:?}", message.subject);
    assert!(message.body.lines().all(|line| !line.starts_with("Bcc")), "{}", message.body);
    let dangerous = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!message.body.contains(dangerous), "{:?}", message.body);
}

#[test]
fn no_incident_is_too_large_for_a_message() {
    let mut event = changed();
    let long = "x".repeat(1 << 20);
    if let Some(actor) = &mut event.actor {
        actor.cmdline = vec![long.clone(); 3];
        actor.ancestry = vec![actor.ancestry[0].clone(); 1000];
        actor.exe = Some(long.clone());
        event.others = vec![actor.clone(); 20];
    }
    event.after.insert("target".into(), json!(long));
    event.note = Some(long.clone());
    let mut events = vec![event; 3];
    events.extend((0..500).map(|n| tests::event(Kind::Moved, format!("/{n}").as_bytes())));
    let message = compose(&place(), &events);
    assert!(message.subject.chars().count() < 200, "{}", message.subject);
    assert!(message.body.len() < 100_000, "{}", message.body.len());
    assert!(message.body.contains("… and"));
}

#[test]
fn no_events_make_no_panic() {
    assert!(compose(&place(), &[]).subject.starts_with("[steadfast web1]"));
}

#[test]
fn what_appeared_is_to_be_accepted_or_removed_and_has_no_known_good_copy() {
    let body = compose(&place(), &[event(Kind::Created, b"/srv/app/new")]).body;
    assert!(body.contains("steadfast accept /srv/app/new"), "{body}");
    assert!(!body.contains("restore") && !body.contains("diff"), "{body}");
}
