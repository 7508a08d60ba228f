//! Who did it: a process as it was when it did.

use serde::{Deserialize, Serialize};

/// One process of a parent chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// The name in `/proc/PID/comm`, escaped.
    pub comm: String,
    /// The executable, escaped; `None` where the kernel would not say.
    pub exe: Option<String>,
    /// The command line, each argument escaped.
    pub cmdline: Vec<String>,
    /// When it started, or some moments later, in ticks; 0 where that is not known. Not told.
    #[serde(skip)]
    pub started: u64,
}

impl Ancestor {
    /// Whether it can be this process.
    #[must_use]
    pub fn may_be(&self, actor: &Actor) -> bool {
        let known = self.started != 0 && actor.start_time != 0;
        self.pid == actor.pid && (!known || self.is_as_old_as(actor.start_time))
    }

    /// Whether it started then, by what is known of it: no pid is used again so soon.
    pub(super) fn is_as_old_as(&self, tick: u64) -> bool {
        self.started.checked_sub(tick).is_some_and(|later| later < MOMENTS)
    }
}

/// In ticks.
const MOMENTS: u64 = 10;

/// A process. Its identity is the pair of `pid` and `start_time`: a pid alone is used again.
///
/// Text comes from `/proc` and so from whoever started the process: it is escaped with
/// [`crate::text::escape`] where it is read, and safe to print.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Process id in steadfast's pid namespace.
    pub pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`; 0 where it is not known, because
    /// all there is of the process is an audit record.
    pub start_time: u64,
    /// The name in `/proc/PID/comm`.
    pub comm: String,
    /// The executable, without the ` (deleted)` that the kernel adds.
    pub exe: Option<String>,
    /// The command line.
    pub cmdline: Vec<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// The controlling terminal, such as `pts/3`.
    pub tty: Option<String>,
    /// Effective user id.
    pub uid: u32,
    /// Its name.
    pub user: Option<String>,
    /// The user who logged in; survives `sudo` and `su`. `None` for what no login started.
    pub login_uid: Option<u32>,
    /// Its name.
    pub login_user: Option<String>,
    /// Audit session.
    pub session: Option<u32>,
    /// Parent process id.
    pub ppid: u32,
    /// From the parent up to pid 1. Where it is known who started it, those who did, though they
    /// have ended and others are its parents by now; of one that nobody could look at in time,
    /// `comm` is `?`.
    pub ancestry: Vec<Ancestor>,
    /// The cgroup path.
    pub cgroup: Option<String>,
    /// The systemd unit that the cgroup names.
    pub unit: Option<String>,
    /// The unit of the user's own systemd, where [`unit`](Self::unit) is that one's.
    #[serde(default)]
    pub user_unit: Option<String>,
    /// The container id that the cgroup names; of LXC and nspawn the name.
    pub container: Option<String>,
    /// The container's name, where its runtime keeps one that could be read.
    #[serde(default)]
    pub container_name: Option<String>,
}

impl Actor {
    /// Whether both are the same process. One whose start is not known is told by its pid
    /// alone.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let started = [self.start_time, other.start_time];
        self.pid == other.pid && (started[0] == started[1] || started.contains(&0))
    }

    /// About what it takes of memory.
    pub(super) fn size(&self) -> usize {
        let texts = |all: &[String]| all.iter().map(|one| size_of::<String>() + one.len()).sum();
        let own: usize = texts(&self.cmdline);
        let above = self.ancestry.iter().map(|above| {
            let args: usize = texts(&above.cmdline);
            size_of::<Ancestor>()
                + above.comm.len()
                + above.exe.as_ref().map_or(0, String::len)
                + args
        });
        let single = [
            Some(&self.comm),
            self.exe.as_ref(),
            self.cwd.as_ref(),
            self.cgroup.as_ref(),
            self.unit.as_ref(),
            self.user_unit.as_ref(),
            self.container.as_ref(),
            self.container_name.as_ref(),
        ];
        let single: usize = single.into_iter().flatten().map(String::len).sum();
        size_of::<Self>() + own + above.sum::<usize>() + single
    }
}

/// Where the name of a process came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A Linux audit record.
    Audit,
    /// A permission event held the process at `open` while it was looked at.
    OpenPermission,
    /// The event carried the process itself and it could still be looked at; or it is the one that
    /// gave a command.
    Pidfd,
    /// Nothing named a process.
    #[default]
    None,
}

/// How sure it is that this process made this change.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// No process can be named.
    #[default]
    Unknown,
    /// It had the file open when it changed.
    Opener,
    /// The kernel tied this process to this change.
    Exact,
}

/// Source and confidence, as an event states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Where the name came from.
    pub source: Source,
    /// How sure it is.
    pub confidence: Confidence,
}
