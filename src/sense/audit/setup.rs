//! Our rules, and audit as it was before we came.
//!
//! Every rule has a key that says whose it is, and how audit was before the first of us came:
//! `steadfast-PID-START-ENABLED-BACKLOG`. Rules of a process that is gone are deleted by
//! whoever starts next, once its own are there: until then they have what is done recorded, as
//! they do while a daemon starts again. The last one to leave puts audit back as it was.
//! Comings and goings are one at a time, by a lock on a file.
//!
//! What is done to the protected files is found by rules about one directory of ours, the
//! *anchor*, with which the kernel is told to treat each protected inode alike. So there are
//! a dozen rules for any number of files: a rule for each would cost every process on the
//! machine time with each path that it uses, and ten milliseconds to take away.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::act::{FILE_SETATTR, MOVE_MOUNT, Numbers, SET_FLAGS, SET_XATTR, native};
use crate::attribute::procfs::Process;
use crate::sys::audit::{Change, Comparison, Control, Field, LOCKED, Rule, SIGNAL, Status};
use crate::sys::pidfd;

const LOCK: &str = "/run/steadfast-audit.lock";
/// How the keys of our rules begin.
pub(super) const PREFIX: &str = "steadfast-";
/// Records that may wait before whoever makes one has to. The kernel's own default is 64.
const BACKLOG: u32 = 8192;
/// Writes and changes of attributes, in the kernel's classes of system calls.
const WRITE_OR_ATTRIBUTE: u32 = 2 | 8;
/// `setxattrat` and `removexattrat`, of which not every kernel's classes know.
const XATTR_AT: [u32; 2] = [463, 466];

/// How audit was before the first of us came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    enabled: u32,
    backlog: u32,
}

/// What we have set up. To be taken down with [`Setup::take_down`].
#[derive(Debug)]
pub(super) struct Setup {
    control: Control,
    rules: Vec<Rule>,
    before: Before,
}

/// Why there are no records.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "audit is refused: {0}; it needs CAP_AUDIT_CONTROL and CAP_AUDIT_READ, a kernel with \
         audit, and the first pid and user namespace"
    )]
    Kernel(#[from] std::io::Error),
    #[error(
        "the audit rules are locked (-e 2) until the next boot, so that steadfast cannot add its \
         own; leave '-e 2' away below /etc/audit, and boot"
    )]
    Locked,
    #[error("this processor's system calls are not known to steadfast")]
    Processor,
}

impl Setup {
    /// Adds our rules, turns audit on, and deletes what is stale.
    pub(super) fn begin(anchor: &Path) -> Result<Self, Refused> {
        let _lock = lock();
        let mut control = Control::open()?;
        let status = control.status()?;
        may_change(&status)?;
        let mut before = Before { enabled: status.enabled, backlog: status.backlog_limit };
        let there = control.rules()?;
        let mut stale = Vec::new();
        for rule in &there {
            let Some(owner) = rule.its_key().and_then(|key| Owner::parse(&key)) else { continue };
            // Whatever has been set since, this is how it was.
            before = owner.before;
            if !owner.lives() {
                stale.push(rule);
            }
        }
        let key = Owner::us(before).key();
        let rules = rules(anchor, &key).ok_or(Refused::Processor)?;
        let mut setup = Self { control, rules, before };
        let established = setup.establish(&status, &[]);
        // Ours first, and what the kernel was told to treat as below the anchor stays so.
        for rule in stale {
            setup.control.delete(rule)?;
        }
        if established.is_err() {
            setup.undo();
        }
        established?;
        Ok(setup)
    }

    /// Adds those of our rules that are not `there`, and has audit on.
    fn establish(&mut self, status: &Status, there: &[Rule]) -> std::io::Result<()> {
        for rule in self.rules.iter().filter(|rule| !there.contains(&rule.as_listed())) {
            self.control.add(rule)?;
        }
        if status.backlog_limit != 0 && status.backlog_limit < BACKLOG {
            self.control.set(Change::BacklogLimit(BACKLOG))?;
        }
        if status.enabled == 0 {
            self.control.set(Change::Enabled(1))?;
        }
        Ok(())
    }

    pub(super) fn status(&mut self) -> std::io::Result<Status> {
        self.control.status()
    }

    /// Whether audit is on with all our rules; if not, it is so afterwards.
    ///
    /// # Errors
    /// What keeps the records from coming, in words.
    pub(super) fn renew(&mut self) -> Result<bool, String> {
        let mut renew = || -> Result<(bool, Vec<Rule>), Refused> {
            let status = self.control.status()?;
            let there = self.control.rules()?;
            let missing = self.rules.iter().any(|rule| !there.contains(&rule.as_listed()));
            if missing || status.enabled == 0 {
                may_change(&status)?;
                self.establish(&status, &there)?;
            }
            Ok((!missing && status.enabled != 0, there))
        };
        let (whole, there) = renew().map_err(|e| format!("the audit rules cannot be kept: {e}"))?;
        match in_the_way(&there) {
            Some(why) => Err(why.to_owned()),
            None => Ok(whole),
        }
    }

    /// Deletes our rules, and puts audit back if nobody else of us is left.
    pub(super) fn take_down(mut self) {
        let _lock = lock();
        self.undo();
    }

