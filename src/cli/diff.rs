//! `diff`: the known-good copy against what is there, or against what the last incident left.
//!
//! Metadata first, then the lines. What is too large or no text is compared by digest, and
//! said to be.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::styling::{AnsiColor, Style};
use rustix::fs::MemfdFlags;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::args::Output;
use super::look::{Sight, look, not_protected};
use super::screen::{BAD, GOOD, PLAIN, STRONG, Screen};
use super::{Outcome, absolute};
use crate::baseline::{Baseline, Record, Vault};
use crate::config::{Config, canonical_path};
use crate::judge::{Difference, Facts, FileKind, Policy, deleted, differences, moved};
use crate::record::{Kind, PathText, describe_change};
use crate::sys;
use crate::text::{escape, escape_path};

/// Larger files are not compared line by line, in bytes.
const SIZE_MAX: u64 = 16 * 1024 * 1024;
/// After this long a shorter comparison will do.
const TIME_MAX: Duration = Duration::from_secs(5);
const HUNK: Style = AnsiColor::Cyan.on_default();

pub(super) fn diff(
    screen: &Screen,
    config: &Config,
    path: &Path,
    last: bool,
    output: Output,
) -> anyhow::Result<Outcome> {
    let path = canonical_path(&absolute(path)?);
    let baseline = Baseline::open_read_only(&config.daemon.state)?;
    let record = baseline.get(&path)?.ok_or_else(|| not_protected(&path))?;
    let other = if last { quarantined(&baseline, &path)? } else { Other::now(&path) };
    let comparison = compare(config, &record, &other)?;
    if output.json {
        screen.json(&comparison)?;
    } else {
        screen.lines(&comparison.render(&path, &other))?;
    }
    Ok(if comparison.differences.is_empty() { Outcome::Fine } else { Outcome::Found })
}

/// What the known-good copy is held against.
pub(super) struct Other {
    path: PathBuf,
    /// What to call it.
    label: &'static str,
    /// It lies in the quarantine, where flags and names are not what they were.
    kept: bool,
}

impl Other {
    pub fn now(path: &Path) -> Self {
        Self { path: path.to_owned(), label: "now", kept: false }
    }
}

fn quarantined(baseline: &Baseline, path: &Path) -> anyhow::Result<Other> {
    let evidence = baseline.evidence(Some(path))?.pop().with_context(|| {
        let path = escape_path(path);
        format!("nothing of {path} is in the quarantine: leave out --last to see what is there now")
    })?;
    Ok(Other { path: evidence.lies_at(), label: "last incident", kept: true })
}

/// The answer, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    #[serde(flatten)]
    path: PathText,
    #[serde(serialize_with = "as_json")]
    pub differences: Vec<Difference>,
    /// The lines that differ, as a unified diff; none where there is no text to compare.
    pub diff: Option<String>,
    /// Why there are no lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

fn as_json<S: serde::Serializer>(all: &[Difference], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(all.iter().map(
        |one| serde_json::json!({ "kind": one.kind, "expected": one.before, "actual": one.after }),
    ))
}

pub(super) fn compare(
    config: &Config,
    record: &Record,
    other: &Other,
) -> anyhow::Result<Comparison> {
    let path = PathText::new(&record.path);
    let seen = match look(&other.path, record.facts.size) {
        Sight::There(seen) => seen,
        absent @ (Sight::Gone | Sight::Elsewhere) => {
            let is = if matches!(absent, Sight::Gone) { deleted } else { moved };
            let differences = vec![is(&record.facts)];
            return Ok(Comparison { path, differences, diff: None, note: None });
        }
        Sight::Unreadable(why) => anyhow::bail!(why),
    };
    let differences = if other.kept {
        kept_differences(&record.facts, &seen)
    } else {
        differences(&record.facts, &seen, &record.policy)
    };
    let content = differences.iter().any(|one| one.kind == Kind::ContentChanged);
    let (diff, note) = if content && record.facts.kind == FileKind::File {
        lines(config, record, &seen, other)?
    } else {
        (None, None)
    };
    Ok(Comparison { path, differences, diff, note })
}

/// What the quarantine itself changes is left out: flags, and the number of names.
fn kept_differences(good: &Facts, seen: &Facts) -> Vec<Difference> {
    let (mut seen, mut good) = (seen.clone(), good.clone());
    (seen.flags, seen.nlink) = (None, good.nlink);
    good.flags = None;
    differences(&good, &seen, &Policy { immutable: false, ..Policy::default() })
}

