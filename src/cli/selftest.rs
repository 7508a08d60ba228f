//! `selftest`: has the daemon tamper with a canary by every route, and tells what came of it. And
//! `tamper`, the process that the daemon starts for each; it is no command for people.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::Path;

use super::args::Output;
use super::client;
use super::progress::Progress;
use super::screen::{BAD, GOOD, STRONG, Screen, WARNING, count};
use super::{Outcome, require_root};
use crate::attribute::Confidence;
use crate::config::Config;
use crate::daemon;
use crate::daemon::api;
use crate::selftest::{Mark, Route, RouteResult, SelfTest};
use crate::text::escape;

pub(super) fn selftest(
    screen: &Screen,
    config: &Config,
    output: Output,
) -> anyhow::Result<Outcome> {
    require_root("have the daemon tested")?;
    let request = api::Request { paths: Vec::new(), reason: None };
    let progress = Progress::new("selftest");
    let socket = &config.daemon.control;
    let report = client::command(socket, api::Command::Selftest, &request, &progress)?;
    drop(progress);
    let Some(test) = report.selftest else {
        let why = report.undone.unwrap_or_else(|| "the daemon does not know how".to_owned());
        anyhow::bail!("the self-test cannot be carried out: {}", escape(why.as_bytes()));
    };
    if output.json {
        screen.json(&test)?;
    } else {
        screen.lines(&render(&test))?;
    }
    Ok(if test.failed > 0 { Outcome::Found } else { Outcome::Fine })
}

fn render(test: &SelfTest) -> String {
    let mut text = String::new();
    let played = test.routes.iter().map(|one| &one.filesystem);
    let mut shown = Vec::new();
    for filesystem in played.chain(test.not_possible.iter().map(|one| &one.filesystem)) {
        if !shown.contains(&filesystem) {
            shown.push(filesystem);
            let _ = writeln!(text, "{STRONG}{}{STRONG:#}", escape(filesystem.as_bytes()));
            render_filesystem(test, filesystem, &mut text);
        }
    }
    for one in &test.untested {
        let (name, why) = (escape(one.filesystem.as_bytes()), escape(one.why.as_bytes()));
        let _ = writeln!(text, "{STRONG}{name}{STRONG:#}\n{WARNING}untried{WARNING:#} {why}");
    }
    let _ = writeln!(text, "\n{STRONG}{}{STRONG:#}", summary(test));
    text
}

fn render_filesystem(test: &SelfTest, filesystem: &str, text: &mut String) {
    for one in test.routes.iter().filter(|one| one.filesystem == filesystem) {
        let (style, word) = match one.result {
            Mark::Passed => (GOOD, "ok"),
            Mark::Limit => (WARNING, "limit"),
            Mark::Failed => (BAD, "failed"),
        };
        let told = escape(sentence(one).as_bytes());
        let _ = writeln!(text, "{:<15} {style}{word:<7}{style:#} {told}", one.route.name());
    }
    for one in test.not_possible.iter().filter(|one| one.filesystem == filesystem) {
        let why = escape(one.why.as_bytes());
        let _ = writeln!(text, "{:<15} {WARNING}untried{WARNING:#} {why}", one.route.name());
    }
}

/// What was seen, named and healed of one route.
fn sentence(one: &RouteResult) -> String {
    let mut told = vec![one.route.means().to_owned()];
    if let Some(sensor) = &one.sensor {
        told.push(format!("seen by {sensor}"));
    }
    if one.named {
        told.push(match one.confidence {
            Confidence::Exact => "its process named".to_owned(),
            _ => "its process named as one that had it open".to_owned(),
        });
    }
    if let Some(took) = one.healed_in_us {
        told.push(format!("healed in {}", duration(took)));
    }
    let told = told.join(", ");
    one.note.as_ref().map_or_else(|| told.clone(), |note| format!("{told}; {note}"))
}

fn duration(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{micros} µs"),
        _ => format!("{} ms", micros / 1000),
    }
}

/// The whole test in a line, for `status` too.
pub(super) fn summary(test: &SelfTest) -> String {
    let mut told = format!("{} of {} passed", test.passed, test.passed + test.failed);
    if test.limits > 0 {
        let limits = test.routes.iter().filter(|one| one.result == Mark::Limit);
        let names: Vec<_> = limits.map(|one| one.route.name()).collect();
        told += &format!(
            ", {} of this host among them ({})",
            count(test.limits, "limit", "limits"),
            names.join(", ")
        );
    }
    if test.failed > 0 {
        let names: Vec<_> = test.failures().map(|one| one.route.name()).collect();
        told += &format!(", {} failed ({})", test.failed, names.join(", "));
    }
    told
}

/// Does one deed, says so in a line, and ends when the daemon lets go of it.
pub(super) fn tamper(screen: &Screen, route: &str, path: &Path) -> anyhow::Result<Outcome> {
    let Some(route) = Route::of_name(route) else { anyhow::bail!("there is no such route") };
    let (said, _held) = daemon::tamper(route, path);
    screen.json(&said)?;
    if route.lingers() {
        // Its end is all that is waited for.
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
    }
    Ok(Outcome::Fine)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::attribute::Source;

    #[test]
    fn every_route_is_a_line_and_limits_and_failures_are_counted() {
        let one = |route, result, note: Option<&str>| RouteResult {
            route,
            filesystem: "/srv".into(),
            seen: true,
            named: result == Mark::Passed,
            healed: true,
            source: Source::OpenPermission,
            confidence: Confidence::Opener,
            healed_in_us: Some(123),
            sensor: Some("fanotify".into()),
            result,
            note: note.map(str::to_owned),
        };
        let routes = vec![
            one(Route::Setflags, Mark::Passed, None),
            one(Route::FileSetattr, Mark::Limit, Some("beyond us")),
            one(Route::Unlink, Mark::Failed, Some("bad\x1b")),
        ];
        let test = SelfTest::new(Timestamp::UNIX_EPOCH, routes, Vec::new(), Vec::new(), 5);
        let text = anstream::adapter::strip_str(&render(&test)).to_string();
        assert_eq!(
            text,
            "/srv\n\
             setflags        ok      +i cleared as chattr does, seen by fanotify, its process \
             named as one that had it open, healed in 123 µs\n\
             file-setattr    limit   +i cleared with file_setattr, seen by fanotify, healed in \
             123 µs; beyond us\n\
             unlink          failed  unlinked, seen by fanotify, healed in 123 µs; bad\\x1b\n\
             \n2 of 3 passed, 1 limit of this host among them (file-setattr), 1 failed (unlink)\n"
        );
    }
}
