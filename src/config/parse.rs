//! The document's tables, read into a [`Config`].

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::reader::{Reader, Section, a_kind};
use super::values::{
    absolute_path, content_sweep, flag_sweep, listen_address, protected_path, socket_path,
};
use super::{Config, Daemon, Email, Problems, Protect, mail};
use crate::judge::{AlertWhen, Policy, Unexpected};

const PROTECT_KEYS: [&str; 5] = ["paths", "immutable", "restore", "alert", "unexpected"];
const DAEMON_KEYS: [&str; 5] = ["state", "control", "flag_sweep", "content_sweep", "listen"];
const TOP_KEYS: [&str; 3] = ["protect", "alert", "daemon"];
const HOMES: [(&str, &[&str]); 4] = [
    ("[[protect]]", &PROTECT_KEYS),
    ("[alert.email]", &mail::KEYS),
    ("[daemon]", &DAEMON_KEYS),
    ("[alert]", &["email"]),
];

/// Every key there is.
#[cfg(test)]
pub(super) fn keys() -> Vec<&'static str> {
    [&PROTECT_KEYS[..], &mail::KEYS[..], &DAEMON_KEYS[..]].concat()
}

/// Reads `text`, which messages call `name`.
pub(super) fn parse(text: &str, name: &str) -> Result<Config, Problems> {
    let mut reader = Reader::new(text);
    // The parser rejects a document that is too deep or too odd in any other way by itself,
    // and goes on behind what it did not understand.
    let (document, errors) = DeTable::parse_recoverable(text);
    reader.syntax(errors.iter().map(|e| (e.span().unwrap_or(0..0), e.message().trim_end())));
    let top = Section { name: "the file", table: document.get_ref() };
    reader.refuse_unknown(top, &TOP_KEYS, &HOMES);
    let config = Config {
        protect: top.table.get("protect").map(|v| protect(&mut reader, v)).unwrap_or_default(),
        email: top.table.get("alert").and_then(|value| email(&mut reader, value)),
        daemon: top.table.get("daemon").map(|v| daemon(&mut reader, v)).unwrap_or_default(),
    };
    let all = reader.into_problems();
    if all.is_empty() { Ok(config) } else { Err(Problems { name: name.to_owned(), all }) }
}

fn protect<'a>(reader: &mut Reader<'_>, value: &'a Spanned<DeValue<'a>>) -> Vec<Protect> {
    let DeValue::Array(tables) = value.get_ref() else {
        let found = a_kind(value.get_ref());
        reader.problem(value.span(), format!("`protect` is {found}: write [[protect]], twice ["));
        return Vec::new();
    };
    tables
        .iter()
        .filter_map(|value| {
            let section = reader.table(value, "[[protect]]")?;
            reader.refuse_unknown(section, &PROTECT_KEYS, &HOMES);
            let paths = protected_paths(reader, section, value.span());
            let policy = policy(reader, section);
            Some(Protect { paths, policy })
        })
        .collect()
}

fn protected_paths(reader: &mut Reader<'_>, section: Section<'_>, at: Range<usize>) -> Vec<String> {
    let Some(written) = section.table.get("paths") else {
        reader.missing(at, section.name, "paths", "paths = [\"/srv/app/main.py\"]");
        return Vec::new();
    };
    let Some(values) = reader.array(section, "paths") else { return Vec::new() };
    if values.is_empty() {
        reader.problem(written.span(), "`paths` is empty: name what to protect");
    }
    let mut paths = Vec::new();
    for value in values {
        let Some(text) = reader.text(value, "an entry of `paths`") else { continue };
        match protected_path(text.value) {
            Ok(path) => paths.push(path),
            Err(message) => reader.problem(text.span, message),
        }
    }
    paths
}

fn policy(reader: &mut Reader<'_>, section: Section<'_>) -> Policy {
    let default = Policy::default();
    let alerts =
        [("now", AlertWhen::Now), ("digest", AlertWhen::Digest), ("never", AlertWhen::Never)];
    let strangers = [("report", Unexpected::Report), ("quarantine", Unexpected::Quarantine)];
    Policy {
        immutable: reader.boolean(section, "immutable").unwrap_or(default.immutable),
        restore: reader.boolean(section, "restore").unwrap_or(default.restore),
        alert: reader.choice(section, "alert", &alerts).unwrap_or(default.alert),
        unexpected: reader.choice(section, "unexpected", &strangers).unwrap_or(default.unexpected),
    }
}

fn email<'a>(reader: &mut Reader<'_>, value: &'a Spanned<DeValue<'a>>) -> Option<Email> {
    let alert = reader.table(value, "[alert]")?;
    reader.refuse_unknown(alert, &["email"], &HOMES);
    let Some(email) = alert.table.get("email") else {
        if alert.table.is_empty() {
            let nobody = "[alert] is empty, so nobody is told: write [alert.email], or remove it";
            reader.problem(value.span(), nobody);
        }
        return None;
    };
    let value = email;
    let section = reader.table(value, "[alert.email]")?;
    reader.refuse_unknown(section, &mail::KEYS, &HOMES);
    mail::read(reader, section, value.span())
}

fn daemon<'a>(reader: &mut Reader<'_>, value: &'a Spanned<DeValue<'a>>) -> Daemon {
    let default = Daemon::default();
    let Some(section) = reader.table(value, "[daemon]") else { return default };
    reader.refuse_unknown(section, &DAEMON_KEYS, &HOMES);
    Daemon {
        state: reader.parsed(section, "state", absolute_path).unwrap_or(default.state),
        control: reader.parsed(section, "control", socket_path).unwrap_or(default.control),
        flag_sweep: reader.parsed(section, "flag_sweep", flag_sweep).unwrap_or(default.flag_sweep),
        content_sweep: reader
            .parsed(section, "content_sweep", content_sweep)
            .unwrap_or(default.content_sweep),
        listen: reader.parsed(section, "listen", listen_address),
    }
}
