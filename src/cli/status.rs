//! `status`: how the daemon does.

use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::Outcome;
use super::args::Output;
use super::client;
use super::screen::{BAD, GOOD, STRONG, Screen, WARNING, count};
use super::selftest::summary;
use crate::config::{Config, show_duration};
use crate::daemon::api::{self, State};
use crate::text::{escape, escape_path};

/// Up to this many shortcomings are listed.
const LISTED: usize = 50;

pub(super) fn status(screen: &Screen, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    show(screen, &client::status(&config.daemon.control)?, output)
}

/// What a daemon that runs says, though the configuration as it is now is wrong.
pub(super) fn despite(
    screen: &Screen,
    socket: &Path,
    wrong: anyhow::Error,
    output: Output,
) -> anyhow::Result<Outcome> {
    let Ok(status) = client::status(socket) else { return Err(wrong) };
    screen.remark(&wrong.to_string());
    show(screen, &status, output)
}

fn show(screen: &Screen, status: &api::Status, output: Output) -> anyhow::Result<Outcome> {
    if output.json {
        screen.json(status)?;
    } else {
        screen.lines(&render(status, &TimeZone::system()))?;
    }
    Ok(Outcome::Fine)
}

fn render(status: &api::Status, zone: &TimeZone) -> String {
    let style = match status.state {
        State::Watching => GOOD,
        State::Starting | State::Draining => WARNING,
        State::Degraded => BAD,
    };
    let since = status.since.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
    let mut text = format!(
        "steadfast is {style}{}{style:#} (pid {}, since {since})\n{} protected, {}\n",
        status.state,
        status.pid,
        count(status.protected, "path", "paths"),
        count(status.open_incidents, "open incident", "open incidents"),
    );
    // Before it watches there is no round yet.
    if status.state != State::Starting {
        let notice = show_duration(Duration::from_millis(status.worst_case_notice_ms));
        text += &format!("a change that no event tells of is noticed within {notice}\n");
    }
    text += &format!("\n{STRONG}sensors{STRONG:#}\n");
    for sensor in &status.sensors {
        let style = match sensor.state.as_str() {
            "working" => GOOD,
            "degraded" => WARNING,
            _ => BAD,
        };
        let [name, state, why] =
            [&sensor.name, &sensor.state, &sensor.why].map(|text| escape(text.as_bytes()));
        let gap = if why.is_empty() { 0 } else { 13_usize.saturating_sub(state.len()) };
        text += &format!("  {name:<16} {style}{state}{style:#}{:gap$}{why}\n", "");
    }
    if !status.own.is_empty() {
        text += &format!("\n{STRONG}its own files{STRONG:#}, watched and left as they are\n");
    }
    for path in &status.own {
        text += &format!("  {}\n", escape_path(path.to_path()));
    }
    if let Some(test) = &status.selftest {
        let time = test.time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
        text += &format!("\n{STRONG}self-test{STRONG:#} at {time}\n  {}\n", summary(test));
    }
    if !status.shortcomings.is_empty() {
        text += &format!("\n{STRONG}protected less well than they should be{STRONG:#}\n");
    }
    for shortcoming in status.shortcomings.iter().take(LISTED) {
        let path = escape_path(shortcoming.path.to_path());
        text += &format!("  {path}  {}\n", escape(shortcoming.why.as_bytes()));
    }
    if let Some(more) = status.shortcomings.len().checked_sub(LISTED).filter(|more| *more > 0) {
        text += &format!("  and {}\n", count(more, "more path", "more paths"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::record::PathText;

    #[test]
    fn what_is_degraded_comes_with_its_reason() {
        let sensor = |name: &str, state: &str, why: &str| api::SensorStatus {
            name: name.to_owned(),
            state: state.to_owned(),
            why: why.to_owned(),
        };
        let status = api::Status {
            state: State::Degraded,
            pid: 7,
            since: jiff::Timestamp::UNIX_EPOCH,
            protected: 1,
            sensors: vec![
                sensor("fanotify", "working", ""),
                sensor("open-permission", "unavailable", "the kernel\x1b[2J refused it"),
            ],
            windows: Vec::new(),
            open_incidents: 2,
            shortcomings: vec![api::Shortcoming {
                path: PathText::new(Path::new("/tmp/f\n")),
                why: "tmpfs has no immutable bit".to_owned(),
            }],
            worst_case_notice_ms: 1000,
            selftest: None,
            own: vec![PathText::new(Path::new("/usr/bin/steadfast"))],
        };
        let plain = anstream::adapter::strip_str(&render(&status, &TimeZone::UTC)).to_string();
        assert_eq!(
            plain,
            "steadfast is degraded (pid 7, since 1970-01-01 00:00:00)\n\
             1 path protected, 2 open incidents\n\
             a change that no event tells of is noticed within 1s\n\
             \n\
             sensors\n\
             \x20 fanotify         working\n\
             \x20 open-permission  unavailable  the kernel\\x1b[2J refused it\n\
             \n\
             its own files, watched and left as they are\n\
             \x20 /usr/bin/steadfast\n\
             \n\
             protected less well than they should be\n\
             \x20 /tmp/f\\n  tmpfs has no immutable bit\n"
        );
    }
}
