//! `doctor`: is this host set up for the watchdog, and with `--who-could`: who else could clear
//! the bit, and how to take that from those that do not need it.

use std::fmt::Write as _;

use serde::Serialize;

use super::args::Output;
use super::screen::{BAD, GOOD, STRONG, Screen, WARNING, count};
use super::{Outcome, client, require_root};
use crate::attribute::units::directories;
use crate::config::Config;
use crate::daemon::api;
use crate::doctor::holders::{self, Group, Holder};
use crate::doctor::units::{self, Service};
use crate::doctor::{self, Finding, Level};
use crate::text::escape;

/// Columns of a terminal.
const WIDTH: usize = 78;
/// So many processes of a group are shown.
const LISTED: usize = 8;

pub(super) fn doctor(
    screen: &Screen,
    config: &Config,
    who_could: bool,
    output: Output,
) -> anyhow::Result<Outcome> {
    require_root("examine this host")?;
    if who_could {
        return list(screen, output);
    }
    let mut findings = doctor::examine(config);
    findings.push(daemon(config));
    let number = |level| findings.iter().filter(|one| one.level == level).count();
    let (problems, limits) = (number(Level::Problem), number(Level::Limit));
    if output.json {
        screen.json(&serde_json::json!({
            "findings": findings, "problems": problems, "limits": limits,
        }))?;
    } else {
        screen.lines(&render(&findings, problems, limits))?;
    }
    Ok(if problems > 0 { Outcome::Found } else { Outcome::Fine })
}

/// What the daemon says of itself, in one sentence; `status` has the rest.
fn daemon(config: &Config) -> Finding {
    let (level, says) = match client::status(&config.daemon.control) {
        Err(error) => (Level::Limit, error.to_string()),
        Ok(status) if status.state == api::State::Degraded => {
            (Level::Limit, "the daemon is degraded: 'steadfast status' says why".to_owned())
        }
        Ok(status) => (Level::Good, format!("the daemon is {}", status.state)),
    };
    Finding { about: "daemon", level, says }
}

fn render(findings: &[Finding], problems: usize, limits: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let (style, word) = match finding.level {
            Level::Good => (GOOD, "ok"),
            Level::Limit => (WARNING, "limit"),
            Level::Problem => (BAD, "problem"),
        };
        let _ = writeln!(
            text,
            "{:<7} {style}{word:<8}{style:#} {}",
            finding.about,
            escape(finding.says.as_bytes())
        );
    }
    let meant = if limits > 0 { " (with a limit it works, but does less)" } else { "" };
    let [problems, limits] =
        [count(problems, "problem", "problems"), count(limits, "limit", "limits")];
    let _ = writeln!(text, "\n{STRONG}{problems}, {limits}{STRONG:#}{meant}");
    text
}

/// The answer to `--who-could`.
#[derive(Debug, Serialize)]
struct Could {
    running: Vec<Holder>,
    services: Vec<Service>,
}

fn list(screen: &Screen, output: Output) -> anyhow::Result<Outcome> {
    let running = holders::find();
    let services = units::could(&directories());
    let could = Could { running, services };
    if output.json {
        screen.json(&could)?;
    } else {
        screen.lines(&could.render())?;
    }
    Ok(Outcome::Fine)
}

impl Could {
    fn render(&self) -> String {
        let processes = self.running.iter().map(|holder| holder.processes.len()).sum();
        let processes = count(processes, "process holds", "processes hold");
        let mut text =
            format!("{STRONG}{processes} CAP_LINUX_IMMUTABLE and could clear +i{STRONG:#}\n");
        for holder in &self.running {
            text += &render_holder(holder);
        }
        text += &self.render_services();
        text += &self.render_remedy();
        text
    }

    fn render_services(&self) -> String {
        let of = |holder: &Holder, unit: &str| match &holder.group {
            Group::Unit { name } => name == unit,
            _ => false,
        };
        let runs = |service: &&Service| !self.running.iter().any(|one| of(one, &service.unit));
        let (keep, free): (Vec<_>, Vec<_>) =
            self.services.iter().filter(runs).partition(|service| service.keep.is_some());
        let mut text = String::new();
        for (services, what) in [(free, ""), (keep, ", and better keep it")] {
            if services.is_empty() {
                continue;
            }
            let number = count(services.len(), "service", "services");
            let _ = writeln!(text, "\n{STRONG}{number} would hold it when started{what}{STRONG:#}");
            text += &in_lines(services.iter().map(|service| escape(service.unit.as_bytes())));
        }
        text
    }

