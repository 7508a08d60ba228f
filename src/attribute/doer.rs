//! The process of an audit record: what the record tells, joined with what `/proc` and earlier
//! captures have of the same process.
//!
//! A record has no start time, and its pid may be somebody else's by the time that it is read.
//! What is found under the pid is believed only if that process had started when the call
//! began, and if parent, user, login and session are the same. Otherwise the record is all
//! there is, and the start time stays unknown.

use std::sync::Arc;
use std::time::Duration;

use super::circle::fastest_round;
use super::procfs::{Image, Process};
use super::{Actor, Captures, users};
use crate::judge::FileTime;
use crate::sys::clock;

/// The process that an audit record names; all text is escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of the record, under their names")]
pub struct Doer {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub login_uid: Option<u32>,
    pub session: Option<u32>,
    pub tty: Option<String>,
    pub comm: String,
    pub exe: Option<String>,
    pub cwd: Option<String>,
    pub cmdline: Vec<String>,
    /// When its call began.
    pub began: FileTime,
}

impl Captures {
    /// The process of a record that was read just now. Reads `/proc` and `/etc/passwd`: never on
    /// the permission thread.
    #[must_use]
    pub fn by_record(&self, doer: &Doer) -> Arc<Actor> {
        if let Some(actor) = self.of_record(doer) {
            return actor;
        }
        users::refresh();
        let living = Process::open(doer.pid).and_then(|process| {
            let actor = process.capture_without(Image::default())?;
            doer.may_be(&actor).then_some(actor)
        });
        let mut actor = match living {
            Some(actor) => Actor { comm: actor.comm.clone(), ..doer.over(actor) },
            None => doer.alone(),
        };
        let read = std::mem::take(&mut actor.ancestry);
        actor.ancestry = self.lineage().of_call(doer, read);
        Arc::new(actor)
    }

    /// The process of a record, as captured before.
    #[must_use]
    pub fn of_record(&self, doer: &Doer) -> Option<Arc<Actor>> {
        let actor = self.captured_as(doer.pid).filter(|actor| doer.may_be(actor))?;
        // It was given its pid so shortly before the call that nobody else can have had it; or
        // nobody else has had it up to now; or the kernel told of nobody else who was given it.
        let has_it = || self.captured_and_gone(doer.pid).is_some_and(|same| same.is_same(&actor));
        let told = || self.lineage().is_of_call(doer, actor.start_time);
        if !doer.began_shortly_after(&actor) && !has_it() && !told() {
            return None;
        }
        Some(match doer.runs_the_same(&actor) {
            true => actor,
            false => Arc::new(doer.over((*actor).clone())),
        })
    }
}

impl Doer {
    /// Whether what was found under the pid can be this process.
    fn may_be(&self, actor: &Actor) -> bool {
        let child = self.ppid == actor.ppid || actor.ppid == 1;
        child
            && (self.uid, self.login_uid, self.session)
                == (actor.uid, actor.login_uid, actor.session)
            && clock::wall_of_ticks(actor.start_time)
                .is_some_and(|start| start <= self.began_late())
    }

    fn began_shortly_after(&self, actor: &Actor) -> bool {
        let nanoseconds =
            |time: FileTime| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
        let Some(start) = clock::wall_of_ticks(actor.start_time) else { return false };
        let lived = nanoseconds(self.began_late()) - nanoseconds(start);
        u64::try_from(lived).is_ok_and(|lived| Duration::from_nanos(lived) < fastest_round())
    }

    /// The start of a process is known to a hundredth of a second only, and the time of a call
    /// to a thousandth, rounded down.
    pub(super) fn began_late(&self) -> FileTime {
        let nsec = self.began.nsec + 10_000_000;
        FileTime {
            sec: self.began.sec + i64::from(nsec / 1_000_000_000),
            nsec: nsec % 1_000_000_000,
        }
    }

    /// Whether it has not called `execve` since that capture. The two name a program as seen
    /// from different roots, so only its own name counts; and the command line of a record may
    /// be cut off in its last argument. A record has the name of the thread, which says nothing.
    fn runs_the_same(&self, actor: &Actor) -> bool {
        let name = |exe: &Option<String>| {
            exe.as_deref().and_then(|exe| exe.rsplit('/').next().map(str::to_owned))
        };
        let whole = self.cmdline.len().saturating_sub(1);
        name(&self.exe) == name(&actor.exe)
            && self.cmdline.get(..whole) == actor.cmdline.get(..whole)
    }

    /// The same process, running what the record says.
    fn over(&self, actor: Actor) -> Actor {
        Actor {
            comm: self.comm.clone(),
            exe: self.exe.clone(),
            cmdline: self.cmdline.clone(),
            tty: self.tty.clone().or(actor.tty),
            cwd: self.cwd.clone().or(actor.cwd),
            ..actor
        }
    }

    /// All that the record tells.
    #[must_use]
    pub fn brief(&self) -> Actor {
        Actor {
            pid: self.pid,
            start_time: 0,
            comm: self.comm.clone(),
            exe: self.exe.clone(),
            cmdline: self.cmdline.clone(),
            cwd: self.cwd.clone(),
            tty: self.tty.clone(),
            uid: self.uid,
            user: users::name(self.uid),
            login_uid: self.login_uid,
            login_user: self.login_uid.and_then(users::name),
            session: self.session,
            ppid: self.ppid,
            ..Actor::default()
        }
    }

    /// And the parents, if they are still there.
    fn alone(&self) -> Actor {
        let born = clock::ticks_of_wall(self.began_late()).unwrap_or(0);
        Actor { ancestry: super::procfs::ancestry_from(self.ppid, born), ..self.brief() }
    }
}
