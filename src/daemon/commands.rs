//! What a person asks of the running daemon.

pub(super) mod acceptance;
pub mod offline;
pub mod protect;
pub(super) mod restore;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::api::{Command, Gauge, PathReport, Report, Request};
use super::control::Reply;
use super::guard::Guard;
use super::guard::strangers;
use super::scribe::{Afterwards, Note};
use super::workers::{Reading, Taken};
use crate::attribute::Named;
use crate::baseline::Origin;
use crate::config::{canonical_path, resolve_path};
use crate::engine::Input;
use crate::judge::{FileKind, Policy, Unexpected};
use crate::record::{Event, Kind, PathText, Severity};
use crate::sense::FileId;
use acceptance::{Known, Step};
use jiff::Timestamp;

/// Collects the answers to one request, and sends them when all are there.
#[derive(Debug)]
pub struct Asker {
    open: Mutex<Option<Open>>,
    /// How far it is.
    pub gauge: Arc<Gauge>,
    /// Which process asked.
    by: Named,
}

/// The answers so far, the strangers that are told of with them, and where they go.
#[derive(Debug)]
struct Open {
    reply: Reply,
    answers: Vec<Option<PathReport>>,
    strangers: Vec<PathText>,
}

impl Asker {
    /// An asker that waits for `count` answers.
    #[must_use]
    pub fn new(mut reply: Reply, count: usize) -> Arc<Self> {
        let by = std::mem::take(&mut *reply.by);
        let gauge = Arc::clone(&reply.gauge);
        gauge.set_paths(count);
        let open = Open { reply, answers: vec![None; count], strangers: Vec::new() };
        Arc::new(Self { open: Mutex::new(Some(open)), gauge, by })
    }

    /// Has these strangers told of with the answers.
    fn tell_strangers(&self, strangers: &[PathBuf]) {
        if let Ok(mut open) = self.open.lock()
            && let Some(open) = open.as_mut()
        {
            open.strangers = strangers.iter().map(|path| PathText::new(path)).collect();
        }
    }

    /// Gives one answer. The last one sends them all.
    pub fn answer(&self, index: usize, path: &Path, done: bool, message: impl Into<String>) {
        let Ok(mut open) = self.open.lock() else { return };
        let Some(Open { answers, .. }) = open.as_mut() else { return };
        if let Some(place) = answers.get_mut(index) {
            *place = Some(PathReport { path: PathText::new(path), message: message.into(), done });
        }
        self.gauge.path_done();
        if answers.iter().all(Option::is_some)
            && let Some(Open { reply, answers, strangers }) = open.take()
        {
            let paths = answers.into_iter().flatten().collect();
            reply.send(Report { paths, strangers, ..Report::default() });
        }
    }
}

/// What is to be done with one path.
enum Job {
    /// Take what is there as known good.
    Take(Policy, Origin),
    Release(FileId, &'static str),
    /// Put the known-good copy back of what holds so many strangers.
    Restore(FileId, usize),
    /// A stranger goes to the quarantine: the directory, and the name in it.
    Evict(FileId, Vec<u8>),
    /// Nothing is left to do.
    Done(String),
    Refuse(String),
}

impl Guard {
    /// Does what is asked, or has it done.
    pub(super) fn asked(&mut self, command: Command, request: Request, reply: Reply) {
        if command == Command::Selftest {
            return self.selftest_asked(reply);
        }
        let mut jobs = Vec::new();
        for asked in request.paths.iter().map(PathText::to_path) {
            match command {
                Command::Protect => self.plan_protect(&asked, &mut jobs),
                Command::Accept => self.plan_accept(&canonical_path(&asked), &mut jobs),
                Command::Release | Command::Restore | Command::Selftest => {
                    self.plan_known(command, &canonical_path(&asked), &mut jobs);
                }
            }
        }
        let staying = match command {
            Command::Restore => self.plan_strangers(&mut jobs),
            _ => Vec::new(),
        };
        if jobs.is_empty() {
            return reply.send(Report::default());
        }
        let asker = Asker::new(reply, jobs.len());
        asker.tell_strangers(&staying);
        let accepted = (command == Command::Accept).then_some(request.reason);
        for (index, (path, job)) in jobs.into_iter().enumerate() {
            self.carry_out(job, &path, &accepted, &asker, index);
        }
    }

