//! `who`: the journal's answer to who touched a file.
//!
//! An incident counts once for each culprit, however many events it has. Culprits are told
//! apart by executable, user, unit and container; what a process calls itself is not one of
//! them, since it chooses that itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::args::Output;
use super::screen::{STRONG, Screen, count};
use super::{Outcome, absolute, events, look};
use crate::attribute::{Actor, Confidence};
use crate::config::{Config, canonical_path};
use crate::record::{self, Entry, Filter, PathText, describe_at};
use crate::text::escape;

/// How much of the timeline is shown, in events.
const TIMELINE: usize = 20;
/// How much of a command line is shown, in characters.
const CMDLINE: usize = 200;
/// The longest bar of the pattern, in characters.
const BAR: u64 = 40;

pub(super) fn who(
    screen: &Screen,
    config: &Config,
    path: &std::path::Path,
    output: Output,
) -> anyhow::Result<Outcome> {
    let path = canonical_path(&absolute(path)?);
    let filter = Filter { path: Some(path.clone()), since: None };
    let mut entries = record::read(&config.daemon.state, filter)?;
    let mut tally = Tally::new(TimeZone::system());
    let damaged = events::drain(screen, &mut entries, |entry| {
        tally.add(entry);
        Ok(())
    })?;
    let who = tally.conclude(PathText::new(&path));
    if who.answer.last.is_none() {
        look::remark_unknown(screen, config, &path);
    }
    if output.json {
        screen.json(&who.answer)?;
    } else {
        screen.lines(&who.render())?;
    }
    Ok(if damaged { Outcome::Undone } else { Outcome::Fine })
}

/// The answer, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    path: PathText,
    incidents: usize,
    culprits: Vec<Culprit>,
    hours: [u64; 24],
    last: Option<Entry>,
}

/// Somebody who touched it, as last seen.
#[derive(Clone, Debug, Serialize)]
struct Culprit {
    exe: Option<String>,
    comm: String,
    cmdline: Vec<String>,
    user: Option<String>,
    login_user: Option<String>,
    unit: Option<String>,
    container: Option<String>,
    count: usize,
    first: Timestamp,
    last: Timestamp,
    /// It was never more than seen with the file open.
    #[serde(skip)]
    only_opener: bool,
}

/// What makes two processes one culprit: executable, user, unit, container.
type Key = (Option<String>, u32, Option<String>, Option<String>);

struct Tally {
    zone: TimeZone,
    incidents: BTreeSet<String>,
    culprits: BTreeMap<Key, (Culprit, BTreeSet<String>)>,
    hours: [u64; 24],
    recent: VecDeque<Entry>,
}

/// The answer, and what a person sees besides.
struct Who {
    answer: Answer,
    recent: VecDeque<Entry>,
    zone: TimeZone,
}

impl Tally {
    fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            incidents: BTreeSet::new(),
            culprits: BTreeMap::new(),
            hours: [0; 24],
            recent: VecDeque::new(),
        }
    }

    fn add(&mut self, entry: &Entry) {
        let event = &entry.event;
        if !event.kind.is_tampering() {
            return;
        }
        let incident = event.incident.clone().unwrap_or_else(|| format!("#{}", entry.seq));
        if self.incidents.insert(incident.clone()) {
            let hour = usize::try_from(event.time.to_zoned(self.zone.clone()).hour());
            if let Some(count) = hour.ok().and_then(|hour| self.hours.get_mut(hour)) {
                *count += 1;
            }
        }
        if let Some(actor) = &event.actor {
            let opener = event.attribution.confidence < Confidence::Exact;
            self.blame(actor, incident, event.time, opener);
        }
        self.recent.push_back(entry.clone());
        if self.recent.len() > TIMELINE {
            self.recent.pop_front();
        }
    }

    fn blame(&mut self, actor: &Actor, incident: String, time: Timestamp, opener: bool) {
        let key = (actor.exe.clone(), actor.uid, actor.unit.clone(), actor.container.clone());
        let (culprit, incidents) = self
            .culprits
            .entry(key)
            .or_insert_with(|| (Culprit::new(actor, time), BTreeSet::new()));
        incidents.insert(incident);
        *culprit = Culprit {
            count: incidents.len(),
            first: culprit.first.min(time),
            last: culprit.last.max(time),
            only_opener: culprit.only_opener && opener,
            ..Culprit::new(actor, time)
        };
    }

    fn conclude(self, path: PathText) -> Who {
        let mut culprits: Vec<_> = self.culprits.into_values().map(|(one, _)| one).collect();
        culprits.sort_by_key(|one| std::cmp::Reverse((one.count, one.last)));
        let last = self.recent.back().cloned();
        let answer =
            Answer { path, incidents: self.incidents.len(), culprits, hours: self.hours, last };
        Who { answer, recent: self.recent, zone: self.zone }
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
            container: actor.container.clone(),
            count: 0,
            first: time,
            last: time,
            only_opener: true,
        }
    }

    fn render(&self, zone: &TimeZone) -> String {
        let time = |time: Timestamp| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
        let mut facts = vec![format!("user {}", self.user.as_deref().unwrap_or("unknown"))];
        let named =
            [("login", &self.login_user), ("unit", &self.unit), ("container", &self.container)];
        facts.extend(
            named.iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?))),
        );
        if self.only_opener {
            facts.push("had it open, perhaps no more".to_owned());
        }
        // The journal's word is not trusted to be printable.
        let safe = |text: &str| escape(text.as_bytes());
        let name = safe(self.exe.as_deref().unwrap_or(&self.comm));
        let mut text = format!("{:>6}  {name} ({})\n", self.count, safe(&facts.join(", ")));
        let _ = writeln!(text, "        first {}, last {}", time(self.first), time(self.last));
        if !self.cmdline.is_empty() {
            let cmdline: String = self.cmdline.join(" ").chars().take(CMDLINE).collect();
            let _ = writeln!(text, "        $ {}", safe(&cmdline));
        }
        text
    }
}

