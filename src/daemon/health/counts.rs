//! What is counted while the daemon runs.
//!
//! Every label value that is known beforehand is there from the start, at zero: otherwise the
//! first time that something happens would be no increase to Prometheus, and alert nobody.

use std::time::Duration;

use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use crate::attribute::Confidence;
use crate::daemon::failures::{Failure, TABLE};
use crate::record::{Event, Kind};

/// From 50 µs to about 50 s.
const HEAL_BUCKETS: [f64; 13] =
    [50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 0.01, 0.05, 0.25, 1.0, 10.0, 50.0];
const HEALED: &str = "healed";
const FAILED: &str = "failed";
const MISSED: &str = "missed";
const DELIVERED: &str = "delivered";
const REJECTED: &str = "rejected";

/// See the module.
#[derive(Debug)]
pub struct Counts {
    events: IntCounterVec,
    attributions: IntCounterVec,
    healed: [IntCounter; 3],
    heals: IntCounterVec,
    heal_duration: Histogram,
    failures: IntCounterVec,
    messages: IntCounterVec,
    overflows: IntCounter,
    /// Lines that wait for the journal.
    pub journal_backlog: IntGauge,
    /// Notes that wait for the database.
    pub baseline_backlog: IntGauge,
    /// Messages that wait in the spool or for it.
    pub spool_backlog: IntGauge,
    heartbeat: Gauge,
    sweep: Gauge,
}

impl Default for Counts {
    fn default() -> Self {
        let kinds: Vec<String> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        let outcomes = [HEALED, FAILED, MISSED];
        let heals = counters(
            "heals_total",
            "Cures carried out, by how they ended; missed: the file was changed again meanwhile.",
            "outcome",
            &outcomes,
        );
        Self {
            events: counters("events_total", "Events journaled, by kind.", "kind", &kinds),
            attributions: counters(
                "attributions_total",
                "Events of tampering, by how surely the process is known.",
                "confidence",
                &[Confidence::Exact, Confidence::Opener, Confidence::Unknown].map(name),
            ),
            healed: outcomes.map(|outcome| heals.with_label_values(&[outcome])),
            heals,
            heal_duration: sound(Histogram::with_opts(
                HistogramOpts::new(
                    "steadfast_heal_duration_seconds",
                    "From the moment a change was known until the file was whole again.",
                )
                .buckets(HEAL_BUCKETS.to_vec()),
            )),
            failures: counters(
                "failures_total",
                "Failures of the watchdog itself; the README has the table.",
                "failure",
                &TABLE.iter().map(|row| row.name).collect::<Vec<_>>(),
            ),
            messages: counters(
                "messages_total",
                "Messages, by what became of them; one that fails is tried again.",
                "outcome",
                &[DELIVERED, FAILED, REJECTED],
            ),
            overflows: sound(IntCounter::new(
                "steadfast_queue_overflows_total",
                "Times that the kernel dropped events; each has every file looked at.",
            )),
            journal_backlog: sound(IntGauge::new(
                "steadfast_journal_backlog_lines",
                "Journal lines that wait for the disk.",
            )),
            baseline_backlog: sound(IntGauge::new(
                "steadfast_baseline_backlog_notes",
                "Notes that wait for the database.",
            )),
            spool_backlog: sound(IntGauge::new(
                "steadfast_spool_backlog_messages",
                "Messages that wait to be delivered.",
            )),
            heartbeat: sound(Gauge::new(
                "steadfast_last_heartbeat_timestamp_seconds",
                "When it was last written down that everything is whole.",
            )),
            sweep: sound(Gauge::new(
                "steadfast_last_sweep_timestamp_seconds",
                "When the last complete look at every file began.",
            )),
        }
    }
}

impl Counts {
    /// An event is on its way to the journal.
    pub fn event(&self, event: &Event) {
        self.events.with_label_values(&[event.kind.name()]).inc();
        if event.kind.is_tampering() {
            self.attributions.with_label_values(&[name(event.attribution.confidence)]).inc();
        }
    }

    /// A cure ended, so long after the change was known.
    pub fn heal(&self, outcome: Outcome, took: Duration) {
        let [healed, failed, missed] = &self.healed;
        match outcome {
            Outcome::Healed => {
                healed.inc();
                self.heal_duration.observe(took.as_secs_f64());
            }
            Outcome::Failed => {
                failed.inc();
                self.failure(Failure::HealFailed);
            }
            Outcome::Missed => missed.inc(),
        }
    }

    /// Something went wrong with the watchdog itself.
    pub fn failure(&self, failure: Failure) {
        self.failures.with_label_values(&[failure.name()]).inc();
    }

    /// A message was delivered.
    pub fn delivered(&self) {
        self.messages.with_label_values(&[DELIVERED]).inc();
    }

    /// A message could not be delivered so far, or is none.
    pub fn undelivered(&self, rejected: bool) {
        self.messages.with_label_values(&[if rejected { REJECTED } else { FAILED }]).inc();
        self.failure(Failure::AlertFailed);
    }

    /// The kernel dropped events.
    pub fn overflow(&self) {
        self.overflows.inc();
    }

    /// It was written down that everything was whole then.
    pub fn heartbeat(&self, at: Timestamp) {
        self.heartbeat.set(seconds(at));
    }

    /// A round that began then is complete.
    pub fn swept(&self, began: Timestamp) {
        self.sweep.set(seconds(began));
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        let all: [&dyn Collector; 12] = [
            &self.events,
            &self.attributions,
            &self.heals,
            &self.heal_duration,
            &self.failures,
            &self.messages,
            &self.overflows,
            &self.journal_backlog,
            &self.baseline_backlog,
            &self.spool_backlog,
            &self.heartbeat,
            &self.sweep,
        ];
        all.iter().flat_map(|one| one.collect()).collect()
    }
}

/// How a cure ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file is whole.
    Healed,
    /// It could not be put right.
    Failed,
    /// It no longer was what the look had shown.
    Missed,
}

pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

fn name(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "exact",
        Confidence::Opener => "opener",
        Confidence::Unknown => "unknown",
    }
}

fn counters(name: &str, help: &str, label: &str, values: &[impl AsRef<str>]) -> IntCounterVec {
    let family = sound(IntCounterVec::new(Opts::new(format!("steadfast_{name}"), help), &[label]));
    for value in values {
        family.with_label_values(&[value.as_ref()]);
    }
    family
}

/// Names and labels stand in this program, and a test makes each of them.
#[expect(clippy::expect_used, reason = "only a name that is written wrong here can fail")]
pub(super) fn sound<T>(made: prometheus::Result<T>) -> T {
    made.expect("a metric's name and labels")
}
