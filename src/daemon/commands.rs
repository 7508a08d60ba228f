//! What a person asks of the running daemon.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::api::{Command, PathReport, Report, Request};
use super::guard::Guard;
use super::protect;
use super::scribe::{Afterwards, Note};
use super::workers::{Reading, Taken};
use crate::baseline::Origin;
use crate::config::{canonical_path, resolve_path};
use crate::judge::Policy;
use crate::record::{Event, Kind, PathText, Severity};
use crate::sense::FileId;

/// Collects the answers to one request, and sends them when all are there.
#[derive(Debug)]
pub struct Asker {
    open: Mutex<Option<Open>>,
}

type Open = (oneshot::Sender<Report>, Vec<Option<PathReport>>);

impl Asker {
    /// An asker that waits for `count` answers.
    #[must_use]
    pub fn new(reply: oneshot::Sender<Report>, count: usize) -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(Some((reply, vec![None; count]))) })
    }

    /// Gives one answer. The last one sends them all.
    pub fn answer(&self, index: usize, path: &Path, done: bool, message: impl Into<String>) {
        let Ok(mut open) = self.open.lock() else { return };
        let Some((_, answers)) = open.as_mut() else { return };
        if let Some(place) = answers.get_mut(index) {
            *place = Some(PathReport { path: PathText::new(path), message: message.into(), done });
        }
        if answers.iter().all(Option::is_some)
            && let Some((reply, answers)) = open.take()
        {
            // Whoever asked may have gone away meanwhile.
            let _ = reply.send(Report { paths: answers.into_iter().flatten().collect() });
        }
    }
}

impl Guard {
    /// Does what is asked, or has it done.
    pub(super) fn asked(
        &mut self,
        command: Command,
        request: Request,
        reply: oneshot::Sender<Report>,
    ) {
        if request.paths.is_empty() {
            let _ = reply.send(Report::default());
            return;
        }
        let mut refused = Vec::new();
        let mut paths = Vec::new();
        for asked in request.paths.iter().map(PathText::to_path) {
            match command {
                Command::Protect => match resolve_path(&asked, &self.state) {
                    Ok(found) => paths.extend(found),
                    Err(e) => refused.push((asked, e.to_string())),
                },
                _ => paths.extend(self.below(&asked)),
            }
        }
        let asker = Asker::new(reply, paths.len() + refused.len());
        for (index, (asked, why)) in refused.iter().enumerate() {
            asker.answer(index, asked, false, why.as_str());
        }
        for (index, asked) in paths.iter().enumerate() {
            let index = index + refused.len();
            let known = self.engine.id_of(asked);
            match (command, known) {
                (Command::Protect, known) => self.ask_protect(asked, known, &asker, index),
                (_, None) => asker.answer(
                    index,
                    asked,
                    false,
                    "is not protected; 'steadfast protect PATH' takes it under protection",
                ),
                (Command::Release, Some(file)) => {
                    let (done, message) = self.release(file, "released by command");
                    self.answer(&asker, index, asked, done, message);
                }
                (Command::Restore, Some(file)) => {
                    let (done, message) = self.restore(file);
                    self.answer(&asker, index, asked, done, message);
                }
                (Command::Accept, Some(file)) => {
                    self.ask_accept(file, request.reason.clone(), &asker, index);
                }
            }
        }
    }

    /// The path itself if it is protected, and with a protected directory all below it.
    fn below(&self, path: &Path) -> Vec<PathBuf> {
        let path = canonical_path(path);
        let mut all: Vec<PathBuf> = self
            .wards()
            .map(|(_, ward)| &ward.patient.path)
            .filter(|known| **known != path && known.starts_with(&path))
            .cloned()
            .collect();
        all.sort();
        if all.is_empty() || self.engine.id_of(&path).is_some() {
            all.insert(0, path);
        }
        all
    }

    fn ask_protect(&self, path: &Path, known: Option<FileId>, asker: &Arc<Asker>, index: usize) {
        if known.is_some() {
            return asker.answer(index, path, true, "is protected already");
        }
        self.reader.push(Reading::Take {
            path: path.to_owned(),
            policy: Policy::default(),
            origin: Origin::Command,
            accepted: None,
            asker: Arc::clone(asker),
            index,
        });
    }

    fn ask_accept(&self, file: FileId, reason: Option<String>, asker: &Arc<Asker>, index: usize) {
        let Some(ward) = self.ward(file) else { return };
        self.reader.push(Reading::Take {
            path: ward.patient.path.clone(),
            policy: ward.policy,
            origin: ward.origin,
            accepted: Some(reason),
            asker: Arc::clone(asker),
            index,
        });
    }

    /// A path was read for [`Command::Protect`] or [`Command::Accept`].
    pub(super) fn taken(&mut self, taken: Taken) {
        let Taken { path, record, accepted, asker, index } = taken;
        let record = match record {
            Ok(record) => record,
            Err(e) => return asker.answer(index, &path, false, e.to_string()),
        };
        if let Some(file) = self.engine.id_of(&path) {
            self.forget(file);
        }
        let mut event = match &accepted {
            Some(_) => Event::new(Timestamp::now(), Kind::Accepted, Severity::Info),
            None => Event::new(Timestamp::now(), Kind::Protected, Severity::Info),
        }
        .about(&path);
        event.note = accepted.clone().flatten();
        self.scribe.tell(Note::Protect(Box::new(record.clone())));
        self.scribe.tell(Note::Event(Box::new(event)));
        let locked = record.facts.keeps_immutable();
        self.guard(record);
        let message = match (accepted.is_some(), locked) {
            (true, _) => "what is there now is known good".into(),
            (false, true) => "is protected, and immutable".to_owned(),
            (false, false) => "is protected, without the immutable bit".into(),
        };
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

    /// Stops protecting a file, which stays as it is but for the immutable bit.
    pub(super) fn release(&mut self, file: FileId, why: &str) -> (bool, String) {
        let Some(ward) = self.ward(file) else { return (false, "is not protected".into()) };
        let path = ward.patient.path.clone();
        let locked = ward.patient.facts.keeps_immutable();
        self.forget(file);
        let unlocked = if locked { protect::unlock(&path) } else { Ok(()) };
        self.scribe.tell(Note::Release(path.clone()));
        let event =
            Event::new(Timestamp::now(), Kind::Released, Severity::Info).about(&path).noting(why);
        self.scribe.tell(Note::Event(Box::new(event)));
        match unlocked {
            Ok(()) => (true, "is no longer protected".into()),
            Err(e) => (
                false,
                format!(
                    "is no longer protected, but +i could not be cleared: {e}; 'chattr -i' does it"
                ),
            ),
        }
    }
}
