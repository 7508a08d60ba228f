use std::path::Path;

use super::*;
use crate::attribute::{Actor, Attribution, Confidence, Source};
use crate::record::{Entry, Event, Kind, Severity};

fn at(seq: u64, seconds: i64, kind: Kind, incident: &str, actor: Option<Actor>) -> Entry {
    let time = Timestamp::from_second(seconds).unwrap();
    let mut event = Event::new(time, kind, Severity::Warning).about(Path::new("/a"));
    event.incident = Some(incident.to_owned());
    event.attribution =
        Attribution { source: Source::OpenPermission, confidence: Confidence::Exact };
    event.actor = actor;
    Entry { seq, event, prev: String::new(), hash: String::new() }
}

fn entry(seq: u64, hour: i64, kind: Kind, incident: &str, actor: Option<Actor>) -> Entry {
    at(seq, hour * 3600, kind, incident, actor)
}

fn process(pid: u32, exe: &str) -> Option<Actor> {
    let (comm, exe) = ("chattr".to_owned(), Some(exe.to_owned()));
    Some(Actor { pid, comm, exe, cmdline: vec!["x\n".to_owned()], ..Actor::default() })
}

fn told(entries: &[Entry]) -> Answer {
    let mut tally = Tally::new(TimeZone::UTC);
    entries.iter().for_each(|entry| tally.add(entry));
    let timer = |unit: &str| (unit == "apt-daily.service").then(|| "apt-daily.timer".to_owned());
    tally.conclude(PathText::new(Path::new("/a")), timer)
}

fn shown(entries: &[Entry]) -> String {
    anstream::adapter::strip_str(&render(&told(entries), &TimeZone::UTC)).to_string()
}

#[test]
fn culprits_are_ranked_by_incidents_not_by_events() {
    let entries = [
        entry(1, 1, Kind::ImmutableCleared, "i1", process(1, "/rare")),
        entry(2, 1, Kind::ContentChanged, "i1", process(1, "/rare")),
        entry(3, 1, Kind::MetadataChanged, "i1", process(1, "/rare")),
        entry(4, 1, Kind::Restored, "i1", None),
        entry(5, 2, Kind::ContentChanged, "i2", process(2, "/often")),
        entry(6, 26, Kind::ContentChanged, "i3", process(3, "/often")),
        entry(7, 3, Kind::Deleted, "i4", None),
    ];
    let who = told(&entries);
    let counts: Vec<_> = who.culprits.iter().map(|one| (one.exe.as_deref(), one.count)).collect();
    assert_eq!(counts, [(Some("/often"), 2), (Some("/rare"), 1)]);
    assert_eq!(who.incidents, 4);
    assert_eq!(who.hours[..5], [0, 1, 2, 1, 0]);
    // 1970-01-01 was a Thursday.
    assert_eq!(who.weekdays, [0, 0, 0, 3, 1, 0, 0]);
    assert_eq!(who.last.as_ref().map(|entry| entry.seq), Some(7));
    let places: Vec<_> = who.timeline.iter().map(|moment| moment.culprit).collect();
    assert_eq!(places, [Some(1), Some(0), None, Some(0)]);
    let text = shown(&entries);
    assert!(text.contains("     2  /often (user 0)"), "{text}");
    assert!(text.contains("$ x\\n\n"), "{text}");
    assert!(text.contains("; and 2 changes more\n"), "{text}");
}

#[test]
fn a_program_that_changes_its_name_and_number_is_one_culprit() {
    let renamed = |pid, comm: &str| {
        let actor = process(pid, "/usr/bin/chattr").unwrap();
        Some(Actor { comm: comm.to_owned(), ..actor })
    };
    let entries = [
        entry(1, 1, Kind::ImmutableCleared, "i1", renamed(1, "chattr")),
        entry(2, 9, Kind::ImmutableCleared, "i2", renamed(2, "kworker/0:1")),
    ];
    let who = told(&entries);
    assert_eq!(who.culprits.len(), 1);
    assert_eq!(who.culprits[0].count, 2);
    assert!(shown(&entries).contains("calls itself chattr and kworker/0:1"));
}

