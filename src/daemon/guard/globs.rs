//! What comes to match a pattern of the configuration after the start.
//!
//! It is to a pattern what a stranger is to a protected directory: nobody has said that it is
//! good, so it is told, moved away where the owner wants that, and never taken for good by
//! itself, by the next start neither. No event tells of it, since a pattern can be about any
//! directory of a filesystem: the reader looks through the patterns now and then.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Guard;
use crate::alert::Item;
use crate::config::{Config, is_glob};
use crate::daemon::scribe::Note;
use crate::daemon::workers::{Chore, Reading};
use crate::judge::{AlertWhen, Policy, Unexpected};
use crate::record::{Event, Kind, Severity};
use crate::respond;

/// The patterns are looked through this often…
const EVERY: Duration = Duration::from_secs(5);
/// …and for at most one part in so many of the time.
const SHARE: u32 = 50;
/// So many are told of one by one at a time.
const MOST_TOLD: usize = 64;

/// See the module.
pub(in crate::daemon) struct Globs {
    /// The configuration, with nothing but patterns.
    patterns: Option<Arc<Config>>,
    /// What was told already and is still there.
    told: HashSet<PathBuf>,
    next: Duration,
    under_way: bool,
}

impl Globs {
    pub(in crate::daemon) fn of(config: &Config) -> Self {
        Self {
            patterns: patterns(config),
            told: HashSet::new(),
            next: Duration::ZERO,
            under_way: false,
        }
    }

    /// Another configuration is in force.
    pub(in crate::daemon) fn renew(&mut self, config: &Config) {
        self.patterns = patterns(config);
    }

    /// The owner let it go, so it is no stranger.
    pub(in crate::daemon) fn released(&mut self, path: &Path) {
        if self.patterns.is_some() {
            self.told.insert(path.to_owned());
        }
    }

    /// The text of every pattern.
    pub(in crate::daemon) fn texts(&self) -> Vec<String> {
        let all = self.patterns.iter().flat_map(|config| &config.protect);
        all.flat_map(|protect| protect.paths.iter().cloned()).collect()
    }
}

/// The configuration with nothing but patterns, if it has any.
fn patterns(config: &Config) -> Option<Arc<Config>> {
    let mut only = Config { daemon: config.daemon.clone(), ..Config::default() };
    for protect in &config.protect {
        let mut protect = protect.clone();
        protect.paths.retain(|path| is_glob(path));
        if !protect.paths.is_empty() {
            only.protect.push(protect);
        }
    }
    (!only.protect.is_empty()).then(|| Arc::new(only))
}

impl Guard {
    /// Has the patterns looked through where that is due.
    pub(in crate::daemon) fn look_through_patterns(&mut self, now: Duration) {
        if let Some(patterns) = &self.globs.patterns
            && !self.globs.under_way
            && now >= self.globs.next
        {
            self.globs.under_way = true;
            self.reader.push(Reading::Match(Arc::clone(patterns)));
        }
    }

    /// This matches the patterns now, and it took so long to find out.
    pub(super) fn matched(&mut self, found: Vec<(PathBuf, Policy)>, took: Duration) {
        self.globs.under_way = false;
        self.globs.next = self.now().mono + EVERY.max(took.saturating_mul(SHARE));
        self.sweep.chores_by(self.globs.next);
        // What is in a protected directory is for that to tell.
        let known =
            |path: &PathBuf| path.ancestors().any(|above| self.engine.id_of(above).is_some());
        let strangers: Vec<_> = found.into_iter().filter(|(path, _)| !known(path)).collect();
        let told = std::mem::take(&mut self.globs.told);
        let is_new = |path: &PathBuf| !told.contains(path);
        let new: Vec<_> = strangers.iter().filter(|(path, _)| is_new(path)).cloned().collect();
        self.globs.told = strangers.into_iter().map(|(path, _)| path).collect();
        if !new.is_empty() {
            self.tell_of_matches(&new);
        }
    }

    fn tell_of_matches(&mut self, new: &[(PathBuf, Policy)]) {
        let now = Timestamp::now();
        let incident = format!("created-{}", now.strftime("%Y%m%dT%H%M%S.%6f"));
        let mut aloud = Vec::new();
        let mut waits = true;
        for (at, (path, policy)) in new.iter().enumerate() {
            let evict = policy.unexpected == Unexpected::Quarantine;
            if evict && let Ok(slot) = respond::slot_directory(path, &self.state) {
                self.globs.told.remove(path);
                let (from, incident) = (path.clone(), incident.clone());
                self.stager.push(Chore::Evict { from, slot: slot.into(), incident });
            }
            if at >= MOST_TOLD {
                continue;
            }
            let mut event = Event::new(now, Kind::Created, Severity::Warning).about(path);
            event.incident = Some(incident.clone());
            let more = new.len().saturating_sub(MOST_TOLD);
            event.note = Some(note(evict, if at + 1 == MOST_TOLD { more } else { 0 }));
            self.scribe.tell(Note::Event(Box::new(event.clone())));
            if policy.alert != AlertWhen::Never {
                waits &= policy.alert == AlertWhen::Digest;
                aloud.push(event);
            }
        }
        if !aloud.is_empty() {
            let item = Item { incident, not_before: now, events: aloud };
            self.scribe.tell(Note::Message { item, waits });
        }
    }
}

fn note(evict: bool, more: usize) -> String {
    let mut note = match evict {
        true => "it matches a pattern of the configuration, where nothing new is expected, and \
                 goes to the quarantine"
            .to_owned(),
        false => "it matches a pattern of the configuration and is not protected: if it belongs \
                  there, 'steadfast protect PATH' takes it in"
            .to_owned(),
    };
    if more > 0 {
        note.push_str(&format!("; {more} more came at the same time"));
    }
    note
}
