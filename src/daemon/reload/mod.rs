//! Another configuration while the daemon runs.
//!
//! It is checked whole before anything of it holds, and put in force by the guard between two
//! events: what stays protected is guarded all the while. One that is wrong changes nothing, and
//! that is journaled and mailed.

mod prepare;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

pub use prepare::Prepared;

use self::prepare::Preparation;
use super::commands::protect;
use super::control::HealthListener;
use super::failures::Failure;
use super::guard::Guard;
use super::scribe::{Afterwards, Delivery, Note};
use super::wake::Mailer;
use super::workers::Report;
use crate::alert::{Item, Supervisor};
use crate::attribute::Named;
use crate::baseline::Origin;
use crate::config::{Config, show_duration};
use crate::engine::Input;
use crate::judge::{FileKind, Policy};
use crate::record::{Event, Kind, Severity};
use crate::sense::FileId;

/// Why a path is released that the configuration had.
const GONE: &str = "it is no longer in the configuration";

/// The configuration in force, and what a reload needs.
pub(super) struct InForce {
    pub(super) config: Config,
    /// The file, if it is not the usual one.
    pub(super) file: Option<PathBuf>,
    pub(super) listener: HealthListener,
    pub(super) reports: Mailer<Report>,
    /// Why the file as it is now is not in force, where that is so.
    pub(super) refused: Option<String>,
    /// A reload is under way; another was asked for meanwhile.
    pub(super) busy: bool,
    pub(super) again: bool,
    /// The process that delivers is ours.
    pub(super) delivers: bool,
}

impl InForce {
    /// Who carries the messages in this configuration.
    pub(super) fn delivery(&self) -> Delivery {
        match self.config.email {
            None => Delivery::Nobody,
            Some(_) if self.delivers => Delivery::Own(Supervisor::new(self.file.clone())),
            Some(_) => Delivery::Service,
        }
    }
}

impl Guard {
    /// Somebody wants the configuration read again.
    pub(super) fn reload(&mut self) {
        if std::mem::replace(&mut self.in_force.busy, true) {
            self.in_force.again = true;
            return;
        }
        let with = Preparation {
            file: self.in_force.file.clone(),
            old: self.in_force.config.clone(),
            state: self.state.clone(),
            vault: Arc::clone(&self.vault),
        };
        let reports = self.in_force.reports.clone();
        // It reads from the database what is known.
        self.scribe.tell(Note::Then(Afterwards::new(move || {
            let answer = reports.clone();
            let work = move || answer.send(Report::Reloaded(Box::new(prepare::prepare(&with))));
            if let Err(e) = std::thread::Builder::new().name("reload".into()).spawn(work) {
                let why = format!("the system has no thread for it: {e}");
                reports.send(Report::Reloaded(Box::new(Err(why))));
            }
        })));
    }

    /// A configuration was prepared, or found wrong.
    pub(super) fn reloaded(&mut self, prepared: Result<Prepared, String>) {
        self.in_force.busy = false;
        match prepared {
            Ok(prepared) => self.put_in_force(prepared),
            Err(why) => self.refuse_configuration(&why),
        }
        if std::mem::take(&mut self.in_force.again) {
            self.reload();
        }
    }

    fn refuse_configuration(&mut self, why: &str) {
        tracing::error!("the configuration stays as it was: {why}");
        self.in_force.refused =
            Some(format!("the file as it is now was refused, the one before is in force: {why}"));
        self.health.counts.failure(Failure::ConfigurationRefused);
        let note = format!("the configuration stays as it was: {why}");
        if let Some(event) = Failure::ConfigurationRefused.event(note) {
            self.alarm("configuration", vec![(event, true)]);
        }
    }

    /// Puts what concerns the watchdog itself on record, and tells a person of what is to be said
    /// aloud.
    pub(super) fn alarm(&self, matter: &str, told: Vec<(Event, bool)>) {
        let mut aloud = Vec::new();
        for (event, loud) in told {
            self.scribe.tell(Note::Event(Box::new(event.clone())));
            aloud.extend(loud.then_some(event));
        }
        let Some(first) = aloud.first() else { return };
        let (incident, not_before) =
            (format!("{matter}-{}", first.time.strftime("%Y%m%dT%H%M%S.%6f")), first.time);
        let item = Item { incident, not_before, events: aloud };
        self.scribe.tell(Note::Message { item, waits: false });
    }

