//! When everything was last seen whole: where the window begins in which drift happened that
//! is found at the next start.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::db::Baseline;
use super::error::BaselineError;
use super::meta;
use super::records::bytes;
use crate::text::{hex_decode, hex_encode};

/// A moment at which the daemon was on guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Every protected path was found whole after this…
    pub at: Timestamp,
    /// …but for these, which were whole at another time, and may have been changed since in a
    /// way that is not on record yet.
    pub except: Vec<(PathBuf, Timestamp)>,
}

impl Heartbeat {
    /// The moment until when all that happened to `path` is on record, as far as this tells.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<Timestamp> {
        self.exception(path).is_none().then_some(self.at)
    }

    /// The last moment at which `path` is known to have been whole.
    #[must_use]
    pub fn whole(&self, path: &Path) -> Timestamp {
        self.exception(path).unwrap_or(self.at)
    }

    fn exception(&self, path: &Path) -> Option<Timestamp> {
        self.except.iter().find(|(other, _)| other == path).map(|(_, whole)| *whole)
    }
}

impl Baseline {
    /// The last heartbeat; `None` before the first. One that makes no sense is none.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn heartbeat(&self) -> Result<Option<Heartbeat>, BaselineError> {
        let text = self.with(|connection| meta::get(connection, "heartbeat"))?;
        Ok(text.as_deref().and_then(parse))
    }

    /// Remembers one. It does not wait for the disk: after a power cut an older one counts.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_heartbeat(&self, beat: &Heartbeat) -> Result<(), BaselineError> {
        let mut text = beat.at.to_string();
        for (path, whole) in &beat.except {
            text.push_str(&format!(" {}={whole}", hex_encode(bytes(path))));
        }
        self.with(|connection| meta::set(connection, "heartbeat", &text))
    }
}

fn parse(text: &str) -> Option<Heartbeat> {
    let mut words = text.split(' ');
    let at = words.next()?.parse().ok()?;
    let except = |word: &str| {
        let (path, whole) = word.split_once('=')?;
        Some((PathBuf::from(OsString::from_vec(hex_decode(path)?)), whole.parse().ok()?))
    };
    Some(Heartbeat { at, except: words.map(except).collect::<Option<_>>()? })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn the_last_heartbeat_is_remembered_with_the_paths_that_it_does_not_stand_for() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        assert_eq!(baseline.heartbeat().unwrap(), None);
        let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/a b\xff"));
        let at = "2026-11-21T10:00:00.5Z".parse().unwrap();
        let whole = "2026-11-21T10:00:01.25Z".parse().unwrap();
        for except in [vec![], vec![(odd.clone(), whole), ("/b".into(), at)]] {
            baseline.set_heartbeat(&Heartbeat { at, except }).unwrap();
        }
        let beat = baseline.heartbeat().unwrap().unwrap();
        let other = Path::new("/c");
        assert_eq!((beat.of(&odd), beat.whole(&odd)), (None, whole));
        assert_eq!((beat.of(other), beat.whole(other)), (Some(at), at));
        baseline.with(|c| c.execute("UPDATE meta SET value = 'cat'", [])).unwrap();
        assert_eq!(baseline.heartbeat().unwrap(), None);
    }
}
