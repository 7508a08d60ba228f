//! `who`: the journal's answer to who touched a file, and when it tends to happen.
//!
//! Works from the journal alone. [`tally`] counts, [`chart`] draws, and this module words it.

mod chart;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::tally::{Answer, Culprit, Moment, Tally};
use super::args::Output;
use super::screen::{STRONG, Screen, WARNING, count};
use super::{Outcome, absolute, events, look};
use crate::attribute::units;
use crate::config::{Config, canonical_path};
use crate::record::{self, Filter, PathText, describe_at};
use crate::text::{escape, escape_path};

/// How much of a command line is shown, in characters.
const CMDLINE: usize = 200;
/// How many culprits are shown.
const CULPRITS: usize = 10;

pub(super) fn who(
    screen: &Screen,
    config: &Config,
    path: &Path,
    output: Output,
) -> anyhow::Result<Outcome> {
    let path = canonical_path(&absolute(path)?);
    let filter = Filter { path: Some(path.clone()), since: None };
    let mut entries = record::read(&config.daemon.state, filter)?;
    let zone = TimeZone::system();
    let mut tally = Tally::new(zone.clone());
    let damaged = events::drain(screen, &mut entries, |entry| {
        tally.add(entry);
        Ok(())
    })?;
    let directories = units::directories();
    let timer_of = |unit: &str| units::timer_of(unit, &directories);
    let answer = tally.conclude(PathText::new(&path), timer_of);
    if answer.last.is_none() {
        look::remark_unknown(screen, config, &path);
    }
    if output.json {
        screen.json(&answer)?;
    } else {
        screen.lines(&render(&answer, &zone))?;
    }
    Ok(if damaged { Outcome::Undone } else { Outcome::Fine })
}

fn render(answer: &Answer, zone: &TimeZone) -> String {
    let path = escape_path(answer.path.to_path());
    if answer.incidents == 0 {
        return format!("{path}: no incident is on record\n");
    }
    let incidents = count(answer.incidents, "incident", "incidents");
    let mut text = format!("{STRONG}{path}{STRONG:#}: {incidents}{}\n", period(answer, zone));
    if let Some(pattern) = &answer.pattern {
        let unit = answer.pattern_unit.as_deref().map(|unit| format!(", {}", safe(unit)));
        let _ = writeln!(text, "{WARNING}{pattern}{}{WARNING:#}", unit.unwrap_or_default());
    }
    let _ = writeln!(text, "\n{STRONG}who{STRONG:#}");
    if answer.culprits.is_empty() {
        text += "  no process could be named\n";
    }
    for culprit in answer.culprits.iter().take(CULPRITS) {
        text += &render_culprit(culprit, answer, zone);
    }
    if let Some(more) = answer.culprits.len().checked_sub(CULPRITS).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {} more; --json has them all", more);
    }
    text += &render_timeline(&answer.timeline, answer.incidents, zone);
    if answer.undated < answer.incidents {
        let _ = writeln!(text, "\n{STRONG}hour of the day{STRONG:#}");
        text += &chart::hours(&answer.hours);
        let _ = writeln!(text, "\n{STRONG}day of the week{STRONG:#}");
        text += &chart::weekdays(&answer.weekdays);
    }
    if answer.undated > 0 {
        let found = count(answer.undated, "incident was", "incidents were");
        let _ = writeln!(text, "\n{found} only found afterwards, at no known hour");
    }
    text
}

/// From the first to the last one, where the timeline has them all.
fn period(answer: &Answer, zone: &TimeZone) -> String {
    let first = answer.culprits.iter().map(|one| one.first);
    let first = first.chain(answer.timeline.iter().map(|moment| moment.time)).min();
    let last = answer.timeline.last().map(|moment| moment.time);
    match (first, last) {
        (Some(first), Some(last)) if first != last => {
            format!(" from {} to {}", clock(first, zone), clock(last, zone))
        }
        (_, Some(last)) => format!(" on {}", clock(last, zone)),
        _ => String::new(),
    }
}

fn render_culprit(one: &Culprit, answer: &Answer, zone: &TimeZone) -> String {
    let mut facts = vec![format!("user {}", one.user.as_deref().unwrap_or("unknown"))];
    let container = one.container_name.as_ref().or(one.container.as_ref());
    let unit = one.user_unit.as_ref().or(one.unit.as_ref());
    let timer = one.timer.as_ref().filter(|_| container.is_none());
    let named = [
        ("login", &one.login_user.as_ref()),
        ("container", &container),
        ("unit", &unit.filter(|_| container.is_none())),
        ("started by", &timer),
    ];
    let told = named.iter().filter_map(|(what, name)| Some(format!("{what} {}", (**name)?)));
    facts.extend(told);
    if !one.names.is_empty() {
        let names: BTreeSet<&str> = one.names.iter().map(String::as_str).take(5).collect();
        facts.push(format!("calls itself {}", Vec::from_iter(names).join(" and ")));
    }
    if one.only_opener {
        facts.push("had it open, perhaps no more".to_owned());
    }
    let name = safe(one.exe.as_deref().unwrap_or(&one.comm));
    let mut text = format!("{:>6}  {name} ({})\n", one.count, safe(&facts.join(", ")));
    let (first, last) = (clock(one.first, zone), clock(one.last, zone));
    let _ = writeln!(text, "        first {first}, last {last}");
    if let Some(pattern) = one.pattern.filter(|own| Some(own) != answer.pattern.as_ref()) {
        let _ = writeln!(text, "        {pattern}");
    }
    if !one.cmdline.is_empty() {
        let cmdline: String = one.cmdline.join(" ").chars().take(CMDLINE).collect();
        let _ = writeln!(text, "        $ {}", safe(&cmdline));
    }
    text
}

fn render_timeline(timeline: &[Moment], incidents: usize, zone: &TimeZone) -> String {
    let mut text = format!("\n{STRONG}when{STRONG:#}\n");
    if let Some(more) = incidents.checked_sub(timeline.len()).filter(|more| *more > 0) {
        let _ = writeln!(
            text,
            "  {} before; 'steadfast events' has all",
            count(more, "incident", "incidents")
        );
    }
    for moment in timeline {
        let more = moment.kinds.len().saturating_sub(1);
        let more = if more > 0 {
            format!("; and {}", count(more, "change more", "changes more"))
        } else {
            String::new()
        };
        let _ = writeln!(text, "  {}{more}", describe_at(&moment.chief.event, zone));
    }
    text
}

fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The journal's word is not trusted to be printable.
fn safe(text: &str) -> String {
    escape(text.as_bytes())
}
