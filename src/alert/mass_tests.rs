use super::*;
use crate::attribute::{Ancestor, Attribution, Confidence, Source};

fn at(ms: u64) -> Moment {
    let wall = Timestamp::from_millisecond(1_795_229_488_000 + ms.cast_signed()).unwrap();
    Moment { mono: Duration::from_millis(ms), wall }
}

fn actor(pid: u32, above: &[(u32, &str)]) -> Actor {
    let ancestor = |(pid, comm): &(u32, &str)| Ancestor {
        pid: *pid,
        comm: (*comm).to_owned(),
        exe: None,
        cmdline: Vec::new(),
        started: 0,
    };
    Actor {
        pid,
        comm: format!("tool{pid}"),
        unit: Some("apt-daily.service".to_owned()),
        ancestry: above.iter().map(ancestor).collect(),
        ..Actor::default()
    }
}

fn change(path: &str, by: Option<Actor>) -> Event {
    let mut event = Event::new(at(0).wall, Kind::ContentChanged, Severity::Warning);
    event = event.about(Path::new(path));
    event.incident = Some(format!("i{}", path.replace('/', "-")));
    if by.is_some() {
        let (source, confidence) = (Source::OpenPermission, Confidence::Exact);
        event.attribution = Attribution { source, confidence };
    }
    event.actor = by;
    event
}

/// Feeds one change each 100 ms and returns what is told once it is quiet.
fn tell(changes: &[Event]) -> Option<Event> {
    let mut mass = Mass::default();
    let mut now = 0;
    for event in changes {
        mass.note(at(now), event);
        assert!(mass.ended(at(now), false).is_none());
        now += 100;
    }
    mass.ended(at(now + 5_000), false).map(|(event, _)| event)
}

fn files(count: usize, by: impl Fn(u32) -> Option<Actor>) -> Vec<Event> {
    let of = |n: usize| change(&format!("/srv/app/d{}/f{n}", n % 2), by(u32::try_from(n).unwrap()));
    (0..count).map(of).collect()
}

#[test]
fn nine_files_are_no_mass_and_ten_are() {
    assert_eq!(tell(&files(9, |_| None)), None);
    let told = tell(&files(10, |_| None)).unwrap();
    assert_eq!(told.kind, Kind::MassChange);
    assert_eq!(told.after["files"], 10);
    assert_eq!(told.note.as_deref(), Some("10 protected files changed below /srv/app"));
    assert_eq!(told.actor, None);
    assert_eq!(told.attribution, Attribution::default());
}

#[test]
fn one_file_again_and_again_is_no_mass_and_neither_are_ten_that_take_longer() {
    let again: Vec<Event> = (0..30).map(|_| change("/srv/a", None)).collect();
    assert_eq!(tell(&again), None);
    let mut mass = Mass::default();
    for (n, event) in files(30, |_| None).iter().enumerate() {
        assert!(!mass.note(at(n as u64 * 1_200), event), "{n}");
    }
}

#[test]
fn heals_and_strangers_are_not_counted() {
    for kind in [Kind::Restored, Kind::Created] {
        let mut all = files(30, |_| None);
        all.iter_mut().for_each(|event| event.kind = kind);
        assert_eq!(tell(&all), None);
    }
}

#[test]
fn the_process_is_named_where_it_was_one_and_as_surely_as_its_least_sure_part() {
    let mut all = files(40, |_| Some(actor(7, &[(5, "bash"), (1, "systemd")])));
    all[3].attribution.confidence = Confidence::Opener;
    let told = tell(&all).unwrap();
    assert_eq!(told.actor.unwrap().pid, 7);
    assert_eq!(told.attribution.confidence, Confidence::Opener);
    assert_eq!(told.after["files"], 40);
}

#[test]
fn what_several_processes_were_started_by_is_told_but_not_the_first_process_of_all() {
    let above = [(60, "dpkg"), (50, "apt"), (1, "systemd")];
    let told = tell(&files(12, |n| Some(actor(100 + n, &above)))).unwrap();
    assert_eq!(told.actor, None);
    let note = told.note.unwrap();
    assert!(note.ends_with("below /srv/app, all by what dpkg (pid 60) started"), "{note}");
    let told = tell(&files(12, |n| Some(actor(100 + n, &[(1, "systemd")])))).unwrap();
    let note = told.note.unwrap();
    assert!(note.ends_with(", all by processes of apt-daily.service"), "{note}");
}

#[test]
fn nobody_is_named_where_one_change_is_nobodys() {
    let mut all = files(12, |_| Some(actor(7, &[(5, "bash")])));
    all[11].actor = None;
    let told = tell(&all).unwrap();
    assert_eq!(told.actor, None);
    assert_eq!(told.note.as_deref(), Some("12 protected files changed below /srv/app"));
}

#[test]
fn files_all_over_have_no_directory_in_common() {
    let mut all = files(12, |_| None);
    all.push(change("/etc/passwd", None));
    assert_eq!(tell(&all).unwrap().note.as_deref(), Some("13 protected files changed"));
}

#[test]
fn a_mass_that_goes_on_is_told_after_a_minute_and_goes_on_as_another() {
    let mut mass = Mass::default();
    let mut told = Vec::new();
    for (n, event) in files(900, |_| None).iter().enumerate() {
        let now = at(n as u64 * 100);
        mass.note(now, event);
        told.extend(mass.ended(now, false).map(|(event, _)| event.after["files"].clone()));
    }
    told.extend(mass.ended(at(90_000), true).map(|(event, _)| event.after["files"].clone()));
    let counts: Vec<u64> = told.iter().filter_map(serde_json::Value::as_u64).collect();
    assert_eq!(counts.len(), 2, "{counts:?}");
    assert_eq!(counts.iter().sum::<u64>(), 900);
}
