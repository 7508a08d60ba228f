//! The page that Prometheus reads.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, Opts, TextEncoder};

use super::counts::{seconds, sound};
use crate::daemon::api::{State, Status};
use crate::selftest::Mark;

/// What the status says, as gauges. They are made anew each time, so that what is no more is
/// not told of.
pub(super) fn gauges(status: &Status) -> Vec<MetricFamily> {
    let states = [State::Starting, State::Watching, State::Degraded, State::Draining];
    let mut all = vec![
        family(
            "build_info",
            "The version that runs.",
            &["version"],
            [([env!("CARGO_PKG_VERSION")], 1.0)],
        ),
        single("start_time_seconds", "When the daemon started.", seconds(status.since)),
        family(
            "state",
            "The state of the daemon.",
            &["state"],
            states.map(|state| ([state.to_string()], truth(state == status.state))),
        ),
        single("protected_files", "Protected paths.", count(status.protected)),
        single(
            "open_incidents",
            "Incidents that have not settled, or whose file is not whole.",
            count(status.open_incidents),
        ),
        single(
            "shortcomings",
            "What protected paths have to do without; status names them.",
            count(status.shortcomings.len()),
        ),
        single(
            "worst_case_notice_seconds",
            "The longest that a change stays unnoticed when no event tells of it.",
            std::time::Duration::from_millis(status.worst_case_notice_ms).as_secs_f64(),
        ),
        sensors(status),
    ];
    all.extend(selftest(status));
    all
}

pub(super) fn render(counted: Vec<MetricFamily>, mut all: Vec<MetricFamily>) -> String {
    all.extend(counted);
    all.retain(|family| !family.get_metric().is_empty());
    // It fails only where there is no metric in a family.
    TextEncoder::new().encode_to_string(&all).unwrap_or_default()
}

fn sensors(status: &Status) -> MetricFamily {
    let each = status.sensors.iter().flat_map(|sensor| {
        ["working", "degraded", "unavailable"]
            .map(|state| ([sensor.name.as_str(), state], truth(sensor.state == state)))
    });
    family("sensor_state", "The state of each sensor.", &["sensor", "state"], each)
}

fn selftest(status: &Status) -> Vec<MetricFamily> {
    let Some(test) = &status.selftest else { return Vec::new() };
    let marks = [(Mark::Passed, "passed"), (Mark::Limit, "limit"), (Mark::Failed, "failed")];
    let each = test.routes.iter().flat_map(|one| {
        let labels = |name| [one.route.name(), one.filesystem.as_str(), name];
        marks.map(|(mark, name)| (labels(name), truth(one.result == mark)))
    });
    vec![
        family(
            "selftest_route",
            "What came of each route in the last self-test.",
            &["route", "filesystem", "result"],
            each,
        ),
        single("selftest_timestamp_seconds", "When the last self-test ended.", seconds(test.time)),
    ]
}

fn single(name: &str, help: &str, value: f64) -> MetricFamily {
    let gauge = sound(Gauge::new(format!("steadfast_{name}"), help));
    gauge.set(value);
    gauge.collect().into_iter().next().unwrap_or_default()
}

fn family<S: AsRef<str>, const N: usize>(
    name: &str,
    help: &str,
    labels: &[&str; N],
    values: impl IntoIterator<Item = ([S; N], f64)>,
) -> MetricFamily {
    let gauges = sound(GaugeVec::new(Opts::new(format!("steadfast_{name}"), help), labels));
    for (label, value) in values {
        gauges.with_label_values(&label.each_ref().map(AsRef::as_ref)).set(value);
    }
    gauges.collect().into_iter().next().unwrap_or_default()
}

fn truth(it_is: bool) -> f64 {
    f64::from(u8::from(it_is))
}

#[expect(clippy::cast_precision_loss, reason = "nobody has that many files")]
fn count(number: usize) -> f64 {
    number as f64
}