#[test]
fn sessions_and_containers_of_one_name_are_one_culprit_and_logins_are_not() {
    let of = |pid, unit: &str, login, container: Option<(&str, &str)>| {
        Some(Actor {
            unit: Some(unit.to_owned()),
            login_uid: login,
            container: container.map(|(id, _)| id.to_owned()),
            container_name: container.map(|(_, name)| name.to_owned()),
            ..process(pid, "/usr/bin/chattr").unwrap()
        })
    };
    let kind = Kind::ImmutableCleared;
    let who = told(&[
        entry(1, 1, kind, "i1", of(1, "session-3.scope", Some(1000), None)),
        entry(2, 2, kind, "i2", of(2, "session-9.scope", Some(1000), None)),
        entry(3, 3, kind, "i3", of(3, "session-4.scope", Some(1001), None)),
        entry(4, 4, kind, "i4", of(4, "docker-aa.scope", None, Some(("aa", "web")))),
        entry(5, 5, kind, "i5", of(5, "docker-bb.scope", None, Some(("bb", "web")))),
    ]);
    assert_eq!(who.culprits.iter().map(|one| one.count).collect::<Vec<_>>(), [2, 2, 1]);
}

#[test]
fn the_question_that_nobody_could_answer_for_months_is_answered_in_the_second_line() {
    let apt = |pid| {
        let unit = Some("apt-daily.service".to_owned());
        Some(Actor { unit, user: Some("root".into()), ..process(pid, "/usr/bin/dpkg").unwrap() })
    };
    let morning = 6 * 3600 + 25 * 60;
    let entries: Vec<_> = (0..9)
        .map(|day| {
            let time = day * 86_400 + morning + [3, 40, 80, 5, 90, 100, 7, 30, 61][day as usize];
            at(day as u64 + 1, time, Kind::ImmutableCleared, &format!("i{day}"), apt(day as u32))
        })
        .collect();
    let text = shown(&entries);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "/a: 9 incidents from 1970-01-01 06:25:03 to 1970-01-09 06:26:01");
    assert_eq!(lines[1], "9 of 9 between 06:25 and 06:27, apt-daily.service");
    let culprit =
        "     9  /usr/bin/dpkg (user root, unit apt-daily.service, started by apt-daily.timer)";
    assert!(text.contains(culprit), "{text}");
    assert!(text.contains("  Thu ████████████████████████████████████████ 2\n"), "{text}");
}

#[test]
fn what_was_only_found_afterwards_counts_at_no_hour() {
    let mut late = entry(1, 12, Kind::DriftFound, "i1", None);
    late.event.note = Some(
        "no event told of it; it happened between 1970-01-01T01:00:00Z and 1970-01-01T12:00:00Z"
            .to_owned(),
    );
    let mut soon = entry(2, 14, Kind::DriftFound, "i2", None);
    soon.event.note = Some(
        "no event told of it; it happened between 1970-01-01T13:59:59Z and 1970-01-01T14:00:00Z"
            .to_owned(),
    );
    let who = told(&[late.clone(), soon]);
    assert_eq!((who.incidents, who.undated), (2, 1));
    assert_eq!(who.hours.iter().sum::<usize>(), 1);
    assert!(shown(&[late]).ends_with("\n1 incident was only found afterwards, at no known hour\n"));
}

#[test]
fn a_process_that_only_had_it_open_is_said_to_have() {
    let mut seen = entry(1, 1, Kind::ContentChanged, "i1", process(1, "/editor"));
    seen.event.attribution.confidence = Confidence::Opener;
    assert!(shown(&[seen]).contains("had it open, perhaps no more"));
}

#[test]
fn a_file_that_nobody_touched_has_a_short_answer() {
    assert_eq!(shown(&[]), "/a: no incident is on record\n");
    let json = serde_json::to_value(told(&[])).unwrap();
    assert_eq!(json["last"], serde_json::Value::Null);
    assert_eq!(json["pattern"], serde_json::Value::Null);
    assert_eq!(json["hours"].as_array().map(Vec::len), Some(24));
}
