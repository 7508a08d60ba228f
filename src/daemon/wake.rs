//! Messages to a thread that sleeps in `poll`.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Sends messages and wakes the receiver.
#[derive(Debug)]
pub struct Mailer<T> {
    messages: Sender<T>,
    bell: Arc<EventFd>,
}

impl<T> Clone for Mailer<T> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<T> Mailer<T> {
    /// Sends `message`. One sent after the receiver is gone is dropped.
    pub fn send(&self, message: T) {
        if self.messages.send(message).is_ok() {
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
    messages: Receiver<T>,
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
        let (sender, receiver) = channel();
        let mailer = Mailer { messages: sender, bell: Arc::clone(&bell) };
        Ok((mailer, Self { messages: receiver, bell }))
    }

    /// What `poll` waits on.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Everything that has come in; the bell is silent before the first is handed out, so
    /// nothing that comes in meanwhile is slept through.
    pub fn drain(&self) -> impl Iterator<Item = T> + '_ {
        let _ = self.bell.read();
        self.messages.try_iter()
    }
}