    fn render_remedy(&self) -> String {
        let mut text = String::new();
        let free = self.running.iter().filter(|holder| holder.keep.is_none());
        let unit = free.clone().find_map(|holder| match &holder.group {
            Group::Unit { name } if name.ends_with(".service") => Some(name.clone()),
            _ => None,
        });
        let spare = |one: &&Service| one.keep.is_none() && !one.unit.contains('@');
        let idle = || self.services.iter().find(spare).map(|one| one.unit.clone());
        let runs = unit.is_some();
        if let Some(unit) = unit.or_else(idle) {
            let _ = writeln!(
                text,
                "\n{STRONG}take it from a service that does not need it, for example{STRONG:#}"
            );
            for line in units::remedy(&unit, runs).lines() {
                let _ = writeln!(text, "  {}", escape(line.as_bytes()));
            }
        }
        if free.clone().any(|holder| matches!(holder.group, Group::Container { .. })) {
            let _ = writeln!(text, "\n{STRONG}take it from a container{STRONG:#}");
            text += "  start it again with --cap-drop LINUX_IMMUTABLE, and without --privileged\n";
        }
        text
    }
}

/// Words in lines that fit a terminal.
fn in_lines(words: impl Iterator<Item = String>) -> String {
    let mut text = String::new();
    let mut width = 0;
    for word in words {
        let length = word.chars().count() + 2;
        let fits = width > 0 && width + length <= WIDTH;
        text += if fits {
            "  "
        } else if width > 0 {
            "\n  "
        } else {
            "  "
        };
        text += &word;
        width = if fits { width + length } else { length };
    }
    text.push('\n');
    text
}

fn render_holder(holder: &Holder) -> String {
    let name = match &holder.group {
        Group::Unit { name } => name.clone(),
        Group::Container { id, name } => {
            let short: String = id.chars().take(12).collect();
            match name {
                Some(name) => format!("container {name} ({short})"),
                None => format!("container {short}"),
            }
        }
        Group::None => "in no unit".to_owned(),
    };
    let keep = holder.keep.map(|why| format!("  leave it: {why}")).unwrap_or_default();
    let mut text = format!("\n  {}{keep}\n", escape(name.as_bytes()));
    for one in holder.processes.iter().take(LISTED) {
        let program = one.exe.as_deref().unwrap_or(&one.comm);
        let line = format!("{:>8}  {} ({program}), {}", one.pid, one.comm, one.user);
        let _ = writeln!(text, "  {}", escape(line.as_bytes()));
    }
    if let Some(more) = holder.processes.len().checked_sub(LISTED).filter(|more| *more > 0) {
        let _ = writeln!(text, "            and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::holders::Process;

    fn shown(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn findings_are_lines_and_problems_are_counted() {
        let finding = |level, says: &str| Finding { about: "mail", level, says: says.to_owned() };
        let all = [finding(Level::Good, "fine"), finding(Level::Problem, "bad\x1b: mend it")];
        assert_eq!(
            shown(&render(&all, 1, 0)),
            "mail    ok       fine\nmail    problem  bad\\x1b: mend it\n\n1 problem, 0 limits\n"
        );
        let limits = shown(&render(&[finding(Level::Limit, "less")], 0, 1));
        assert!(limits.ends_with("\n0 problems, 1 limit (with a limit it works, but does less)\n"));
    }

    #[test]
    fn the_remedy_is_for_somebody_who_can_do_without() {
        let process = || Process { pid: 7, comm: "x\n".into(), exe: None, user: "root".into() };
        let holder =
            |group, keep| Holder { group, processes: (0..9).map(|_| process()).collect(), keep };
        let unit = |name: &str| Group::Unit { name: name.to_owned() };
        let could = Could {
            running: vec![
                holder(unit("ssh.service"), holders::keep_unit("ssh.service")),
                holder(unit("nginx.service"), None),
                holder(Group::Container { id: "ab".repeat(32), name: Some("web".into()) }, None),
            ],
            services: vec![Service { unit: "idle.service".into(), keep: None }],
        };
        let text = shown(&could.render());
        assert!(text.starts_with("27 processes hold"), "{text}");
        assert!(text.contains("ssh.service  leave it: "), "{text}");
        assert!(text.contains("container web (abababababab)\n"), "{text}");
        assert!(text.contains("x\\n (x\\n), root\n            and 1 more\n"), "{text}");
        assert!(text.contains("1 service would hold it when started\n  idle.service\n"), "{text}");
        assert!(
            text.contains("/etc/systemd/system/nginx.service.d/50-no-immutable.conf"),
            "{text}"
        );
        assert!(text.contains("--cap-drop LINUX_IMMUTABLE"), "{text}");
    }
}
