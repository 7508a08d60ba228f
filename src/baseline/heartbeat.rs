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
    /// …but for these.
    pub except: Vec<PathBuf>,
}

impl Heartbeat {
    /// The last moment at which `path` is known to have been whole, as far as this tells.
    #[must_use]
    pub fn of(&self, path: &Path) -> Option<Timestamp> {
        (!self.except.iter().any(|other| other == path)).then_some(self.at)
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
        for path in &beat.except {
            text.push(' ');
            text.push_str(&hex_encode(bytes(path)));
        }
        self.with(|connection| meta::set(connection, "heartbeat", &text))
    }
}

fn parse(text: &str) -> Option<Heartbeat> {
    let mut words = text.split(' ');
    let at = words.next()?.parse().ok()?;
    let path = |word| Some(PathBuf::from(OsString::from_vec(hex_decode(word)?)));
    Some(Heartbeat { at, except: words.map(path).collect::<Option<_>>()? })
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
        for except in [vec![], vec![odd.clone(), "/b".into()]] {
            baseline.set_heartbeat(&Heartbeat { at, except }).unwrap();
        }
        let beat = baseline.heartbeat().unwrap().unwrap();
        assert_eq!((beat.of(&odd), beat.of(Path::new("/c"))), (None, Some(at)));
        baseline.with(|c| c.execute("UPDATE meta SET value = 'cat'", [])).unwrap();
        assert_eq!(baseline.heartbeat().unwrap(), None);
    }
}
