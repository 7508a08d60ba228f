//! Walks a parsed TOML document and collects everything that is wrong with it.
//!
//! serde stops at the first problem; a person who repairs a file wants all of them. Each
//! getter reports what it cannot use and answers `None`, so that reading goes on.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;
use crate::text::escape;

/// A string and where it stands.
pub(super) struct Text<'a> {
    pub value: &'a str,
    pub span: Range<usize>,
}

/// A table and what to call it: `[daemon]`.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    pub name: &'static str,
    pub table: &'a DeTable<'a>,
}

pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
    /// Lines with syntax errors. Where there are any, what seems to be missing may be there.
    damaged: Vec<usize>,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str) -> Self {
        Self { text, problems: Vec::new(), damaged: Vec::new() }
    }

    /// Takes the parser's errors. One bracket too few makes an error of each line that follows,
    /// so an error next to another one is taken for its echo.
    pub fn syntax<'e>(&mut self, errors: impl Iterator<Item = (Range<usize>, &'e str)>) {
        for (span, message) in errors {
            let problem = Problem::new(self.text, span, message);
            let line = problem.line;
            if self.damaged.last().is_none_or(|last| line > last + 1) {
                self.problems.push(problem);
            }
            self.damaged.push(line);
        }
    }

    pub fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        let problem = Problem::new(self.text, span, message);
        if !self.damaged.contains(&problem.line) {
            self.problems.push(problem);
        }
    }

    /// All problems in the order of the file; one for each place.
    pub fn into_problems(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems.dedup_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    /// Reports the keys of `section` that are not among `known`. `elsewhere` are the keys of
    /// other tables, with the table's name.
    pub fn refuse_unknown(
        &mut self,
        section: Section<'_>,
        known: &[&str],
        elsewhere: &[(&str, &[&str])],
    ) {
        for key in section.table.keys() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let home = elsewhere.iter().find(|(_, keys)| keys.contains(&name));
            let hint = match (nearest(name, known), home) {
                (_, Some((home, _))) => format!("it belongs in {home}"),
                (Some(near), None) => format!("did you mean `{near}`?"),
                (None, None) => format!("known here: {}", known.join(", ")),
            };
            let name = escape(name.as_bytes());
            self.problem(key.span(), format!("unknown key `{name}` in {}: {hint}", section.name));
        }
    }

    pub fn table<'a>(
        &mut self,
        value: &'a Spanned<DeValue<'a>>,
        name: &'static str,
    ) -> Option<Section<'a>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Section { name, table }),
            DeValue::Array(_) => self.refuse(value, format!("there is only one: write {name}")),
            other => {
                self.refuse(value, format!("expected the table {name}, found {}", a_kind(other)))
            }
        }
    }

    pub fn string<'a>(&mut self, section: Section<'a>, key: &str) -> Option<Text<'a>> {
        let value = section.table.get(key)?;
        self.text(value, &format!("`{key}`"))
    }

    pub fn text<'a>(&mut self, value: &'a Spanned<DeValue<'a>>, what: &str) -> Option<Text<'a>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Text { value: text, span: value.span() }),
            other => self.refuse(value, format!("{what} is {}; write it in quotes", a_kind(other))),
        }
    }

    pub fn boolean(&mut self, section: Section<'_>, key: &str) -> Option<bool> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                let found = a_kind(other);
                self.refuse(value, format!("`{key}` is {found}; write true or false, no quotes"))
            }
        }
    }

    pub fn array<'a>(
        &mut self,
        section: Section<'a>,
        key: &str,
    ) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::Array(array) => Some(array),
            other => {
                let found = a_kind(other);
                self.refuse(value, format!("`{key}` is {found}; write a list: {key} = [\"…\"]"))
            }
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(
        &mut self,
        section: Section<'_>,
        key: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.string(section, key)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text.value) {
            return Some(*choice);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let found = escape(text.value.as_bytes());
        self.problem(text.span, format!("`{key}` cannot be \"{found}\": {}", names.join(" or ")));
        None
    }

    /// Reads a string by `parse`, whose error is a sentence.
    pub fn parsed<T>(
        &mut self,
        section: Section<'_>,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.string(section, key)?;
        match parse(text.value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(text.span, message);
                None
            }
        }
    }

    /// Reports that `key` has to be there, at the table's own place.
    pub fn missing(&mut self, at: Range<usize>, section: &str, key: &str, example: &str) {
        if self.damaged.is_empty() {
            self.problem(at, format!("{section} needs `{key}`: for example {example}"));
        }
    }

    fn refuse<T>(&mut self, value: &Spanned<DeValue<'_>>, message: String) -> Option<T> {
        self.problem(value.span(), message);
        None
    }
}

/// What the value is, with its article.
pub(super) fn a_kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The known word that `name` was probably meant to be.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, near) =
        known.iter().map(|word| (strsim::osa_distance(name, word), *word)).min()?;
    (distance <= 1 + near.len() / 4).then_some(near)
}