    fn carry_out(
        &mut self,
        job: Job,
        path: &Path,
        accepted: &Option<Option<String>>,
        asker: &Arc<Asker>,
        index: usize,
    ) {
        let (done, message) = match job {
            Job::Take(policy, origin) => {
                let (path, accepted) = (path.to_owned(), accepted.clone());
                let asker = Arc::clone(asker);
                let job = Reading::Take { path, policy, origin, accepted, asker, index };
                return self.reader.push(job);
            }
            Job::Release(file, why) => self.release(file, why, &asker.by),
            Job::Restore(file, holds) => match self.restore(file) {
                (true, said) => (true, strangers::but_for(said, holds)),
                undone => undone,
            },
            Job::Evict(file, name) => {
                self.feed(Input::Stranger { file, name });
                (true, "does not belong there, and goes to the quarantine".into())
            }
            Job::Done(message) => (true, message),
            Job::Refuse(message) => (false, message),
        };
        self.answer(asker, index, path, done, message);
    }

    fn plan_protect(&self, asked: &Path, jobs: &mut Vec<(PathBuf, Job)>) {
        let found = match resolve_path(asked, &self.state) {
            Ok(found) => found,
            Err(e) => return jobs.push((asked.to_owned(), Job::Refuse(e.to_string()))),
        };
        jobs.extend(found.into_iter().map(|path| {
            let job = match self.known(&path) {
                Some(_) => Job::Done("is protected already".into()),
                None => Job::Take(Policy::default(), Origin::Command),
            };
            (path, job)
        }));
    }

    fn plan_accept(&self, asked: &Path, jobs: &mut Vec<(PathBuf, Job)>) {
        let below = self.below(asked);
        match acceptance::plan(asked, &below, &self.state, &|path| self.known(path)) {
            Err(why) => jobs.push((asked.to_owned(), Job::Refuse(why))),
            Ok(steps) => jobs.extend(steps.into_iter().filter_map(|step| match step {
                Step::Take(path, policy, origin) => Some((path, Job::Take(policy, origin))),
                Step::Release(path) => {
                    let file = self.engine.id_of(&path)?;
                    Some((path, Job::Release(file, acceptance::ACCEPTED_GONE)))
                }
            })),
        }
    }

    fn plan_known(&self, command: Command, asked: &Path, jobs: &mut Vec<(PathBuf, Job)>) {
        let below = self.below(asked);
        if below.is_empty() {
            let why = acceptance::not_protected(asked, &|path| self.known(path));
            return jobs.push((asked.to_owned(), Job::Refuse(why)));
        }
        if command == Command::Release
            && let Some(why) = acceptance::must_stay(asked, &|path| self.known(path))
        {
            return jobs.push((asked.to_owned(), Job::Refuse(why)));
        }
        jobs.extend(below.into_iter().filter_map(|path| {
            let file = self.engine.id_of(&path)?;
            let job = match command {
                Command::Release => Job::Release(file, acceptance::BY_COMMAND),
                _ => Job::Restore(file, 0),
            };
            Some((path, job))
        }));
    }

