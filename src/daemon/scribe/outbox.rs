//! What became of messages: counted, put on record where somebody has to know of it, and said in
//! `status` for as long as it lasts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::alert::News;
use crate::daemon::failures::Failure;
use crate::daemon::health::Counts;
use crate::record::Event;

/// Why no message arrives at the moment.
pub(super) type Undelivered = Arc<Mutex<Option<String>>>;

/// See the module.
#[derive(Default)]
pub(super) struct Outbox {
    /// Incidents whose messages could not be delivered, and why not.
    failing: BTreeMap<String, String>,
    shown: Undelivered,
}

impl Outbox {
    /// Where it is said.
    pub(super) fn shown(&self) -> Undelivered {
        Arc::clone(&self.shown)
    }

    /// Takes note of what became of a message, and gives the line for the journal.
    pub(super) fn learn(&mut self, news: News, counts: &Counts) -> Option<Event> {
        let told = match news {
            News::Delivered { incident } => {
                counts.delivered();
                self.failing.remove(&incident);
                None
            }
            News::Failed { incident, attempts, error, next_try } => {
                counts.undelivered(false);
                let wait = next_try.duration_since(Timestamp::now()).as_secs().max(0);
                let note = format!(
                    "mail could not be delivered, attempt {attempts}: {error}; next try in {wait} s"
                );
                self.failing.insert(incident.clone(), error);
                let event = Failure::AlertFailed.event(note);
                event.map(|event| Event { incident: Some(incident), ..event })
            }
            News::Rejected { name, why } => {
                counts.undelivered(true);
                Failure::AlertFailed.event(format!(
                    "{name} in the mail spool is no message and was set aside: {why}"
                ))
            }
        };
        if let Ok(mut shown) = self.shown.lock() {
            *shown = self.failing.values().next_back().map(|why| {
                format!("messages that could not be delivered yet: {}; {why}", self.failing.len())
            });
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_delivered_is_said_until_it_is() {
        let (counts, mut outbox) = (Counts::default(), Outbox::default());
        let shown = |outbox: &Outbox| outbox.shown.lock().unwrap().clone();
        let failed = |incident: &str| News::Failed {
            incident: incident.into(),
            attempts: 1,
            error: "554 go away".into(),
            next_try: Timestamp::now(),
        };
        let delivered = |incident: &str| News::Delivered { incident: incident.into() };
        assert!(outbox.learn(delivered("a"), &counts).is_none());
        assert_eq!(shown(&outbox), None);
        let event = outbox.learn(failed("a"), &counts).unwrap();
        assert_eq!(event.incident.as_deref(), Some("a"));
        assert!(outbox.learn(failed("b"), &counts).is_some());
        let said = shown(&outbox).unwrap();
        assert!(said.contains("yet: 2;") && said.contains("554 go away"), "{said}");
        outbox.learn(delivered("a"), &counts);
        assert!(shown(&outbox).unwrap().contains("yet: 1;"));
        outbox.learn(delivered("b"), &counts);
        assert_eq!(shown(&outbox), None);
    }
}
