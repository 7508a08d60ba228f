//! Where the journal stands: what its own lines cannot tell, since they can be cut off.

use rusqlite::{OptionalExtension, params};

use super::db::Baseline;
use super::error::BaselineError;
use super::meta;
use crate::judge::Digest;

impl Baseline {
    /// The last line of the journal that is known to be on the disk: its number and hash.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn journal_head(&self) -> Result<Option<(u64, Digest)>, BaselineError> {
        self.journal_place("head")
    }

    /// Remembers the last line of the journal.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_journal_head(&self, seq: u64, hash: Digest) -> Result<(), BaselineError> {
        self.set_journal_place("head", seq, hash)
    }

    /// The oldest line of the journal that is kept: its number, and the hash of the line
    /// before it. `None` while nothing was ever dropped.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn journal_anchor(&self) -> Result<Option<(u64, Digest)>, BaselineError> {
        self.journal_place("anchor")
    }

    /// Remembers the oldest line that is kept and the hash of the line before it.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_journal_anchor(&self, seq: u64, prev: Digest) -> Result<(), BaselineError> {
        self.set_journal_place("anchor", seq, prev)
    }

    /// The faults of the journal that were told, as the journal writes them.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn journal_fouls(&self) -> Result<Option<String>, BaselineError> {
        self.with(|connection| meta::get(connection, "journal_fouls"))
    }

    /// Remembers them.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_journal_fouls(&self, text: &str) -> Result<(), BaselineError> {
        self.with(|connection| meta::set(connection, "journal_fouls", text))
    }

    fn journal_place(&self, place: &'static str) -> Result<Option<(u64, Digest)>, BaselineError> {
        let found = self.with(|connection| {
            connection
                .prepare_cached("SELECT seq, hash FROM journal WHERE place = ?1")?
                .query_row([place], |row| {
                    Ok((row.get::<_, i64>(0)?.cast_unsigned(), Digest(row.get(1)?)))
                })
                .optional()
        })?;
        let mut held = self.held();
        if let (Some(found), false) = (found, held.is_touched()) {
            held.places.insert(place, found);
        }
        Ok(found)
    }

    pub(super) fn set_journal_place(
        &self,
        place: &'static str,
        seq: u64,
        hash: Digest,
    ) -> Result<(), BaselineError> {
        self.held().places.insert(place, (seq, hash));
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO journal VALUES (?1, ?2, ?3)")?
                .execute(params![place, seq.cast_signed(), hash.0])
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_anchor_of_the_journal_are_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        assert_eq!(baseline.journal_head().unwrap(), None);
        baseline.set_journal_head(7, Digest([7; 32])).unwrap();
        baseline.set_journal_head(8, Digest([8; 32])).unwrap();
        assert_eq!(baseline.journal_anchor().unwrap(), None);
        baseline.set_journal_anchor(3, Digest([2; 32])).unwrap();
        drop(baseline);

        let again = Baseline::open_read_only(dir.path()).unwrap();
        assert_eq!(again.journal_head().unwrap(), Some((8, Digest([8; 32]))));
        assert_eq!(again.journal_anchor().unwrap(), Some((3, Digest([2; 32]))));
    }
}
