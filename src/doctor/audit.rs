//! What can be known of the audit system beforehand: who owns it, which rules were written down
//! for it, and whether the kernel still takes any. How it works is `status`'s to tell.

use std::path::Path;

use super::{Finding, Level, text_of};
use crate::attribute::units::names;
use crate::sys::audit::{Control, LOCKED};
use crate::text::escape;

/// Programs that take the audit stream for themselves, or live off it.
const OWNERS: [&str; 8] =
    ["auditd", "auditbeat", "osqueryd", "go-audit", "laurel", "falco", "wazuh-agentd", "auoms"];

/// Whether the kernel takes no rules any more; false where it does not answer us.
pub(super) fn locked() -> bool {
    let status = Control::open().and_then(|mut control| control.status());
    status.is_ok_and(|status| status.enabled == LOCKED)
}

/// `root` is `/`, but for tests.
pub(super) fn examine(root: &Path, locked: bool) -> Vec<Finding> {
    let mut all = Vec::new();
    let cmdline = text_of(&root.join("proc/cmdline")).unwrap_or_default();
    let off = cmdline.split_whitespace().any(|word| matches!(word, "audit=0" | "audit=off"));
    if off {
        all.push(finding(
            Level::Limit,
            "audit is off on the kernel's command line: boot without audit=0, so that every way \
             of clearing +i can be named",
        ));
    } else if !root.join("proc/self/loginuid").exists() {
        all.push(finding(
            Level::Limit,
            "the kernel has no audit: what fanotify does not see is found, but not named",
        ));
    }
    let rules = rules(root);
    if rules.iter().any(|line| is_never(line)) {
        all.push(finding(
            Level::Limit,
            "a rule '-a task,never' below /etc/audit keeps audit from seeing anything: remove \
             it, and run 'augenrules --load'",
        ));
    }
    if locked || rules.iter().any(|line| words(line) == ["-e", "2"]) {
        all.push(finding(
            Level::Limit,
            "the audit rules are locked until the next boot (-e 2): a daemon that starts after \
             that cannot add its own; leave '-e 2' away below /etc/audit, and boot",
        ));
    }
    let owners = owners(root);
    if !owners.is_empty() {
        let owners = owners.join(", ");
        all.push(finding(Level::Good, format!("audit is used by {owners}: it stays theirs")));
    }
    if all.is_empty() {
        all.push(finding(Level::Good, "nothing is seen that would keep Linux audit from working"));
    }
    all
}

fn finding(level: Level, says: impl Into<String>) -> Finding {
    Finding::new("audit", level, says)
}

/// The lines of the rule files that are no comments.
fn rules(root: &Path) -> Vec<String> {
    let etc = root.join("etc/audit");
    let parts = names(&etc.join("rules.d")).filter(|name| name.ends_with(".rules"));
    let files = parts.map(|name| etc.join("rules.d").join(name));
    let texts = files.chain([etc.join("audit.rules")]).filter_map(|file| text_of(&file));
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.into_iter().filter(|line| !line.trim_start().starts_with('#')).collect()
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn is_never(line: &str) -> bool {
    matches!(words(line)[..], ["-a" | "-A", "task,never" | "never,task", ..])
}

fn owners(root: &Path) -> Vec<String> {
    let proc = root.join("proc");
    let pids = names(&proc).filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut found: Vec<String> = pids
        .filter_map(|pid| text_of(&proc.join(pid).join("comm")))
        .map(|comm| escape(comm.trim_end().as_bytes()))
        .filter(|comm| OWNERS.contains(&comm.as_str()))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_owners_that_stand_in_the_way_are_found() {
        let room = crate::sys::test::disk();
        let write = |name: &str, text: &str| {
            let path = room.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let told_if = |locked| {
            examine(room.path(), locked).into_iter().map(|one| one.says).collect::<Vec<_>>()
        };
        let told = || told_if(false);
        write("proc/cmdline", "quiet audit=1\n");
        write("proc/self/loginuid", "4294967295");
        write("etc/audit/rules.d/10.rules", "# -a task,never\n-e 1\n");
        assert_eq!(told(), ["nothing is seen that would keep Linux audit from working"]);
        assert!(told_if(true)[0].contains("locked until the next boot (-e 2)"));
        write("etc/audit/rules.d/20.rules", "-D\n -a  task,never\n");
        write("etc/audit/audit.rules", "-e 2\n");
        write("proc/17/comm", "auditd\n");
        let said = told();
        assert!(said[0].contains("task,never") && said[1].contains("-e 2"), "{said:?}");
        assert_eq!(said[2], "audit is used by auditd: it stays theirs");
        write("proc/cmdline", "quiet audit=0\n");
        assert!(told()[0].starts_with("audit is off"));
    }
}
