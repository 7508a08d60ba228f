//! What the kernel has, and what it lets us use of it.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Finding, Level, text_of};
use crate::sys::fanotify::{Gatekeeper, Notifier};
use crate::text::escape;

/// What is needed, by number in `linux/capability.h`, and for what.
const NEEDED: [(u32, &str, &str); 4] = [
    (super::holders::LINUX_IMMUTABLE, "CAP_LINUX_IMMUTABLE", "set +i"),
    (21, "CAP_SYS_ADMIN", "use fanotify"),
    (2, "CAP_DAC_READ_SEARCH", "read every file"),
    (19, "CAP_SYS_PTRACE", "name the executables of other users' processes"),
];

pub(super) fn examine() -> Vec<Finding> {
    let release = text_of(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let mut all = vec![version(release.trim_end())];
    all.push(fanotify("which files change", Notifier::new().map(drop)));
    all.push(fanotify("who opens a file", Gatekeeper::new().map(drop)));
    let pidfd = crate::sys::pidfd::open(std::process::id());
    all.push(match pidfd.map(|pidfd| crate::sys::pidfd::identity(pidfd.as_fd())) {
        Ok(Some(_)) => {
            finding(Level::Good, "a process is never taken for a later one with the same number")
        }
        _ => finding(
            Level::Limit,
            "a process is told from a later one with the same number by when it started, because \
             pidfds have no identity before Linux 6.9",
        ),
    });
    let own = format!("/proc/{}/status", std::process::id());
    let status = text_of(Path::new(&own)).unwrap_or_default();
    all.extend(capabilities(&status));
    let lockdown = text_of(Path::new("/sys/kernel/security/lockdown")).unwrap_or_default();
    all.extend(locked_down(&lockdown));
    all
}

fn finding(level: Level, says: impl Into<String>) -> Finding {
    Finding::new("kernel", level, says)
}

fn version(release: &str) -> Finding {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let version = (numbers.next().and_then(Result::ok), numbers.next().and_then(Result::ok));
    let release = escape(release.as_bytes());
    match version {
        (Some(major), Some(minor)) if (major, minor) < (5, 9) => finding(
            Level::Problem,
            format!("Linux {release} is older than 5.9, which fanotify needs: upgrade the kernel"),
        ),
        (Some(major), Some(minor)) if (major, minor) >= (6, 17) => finding(
            Level::Good,
            format!(
                "Linux {release} has what is needed; for +i that is cleared by file_setattr(2) \
                 fanotify has no event, so the daemon looks at every file again and again, as \
                 `flag_sweep` says"
            ),
        ),
        _ => finding(Level::Good, format!("Linux {release} has what is needed")),
    }
}

fn fanotify(what: &str, tried: io::Result<()>) -> Finding {
    match tried {
        Ok(()) => finding(Level::Good, format!("fanotify can tell {what}")),
        Err(error) => finding(
            Level::Problem,
            format!(
                "fanotify cannot tell {what} ({}): run as root with CAP_SYS_ADMIN, outside \
                 containers that filter it, on a kernel with CONFIG_FANOTIFY and \
                 CONFIG_FANOTIFY_ACCESS_PERMISSIONS",
                escape(error.to_string().as_bytes())
            ),
        ),
    }
}

fn capabilities(status: &str) -> Vec<Finding> {
    let Some(held) = super::holders::mask(status, "CapEff") else { return Vec::new() };
    let lacking = NEEDED.iter().filter(|(number, ..)| held & (1 << number) == 0);
    let mut all: Vec<_> = lacking
        .map(|(_, name, purpose)| {
            finding(
                Level::Problem,
                format!(
                    "{name} is missing, which is needed to {purpose}: run outside the container or \
                 unit that takes it away"
                ),
            )
        })
        .collect();
    if all.is_empty() {
        all.push(finding(Level::Good, "root has every capability here that the daemon needs"));
    }
    all
}

/// `none [integrity] confidentiality`
fn locked_down(text: &str) -> Option<Finding> {
    let chosen = text.split_once('[')?.1.split_once(']')?.0;
    (chosen != "none").then(|| {
        let mode = escape(chosen.as_bytes());
        finding(
            Level::Good,
            format!("the kernel is locked down ({mode}), which refuses nothing that is used here"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_a_problem_and_a_strange_version_is_not() {
        for (release, level) in [
            ("5.4.0-1-amd64", Level::Problem),
            ("4.19.0", Level::Problem),
            ("5.10.0", Level::Good),
            ("6.18.0+", Level::Good),
            ("odd", Level::Good),
        ] {
            assert_eq!(version(release).level, level, "{release}");
        }
    }

    #[test]
    fn each_capability_that_is_missing_is_named() {
        let all = |mask: &str| capabilities(&format!("Name:\tx\nCapEff:\t{mask}\n"));
        assert_eq!(all("000001ffffffffff").len(), 1);
        assert_eq!(all("000001ffffffffff")[0].level, Level::Good);
        let lacking = all("000001fffffffdff");
        assert_eq!(lacking.len(), 1);
        assert!(lacking[0].says.starts_with("CAP_LINUX_IMMUTABLE is missing"), "{lacking:?}");
        assert!(capabilities("rubbish").is_empty());
    }

    #[test]
    fn lockdown_is_told_where_there_is_one() {
        assert_eq!(locked_down("[none] integrity confidentiality\n"), None);
        assert!(locked_down("none [integrity] confidentiality").is_some());
        assert_eq!(locked_down(""), None);
    }
}
