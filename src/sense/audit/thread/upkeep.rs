//! Whether everything comes in, and that it goes on coming.

use std::time::{Duration, Instant};

use super::Listener;
use crate::attribute::fastest_round;
use crate::sense::Health;
use crate::sense::audit::Told;

/// How often audit itself is looked at when nothing happens.
const CHECK: Duration = Duration::from_secs(5);
/// After a loss, the sensor counts as degraded for this long.
const SHAKEN: Duration = Duration::from_secs(60);

impl Listener {
    pub(super) fn lose(&mut self, now: Instant, why: &'static str) {
        tracing::debug!("audit records were lost: {why}");
        self.lost = Some((now, why));
        self.shared.deeds.missing_until(now);
        // Something may have been done that no record tells of.
        self.pending_everywhere = true;
    }

    /// [`Listener::lose`], where what is lost may have been about a file of ours.
    pub(super) fn lose_records(&mut self, now: Instant, why: &'static str) {
        self.lose(now, why);
        (self.tell)(Told::Lost);
    }

    pub(super) fn count_losses(&mut self) {
        let now = Instant::now();
        if self.assembler.lost(now) {
            self.lose_records(now, "some are missing from the row");
        }
        match self.setup.status() {
            Ok(status) if status.lost != self.last_lost => {
                self.last_lost = status.lost;
                self.lose_records(now, "the kernel dropped some");
            }
            Ok(_) => {}
            Err(_) => self.lose(now, "audit did not answer"),
        }
    }

    /// Looks after audit itself, now and then.
    pub(super) fn check(&mut self) {
        let now = Instant::now();
        if now < self.next_check {
            return;
        }
        self.next_check = now + CHECK;
        self.round = fastest_round();
        self.count_losses();
        self.trouble = match self.setup.renew() {
            Ok(true) => None,
            Ok(false) => {
                self.lose_records(now, "audit was off, or rules of ours were gone");
                None
            }
            Err(why) => {
                self.lose(now, "audit is not as it should be");
                Some(why)
            }
        };
    }

    pub(super) fn publish(&mut self) {
        let lost = self.lost.filter(|(at, _)| at.elapsed() < SHAKEN);
        let health = match (&self.trouble, lost) {
            (Some(why), _) => Health::Degraded(why.clone()),
            (None, Some((_, why))) => Health::Degraded(format!(
                "audit records were lost within the last minute ({why}); a larger backlog limit \
                 and no rate limit help: auditctl -b 16384 -r 0"
            )),
            (None, None) => Health::Working,
        };
        self.shared.state().health = health;
    }
}
