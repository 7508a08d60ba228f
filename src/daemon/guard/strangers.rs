//! Strangers: what is in a protected directory and is not protected.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};

use crate::config::{is_own, special};
use crate::text::escape;

/// So many strangers in one directory are told one by one.
pub const STRANGERS_MAX: usize = 10_000;

/// The names in `directory` that are neither protected nor steadfast's own, up to
/// [`STRANGERS_MAX`]. One that is a directory stands for everything in it.
///
/// Pipes, sockets and devices are left out: they hold no content, and were passed by when the
/// directory was protected. [`passed_by`] has them.
///
/// # Errors
/// When the directory cannot be listed.
pub fn list(
    directory: &Path,
    state: &Path,
    is_known: impl Fn(&Path) -> bool,
) -> std::io::Result<Vec<PathBuf>> {
    // A link that was put in the directory's place leads elsewhere.
    if !directory.symlink_metadata()?.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(directory)?.filter_map(|entry| {
        let entry = entry.ok()?;
        let kind = entry.file_type().ok()?;
        let path = entry.path();
        let strange = special(kind).is_none();
        (strange && !is_known(&path) && !is_own(&path, state)).then_some(path)
    });
    let mut found: Vec<PathBuf> = entries.take(STRANGERS_MAX).collect();
    found.sort_unstable();
    Ok(found)
}

/// What is said of a directory itself, where so many strangers were found in it.
#[must_use]
pub fn but_for(said: String, strangers: usize) -> String {
    match strangers {
        0 => said,
        1 => format!("{said}, but for 1 name in it that does not belong there"),
        many => format!("{said}, but for {many} names in it that do not belong there"),
    }
}

/// How the sentence of [`passed_by`] begins.
pub(super) const PASSED_BY: &str = "not protected in it, since they have no content to keep:";
/// So many of them are named.
const NAMED: usize = 5;

/// The pipes, sockets and devices in `directory`, in a sentence, if there are any.
#[must_use]
pub fn passed_by(directory: &Path) -> Option<String> {
    let entries = std::fs::read_dir(directory).ok()?.filter_map(Result::ok);
    told(entries.filter_map(|entry| special_one(&entry)).take(STRANGERS_MAX).collect())
}

/// What it is, with its name, if it is a pipe, a socket or a device.
pub(super) fn special_one(entry: &DirEntry) -> Option<String> {
    let what = special(entry.file_type().ok()?)?;
    Some(format!("{what} {}", escape(entry.file_name().as_encoded_bytes())))
}

/// The sentence about these.
pub(super) fn told(mut found: Vec<String>) -> Option<String> {
    found.sort_unstable();
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    (!found.is_empty()).then(|| format!("{PASSED_BY} {}", found.join(", ")))
}
