//! Events to incidents, incidents to culprits.
//!
//! What is counted is incidents: one has many events. A culprit is told apart by what it cannot
//! choose freely: executable, user, login, unit and container. What a process calls itself and
//! which number it has are not among them, and neither is the running number of a session.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::attribute::{Actor, Confidence};
use crate::record::pattern::{Pattern, pattern};
use crate::record::{Entry, Kind, PathText, Span};

/// How many incidents the timeline has, the latest.
const TIMELINE: usize = 20;
/// A time that is only known to lie in a longer stretch tells nothing of the time of day.
const VAGUE: i64 = 120;

/// The answer, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    pub path: PathText,
    pub incidents: usize,
    pub culprits: Vec<Culprit>,
    /// Incidents by hour of the day, local time.
    pub hours: [usize; 24],
    /// Incidents by day of the week from Monday on, local time.
    pub weekdays: [usize; 7],
    /// Incidents whose time is not known, because nothing told of them when they happened.
    pub undated: usize,
    pub pattern: Option<Pattern>,
    /// The unit of most incidents that keep to the pattern.
    pub pattern_unit: Option<String>,
    pub timeline: Vec<Moment>,
    pub last: Option<Entry>,
}

/// Somebody who touched it, as last seen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Culprit {
    pub exe: Option<String>,
    pub comm: String,
    pub cmdline: Vec<String>,
    pub user: Option<String>,
    pub login_user: Option<String>,
    pub unit: Option<String>,
    pub user_unit: Option<String>,
    /// The timer that starts the unit.
    pub timer: Option<String>,
    pub container: Option<String>,
    pub container_name: Option<String>,
    pub count: usize,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Names under which it ran, where there is more than one.
    pub names: BTreeSet<String>,
    /// It was never more than seen with the file open.
    pub only_opener: bool,
    pub pattern: Option<Pattern>,
}

/// One incident of the timeline.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Moment {
    pub incident: String,
    pub time: Timestamp,
    pub kinds: BTreeSet<Kind>,
    /// The place of its first culprit among the culprits.
    pub culprit: Option<usize>,
    /// What tells most of it.
    #[serde(skip)]
    pub chief: Entry,
}

/// What makes two processes one culprit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    exe: Option<String>,
    uid: u32,
    login_uid: Option<u32>,
    unit: Option<String>,
    container: Option<String>,
}

struct Incident {
    time: Timestamp,
    dated: bool,
    kinds: BTreeSet<Kind>,
    chief: Entry,
    culprits: Vec<Key>,
}

/// Everything that is known, event by event.
pub(super) struct Tally {
    zone: TimeZone,
    incidents: BTreeMap<String, Incident>,
    culprits: BTreeMap<Key, Culprit>,
    last: Option<Entry>,
}

impl Tally {
    pub fn new(zone: TimeZone) -> Self {
        Self { zone, incidents: BTreeMap::new(), culprits: BTreeMap::new(), last: None }
    }

    pub fn add(&mut self, entry: &Entry) {
        let event = &entry.event;
        // What a mass change tells of has its own incidents too.
        if !event.kind.is_tampering() || event.kind == Kind::MassChange {
            return;
        }
        let id = event.incident.clone().unwrap_or_else(|| format!("#{}", entry.seq));
        let incident = self.incidents.entry(id).or_insert_with(|| Incident {
            time: event.time,
            dated: true,
            kinds: BTreeSet::new(),
            chief: entry.clone(),
            culprits: Vec::new(),
        });
        incident.kinds.insert(event.kind);
        incident.dated &= !is_vague(entry);
        if incident.chief.event.actor.is_none() && event.actor.is_some() {
            incident.chief = entry.clone();
        }
        if let Some(actor) = &event.actor {
            let key = Key::of(actor);
            let opener = event.attribution.confidence < Confidence::Exact;
            let first = Culprit::new(actor, event.time);
            let known = self.culprits.entry(key.clone()).or_insert(first);
            known.seen(actor, event.time, opener);
            if !incident.culprits.contains(&key) {
                incident.culprits.push(key);
            }
        }
        self.last = Some(entry.clone());
    }

    /// `timer_of` finds the timer of a unit.
    pub fn conclude(self, path: PathText, timer_of: impl Fn(&str) -> Option<String>) -> Answer {
        let mut answer = Answer {
            path,
            incidents: self.incidents.len(),
            culprits: Vec::new(),
            hours: [0; 24],
            weekdays: [0; 7],
            undated: self.incidents.values().filter(|one| !one.dated).count(),
            pattern: pattern(&times(self.incidents.values()), &self.zone),
            pattern_unit: None,
            timeline: Vec::new(),
            last: self.last.clone(),
        };
        answer.pattern_unit = self.unit_of(answer.pattern.as_ref());
        for time in times(self.incidents.values()) {
            let local = time.to_zoned(self.zone.clone());
            let day = local.weekday().to_monday_zero_offset();
            count_at(&mut answer.hours, local.hour());
            count_at(&mut answer.weekdays, day);
        }
        let ranked = self.ranked();
        let place = |key: &Key| ranked.iter().position(|(known, _)| known == key);
        let mut incidents: Vec<_> = self.incidents.iter().collect();
        incidents.sort_by_key(|(_, incident)| incident.time);
        let latest = incidents.len().saturating_sub(TIMELINE);
        answer.timeline = incidents
            .into_iter()
            .skip(latest)
            .map(|(id, incident)| Moment {
                incident: id.clone(),
                time: incident.time,
                kinds: incident.kinds.clone(),
                culprit: incident.culprits.first().and_then(place),
                chief: incident.chief.clone(),
            })
            .collect();
        answer.culprits = ranked.into_iter().map(|(_, culprit)| culprit).collect();
        for culprit in &mut answer.culprits {
            culprit.timer = culprit.unit.as_deref().and_then(&timer_of);
        }
        answer
    }

