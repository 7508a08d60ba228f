//! `struct audit_rule_data`.

use super::number;

const WORDS: usize = 64;
/// Flags, action, number of fields, four tables, length of the text.
const FIXED: usize = 4 * (3 + 4 * WORDS + 1);

const FILTER_EXIT: u32 = 4;
const FILTER_PREPEND: u32 = 0x10;
const ALWAYS: u32 = 2;
const KEY: u32 = 210;

/// What a rule can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Field {
    Pid = 0,
    Architecture = 11,
    Success = 104,
    Permission = 106,
    Below = 107,
    Argument1 = 201,
}

/// How a rule compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    NotEqual = 0x3000_0000,
    Equal = 0x4000_0000,
}

/// A rule as the kernel has it. Fields are compared in the order in which they were added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    flags: u32,
    action: u32,
    calls: [u32; WORDS],
    fields: Vec<(u32, u32, u32)>,
    text: Vec<u8>,
}

impl Rule {
    /// A record of each of these system calls, when it ends; of every one, if none is named.
    /// It comes before the rules that are there.
    #[must_use]
    pub fn record(calls: &[u32]) -> Self {
        let mut mask = [if calls.is_empty() { u32::MAX } else { 0 }; WORDS];
        // The last sixteen bits name classes of calls, and are never listed.
        if let Some(last) = mask.last_mut() {
            *last &= 0xffff;
        }
        for call in calls {
            if let Some(word) = mask.get_mut((call / 32) as usize) {
                *word |= 1 << (call % 32);
            }
        }
        let flags = FILTER_EXIT | FILTER_PREPEND;
        Self { flags, action: ALWAYS, calls: mask, fields: Vec::new(), text: Vec::new() }
    }

    /// And only if this holds.
    #[must_use]
    pub fn when(mut self, field: Field, comparison: Comparison, value: u32) -> Self {
        self.fields.push((field as u32, comparison as u32, value));
        self
    }

    /// And only if this text holds.
    #[must_use]
    pub fn when_text(self, field: Field, text: &[u8]) -> Self {
        self.text_field(field as u32, text)
    }

    /// Its key; records repeat it.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.text_field(KEY, key.as_bytes())
    }

    fn text_field(mut self, field: u32, text: &[u8]) -> Self {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.fields.push((field, Comparison::Equal as u32, length));
        self.text.extend_from_slice(text);
        self
    }

    /// The key of a rule that was read.
    #[must_use]
    pub fn its_key(&self) -> Option<String> {
        let mut rest = self.text.as_slice();
        for (field, _, value) in self.fields.iter().filter(|(field, ..)| is_text(*field)) {
            let (text, after) = rest.split_at_checked(*value as usize)?;
            if *field == KEY {
                return Some(String::from_utf8_lossy(text).into_owned());
            }
            rest = after;
        }
        None
    }

    /// The same rule, as it reads once the kernel has it.
    #[must_use]
    pub fn as_listed(&self) -> Self {
        Self { flags: self.flags & !FILTER_PREPEND, ..self.clone() }
    }

    /// Whether it keeps every new process from being recorded at all.
    #[must_use]
    pub fn silences_processes(&self) -> bool {
        const FILTER_TASK: u32 = 1;
        self.flags & !FILTER_PREPEND == FILTER_TASK && self.action == 0
    }

    /// Whether it keeps whole types of records back.
    #[must_use]
    pub fn excludes_records(&self) -> bool {
        const FILTER_EXCLUDE: u32 = 5;
        self.flags & !FILTER_PREPEND == FILTER_EXCLUDE
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FIXED + self.text.len());
        let mut put = |value: u32| out.extend_from_slice(&value.to_ne_bytes());
        let count = u32::try_from(self.fields.len()).unwrap_or(0);
        [self.flags, self.action, count].into_iter().for_each(&mut put);
        self.calls.into_iter().for_each(&mut put);
        let columns =
            self.fields.iter().map(|(field, comparison, value)| [field, value, comparison]);
        for table in 0..3 {
            let column = columns.clone().filter_map(|row| row.get(table).copied().copied());
            column.chain(std::iter::repeat(0)).take(WORDS).for_each(&mut put);
        }
        put(u32::try_from(self.text.len()).unwrap_or(0));
        out.extend_from_slice(&self.text);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |index: usize| number(bytes, index * 4);
        let mut calls = [0; WORDS];
        for (at, call) in calls.iter_mut().enumerate() {
            *call = word(3 + at)?;
        }
        let count = (word(2)? as usize).min(WORDS);
        let fields = (0..count)
            .map(|at| {
                let column = |table: usize| word(3 + table * WORDS + at);
                Some((column(1)?, column(3)?, column(2)?))
            })
            .collect::<Option<Vec<_>>>()?;
        let length = word(3 + 4 * WORDS)? as usize;
        let text = bytes.get(FIXED..FIXED.checked_add(length)?)?.to_vec();
        Some(Self { flags: word(0)?, action: word(1)?, calls, fields, text })
    }
}

/// Fields whose value is the length of their text: labels, watches, directories, programs, keys.
fn is_text(field: u32) -> bool {
    matches!(field, 13..=17 | 19..=23 | 105 | 107 | 112 | KEY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule() -> Rule {
        Rule::record(&[16, 469])
            .when(Field::Pid, Comparison::NotEqual, 7)
            .when_text(Field::Below, b"/var/lib/x")
            .key("steadfast-1-2")
    }

    #[test]
    fn a_rule_survives_the_round_trip_and_tells_its_key() {
        let decoded = Rule::decode(&rule().encode()).unwrap();
        assert_eq!(decoded, rule());
        assert_eq!(decoded.its_key().as_deref(), Some("steadfast-1-2"));
        assert!(!decoded.silences_processes() && !decoded.excludes_records());
    }

    proptest! {
        #[test]
        fn rubbish_is_no_rule_or_harmless(
            at in 0_usize..1100,
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut encoded = rule().encode();
            let at = at.min(encoded.len());
            encoded.truncate(at.max(64));
            for (old, new) in encoded.iter_mut().skip(at.saturating_sub(64)).zip(bytes) {
                *old = new;
            }
            let _ = Rule::decode(&encoded).map(|rule| rule.its_key());
        }
    }
}
