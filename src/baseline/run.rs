//! Whether a run of the daemon came to its end, or ended suddenly: killed, or with the machine.

use jiff::Timestamp;

use super::db::Baseline;
use super::error::BaselineError;
use super::meta;

impl Baseline {
    /// A run begins now. Where the one before did not say that it ended: the last moment at which
    /// it is known to have lived.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn begin_run(&self, now: Timestamp) -> Result<Option<Timestamp>, BaselineError> {
        let before = self.with(|connection| meta::get(connection, "run"))?;
        let lived = match before.and_then(|text| text.parse().ok()) {
            Some(began) => self.heartbeat()?.map(|beat| beat.at).max(Some(began)),
            None => None,
        };
        self.note_run(Some(now))?;
        Ok(lived)
    }

    /// It comes to its end.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn end_run(&self) -> Result<(), BaselineError> {
        self.note_run(None)
    }

    pub(super) fn note_run(&self, began: Option<Timestamp>) -> Result<(), BaselineError> {
        self.held().run = began;
        self.durably(|connection| match began {
            Some(began) => meta::set(connection, "run", &began.to_string()),
            None => meta::remove(connection, "run"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Heartbeat;

    #[test]
    fn a_run_that_did_not_end_lived_until_its_last_sign_of_life_also_in_a_database_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(baseline.begin_run(at(10)).unwrap(), None);
        baseline.end_run().unwrap();
        assert_eq!(baseline.begin_run(at(20)).unwrap(), None);
        // Of the run before the last.
        baseline.set_heartbeat(&Heartbeat { at: at(15), except: Vec::new() }).unwrap();
        assert_eq!(baseline.begin_run(at(30)).unwrap(), Some(at(20)));
        baseline.set_heartbeat(&Heartbeat { at: at(35), except: Vec::new() }).unwrap();
        assert_eq!(baseline.begin_run(at(40)).unwrap(), Some(at(35)));
        std::fs::rename(dir.path().join("baseline.db"), dir.path().join("away")).unwrap();
        baseline.write_anew(&[], &[]).unwrap();
        assert_eq!(baseline.begin_run(at(50)).unwrap(), Some(at(40)));
    }
}
