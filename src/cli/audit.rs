//! `audit`: everything against the baseline, once, without a daemon.
//!
//! It reads and changes nothing. Besides the protected paths it looks for strangers in the
//! protected directories, and into the known-good copies: one that is damaged is better found
//! now than when it is needed. Such a finding has the kind `copy-damaged` or `copy-missing`,
//! which no event has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use super::args::Output;
use super::look::{Sight, chosen, look};
use super::progress::Progress;
use super::screen::{BAD, GOOD, Screen, WARNING, count};
use super::{Outcome, strangers};
use crate::baseline::{Record, Vault, VaultError};
use crate::config::Config;
use crate::judge::{Difference, Digest, created, deleted, differences, moved};
use crate::record::{PathText, describe_change};
use crate::text::escape_path;

/// More threads than this wait for the disk, not for each other.
const THREADS_MAX: usize = 8;

pub(super) fn audit(
    screen: &Screen,
    config: &Config,
    paths: &[PathBuf],
    output: Output,
) -> anyhow::Result<Outcome> {
    let answer = examine(config, paths)?;
    for sentence in &answer.complaints {
        screen.complain(sentence);
    }
    if output.json {
        screen.json(&answer)?;
    } else {
        screen.lines(&answer.render())?;
    }
    Ok(match (answer.drifted, answer.unreadable) {
        (0, 0) => Outcome::Fine,
        (0, _) => Outcome::Undone,
        _ => Outcome::Found,
    })
}

/// Does the work, and prints nothing but the progress.
pub(super) fn examine(config: &Config, paths: &[PathBuf]) -> anyhow::Result<Answer> {
    let started = Instant::now();
    let records = chosen(config, paths)?;
    let mut audit = compare_all(&records, &Progress::new("comparing"));
    audit.find_strangers(&records, config)?;
    audit.check_copies(&records, &config.daemon.state)?;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(audit.conclude(records.len(), duration_ms))
}

/// The answer, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    checked: usize,
    drifted: usize,
    unreadable: usize,
    duration_ms: u64,
    findings: Vec<Finding>,
    /// Why something could not be read.
    #[serde(skip)]
    complaints: Vec<String>,
}

/// Everything that is wrong with one path.
#[derive(Debug, Default, Serialize)]
struct Finding {
    #[serde(flatten)]
    path: Option<PathText>,
    kinds: Vec<String>,
    expected: Map<String, Value>,
    actual: Map<String, Value>,
    /// For a person.
    #[serde(skip)]
    words: Vec<String>,
}

#[derive(Default)]
struct Audit {
    findings: BTreeMap<PathBuf, Finding>,
    complaints: Vec<String>,
}

/// What one record came to.
enum Verdict {
    Differs(Vec<Difference>),
    Unreadable(String),
}

/// Compares all records, on as many threads as there are processors.
fn compare_all(records: &[Record], progress: &Progress) -> Audit {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let (sender, verdicts) = mpsc::channel();
    let mut audit = Audit::default();
    std::thread::scope(|scope| {
        for _ in 0..processors.min(THREADS_MAX).min(records.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some(record) = records.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // The receiver outlives the threads.
                    let _ = sender.send((record, compare(record)));
                }
            });
        }
        drop(sender);
        for (done, (record, verdict)) in verdicts.into_iter().enumerate() {
            progress.update(done as u64 + 1, records.len() as u64);
            match verdict {
                Verdict::Differs(found) => audit.add(&record.path, found),
                Verdict::Unreadable(why) => audit.complaints.push(why),
            }
        }
    });
    audit
}

fn compare(record: &Record) -> Verdict {
    match look(&record.path, record.facts.size) {
        Sight::There(facts) => Verdict::Differs(differences(&record.facts, &facts, &record.policy)),
        Sight::Gone => Verdict::Differs(vec![deleted(&record.facts)]),
        Sight::Elsewhere => Verdict::Differs(vec![moved(&record.facts)]),
        Sight::Unreadable(why) => Verdict::Unreadable(why),
    }
}

impl Audit {
    fn add(&mut self, path: &Path, differences: Vec<Difference>) {
        for difference in differences {
            let Difference { kind, before, after } = difference;
            let words = describe_change(kind, &before, &after);
            self.add_one(path, kind.name(), words, before, after);
        }
    }

    fn add_one(
        &mut self,
        path: &Path,
        kind: String,
        words: String,
        expected: Map<String, Value>,
        actual: Map<String, Value>,
    ) {
        let finding = self.findings.entry(path.to_owned()).or_default();
        finding.path = Some(PathText::new(path));
        finding.kinds.push(kind);
        finding.words.push(words);
        finding.expected.extend(expected);
        finding.actual.extend(actual);
    }

    fn find_strangers(&mut self, records: &[Record], config: &Config) -> anyhow::Result<()> {
        let (found, troubles) = strangers::find(records, config)?;
        self.complaints.extend(troubles);
        for path in found {
            match look(&path, 0) {
                Sight::There(facts) => self.add(&path, vec![created(&facts)]),
                // It came and went.
                Sight::Gone | Sight::Elsewhere => {}
                Sight::Unreadable(why) => self.complaints.push(why),
            }
        }
        Ok(())
    }

    /// Every copy once, however many paths share it.
    fn check_copies(&mut self, records: &[Record], state: &Path) -> anyhow::Result<()> {
        let needed: BTreeMap<Digest, &Path> = records
            .iter()
            .filter(|record| record.policy.restore)
            .filter_map(|record| Some((record.facts.sha256?, &*record.path)))
            .collect();
        if needed.is_empty() {
            return Ok(());
        }
        let vault = Vault::open(state)?;
        for (digest, path) in needed {
            let state = match vault.verify(&digest) {
                Ok(_) => continue,
                Err(VaultError::Damaged { .. }) => "damaged",
                Err(VaultError::Missing { .. }) => "missing",
                Err(error) => {
                    self.complaints.push(error.to_string());
                    continue;
                }
            };
            let words =
                format!("its known-good copy is {state}: once the file is right, accept it");
            let fact = |value: String| Map::from_iter([("copy".to_owned(), value.into())]);
            let (expected, actual) = (fact(digest.to_string()), fact(state.to_owned()));
            self.add_one(path, format!("copy-{state}"), words, expected, actual);
        }
        Ok(())
    }

    fn conclude(self, checked: usize, duration_ms: u64) -> Answer {
        let complaints: BTreeSet<_> = self.complaints.into_iter().collect();
        Answer {
            checked,
            drifted: self.findings.len(),
            unreadable: complaints.len(),
            duration_ms,
            findings: self.findings.into_values().collect(),
            complaints: complaints.into_iter().collect(),
        }
    }
}

impl Answer {
    fn render(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let path = finding.path.as_ref().map(PathText::to_path).unwrap_or_default();
            let words = finding.words.join("; ");
            text += &format!("{BAD}{}{BAD:#}  {words}\n", escape_path(path));
        }
        let style = match (self.drifted, self.unreadable) {
            (0, 0) => GOOD,
            (0, _) => WARNING,
            _ => BAD,
        };
        let checked = count(self.checked, "path", "paths");
        text += &format!(
            "{style}{checked} checked, {} drifted, {} unreadable{style:#} in {} ms\n",
            self.drifted, self.unreadable, self.duration_ms
        );
        text
    }
}
