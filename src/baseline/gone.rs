//! A database that is not there: has there never been one, or did somebody take it away?
//!
//! To begin anew beside a journal or known-good copies would take what is there now for good, and
//! clear the copies away as unused. An empty file is no database either.

use std::fs;
use std::path::Path;

use super::error::BaselineError;

/// What to say of a `state` that has no database.
pub(super) fn missing(state: &Path) -> BaselineError {
    let path = state.join("baseline.db");
    let holds = |dir: &str| fs::read_dir(state.join(dir)).is_ok_and(|mut all| all.next().is_some());
    let told = fs::metadata(state.join("journal/journal.jsonl")).is_ok_and(|meta| meta.len() > 0);
    let witness = match (told, holds("vault")) {
        (true, _) => "the journal",
        (false, true) => "the vault, which holds known-good copies,",
        (false, false) => return BaselineError::Missing(path),
    };
    BaselineError::Gone { path, witness }
}

/// Whether `state` has one.
pub(super) fn is_there(state: &Path) -> bool {
    fs::symlink_metadata(state.join("baseline.db")).is_ok_and(|found| found.len() > 0)
}
