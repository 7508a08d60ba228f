//! What the second process remembers of one item, and lets the daemon know.
//!
//! The daemon reads receipts as root, and whoever has taken over the second process could
//! write anything into them: [`Receipt::parse`] is strict, and text in them is escaped again.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::files::rubbish;

/// A receipt of more bytes than this is rubbish.
pub(super) const MAX_BYTES: u64 = 64 * 1024;

/// The longest wait between two attempts. A date further ahead than this is not waited for:
/// the clock was set.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// An error longer than this, in characters, is cut.
const MAX_ERROR: usize = 400;

/// How the delivery of one item goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Receipt {
    /// The revision that the fields below are about.
    pub revision: String,
    /// Receivers whose mail server has taken this revision.
    pub told: Vec<String>,
    /// Attempts so far.
    pub attempts: u32,
    /// Not before this moment again.
    pub next_try: Timestamp,
    /// What went wrong at the last attempt.
    pub error: Option<String>,
    /// An attempt was begun and its end not recorded yet.
    pub under_way: bool,
    /// The last revision that every receiver was told.
    pub delivered: Option<String>,
}

impl Receipt {
    /// Nothing was tried yet.
    pub(super) fn new(revision: &str) -> Self {
        Self {
            revision: revision.to_owned(),
            told: Vec::new(),
            attempts: 0,
            next_try: Timestamp::UNIX_EPOCH,
            error: None,
            under_way: false,
            delivered: None,
        }
    }

    /// Reads what [`Receipt::to_bytes`] wrote; anything else is an error of kind `InvalidData`.
    pub(super) fn parse(bytes: &[u8]) -> std::io::Result<Self> {
        let mut receipt: Self =
            serde_json::from_slice(bytes).map_err(|error| rubbish(error.to_string()))?;
        receipt.error = receipt.error.map(|error| clean(&error));
        Ok(receipt)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and a date: there is nothing in it that JSON cannot hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Starts over for a new revision; what was delivered before stays known.
    pub(super) fn turn_to(&mut self, revision: &str) {
        if self.revision != revision {
            *self = Self { delivered: self.delivered.take(), ..Self::new(revision) };
        }
    }

    /// Whether every receiver was told `revision`.
    pub(super) fn is_delivered(&self, revision: &str) -> bool {
        self.delivered.as_deref() == Some(revision)
    }
}

/// `text`, which a mail server or a compromised process may have chosen, on one line and no
/// longer than a sentence.
pub(super) fn clean(text: &str) -> String {
    let escaped = crate::text::escape(text.as_bytes());
    match escaped.char_indices().nth(MAX_ERROR) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped,
    }
}

/// How long to wait after so many failures in a row: two seconds, doubled each time, up to
/// an hour.
pub(super) fn backoff(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    Duration::from_secs(2 << doublings).min(LONGEST_WAIT)
}

/// Whether `moment` has come. One further ahead than any wait counts too: it comes from a
/// clock that was wrong.
pub(super) fn has_come(moment: Timestamp, now: Timestamp) -> bool {
    let wait = moment.duration_since(now);
    wait <= jiff::SignedDuration::ZERO || wait.unsigned_abs() > LONGEST_WAIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_survives_the_round_trip_and_unknown_fields_are_refused() {
        let receipt = Receipt { error: Some("no".into()), ..Receipt::new("abc") };
        assert_eq!(Receipt::parse(&receipt.to_bytes()).unwrap(), receipt);
        let text = String::from_utf8(receipt.to_bytes()).unwrap();
        let text = text.replacen('{', "{\"extra\":1,", 1);
        assert!(Receipt::parse(text.as_bytes()).is_err());
        assert!(Receipt::parse(b"").is_err());
        assert!(Receipt::parse(&[b'['; 60_000]).is_err());
    }

    #[test]
    fn an_error_text_is_one_escaped_bounded_line() {
        let text = clean(&format!("550 no\r\nBcc: x\x1b[0m{}", "é".repeat(10_000)));
        assert!(text.starts_with("550 no\\r\\nBcc: x\\x1b[0mé"));
        assert!(text.chars().count() <= MAX_ERROR + 1);
    }

    #[test]
    fn waits_double_up_to_an_hour() {
        assert_eq!(backoff(1), Duration::from_secs(2));
        assert_eq!(backoff(4), Duration::from_secs(16));
        assert_eq!(backoff(12), LONGEST_WAIT);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn a_date_that_only_a_wrong_clock_can_have_set_is_not_waited_for() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert!(has_come(now, now));
        assert!(!has_come(now + Duration::from_secs(3600), now));
        assert!(has_come(now + Duration::from_secs(3602), now));
        assert!(has_come(Timestamp::MAX, now));
    }
}