impl Who {
    fn render(&self) -> String {
        let answer = &self.answer;
        let path = crate::text::escape_path(answer.path.to_path());
        let incidents = count(answer.incidents, "incident", "incidents");
        let mut text = format!("{path}: {incidents}\n");
        if answer.incidents == 0 {
            return text;
        }
        let _ = writeln!(text, "\n{STRONG}who{STRONG:#}");
        if answer.culprits.is_empty() {
            text += "        no process could be named\n";
        }
        for culprit in &answer.culprits {
            text += &culprit.render(&self.zone);
        }
        let _ = writeln!(text, "\n{STRONG}when{STRONG:#}");
        for entry in &self.recent {
            let _ = writeln!(text, "  {}", describe_at(&entry.event, &self.zone));
        }
        let _ = writeln!(text, "\n{STRONG}at what hour{STRONG:#}");
        let most = answer.hours.iter().copied().max().unwrap_or(0).max(1);
        for (hour, number) in answer.hours.iter().enumerate().filter(|(_, number)| **number > 0) {
            let length = usize::try_from((number * BAR).div_ceil(most)).unwrap_or(0);
            let _ = writeln!(text, "  {hour:02}  {} {number}", "█".repeat(length));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::attribute::{Attribution, Source};
    use crate::record::{Event, Kind, Severity};

    fn entry(seq: u64, hour: i64, kind: Kind, incident: &str, actor: Option<Actor>) -> Entry {
        let time = Timestamp::from_second(hour * 3600).unwrap();
        let mut event = Event::new(time, kind, Severity::Warning).about(Path::new("/a"));
        event.incident = Some(incident.to_owned());
        event.attribution =
            Attribution { source: Source::OpenPermission, confidence: Confidence::Exact };
        event.actor = actor;
        Entry { seq, event, prev: String::new(), hash: String::new() }
    }

    fn process(pid: u32, exe: &str) -> Option<Actor> {
        let (comm, exe) = ("chattr".to_owned(), Some(exe.to_owned()));
        Some(Actor { pid, comm, exe, cmdline: vec!["x\n".to_owned()], ..Actor::default() })
    }

    fn told(entries: &[Entry]) -> Who {
        let mut tally = Tally::new(TimeZone::UTC);
        entries.iter().for_each(|entry| tally.add(entry));
        tally.conclude(PathText::new(Path::new("/a")))
    }

    #[test]
    fn culprits_are_ranked_by_incidents_not_by_events() {
        let who = told(&[
            entry(1, 1, Kind::ImmutableCleared, "i1", process(1, "/rare")),
            entry(2, 1, Kind::ContentChanged, "i1", process(1, "/rare")),
            entry(3, 1, Kind::MetadataChanged, "i1", process(1, "/rare")),
            entry(4, 1, Kind::Restored, "i1", None),
            entry(5, 2, Kind::ContentChanged, "i2", process(2, "/often")),
            entry(6, 26, Kind::ContentChanged, "i3", process(3, "/often")),
            entry(7, 3, Kind::Deleted, "i4", None),
        ]);
        let counts: Vec<_> =
            who.answer.culprits.iter().map(|one| (one.exe.as_deref(), one.count)).collect();
        assert_eq!(counts, [(Some("/often"), 2), (Some("/rare"), 1)]);
        assert_eq!(who.answer.incidents, 4);
        assert_eq!(who.answer.hours[..5], [0, 1, 2, 1, 0]);
        assert_eq!(who.answer.last.as_ref().map(|entry| entry.seq), Some(7));
        let text = who.render();
        assert!(text.contains("     2  /often (user 0)"), "{text}");
        assert!(text.contains("$ x\\n\n"), "{text}");
    }

    #[test]
    fn a_process_that_only_had_it_open_is_said_to_have() {
        let mut seen = entry(1, 1, Kind::ContentChanged, "i1", process(1, "/editor"));
        seen.event.attribution.confidence = Confidence::Opener;
        assert!(told(&[seen]).render().contains("had it open, perhaps no more"));
    }

    #[test]
    fn a_file_that_nobody_touched_has_a_short_answer() {
        assert_eq!(told(&[]).render(), "/a: 0 incidents\n");
        let json = serde_json::to_value(told(&[]).answer).unwrap();
        assert_eq!(json["last"], serde_json::Value::Null);
        assert_eq!(json["hours"].as_array().map(Vec::len), Some(24));
    }
}