    /// Strangers in the directories that are restored: those that are to go are planned for, and
    /// those that stay are returned.
    fn plan_strangers(&self, jobs: &mut Vec<(PathBuf, Job)>) -> Vec<PathBuf> {
        let (mut staying, mut going) = (Vec::new(), Vec::new());
        for (directory, job) in jobs.iter_mut() {
            let Job::Restore(file, holds) = job else { continue };
            let Some(ward) = self.ward(*file) else { continue };
            if ward.patient.facts.kind != FileKind::Directory {
                continue;
            }
            let is_known = |path: &Path| self.engine.id_of(path).is_some();
            // One that is gone, or cannot be listed, is told of by its own job.
            let found = strangers::list(directory, &self.state, is_known).unwrap_or_default();
            *holds = found.len();
            match ward.policy.unexpected {
                Unexpected::Report => staying.extend(found),
                Unexpected::Quarantine => going.extend(found.into_iter().filter_map(|path| {
                    let name = path.file_name()?.as_encoded_bytes().to_vec();
                    Some((path, Job::Evict(*file, name)))
                })),
            }
        }
        jobs.extend(going);
        staying
    }

    /// What is protected at the path and below it, what leads to it first.
    fn below(&self, path: &Path) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = self
            .wards()
            .filter(|(_, ward)| ward.origin != Origin::Own)
            .map(|(_, ward)| &ward.patient.path)
            .filter(|known| known.starts_with(path) && !self.canaries.is_theirs(known))
            .map(|known| known.to_path_buf())
            .collect();
        all.sort();
        all
    }

    fn known(&self, path: &Path) -> Option<Known> {
        let ward = self.ward(self.engine.id_of(path)?)?;
        if ward.origin == Origin::Own {
            return None;
        }
        let kind = ward.patient.facts.kind;
        Some(Known { policy: ward.policy, origin: ward.origin, kind })
    }

    /// A path was read for [`Command::Protect`] or [`Command::Accept`].
    pub(super) fn taken(&mut self, taken: Taken) {
        let Taken { path, record, accepted, asker, index } = taken;
        let record = match record {
            Ok(record) => record,
            Err(e) => return asker.answer(index, &path, false, protect::refusal(&e, &accepted)),
        };
        self.give_up_own(&path);
        let before = self.engine.id_of(&path);
        if before.is_some() && accepted.is_none() {
            // Somebody else protected it meanwhile. What is known good is not to change by that.
            return asker.answer(index, &path, true, "is protected already".to_owned());
        }
        if let Some(file) = before {
            self.forget(file);
        }
        self.scribe.tell(Note::Protect(Box::new(record.clone())));
        let event = protect::taken_event(&path, before.is_some(), &accepted).asked_by(&asker.by);
        self.scribe.tell(Note::Event(Box::new(event)));
        let message = protect::taken_message(&record, before.is_some());
        self.guard(record);
        self.answer(&asker, index, &path, true, message);
    }

    /// Answers once everything that was told to the scribe is on the disk: whoever asked may
    /// look there next.
    fn answer(&self, asker: &Arc<Asker>, index: usize, path: &Path, done: bool, message: String) {
        let (asker, path) = (Arc::clone(asker), path.to_owned());
        self.scribe.tell(Note::Then(Afterwards::new(move || {
            asker.answer(index, &path, done, message);
        })));
    }

    /// Stops protecting a file, which stays as it is but for the immutable bit. Where that cannot
    /// be cleared, it stays protected.
    pub(super) fn release(&mut self, file: FileId, why: &str, by: &Named) -> (bool, String) {
        let Some(ward) = self.ward(file) else { return (false, "is not protected".into()) };
        let path = ward.patient.path.clone();
        if ward.patient.facts.keeps_immutable()
            && let Err(e) = protect::unlock(&path)
        {
            return (false, protect::still_locked(&path, &e));
        }
        self.forget(file);
        self.globs.released(&path);
        if self.own.is_one(&path) {
            self.look_for_own(false);
        }
        self.scribe.tell(Note::Release(path.to_path_buf()));
        let event = Event::new(Timestamp::now(), Kind::Released, Severity::Info);
        let event = event.about(&path).noting(why).asked_by(by);
        self.scribe.tell(Note::Event(Box::new(event)));
        let known = |path: &Path| self.known(path);
        (true, acceptance::released(&path, why, &self.in_force.config, &known))
    }
}
