//! Which services would get `CAP_LINUX_IMMUTABLE` if they were started, from their unit files.
//!
//! A service has it if it runs as root and its `CapabilityBoundingSet=` does not leave it out;
//! as another user only with `AmbientCapabilities=`. systemd is not asked.
//!
//! Limits: a `User=` with specifiers counts as another user, and what a program gains by a
//! set-user-id bit later is not seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::holders::keep_unit;
use crate::attribute::units::{names, read_unit, value, values};

const NAME: &str = "CAP_LINUX_IMMUTABLE";

/// A service that could.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Its unit.
    pub unit: String,
    /// Why it is better left with it.
    pub keep: Option<&'static str>,
}

/// All that could, by name, of the unit files in `directories`, where the first one counts.
#[must_use]
pub fn could(directories: &[PathBuf]) -> Vec<Service> {
    let mut units: BTreeMap<String, &Path> = BTreeMap::new();
    for dir in directories {
        for name in names(dir).filter(|name| name.ends_with(".service")) {
            units.entry(name).or_insert(dir);
        }
    }
    let holds = |(name, dir): &(String, &Path)| {
        if is_alias(&dir.join(name)) {
            return false;
        }
        let text = whole(name, dir, directories);
        text.is_some_and(|text| is_started(&text) && has_it(&text))
    };
    units
        .into_iter()
        .filter(holds)
        .map(|(unit, _)| Service { keep: keep_unit(&unit), unit })
        .collect()
}

/// Another name of a unit: a link to a unit file that is called otherwise.
fn is_alias(path: &Path) -> bool {
    let target = std::fs::read_link(path).ok();
    target.is_some_and(|target| {
        target.extension() == path.extension() && target.file_name() != path.file_name()
    })
}

/// The unit's file and its drop-ins, in the order of their names.
fn whole(name: &str, dir: &Path, directories: &[PathBuf]) -> Option<String> {
    let mut text = read_unit(dir, name)?;
    let mut parts: BTreeMap<String, PathBuf> = BTreeMap::new();
    let template = name.split_once('@').map(|(stem, _)| format!("{stem}@.service"));
    for dir in directories {
        for owner in ["service".to_owned(), name.to_owned()].into_iter().chain(template.clone()) {
            let dir = dir.join(format!("{owner}.d"));
            for part in names(&dir).filter(|part| part.ends_with(".conf")) {
                parts.entry(part).or_insert_with(|| dir.clone());
            }
        }
    }
    for (part, dir) in parts {
        text.push('\n');
        text += &read_unit(&dir, &part).unwrap_or_default();
    }
    Some(text)
}

/// A unit file that starts something; a masked one does not.
fn is_started(text: &str) -> bool {
    values(text, "Service", "ExecStart").any(|command| !command.is_empty())
}

fn has_it(text: &str) -> bool {
    let bounded = set(values(text, "Service", "CapabilityBoundingSet"), true);
    let ambient = set(values(text, "Service", "AmbientCapabilities"), false);
    let user = value(text, "Service", "User").unwrap_or_default();
    let dynamic = value(text, "Service", "DynamicUser").is_some_and(is_true);
    let root = matches!(user, "" | "root" | "0") && !dynamic;
    bounded && (root || ambient)
}

fn is_true(value: &str) -> bool {
    ["1", "yes", "true", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

/// Whether the capability is in the set after all assignments: lists are joined, `~` takes
/// away, and an empty one begins again with nothing. `default` is what counts where none is.
fn set<'a>(assignments: impl Iterator<Item = &'a str>, default: bool) -> bool {
    let mut now: Option<bool> = None;
    for list in assignments {
        let (inverted, list) = match list.strip_prefix('~') {
            Some(rest) => (true, rest.trim()),
            None => (false, list),
        };
        let named = list.split_whitespace().any(|word| word.eq_ignore_ascii_case(NAME));
        now = Some(match (inverted, list.is_empty()) {
            (inverted, true) => inverted,
            (true, _) => now.unwrap_or(true) && !named,
            (false, _) => now.unwrap_or(false) || named,
        });
    }
    now.unwrap_or(default)
}

/// What a person types to take it from `unit`. One that does not run is not to be started.
#[must_use]
pub fn remedy(unit: &str, runs: bool) -> String {
    // Quoted for the shell: names may have backslashes.
    let unit = unit.replace('\'', "'\\''");
    let restart = if runs { format!("systemctl restart '{unit}'\n") } else { String::new() };
    format!(
        "mkdir -p '/etc/systemd/system/{unit}.d'\n\
         printf '[Service]\\nCapabilityBoundingSet=~{NAME}\\n' \\\n    \
         > '/etc/systemd/system/{unit}.d/50-no-immutable.conf'\n\
         systemctl daemon-reload\n{restart}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(lines: &str) -> bool {
        has_it(&format!("[Unit]\nUser=x\n[Service]\nExecStart=/bin/x\n{lines}\n"))
    }

    #[test]
    fn the_bounding_set_is_read_as_systemd_reads_it() {
        for (lines, expected) in [
            ("", true),
            ("User=root", true),
            ("User=www-data", false),
            ("DynamicUser=yes", false),
            ("User=www-data\nAmbientCapabilities=CAP_CHOWN CAP_LINUX_IMMUTABLE", true),
            ("CapabilityBoundingSet=", false),
            ("CapabilityBoundingSet=~", true),
            ("CapabilityBoundingSet=CAP_CHOWN", false),
            ("CapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=cap_linux_immutable", true),
            ("CapabilityBoundingSet=~CAP_SYS_ADMIN", true),
            ("CapabilityBoundingSet=~CAP_SYS_ADMIN CAP_LINUX_IMMUTABLE", false),
            ("CapabilityBoundingSet=~CAP_LINUX_IMMUTABLE\nCapabilityBoundingSet=~", true),
            (
                "User=www-data\nAmbientCapabilities=CAP_LINUX_IMMUTABLE\nCapabilityBoundingSet=",
                false,
            ),
        ] {
            assert_eq!(holds(lines), expected, "{lines}");
        }
    }

    #[test]
    fn a_drop_in_takes_it_away_and_the_remedy_writes_such_a_drop_in() {
        let room = crate::sys::test::disk();
        let (etc, lib) = (room.path().join("etc"), room.path().join("lib"));
        let write = |path: PathBuf, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for name in ["a.service", "b.service", "sshd.service", "c@.service"] {
            write(lib.join(name), "[Service]\nExecStart=/bin/x\n");
        }
        std::fs::create_dir_all(&etc).unwrap();
        std::os::unix::fs::symlink("../lib/a.service", etc.join("alias.service")).unwrap();
        std::os::unix::fs::symlink("/dev/null", etc.join("b.service")).unwrap();
        let directories = [etc.clone(), lib];
        let found = || could(&directories).into_iter().map(|one| one.unit).collect::<Vec<_>>();
        assert_eq!(found(), ["a.service", "c@.service", "sshd.service"]);
        assert!(could(&directories)[2].keep.is_some());
        // What the remedy says, done elsewhere.
        let told = remedy("a.service", true);
        let script = told.replace("/etc/systemd/system", etc.to_str().unwrap());
        let script = script.split("systemctl").next().unwrap();
        let done = std::process::Command::new("sh").args(["-euc", script]).status().unwrap();
        assert!(done.success(), "{told}");
        assert_eq!(found(), ["c@.service", "sshd.service"]);
    }
}
