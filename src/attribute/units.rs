//! Which timer starts a unit, from the unit files on disk.
//!
//! systemd is not asked: this works without it, for a journal that was copied here, and for
//! people who may not talk to it. What is read are files that only root can write; they are
//! read with a bound all the same.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::sys::read::read_bounded;

/// Where systemd looks for units of the system, what comes first wins.
const DIRECTORIES: [&str; 8] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
];
/// No unit file is longer.
pub(crate) const UNIT_FILE: usize = 1 << 20;
/// No directory has more.
const ENTRIES: usize = 20_000;

/// The directories of unit files on this host that there are.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    let old = Path::new("/lib/systemd/system");
    let merged = std::fs::symlink_metadata("/lib").is_ok_and(|lib| lib.is_symlink());
    let all = DIRECTORIES.iter().map(PathBuf::from);
    all.chain((!merged).then(|| old.to_owned())).filter(|dir| dir.is_dir()).collect()
}

/// The timer that starts the service `unit`, if there is one in `directories`.
///
/// A timer names its unit in `Unit=`; without that it is the service of the same name.
#[must_use]
pub fn timer_of(unit: &str, directories: &[PathBuf]) -> Option<String> {
    let name = unit.strip_suffix(".service")?;
    let mut seen = BTreeSet::new();
    let mut found = None;
    for dir in directories {
        for file in names(dir).filter(|file| file.ends_with(".timer")) {
            if !seen.insert(file.clone()) {
                continue;
            }
            let stem = file.trim_end_matches(".timer");
            let Some(text) = read_unit(dir, &file) else { continue };
            let starts = match value(&text, "Timer", "Unit") {
                Some(named) => named == unit,
                None => stem == name || is_instance(name, stem),
            };
            if starts {
                let timer = if stem.ends_with('@') { format!("{name}.timer") } else { file };
                found = found.or(Some(timer));
            }
        }
    }
    found
}

/// Whether `name` is an instance of the template `stem`: `a@b` of `a@`.
fn is_instance(name: &str, stem: &str) -> bool {
    stem.ends_with('@') && name.starts_with(stem)
}

/// The names in a directory, in order.
pub(crate) fn names(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(ENTRIES);
    let names: BTreeSet<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.into_iter()
}

/// A unit file's text. A link to `/dev/null`, which masks a unit, is none.
pub(crate) fn read_unit(dir: &Path, name: &str) -> Option<String> {
    // Units are linked into place from elsewhere as a matter of course.
    let path = std::fs::canonicalize(dir.join(name)).ok()?;
    let bytes = read_bounded(path.parent()?, path.file_name().unwrap_or(OsStr::new("")), UNIT_FILE);
    Some(String::from_utf8_lossy(&bytes.ok()?).into_owned())
}

/// The last value of a key in a section.
pub(crate) fn value<'a>(text: &'a str, section: &'a str, key: &'a str) -> Option<&'a str> {
    values(text, section, key).last()
}

/// All values of a key in a section, in order.
pub(crate) fn values<'a>(
    text: &'a str,
    section: &'a str,
    key: &'a str,
) -> impl Iterator<Item = &'a str> {
    let mut within = false;
    text.lines().map(str::trim).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            within = name == section;
            return None;
        }
        let (name, value) = line.split_once('=').filter(|_| within)?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::test::disk;

    #[test]
    fn the_timer_of_a_service_is_found_by_name_by_unit_and_as_an_instance() {
        let room = disk();
        let (etc, lib) = (room.path().join("etc"), room.path().join("lib"));
        for dir in [&etc, &lib] {
            std::fs::create_dir(dir).unwrap();
        }
        let write = |dir: &Path, name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
        };
        write(&lib, "daily.timer", "[Timer]\nOnCalendar=daily\n");
        write(&lib, "other.timer", "[Unit]\nUnit=not.service\n[Timer]\nUnit = nightly.service\n");
        write(&lib, "backup@.timer", "[Timer]\n");
        write(&lib, "masked.timer", "[Timer]\n");
        symlink("/dev/null", etc.join("masked.timer")).unwrap();
        write(&lib, "moved.timer", "[Timer]\n");
        write(&etc, "moved.timer", "[Timer]\nUnit=target.service\n");
        let timer = |unit: &str| timer_of(unit, &[etc.clone(), lib.clone()]);
        assert_eq!(timer("daily.service").as_deref(), Some("daily.timer"));
        assert_eq!(timer("nightly.service").as_deref(), Some("other.timer"));
        assert_eq!(timer("backup@home.service").as_deref(), Some("backup@home.timer"));
        assert_eq!(timer("target.service").as_deref(), Some("moved.timer"));
        for none in ["moved.service", "masked.service", "not.service", "daily.scope", "", "x"] {
            assert_eq!(timer(none), None, "{none}");
        }
    }
}
