//! What processes have open now, where that tells which of several did it.
//!
//! It is read from `/proc`, which takes longer than a heal, and of a process that does not want
//! it takes for ever. So a thread of its own does it, and nobody waits for that without limit.
//! While it hangs, nothing is looked at: then whoever may have it open is taken to.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::Report;
use crate::attribute::{Actor, held};
use crate::daemon::wake::Mailer;

/// So many of those who opened it last are looked at.
const MOST_WRITERS: usize = 32;
/// The usual is a fraction of a millisecond for each process.
pub(in crate::daemon) const PATIENCE: Duration = Duration::from_secs(1);

/// What is to be found out.
#[derive(Debug)]
pub(in crate::daemon) struct Inquiry {
    /// The question that it is for.
    pub(in crate::daemon) number: u64,
    /// Which of these…
    pub(in crate::daemon) openers: Vec<Arc<Actor>>,
    /// …can write to one of these inodes.
    pub(in crate::daemon) inodes: Vec<u64>,
    /// Which of these have the inode open.
    pub(in crate::daemon) older: Vec<(Arc<Actor>, u64)>,
}

/// The answer.
#[derive(Debug)]
pub struct Found {
    pub(in crate::daemon) number: u64,
    pub(in crate::daemon) writing: Vec<Arc<Actor>>,
    pub(in crate::daemon) holding: Vec<Arc<Actor>>,
}

impl Inquiry {
    /// Whether it takes looking.
    fn is_needed(&self) -> bool {
        self.openers.len() > 1 || !self.older.is_empty()
    }

    /// The answer where nobody is looked at.
    pub(in crate::daemon) fn unseen(&self) -> Found {
        let holding = self.older.iter().map(|(actor, _)| Arc::clone(actor)).collect();
        Found { number: self.number, writing: Vec::new(), holding }
    }

    fn look(&self) -> Found {
        let writes = |actor: &&Arc<Actor>| {
            let can = |ino: &u64| held::can_write(actor.pid, actor.start_time, *ino);
            self.inodes.iter().any(can)
        };
        // One alone needs no telling from others.
        let among = if self.openers.len() > 1 { MOST_WRITERS } else { 0 };
        let holds = |older: &&(Arc<Actor>, u64)| held::holds(older.0.pid, older.1).is_some();
        Found {
            number: self.number,
            writing: self.openers.iter().take(among).filter(writes).cloned().collect(),
            holding: self.older.iter().filter(holds).map(|(actor, _)| Arc::clone(actor)).collect(),
        }
    }
}

/// The thread. It ends when this is dropped, or does not matter any more.
#[derive(Debug)]
pub(in crate::daemon) struct Onlooker {
    inquiries: Sender<Inquiry>,
    /// What it was asked and has not answered, and until when that is waited for.
    open: Vec<(u64, Instant)>,
}

impl Onlooker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(in crate::daemon) fn start(reports: Mailer<Report>) -> std::io::Result<Self> {
        let (inquiries, inbox): (_, Receiver<Inquiry>) = channel();
        std::thread::Builder::new().name("onlooker".to_owned()).spawn(move || {
            while let Ok(inquiry) = inbox.recv() {
                reports.send(Report::Found(inquiry.look()));
            }
        })?;
        Ok(Self { inquiries, open: Vec::new() })
    }

    /// Has it found out. The answer, where there is nothing to look for or nobody to do it.
    pub(in crate::daemon) fn ask(&mut self, inquiry: Inquiry) -> Option<Found> {
        let now = Instant::now();
        let hangs = self.open.iter().any(|(_, due)| *due <= now);
        if hangs || !inquiry.is_needed() {
            return Some(inquiry.unseen());
        }
        let number = inquiry.number;
        if let Err(refused) = self.inquiries.send(inquiry) {
            return Some(refused.0.unseen());
        }
        self.open.push((number, now + PATIENCE));
        None
    }

    /// It has answered.
    pub(in crate::daemon) fn answered(&mut self, number: u64) {
        self.open.retain(|(open, _)| *open != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::wake::Mailbox;

    fn inquiry(number: u64, pids: &[u32]) -> Inquiry {
        let actor = |pid: &u32| Arc::new(Actor { pid: *pid, start_time: 1, ..Actor::default() });
        let openers: Vec<_> = pids.iter().map(actor).collect();
        let older = openers.iter().map(|actor| (Arc::clone(actor), 77)).collect();
        Inquiry { number, openers, inodes: vec![77], older }
    }

    #[test]
    fn whoever_hangs_is_waited_for_once_and_others_are_answered_without() {
        let (reports, _mailbox) = Mailbox::new().unwrap();
        let mut onlooker = Onlooker::start(reports).unwrap();
        assert!(onlooker.ask(inquiry(1, &[1, 2])).is_none());
        onlooker.open[0].1 = Instant::now();
        let found = onlooker.ask(inquiry(2, &[3, 4])).unwrap();
        assert_eq!((found.number, found.holding.len(), found.writing.len()), (2, 2, 0));
        onlooker.answered(1);
        assert!(onlooker.ask(inquiry(3, &[5, 6])).is_none());
    }

    #[test]
    fn nobody_is_looked_at_where_there_is_nobody_to_tell_from() {
        let (reports, _mailbox) = Mailbox::new().unwrap();
        let mut onlooker = Onlooker::start(reports).unwrap();
        let alone = Inquiry { older: Vec::new(), ..inquiry(1, &[1]) };
        assert!(onlooker.ask(alone).is_some());
    }
}
