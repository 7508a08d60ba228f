//! What the commands do where no daemon runs. A stand-in until the daemon is merged.

use super::api;
use crate::config::Config;

/// Carries out `command` without a daemon.
///
/// # Errors
///
/// Always.
pub fn perform(
    _config: &Config,
    _command: api::Command,
    _request: api::Request,
    _progress: &dyn Fn(u64, u64),
) -> anyhow::Result<api::Report> {
    anyhow::bail!("not available")
}
