//! What a fuzzer feeds with bytes: everything that reads what somebody else wrote. Only in the
//! build that `tests/fuzz/run` makes.
//!
//! Beside not to panic and not to hang, each has something to hold to, which is asserted.

pub use crate::attribute::fuzz as lineage;
pub use crate::daemon::control::fuzz as control;
pub use crate::record::fuzz as journal;
pub use crate::sense::audit::fuzz as audit;

use crate::config::Config;
use crate::sys::fanotify::record;

/// Reads one input, and panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 6] = [
    ("configuration", configuration),
    ("journal", journal),
    ("audit", audit),
    ("fanotify", fanotify),
    ("lineage", lineage),
    ("control", control),
];

/// A configuration file: it is read, or each problem has a place and can be shown.
pub fn configuration(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(problems) = Config::parse(text, "steadfast.toml") {
        assert!(!problems.all.is_empty(), "refused without a reason");
        let lines = text.split('\n').count();
        for problem in &problems.all {
            assert!((1..=lines).contains(&problem.line), "line {} of {lines}", problem.line);
        }
        let shown = problems.to_string();
        let harmless = |c: char| !c.is_control() || c == '\n';
        assert!(shown.chars().all(harmless), "a control character is shown: {shown:?}");
    }
}

/// What the kernel wrote: never more events than fit, and no name longer than what was read.
pub fn fanotify(bytes: &[u8]) {
    let mut length = 0;
    for event in record::parse(bytes) {
        length += 24 + event.dir.map_or(0, |(key, name)| key.bytes.len() + name.len());
        length += event.object.map_or(0, |key| key.bytes.len());
    }
    assert!(length <= bytes.len(), "{length} bytes out of {}", bytes.len());
}
