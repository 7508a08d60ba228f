//! Messages to a thread that sleeps in `poll`.
//!
//! The guard runs before every ordinary thread. A channel whose receiver spins until a message
//! that is half sent is there, as the standard library's does, would have it spin on the
//! processor that the sender was interrupted on: until the kernel steps in, after 950 ms by
//! default. With a lock the guard sleeps, and the sender gets on.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// What waits to be read; `None` once nobody reads any more.
type Waiting<T> = Mutex<Option<VecDeque<T>>>;

fn lock<T>(waiting: &Waiting<T>) -> MutexGuard<'_, Option<VecDeque<T>>> {
    // Nothing panics while it is held.
    waiting.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// Sends messages and wakes the receiver.
#[derive(Debug)]
pub struct Mailer<T> {
    waiting: Arc<Waiting<T>>,
    bell: Arc<EventFd>,
}

impl<T> Clone for Mailer<T> {
    fn clone(&self) -> Self {
        Self { waiting: Arc::clone(&self.waiting), bell: Arc::clone(&self.bell) }
    }
}

impl<T> Mailer<T> {
    /// Sends `message`. One sent after the receiver is gone is dropped.
    pub fn send(&self, message: T) {
        // The lock is given back before the bell rings, or who wakes would wait for it; and what
        // is dropped is dropped outside of it.
        let refused = match lock(&self.waiting).as_mut() {
            Some(waiting) => {
                waiting.push_back(message);
                None
            }
            None => Some(message),
        };
        if refused.is_none() {
            // Only a counter at its limit refuses, and then the bell has rung already.
            let _ = self.bell.write(1);
        }
    }

    /// What wakes the receiver without a message.
    #[must_use]
    pub fn bell(&self) -> Arc<EventFd> {
        Arc::clone(&self.bell)
    }
}

/// Receives messages; its descriptor is readable when there are any.
#[derive(Debug)]
pub struct Mailbox<T> {
    waiting: Arc<Waiting<T>>,
    bell: Arc<EventFd>,
}

impl<T> Mailbox<T> {
    /// A connected pair.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn new() -> std::io::Result<(Mailer<T>, Self)> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let waiting = Arc::new(Mutex::new(Some(VecDeque::new())));
        let mailer = Mailer { waiting: Arc::clone(&waiting), bell: Arc::clone(&bell) };
        Ok((mailer, Self { waiting, bell }))
    }

    /// What `poll` waits on.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Everything that has come in; the bell is silent before it is taken, so nothing that comes
    /// in meanwhile is slept through.
    pub fn drain(&self) -> impl Iterator<Item = T> + use<T> {
        let _ = self.bell.read();
        let all = lock(&self.waiting).as_mut().map(std::mem::take);
        all.unwrap_or_default().into_iter()
    }
}

impl<T> Drop for Mailbox<T> {
    fn drop(&mut self) {
        let left = lock(&self.waiting).take();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout};
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn messages_come_in_order_and_are_dropped_once_nobody_reads() {
        let (mailer, mailbox) = Mailbox::new().unwrap();
        let value = Arc::new(());
        for n in 1..=3 {
            mailer.send((n, Arc::clone(&value)));
        }
        assert_eq!(mailbox.drain().map(|(n, _)| n).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(mailbox.drain().count(), 0);
        mailer.send((4, Arc::clone(&value)));
        drop(mailbox);
        mailer.send((5, Arc::clone(&value)));
        assert_eq!(Arc::strong_count(&value), 1);
    }

    /// One processor for all, a receiver that runs before the senders, and every message comes.
    #[test]
    fn a_receiver_that_runs_before_all_waits_for_a_sender_that_it_interrupted() {
        const EACH: u32 = 20_000;
        let (mailer, mailbox) = Mailbox::new().unwrap();
        let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut one = CpuSet::new();
        one.set((0..CpuSet::count()).find(|cpu| own.is_set(*cpu).unwrap()).unwrap()).unwrap();
        let stay = move || sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        let count = std::thread::scope(|scope| {
            for _ in 0..2 {
                let mailer = mailer.clone();
                scope.spawn(move || {
                    stay();
                    (0..EACH).for_each(|n| mailer.send(n));
                });
            }
            let receiver = scope.spawn(|| {
                stay();
                // Refused, it still has to receive everything.
                let _ = crate::sys::priority::run_at_once(1);
                let mut count = 0;
                while count < 2 * EACH {
                    let mut fds = [PollFd::new(mailbox.fd(), PollFlags::POLLIN)];
                    nix::poll::poll(&mut fds, PollTimeout::from(30_000_u16)).unwrap();
                    count += u32::try_from(mailbox.drain().count()).unwrap();
                }
                count
            });
            receiver.join().unwrap()
        });
        assert_eq!(count, 2 * EACH);
    }
}
