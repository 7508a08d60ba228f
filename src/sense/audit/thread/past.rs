//! What was recorded while nobody listened: the sockets of earlier runs, kept open meanwhile, and
//! their rules. It is heard once every file is known, before what came in since, each call once.

use std::time::Instant;

use super::super::call::{Assembler, Call, Heard};
use super::Listener;
use crate::sys::audit::Received;

/// Calls that are kept until every file is known.
const MOST: usize = 32_768;

impl Listener {
    /// A call that came in. Its turn comes after those of the time before.
    pub(super) fn hear_in_turn(&mut self, call: Box<Call>, now: Instant) {
        match self.early.as_mut().filter(|_| call.pid != self.us) {
            Some(early) if early.len() < MOST => drop(early.insert(call.serial, call)),
            Some(_) => self.lose_records(now, "too many came in while it started"),
            None => self.hear(&call, now),
        }
    }

    /// Every file is known by now.
    pub(super) fn hear_the_past(&mut self) {
        let Some(mut calls) = self.early.take() else { return };
        let now = Instant::now();
        for mut stream in std::mem::take(&mut self.past) {
            let mut assembler = Assembler::default();
            loop {
                let heard = match stream.receive() {
                    Ok(Received::Record(record)) => assembler.take(record.kind, record.text, now),
                    Ok(Received::Nothing) => break,
                    Ok(Received::Lost) => {
                        self.lose_records(now, "too many waited to be read");
                        None
                    }
                    Err(error) => {
                        tracing::warn!("the records of the run before cannot be read: {error}");
                        break;
                    }
                };
                if let Some(Heard::Call(call)) = heard.filter(|_| calls.len() < 2 * MOST) {
                    calls.insert(call.serial, call);
                }
            }
        }
        calls.values().for_each(|call| self.hear(call, now));
    }
}