/// The unified diff, or why there is none.
fn lines(
    config: &Config,
    record: &Record,
    seen: &Facts,
    other: &Other,
) -> anyhow::Result<(Option<String>, Option<String>)> {
    let no = |why: &str| Ok((None, Some(why.to_owned())));
    if record.facts.size.max(seen.size) > SIZE_MAX {
        return no("larger than 16 MiB: not compared line by line");
    }
    let good = known_good(config, record)?;
    let now = read(&other.path)?;
    let (Ok(good), Ok(now)) = (String::from_utf8(good), String::from_utf8(now)) else {
        return no("binary: not compared line by line");
    };
    if good.contains('\0') || now.contains('\0') {
        return no("binary: not compared line by line");
    }
    Ok((Some(unified(&good, &now)), None))
}

/// The copy from the vault, checked against its digest.
fn known_good(config: &Config, record: &Record) -> anyhow::Result<Vec<u8>> {
    let digest = record.facts.sha256.context("the baseline has no digest for this file")?;
    let memory = rustix::fs::memfd_create("known-good", MemfdFlags::CLOEXEC)
        .context("no memory for the known-good copy")?;
    let mut file = File::from(memory);
    Vault::open(&config.daemon.state)?.copy_verified(&digest, record.facts.size, &mut file)?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A bounded read of a regular file, without following a link to it.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("{} cannot be read", escape_path(path));
    let directory =
        sys::open::open_dir(path.parent().unwrap_or(Path::new("/"))).with_context(cannot)?;
    let name = path.file_name().unwrap_or_default();
    let file = sys::open::open_read_at(directory.as_fd(), name).with_context(cannot)?;
    let mut bytes = Vec::new();
    File::from(file).take(SIZE_MAX + 1).read_to_end(&mut bytes).with_context(cannot)?;
    Ok(bytes)
}

fn unified(good: &str, now: &str) -> String {
    let diff = TextDiff::configure().timeout(TIME_MAX).diff_lines(good, now);
    let mut text = String::new();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        text += &format!("{}\n", hunk.header());
        for change in hunk.iter_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            let line = change.value();
            text += &format!("{sign}{}\n", line.strip_suffix('\n').unwrap_or(line));
            if change.missing_newline() {
                text += "\\ No newline at end of file\n";
            }
        }
    }
    text
}

impl Comparison {
    fn render(&self, path: &Path, other: &Other) -> String {
        let path = escape_path(path);
        let mut text = String::new();
        for Difference { kind, before, after } in &self.differences {
            text += &format!("{path}  {}\n", describe_change(*kind, before, after));
        }
        if let Some(note) = &self.note {
            text += &format!("{path}  {note}\n");
        }
        let Some(diff) = &self.diff else { return text };
        text += &format!("{STRONG}--- {path} (known good){STRONG:#}\n");
        text += &format!("{STRONG}+++ {path} ({}){STRONG:#}\n", other.label);
        for line in diff.lines() {
            let style = match line.as_bytes().first() {
                Some(b'-') => BAD,
                Some(b'+') => GOOD,
                Some(b'@') => HUNK,
                _ => PLAIN,
            };
            text += &format!("{style}{}{style:#}\n", visible(line));
        }
        text
    }
}

/// Escaped, but for tabs.
fn visible(line: &str) -> String {
    let parts: Vec<_> = line.split('\t').map(|part| escape(part.as_bytes())).collect();
    parts.join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_compared_and_a_missing_newline_is_said() {
        assert_eq!(
            unified("a\nb\nc\n", "a\nB\nc"),
            "@@ -1,3 +1,3 @@\n a\n-b\n-c\n+B\n+c\n\\ No newline at end of file\n"
        );
        assert_eq!(unified("a\n", "a\n"), "");
    }

    #[test]
    fn a_line_cannot_speak_to_the_terminal() {
        assert_eq!(visible("+\ta\x1b[2J\r"), "+\ta\\x1b[2J\\r");
    }

    #[test]
    fn a_hostile_pair_of_files_is_compared_in_bounded_time() {
        let odd: String = (0..20_000).map(|n| format!("{}\n", n * 7919 % 10_007)).collect();
        let even: String = (0..20_000).map(|n| format!("{}\n", n * 104_729 % 10_009)).collect();
        assert!(!unified(&odd, &even).is_empty());
    }
}
