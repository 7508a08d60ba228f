//! Whether everything comes in, and that it goes on coming.

use std::time::{Duration, Instant};

use super::{EVERYWHERE, Listener};
use crate::attribute::fastest_round;
use crate::sense::Health;
use crate::sense::audit::Told;
use crate::sense::audit::call::Change;

/// How often audit itself is looked at when nothing happens.
const CHECK: Duration = Duration::from_secs(5);
/// Why records were lost.
pub(super) const TOO_MANY: &str = "too many waited to be read";
const DROPPED: &str = "the kernel dropped some; a larger backlog limit and no rate limit help: \
                       auditctl -b 16384 -r 0";
const MISSING: &str = "some are missing from the row; a larger backlog limit and no rate limit \
                       help: auditctl -b 16384 -r 0";
const OFF: &str = "audit was off";
const UNRULED: &str = "audit was off, or rules of ours were gone";
const SILENT: &str = "audit did not answer";
const NO_RECORD: &str = "no audit record comes, though the kernel took our rules; if that lasts, \
                         see auditctl -l for rules of somebody else in front of them";
const IN_THE_WAY: &str = "audit was not as it should be";
const UNSEEN: &str = "rules for new processes came or went";
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
            self.lose_records(now, MISSING);
        }
        match self.setup.status() {
            Ok(status) if status.lost != self.last_lost => {
                self.last_lost = status.lost;
                self.lose_records(now, DROPPED);
            }
            Ok(_) => {}
            Err(_) => self.lose(now, SILENT),
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
                self.lose_records(now, UNRULED);
                None
            }
            Err(why) => {
                self.lose(now, IN_THE_WAY);
                // Whoever was started meanwhile may not be recorded, for good.
                self.shared.distrust_whoever_lives();
                Some(why)
            }
        };
        if !self.proven && self.trouble.is_none() {
            self.signal(None, CHECK);
        }
    }

    /// Somebody changed how audit is set up.
    pub(super) fn reconfigured(&mut self, change: Change, now: Instant) {
        self.next_check = self.next_check.min(now + EVERYWHERE);
        match change {
            Change::Off => {
                self.lose_records(now, OFF);
                self.next_check = now;
            }
            Change::Processes => {
                self.lose(now, UNSEEN);
                self.shared.distrust_whoever_lives();
            }
            // Most rules keep nothing back; but nothing is proven by silence until now.
            Change::Rules => {
                self.shared.deeds.missing_until(now);
                self.pending_everywhere = true;
            }
            Change::Other => {}
        }
    }

    /// The first record has come: from now on silence proves something.
    pub(super) fn begin(&mut self) {
        if !self.proven && self.by_another {
            // It took long, and nobody was recorded meanwhile.
            self.shared.distrust_whoever_lives();
            self.shared.deeds.missing_until(Instant::now());
            self.pending_everywhere = true;
        }
        self.proven = true;
    }

    pub(super) fn publish(&mut self) {
        let lost = self.lost.filter(|(at, _)| at.elapsed() < SHAKEN);
        let health = match (&self.trouble, lost) {
            (Some(why), _) => Health::Degraded(why.clone()),
            (None, Some((_, why))) => {
                Health::Degraded(format!("audit records were lost within the last minute: {why}"))
            }
            (None, None) if !self.proven => Health::Degraded(NO_RECORD.to_owned()),
            (None, None) => Health::Working,
        };
        let before = std::mem::replace(&mut self.shared.state().health, health.clone());
        if before != health {
            (self.tell)(Told::Health);
        }
    }
}
