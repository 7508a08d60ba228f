//! The daemon's main function. A stand-in until the daemon is merged.

use std::path::PathBuf;

use crate::config::Config;
use crate::record::Entry;

/// What `steadfast run` was told on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Absolute paths to protect besides those of the configuration; never patterns.
    pub protect: Vec<PathBuf>,
}

/// Guards until told to stop.
///
/// # Errors
///
/// Always.
pub fn run(
    _config: Config,
    _options: RunOptions,
    _on_event: &dyn Fn(&Entry),
) -> anyhow::Result<()> {
    anyhow::bail!("not available")
}
