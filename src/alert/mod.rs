//! A person is told: incidents become messages in a durable spool, and a second process that
//! may use the network, and nothing else, delivers them.
//!
//! 1. [`Spool`] is the daemon's end: it writes what has to be told and reads how that went.
//! 2. `Pickup` is the other end: it finds what is due and remembers what was delivered.
//! 3. [`Gatherer`] says which incidents are told of together.
//! 4. [`compose`] writes the message.
//! 5. `Mailer` hands one message to a mail server.
//! 6. [`deliver`] is the second process; [`Supervisor`] is how the daemon keeps it running
//!    where systemd does not.
//!
//! The two processes share two directories, and each of these has one writer, so neither can
//! overwrite what the other knows:
//!
//! | in `spool/` | written by | holds |
//! |---|---|---|
//! | `items/` | the daemon | one file for each incident that somebody has to be told of |
//! | `receipts/` | the second process | one file for each item that was tried |
//! | `rejected/` | the daemon | rubbish that lay in `items/` |
//!
//! Nobody else can reach them: the state directory is for root only. The second process gets
//! hold of the two directories while it still is root, or through a bind mount in its unit.

pub mod deliver;

mod files;
mod gather;
mod handing;
mod item;
mod mailer;
mod mass;
mod message;
mod outcome;
mod password;
mod pickup;
mod receipt;
mod sendmail;
mod several;
mod spool;
mod supervisor;
mod waiting;
mod wording;

pub use gather::{Gatherer, Turnout};
pub use item::Item;
pub use message::{Message, Place, compose};
pub use password::PasswordError;
pub use spool::{News, Spool, SpoolError};

pub use deliver::check_password;
pub use supervisor::{Supervisor, Turn, spawn};
