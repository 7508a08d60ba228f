//! What a file lacks because of where it lies: said in `status`, with what to do.

use super::api::SensorStatus;
use super::guard::strangers;
use super::guard::ward::Ward;
use crate::judge::FileKind;

/// What this file has to do without.
pub(super) fn of(ward: &Ward) -> Vec<String> {
    let facts = &ward.patient.facts;
    let mut found = Vec::new();
    if ward.policy.immutable && facts.kind == FileKind::File && !facts.keeps_immutable() {
        found.push(
            "it is protected without +i: its filesystem has no immutable bit; \
             changes are found and healed, but not refused"
                .to_owned(),
        );
    }
    if facts.kind == FileKind::Directory {
        found.extend(strangers::passed_by(&ward.patient.path));
    }
    found
}

/// The journal as a line of `status`.
pub(super) fn journal(trouble: Option<String>) -> SensorStatus {
    line("journal", trouble)
}

/// The state directory as a line of `status`.
pub(super) fn state(worry: Option<String>) -> SensorStatus {
    line("state", worry)
}

/// Whether messages arrive, as a line of `status`.
pub(super) fn mail(undelivered: Option<String>) -> SensorStatus {
    line("mail", undelivered)
}

/// Whether the configuration in force is the one on the disk, as a line of `status`.
pub(super) fn configuration(refused: Option<String>) -> SensorStatus {
    line("configuration", refused)
}

/// Whether everything protected can be looked at, as a line of `status`.
pub(super) fn filesystems<'a>(mut unguarded: impl Iterator<Item = &'a str>) -> SensorStatus {
    let first = unguarded.next().map(|first| match unguarded.count() {
        0 => first.to_owned(),
        more => format!("{first} (and {more} more)"),
    });
    line("filesystems", first)
}

/// The self-test as a line of `status`.
pub(super) fn selftest(trouble: Option<String>) -> SensorStatus {
    line("selftest", trouble)
}

fn line(name: &str, trouble: Option<String>) -> SensorStatus {
    let state = if trouble.is_some() { "degraded" } else { "working" };
    SensorStatus { name: name.into(), state: state.into(), why: trouble.unwrap_or_default() }
}