    fn put_in_force(&mut self, prepared: Prepared) {
        let Prepared { config, wanted, taken, listener, mut warnings } = prepared;
        let mut changes = settings(&self.in_force.config, &config);
        let mut added = 0_usize;
        let mut events = Vec::new();
        for record in taken {
            self.give_up_own(&record.path);
            // Somebody may have protected it by command meanwhile.
            if self.engine.id_of(&record.path).is_none() {
                added += 1;
                events.push(event(Kind::Protected, &record.path));
                self.scribe.tell(Note::Protect(Box::new(record.clone())));
                self.guard(record);
            }
        }
        let left = |ward: &super::guard::ward::Ward| {
            ward.origin == Origin::Configuration && !wanted.contains_key(&*ward.patient.path)
        };
        let gone: Vec<FileId> =
            self.wards().filter(|(_, ward)| left(ward)).map(|(file, _)| file).collect();
        let mut removed = 0_usize;
        let mut other: Vec<(FileId, Policy)> = Vec::new();
        for (file, ward) in self.wards() {
            let policy = wanted.get(&*ward.patient.path).copied().unwrap_or(ward.policy);
            if policy != ward.policy {
                other.push((file, policy));
            }
        }
        let changed = other.len();
        for (file, policy) in other {
            warnings.extend(self.change_policy(file, policy).err());
        }
        changes.splice(0..0, counted(added, gone.len(), changed));
        let told = if changes.is_empty() { "nothing changed".into() } else { changes.join(", ") };
        let loaded = Event::new(Timestamp::now(), Kind::ConfigurationLoaded, Severity::Info);
        self.scribe.tell(Note::Event(Box::new(loaded.noting(&told))));
        events.into_iter().for_each(|event| self.scribe.tell(Note::Event(Box::new(event))));
        for file in gone {
            let (done, why) = self.release(file, GONE, &Named::default());
            removed += usize::from(done);
            warnings.extend((!done).then_some(why));
        }
        tracing::info!("configuration loaded: {told}; {removed} released");
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.use_settings(config, listener);
        self.look_for_own(false);
    }

    fn use_settings(&mut self, config: Config, listener: Option<Option<std::net::TcpListener>>) {
        self.sweep.set(config.daemon.flag_sweep, config.daemon.content_sweep, self.now().mono);
        if let Some(listener) = listener {
            self.in_force.listener.replace(listener);
        }
        self.globs.renew(&config);
        self.scribe.tell(Note::Patterns(self.globs.texts()));
        (self.in_force.config, self.in_force.refused) = (config, None);
        // Anew each time: what stands in files of its own may have changed, such as the password.
        self.scribe.tell(Note::Delivery(self.in_force.delivery()));
        self.doubt_sensors();
        self.publish();
    }

    /// The owner wants something else for a path that is guarded.
    fn change_policy(&mut self, file: FileId, policy: Policy) -> Result<(), String> {
        let Some(ward) = self.ward_mut(file) else { return Ok(()) };
        let before = std::mem::replace(&mut ward.policy, policy);
        let locks = ward.patient.facts.kind == FileKind::File;
        let record = ward.record();
        if before.immutable != policy.immutable && locks {
            return self.change_immutable(file, record, before);
        }
        self.scribe.tell(Note::Protect(Box::new(record)));
        self.feed(Input::Policy { file, policy });
        self.stage(file);
        Ok(())
    }

    /// The bit is set or cleared, and the file is guarded from the start, its content read.
    fn change_immutable(
        &mut self,
        file: FileId,
        mut record: crate::baseline::Record,
        before: Policy,
    ) -> Result<(), String> {
        let done = match record.policy.immutable {
            true => protect::set_immutable(&record.path, &mut record.facts),
            false => protect::unlock(&record.path),
        };
        if let Err(e) = done {
            if let Some(ward) = self.ward_mut(file) {
                ward.policy = before;
            }
            let path = crate::text::escape_path(&*record.path);
            return Err(format!("+i of {path} stays as it was: {e}"));
        }
        if !record.policy.immutable {
            record.facts.flags =
                record.facts.flags.map(|flags| flags & !crate::judge::FS_IMMUTABLE);
        }
        record.seal = None;
        record.replica = None;
        self.forget(file);
        self.scribe.tell(Note::Protect(Box::new(record.clone())));
        self.guard(record);
        Ok(())
    }
}

fn event(kind: Kind, path: &Path) -> Event {
    Event::new(Timestamp::now(), kind, Severity::Info).about(path)
}

fn counted(added: usize, removed: usize, changed: usize) -> Vec<String> {
    let say = |count: usize, what: &str| {
        let paths = if count == 1 { "path" } else { "paths" };
        (count > 0).then(|| format!("{count} {paths} {what}"))
    };
    [say(added, "added"), say(removed, "removed"), say(changed, "with another policy")]
        .into_iter()
        .flatten()
        .collect()
}

/// What changes besides the paths, in words.
fn settings(old: &Config, new: &Config) -> Vec<String> {
    let (before, now) = (&old.daemon, &new.daemon);
    let mut all = Vec::new();
    all.extend((old.email != new.email).then(|| "alert.email changed".to_owned()));
    if before.flag_sweep != now.flag_sweep {
        all.push(format!("flag_sweep is {}", now.flag_sweep));
    }
    if before.content_sweep != now.content_sweep {
        all.push(format!("content_sweep is {}", show_duration(now.content_sweep)));
    }
    if before.listen != now.listen {
        let shown = now.listen.map_or_else(|| "off".to_owned(), |address| address.to_string());
        all.push(format!("listen is {shown}"));
    }
    all
}