    fn undo(&mut self) {
        for rule in &self.rules {
            // One that is gone already is as it should be.
            let _ = self.control.delete(&rule.as_listed());
        }
        let Ok(left) = self.control.rules() else { return };
        let locked = self.control.status().is_ok_and(|status| status.enabled == LOCKED);
        if locked && self.rules.iter().any(|rule| left.contains(&rule.as_listed())) {
            tracing::warn!(
                "steadfast's audit rules stay until the next boot: they are locked (-e 2)"
            );
        }
        let ours = |rule: &Rule| rule.its_key().and_then(|key| Owner::parse(&key)).is_some();
        if left.iter().any(ours) {
            return;
        }
        let Ok(status) = self.control.status() else { return };
        if status.backlog_limit == BACKLOG && self.before.backlog != 0 {
            let _ = self.control.set(Change::BacklogLimit(self.before.backlog));
        }
        // Whoever has come meanwhile wants it on.
        if self.before.enabled == 0 && status.enabled == 1 && status.daemon == 0 && left.is_empty()
        {
            let _ = self.control.set(Change::Enabled(0));
        }
    }
}

/// A rule of somebody else that keeps our records from coming, in words.
fn in_the_way(there: &[Rule]) -> Option<&'static str> {
    if there.iter().any(Rule::silences_processes) {
        return Some(
            "a rule of somebody else (-a task,never) keeps new processes from being recorded; \
             delete it: auditctl -d task,never",
        );
    }
    there.iter().any(Rule::excludes_records).then_some(
        "a rule of somebody else keeps types of audit records back; see auditctl -l, and delete \
         those for the list 'exclude'",
    )
}

/// Whether rules can still come and go.
fn may_change(status: &Status) -> Result<(), Refused> {
    if status.enabled == LOCKED { Err(Refused::Locked) } else { Ok(()) }
}

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    start: u64,
    before: Before,
}

impl Owner {
    fn us(before: Before) -> Self {
        let pid = std::process::id();
        Self { pid, start: start_of(pid).unwrap_or(0), before }
    }

    fn key(&self) -> String {
        let Self { pid, start, before } = self;
        format!("{PREFIX}{pid}-{start}-{}-{}", before.enabled, before.backlog)
    }

    fn parse(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(PREFIX)?.split('-');
        let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (enabled, backlog) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { pid, start, before: Before { enabled, backlog } })
            .filter(|_| parts.next().is_none())
    }

    /// One that was killed and that nobody has waited for yet lives no longer.
    fn lives(&self) -> bool {
        let held = pidfd::open(self.pid);
        start_of(self.pid) == Some(self.start)
            && held.map_or(true, |held| pidfd::is_alive(held.as_fd()))
    }
}

fn start_of(pid: u32) -> Option<u64> {
    Process::open(pid)?.start_time()
}

/// Held while rules come and go. Where it cannot be had, the worst is that audit stays on.
fn lock() -> Option<File> {
    let file = File::options().create(true).truncate(false).write(true).open(LOCK).ok()?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).ok()?;
    Some(file)
}

/// All rules; `None` on a processor whose system calls we do not know.
fn rules(anchor: &Path, key: &str) -> Option<Vec<Rule>> {
    use Comparison::{Equal, NotEqual};
    use Field::{Architecture, Argument1, Below, Permission, Pid, Success};
    let us = std::process::id();
    let others = |rule: Rule| rule.when(Success, Equal, 1).when(Pid, NotEqual, us).key(key);
    let of = |numbers: &Numbers, calls: &[u32]| {
        Rule::record(calls).when(Architecture, Equal, numbers.arch)
    };
    let below = anchor.as_os_str().as_bytes();
    let mut all = Vec::new();
    for numbers in native() {
        for request in SET_FLAGS.into_iter().chain([SET_XATTR]) {
            all.push(others(of(numbers, &[numbers.ioctl]).when(Argument1, Equal, request)));
        }
        all.push(others(of(numbers, numbers.times).when_text(Below, below)));
        all.push(others(of(numbers, &[numbers.mount, MOVE_MOUNT])));
    }
    all.push(others(Rule::record(&[FILE_SETATTR])));
    all.push(others(Rule::record(&XATTR_AT).when_text(Below, below)));
    let touching = Rule::record(&[]).when(Permission, Equal, WRITE_OR_ATTRIBUTE);
    all.push(others(touching.when_text(Below, below)));
    let first = native().first()?;
    let signal = of(first, &[first.ioctl]).when(Argument1, Equal, SIGNAL).when(Pid, Equal, us);
    all.push(signal.key(key));
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_are_locked_are_left_alone_and_the_refusal_says_what_to_do() {
        let status =
            |enabled| Status { enabled, daemon: 0, rate_limit: 0, backlog_limit: 64, lost: 0 };
        assert!(may_change(&status(0)).is_ok() && may_change(&status(1)).is_ok());
        let refused = may_change(&status(LOCKED)).unwrap_err().to_string();
        assert!(refused.contains("locked (-e 2)") && refused.contains("leave '-e 2' away"));
    }

    #[test]
    fn a_key_tells_whose_rule_it_is_and_how_audit_was() {
        let us = Owner::us(Before { enabled: 0, backlog: 64 });
        assert_eq!(Owner::parse(&us.key()), Some(us));
        assert!(us.lives());
        assert!(!Owner { start: us.start + 1, ..us }.lives());
        for key in
            ["steadfast", "steadfast-1-2-3", "steadfast-1-2-3-4-5", "delete", "steadfast-x-2-3-4"]
        {
            assert_eq!(Owner::parse(key), None, "{key}");
        }
    }

    #[test]
    fn a_process_that_was_killed_and_not_waited_for_owns_nothing() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let start = start_of(child.id()).unwrap();
        let owner = Owner { pid: child.id(), start, before: Before { enabled: 0, backlog: 64 } };
        assert!(owner.lives());
        child.kill().unwrap();
        let held = pidfd::open(child.id()).unwrap();
        while pidfd::is_alive(held.as_fd()) {
            std::thread::yield_now();
        }
        assert_eq!(start_of(child.id()), Some(start), "it is still there");
        assert!(!owner.lives());
        child.wait().unwrap();
    }
}
