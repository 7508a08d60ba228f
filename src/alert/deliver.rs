//! The second process. A stand-in until it is merged.

use crate::config::Config;

/// Delivers messages from the spool until told to stop.
///
/// # Errors
///
/// Always.
pub fn run(_config: &Config) -> anyhow::Result<()> {
    anyhow::bail!("not available")
}
