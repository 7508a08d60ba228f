//! Which running processes hold `CAP_LINUX_IMMUTABLE`, and so could clear `+i`.
//!
//! A process counts if the capability is in its permitted set and it is in the first user
//! namespace: in another one the capability is good for nothing on our files. Threads of the
//! kernel are left out.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::text_of;
use crate::attribute::units::names;
use crate::attribute::{Actor, containers, procfs};

/// The capability's number in `linux/capability.h`.
pub(super) const LINUX_IMMUTABLE: u32 = 9;

/// Where a process belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Group {
    /// A container.
    Container {
        /// Its id.
        id: String,
        /// Its name.
        name: Option<String>,
    },
    /// A systemd unit.
    Unit {
        /// Its name.
        name: String,
    },
    /// Neither.
    None,
}

/// Processes of one place that hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Where they belong.
    #[serde(flatten)]
    pub group: Group,
    /// The processes.
    pub processes: Vec<Process>,
    /// Why it is better left with them.
    pub keep: Option<&'static str>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Its executable.
    pub exe: Option<String>,
    /// Its user.
    pub user: String,
}

/// Everybody who holds it now, by container and unit.
#[must_use]
pub fn find() -> Vec<Holder> {
    crate::attribute::users::refresh();
    let first = namespace(1);
    let mut names_of = containers::Names::new(containers::Places::of_host());
    let mut groups: BTreeMap<Group, Holder> = BTreeMap::new();
    let mut pids: Vec<u32> =
        names(Path::new("/proc")).filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        let Some(status) = text_of(Path::new(&format!("/proc/{pid}/status"))) else { continue };
        let held = mask(&status, "CapPrm").is_some_and(|mask| mask & (1 << LINUX_IMMUTABLE) != 0);
        if !held || (first.is_some() && namespace(pid) != first) {
            continue;
        }
        // Between the two looks it may have gone; then it holds nothing any more.
        let Some(mut actor) = procfs::capture(pid) else { continue };
        if actor.exe.is_none() && actor.cmdline.is_empty() {
            continue;
        }
        names_of.complete(&mut actor);
        let group = group_of(&actor);
        let keep = match &group {
            Group::Unit { name } => keep_unit(name),
            _ => None,
        };
        let fresh = Holder { group: group.clone(), processes: Vec::new(), keep };
        let holder = groups.entry(group).or_insert(fresh);
        let user = actor.user.unwrap_or_else(|| actor.uid.to_string());
        let Actor { pid, comm, exe, .. } = actor;
        holder.processes.push(Process { pid, comm, exe, user });
    }
    groups.into_values().collect()
}

fn group_of(actor: &Actor) -> Group {
    if let Some(id) = actor.container.clone() {
        return Group::Container { id, name: actor.container_name.clone() };
    }
    match actor.unit.clone() {
        Some(name) => Group::Unit { name },
        None => Group::None,
    }
}

/// Why taking it from a unit would do harm; `None` where it would not, as far as can be known
/// from its name.
#[must_use]
pub fn keep_unit(name: &str) -> Option<&'static str> {
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if name == "init.scope" {
        Some("it starts everything else")
    } else if is(&["steadfast"]) {
        Some("it sets the bit")
    } else if is(&["session-", "user@"]) {
        Some("somebody is logged in")
    } else if is(&[
        "ssh",
        "getty@",
        "serial-getty@",
        "console-getty",
        "login",
        "emergency",
        "rescue",
    ]) || is(&["gdm", "lightdm", "sddm", "systemd-logind", "debug-shell"])
    {
        Some("who logs in through it could not use chattr any more")
    } else if is(&["systemd-tmpfiles-", "snapd.", "systemd-journald"]) {
        Some("it sets inode flags itself")
    } else {
        None
    }
}

/// A line such as `CapEff:` of `/proc/PID/status`.
pub(super) fn mask(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The user namespace, such as `user:[4026531837]`.
fn namespace(pid: u32) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/user")).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_mask_is_read_from_its_own_line() {
        let status = "Name:\tCapPrm:\\nCapPrm:\tff\nCapInh:\t0\nCapPrm:\t0000000000000200\n";
        assert_eq!(mask(status, "CapPrm"), Some(1 << LINUX_IMMUTABLE));
        assert_eq!(mask(status, "CapEff"), None);
        assert_eq!(mask("CapPrm:\tx\n", "CapPrm"), None);
    }

    #[test]
    fn a_child_is_listed_while_it_holds_the_capability_and_not_without_it() {
        let start = |program: &str, args: &[&str]| {
            Command::new(program).args(args).stdin(Stdio::piped()).spawn().unwrap()
        };
        let without = "--bounding-set=-linux_immutable";
        let mut children =
            [start("cat", &[]), start("setpriv", &[without, "--inh-caps=-linux_immutable", "cat"])];
        let [with, without] = children.each_ref().map(std::process::Child::id);
        // Between fork and exec the second one still is what it was.
        let is_cat = |pid| procfs::capture(pid).is_some_and(|actor| actor.comm == "cat");
        while !(is_cat(with) && is_cat(without)) {
            std::thread::yield_now();
        }
        let status = |pid| text_of(Path::new(&format!("/proc/{pid}/status"))).unwrap();
        assert_eq!(mask(&status(without), "CapPrm").unwrap() & (1 << LINUX_IMMUTABLE), 0);
        let groups = find();
        let own = group_of(&procfs::capture(with).unwrap());
        let listed = |pid| groups.iter().find(|h| h.processes.iter().any(|one| one.pid == pid));
        assert_eq!(listed(with).map(|holder| &holder.group), Some(&own), "{groups:?}");
        assert_eq!(listed(without), None);
        for child in &mut children {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }
}
