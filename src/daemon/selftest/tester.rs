//! The thread that makes the canaries, starts the tamperers and waits for them, so that the guard
//! never does.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::canary::{self, Room};
use crate::attribute::procfs::Process;
use crate::baseline::{Record, Vault};
use crate::daemon::wake::Mailer;
use crate::daemon::workers::Report;
use crate::selftest::{Culprit, Route, Tampering};

/// Something for the tester to do.
enum Job {
    Make(Vec<Room>),
    Tamper(Route, PathBuf),
    Clear,
}

/// What the tester tells the guard.
#[derive(Debug)]
pub enum News {
    /// The canaries of each room are there, or why they are not.
    Made(Vec<(Room, Result<[Record; 2], String>)>),
    /// The deed is done, or is not.
    Tampered(Option<Culprit>, Tampering),
    /// The tamperer is gone.
    Ended,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tester {
    jobs: Option<Sender<Job>>,
    release: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How often it looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(20);
/// A tamperer that has not done its deed by then never will.
const LONGEST: Duration = Duration::from_secs(10);

impl Tester {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(vault: Arc<Vault>, reports: Mailer<Report>) -> std::io::Result<Self> {
        let (jobs, inbox) = channel();
        let (release, released) = channel();
        let thread = std::thread::Builder::new().name("tester".into()).spawn(move || {
            let tell = |news| reports.send(Report::Selftest(news));
            let mut made: Vec<Room> = Vec::new();
            for job in inbox {
                match job {
                    Job::Make(rooms) => {
                        made.clone_from(&rooms);
                        let make = |room: Room| {
                            let records = canary::make(&room, &vault);
                            (room, records)
                        };
                        tell(News::Made(rooms.into_iter().map(make).collect()));
                    }
                    Job::Tamper(route, path) => play(route, &path, &released, &tell),
                    Job::Clear => made.drain(..).for_each(|room| {
                        if let Err(e) = canary::clear(&room.dir) {
                            tracing::warn!("the canaries cannot be taken away: {e}");
                        }
                    }),
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), release: Some(release), thread: Some(thread) })
    }

    /// Has the canaries made; [`News::Made`] follows.
    pub(super) fn make(&self, rooms: Vec<Room>) {
        self.push(Job::Make(rooms));
    }

    /// Has one tampered with; [`News::Tampered`] and [`News::Ended`] follow.
    pub(super) fn tamper(&self, route: Route, path: PathBuf) {
        self.push(Job::Tamper(route, path));
    }

    /// Lets the tamperer go that lingers.
    pub(super) fn release(&self) {
        if let Some(release) = &self.release {
            // The thread ends only when this handle does.
            let _ = release.send(());
        }
    }

    /// Has the canaries taken away.
    pub(super) fn clear(&self) {
        self.push(Job::Clear);
    }

    fn push(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Tester {
    fn drop(&mut self) {
        self.clear();
        self.release = None;
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Has a process of its own do the deed, and sees it to its end.
fn play(route: Route, path: &PathBuf, released: &Receiver<()>, tell: &dyn Fn(News)) {
    // What was said to the one before.
    released.try_iter().for_each(drop);
    let mut command = Command::new("/proc/self/exe");
    command.arg("tamper").arg(route.name()).arg(path);
    command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            let why = format!("no process can be started: {e}");
            tell(News::Tampered(None, Tampering::Failed(why)));
            return tell(News::Ended);
        }
    };
    // It is a zombie at worst, as long as nobody waits for it, and keeps its number.
    let culprit = Process::open(child.id()).and_then(|process| process.start_time());
    let culprit = culprit.map(|start_time| Culprit { pid: child.id(), start_time });
    let said = listen(&mut child, released);
    if !route.lingers() {
        // Gone in every sense before anybody can ask: that is what it is played for.
        end(&mut child);
    }
    tell(News::Tampered(culprit, said));
    if route.lingers() {
        // Nobody to say so, or nobody left: either way it goes.
        let _ = released.recv_timeout(LONGEST);
        end(&mut child);
    }
    tell(News::Ended);
}

/// What it says, unless it takes too long or nobody wants to know any more.
fn listen(child: &mut Child, released: &Receiver<()>) -> Tampering {
    let Some(mut stdout) = child.stdout.take() else {
        return Tampering::Failed("the process cannot be heard".into());
    };
    let deadline = Instant::now() + LONGEST;
    let mut said = Vec::new();
    while !said.ends_with(b"\n") {
        let abandoned =
            released.recv_timeout(Duration::ZERO) == Err(RecvTimeoutError::Disconnected);
        if abandoned || Instant::now() > deadline {
            let _ = child.kill();
            return Tampering::Failed("the process took too long".into());
        }
        match read_some(&mut stdout, &mut said) {
            Ok(false) => {}
            Ok(true) => break,
            Err(e) => return Tampering::Failed(e.to_string()),
        }
    }
    let unclear = || Tampering::Failed("the process ended before it had done anything".into());
    serde_json::from_slice(&said).unwrap_or_else(|_| unclear())
}

/// True at the end.
fn read_some(stdout: &mut ChildStdout, said: &mut Vec<u8>) -> std::io::Result<bool> {
    let glance = PollTimeout::try_from(GLANCE).unwrap_or(PollTimeout::ZERO);
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
    if nix::poll::poll(&mut fds, glance)? == 0 {
        return Ok(false);
    }
    let mut some = [0; 512];
    let count = stdout.read(&mut some)?;
    said.extend_from_slice(some.get(..count).unwrap_or_default());
    Ok(count == 0)
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    // It ends by itself; this is for one that cannot.
    if !matches!(child.try_wait(), Ok(Some(_))) {
        let _ = child.kill();
    }
    let _ = child.wait();
}