    /// Those with most incidents first, each with its own pattern.
    fn ranked(&self) -> Vec<(Key, Culprit)> {
        let mut ranked: Vec<_> = self
            .culprits
            .iter()
            .map(|(key, culprit)| {
                let mine = || self.incidents.values().filter(|one| one.culprits.contains(key));
                let mut culprit = culprit.clone();
                culprit.count = mine().count();
                culprit.pattern = pattern(&times(mine()), &self.zone);
                if culprit.names.len() < 2 {
                    culprit.names.clear();
                }
                (key.clone(), culprit)
            })
            .collect();
        ranked.sort_by_key(|(_, one)| std::cmp::Reverse((one.count, one.last)));
        ranked
    }

    /// The unit that had a hand in most of what keeps to the pattern.
    fn unit_of(&self, pattern: Option<&Pattern>) -> Option<String> {
        let rhythm = pattern?.rhythm;
        let dated = self.incidents.values().filter(|one| one.dated);
        let fitting: Vec<_> = dated.filter(|one| rhythm.holds(one.time, &self.zone)).collect();
        let mut units: BTreeMap<&str, usize> = BTreeMap::new();
        for incident in &fitting {
            let own: BTreeSet<_> =
                incident.culprits.iter().filter_map(|key| key.unit.as_deref()).collect();
            own.into_iter().for_each(|unit| *units.entry(unit).or_default() += 1);
        }
        let (unit, count) = units.into_iter().max_by_key(|(_, count)| *count)?;
        (count * 2 > fitting.len()).then(|| unit.to_owned())
    }
}

fn times<'a>(incidents: impl Iterator<Item = &'a Incident>) -> Vec<Timestamp> {
    incidents.filter(|one| one.dated).map(|one| one.time).collect()
}

fn count_at<const N: usize>(counts: &mut [usize; N], place: i8) {
    if let Some(count) = usize::try_from(place).ok().and_then(|place| counts.get_mut(place)) {
        *count += 1;
    }
}

/// Whether the event says itself that it happened at some time in a long stretch.
fn is_vague(entry: &Entry) -> bool {
    let long = |span: Span| span.to.as_second().saturating_sub(span.from.as_second()) > VAGUE;
    entry.event.window().is_some_and(long)
}

impl Key {
    fn of(actor: &Actor) -> Self {
        let container = actor.container_name.as_ref().or(actor.container.as_ref());
        let unit = actor.user_unit.as_deref().or(actor.unit.as_deref());
        Self {
            exe: actor.exe.clone(),
            uid: actor.uid,
            login_uid: actor.login_uid,
            // A container's scope is named after its id, which is new with each start.
            unit: unit.filter(|_| container.is_none()).map(lasting),
            container: container.cloned(),
        }
    }
}

/// The unit's name without the number that each session and each `systemd-run` gets.
fn lasting(unit: &str) -> String {
    let numbered = ["session-", "run-"].iter().find(|prefix| unit.starts_with(**prefix));
    match (numbered, unit.rsplit_once('.')) {
        (Some(prefix), Some((_, kind))) => format!("{prefix}….{kind}"),
        _ => unit.to_owned(),
    }
}

impl Culprit {
    fn new(actor: &Actor, time: Timestamp) -> Self {
        Self {
            exe: actor.exe.clone(),
            comm: actor.comm.clone(),
            cmdline: actor.cmdline.clone(),
            user: actor.user.clone().or_else(|| Some(actor.uid.to_string())),
            login_user: actor.login_user.clone(),
            unit: actor.unit.clone(),
            user_unit: actor.user_unit.clone(),
            timer: None,
            container: actor.container.clone(),
            container_name: actor.container_name.clone(),
            count: 0,
            first: time,
            last: time,
            names: BTreeSet::new(),
            only_opener: true,
            pattern: None,
        }
    }

    fn seen(&mut self, actor: &Actor, time: Timestamp, opener: bool) {
        let mut names = std::mem::take(&mut self.names);
        names.insert(actor.comm.clone());
        *self = Self {
            first: self.first.min(time),
            last: self.last.max(time),
            only_opener: self.only_opener && opener,
            names,
            ..Self::new(actor, time)
        };
    }
}
