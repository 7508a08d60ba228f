//! `config check`.

use std::path::Path;

use super::Outcome;
use super::args::DEFAULT_CONFIG;
use super::screen::{BAD, GOOD, Screen, count};
use crate::config::{Config, LoadError, resolve};
use crate::text::escape_path;

/// Checks the file. What it says of paths on this host is remarked and changes no exit code:
/// a configuration is checked where it is written, too.
pub(super) fn config(screen: &Screen, file: Option<&Path>) -> anyhow::Result<Outcome> {
    let file = file.unwrap_or(Path::new(DEFAULT_CONFIG));
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(LoadError::Wrong(problems)) => {
            screen.line(&problems)?;
            let found = count(problems.all.len(), "problem", "problems");
            screen.styled(BAD, format_args!("{}: {found}", problems.name))?;
            return Ok(Outcome::Found);
        }
        Err(error) => return Err(error.into()),
    };
    let resolution = resolve(&config);
    for problem in &resolution.problems {
        screen.remark(&format!("on this host, {problem}"));
    }
    let paths = count(resolution.files.len(), "path", "paths");
    screen.styled(GOOD, format_args!("{}: no problem; {paths} to protect", escape_path(file)))?;
    Ok(Outcome::Fine)
}
