//! `config check` and `journal verify`.

use std::path::Path;

use super::Outcome;
use super::args::{DEFAULT_CONFIG, Output};
use super::screen::{BAD, GOOD, Screen, WARNING, count};
use crate::config::{Config, LoadError, resolve};
use crate::record;
use crate::text::{escape, escape_path};

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
    if resolution.problems.iter().any(|problem| !problem.is_warning()) {
        let said = "no problem in the file itself, but on this host the daemon would refuse it";
        screen
            .styled(WARNING, format_args!("{}: {said}; {paths} to protect", escape_path(file)))?;
        return Ok(Outcome::Fine);
    }
    screen.styled(GOOD, format_args!("{}: no problem; {paths} to protect", escape_path(file)))?;
    Ok(Outcome::Fine)
}

/// Is the chain whole?
pub(super) fn journal(screen: &Screen, config: &Config, output: Output) -> anyhow::Result<Outcome> {
    let verdict = record::verify(&config.daemon.state)?;
    if verdict.lines == 0 && verdict.is_whole() {
        let state = escape_path(&config.daemon.state);
        anyhow::bail!(
            "the journal in {state} is empty, so nothing can be verified: is it the right --config?"
        );
    }
    let outcome = if verdict.is_whole() { Outcome::Fine } else { Outcome::Found };
    if output.json {
        screen.json(&verdict)?;
        return Ok(outcome);
    }
    for fault in &verdict.faults {
        screen.styled(BAD, escape(fault.to_string().as_bytes()))?;
    }
    let noun = if verdict.lines == 1 { "line" } else { "lines" };
    let files = count(verdict.segments, "file", "files");
    let lines = format!("{} {noun} in {files}", verdict.lines);
    if verdict.is_whole() {
        screen.styled(GOOD, format_args!("the journal is whole: {lines}"))?;
        if let Some((seq, hash)) = &verdict.head {
            screen.line(format_args!("its last line is {seq}, with the hash {hash}"))?;
        }
        if verdict.unfinished_bytes > 0 {
            screen.line(format_args!(
                "{} bytes at its end are no whole line: one that is being written just now, or was \
                 cut short by a crash; the next start takes it away",
                verdict.unfinished_bytes
            ))?;
        }
    } else {
        let faults = if verdict.fault_count == 1 { "fault" } else { "faults" };
        let found = format!("{} {faults}, {lines}", verdict.fault_count);
        screen.styled(BAD, format_args!("the journal is not whole: {found}"))?;
    }
    Ok(outcome)
}
