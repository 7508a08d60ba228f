//! What has to hold before anything is touched, found out all at once: whoever mends the first of
//! five problems is not to meet the second at the next try.

use std::io::ErrorKind;
use std::path::Path;

use super::RunError;
use super::wanted::{Obstacles, Wanted};
use crate::baseline::{Baseline, BaselineError, Origin, Patterns, Record};
use crate::config::USUAL_FILE;
use crate::daemon::control::ControlError;
use crate::daemon::store::StoreError;

/// A configuration that somebody took away does not say that nothing is to be protected any more.
pub(super) fn refuse_without_configuration(known: &[Record]) -> Result<(), Obstacles> {
    let count = known.iter().filter(|record| record.origin == Origin::Configuration).count();
    let gone = || Path::new(USUAL_FILE).symlink_metadata().is_err_and(|e| is_missing(&e));
    if count == 0 || !gone() {
        return Ok(());
    }
    let paths = if count == 1 { "path is" } else { "paths are" };
    Err(Obstacles(vec![format!(
        "the configuration {USUAL_FILE} is gone, and {count} {paths} protected because it said so: \
         put it back or name another with --config FILE; an empty one lets them go"
    )]))
}

fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Everything that stands in the way, in one go.
pub(super) fn together<K, C>(
    wanted: Result<Wanted, Obstacles>,
    known: Result<K, BaselineError>,
    state: Vec<StoreError>,
    control: Result<C, ControlError>,
) -> Result<(Wanted, K, C), RunError> {
    let mut all: Vec<RunError> = state.into_iter().map(RunError::from).collect();
    let known = known.map_err(|e| all.push(e.into()));
    let control = control.map_err(|e| all.push(e.into()));
    let wanted = wanted.map_err(|e| all.push(e.into()));
    match (wanted, known, control, all.len()) {
        (Ok(wanted), Ok(known), Ok(control), 0) => Ok((wanted, known, control)),
        (.., 1) => Err(all.remove(0)),
        _ => Err(Obstacles(all.iter().map(ToString::to_string).collect()).into()),
    }
}

/// What is protected already, without touching anything.
pub(super) fn known(state: &Path) -> Result<(Vec<Record>, Patterns), BaselineError> {
    match Baseline::open_read_only(state) {
        Ok(baseline) => {
            let mut all = baseline.all()?;
            all.sort_by(|a, b| a.path.cmp(&b.path));
            Ok((all, baseline.patterns()?))
        }
        Err(BaselineError::Missing { .. }) => Ok(Default::default()),
        Err(e) => Err(e),
    }
}
