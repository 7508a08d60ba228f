//! How the answer to a change went, and how long it took.

use crate::record::Response;
use crate::text::escape;

/// `took_us` in the unit that suits it.
#[must_use]
pub fn describe_duration(took_us: u64) -> String {
    let (whole, tenth) = (took_us / 1000, took_us % 1000 / 100);
    match took_us {
        0..1_000 => format!("{took_us} µs"),
        1_000..10_000 => format!("{whole}.{tenth} ms"),
        10_000..1_000_000 => format!("{whole} ms"),
        _ => format!("{}.{} s", whole / 1000, whole % 1000 / 100),
    }
}

/// One phrase for what went well, with the time until all of it was done, and one for each
/// thing that did not.
pub(super) fn answer(response: &[Response]) -> Option<String> {
    let (done, failed): (Vec<_>, Vec<_>) = response.iter().partition(|r| r.outcome == "done");
    let mut parts = Vec::new();
    if let Some(chief) = done.iter().min_by_key(|r| rank(&r.action)) {
        let until = done.iter().filter(|r| r.action != "quarantine").map(|r| r.took_us).max();
        let took = describe_duration(until.unwrap_or(chief.took_us));
        parts.push(format!("{} in {took}", outcome(&chief.action)));
    }
    parts.extend(failed.iter().map(|r| {
        escape(format!("{} failed: {}", r.action.replace('-', " "), r.outcome).as_bytes())
    }));
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// The action that tells most about a response comes first.
fn rank(action: &str) -> usize {
    [
        "exchange",
        "place",
        "rewrite",
        "rejoin",
        "put-back-parent",
        "unmount",
        "repair-metadata",
        "relock",
    ]
    .iter()
    .position(|known| *known == action)
    .unwrap_or(usize::MAX)
}

fn outcome(action: &str) -> String {
    match action {
        "exchange" | "place" | "rewrite" => "restored".to_owned(),
        "rejoin" => "restored in other mounts too".to_owned(),
        "put-back-parent" => "directory put back".to_owned(),
        "unmount" => "unmounted".to_owned(),
        "repair-metadata" => "metadata put right".to_owned(),
        "relock" => "locked again".to_owned(),
        "quarantine" => "moved to quarantine".to_owned(),
        other => format!("{} done", escape(other.as_bytes())),
    }
}
