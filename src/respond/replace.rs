//! Putting the known-good copy at the path: the steps and their order.
//!
//! The steps are a trait, so that a simulator can put tampering between any two of them. The
//! order is what makes the result sure: the replica is good and watched before it takes the
//! name; what had the name leaves it in the same instant; and only a look *after* the last
//! step may call the file whole, and only if the inode it sees is the replica's.

use std::io;

use crate::judge::Stat;

/// What the filesystem can do for one protected path.
pub trait Hands {
    /// The inode of the replica.
    fn replica_inode(&self) -> u64;
    /// Puts the replica at the path and what was there into the replica's slot, at once.
    ///
    /// # Errors
    /// `NotFound` where nothing has the name, `PermissionDenied` where a flag forbids it.
    fn exchange(&mut self) -> io::Result<()>;
    /// Gives the replica the name that nothing has.
    ///
    /// # Errors
    /// `AlreadyExists` where something has it after all.
    fn place(&mut self) -> io::Result<()>;
    /// Clears the flags that forbid a rename, from what has the name and its directory.
    ///
    /// # Errors
    /// As the kernel has them.
    fn unlock(&mut self) -> io::Result<()>;
    /// Sets the flags of the baseline on the replica's inode, wherever it is.
    ///
    /// # Errors
    /// As the kernel has them.
    fn lock(&mut self) -> io::Result<()>;
    /// Looks at the path.
    ///
    /// # Errors
    /// As the kernel has them; a missing file is `None`.
    fn look(&mut self) -> io::Result<Option<Stat>>;
}

/// How the replica came to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What was there lies in the slot now.
    Exchanged,
    /// Nothing was there.
    Placed,
}

/// Somebody who changes the path between our steps gets this many chances before the heal is
/// given back to the engine, which looks again.
const ATTEMPTS: u32 = 4;

/// Puts the replica at the path.
///
/// Returns the way, and the look at the end: `None` when somebody else's inode had the name by
/// then.
///
/// # Errors
/// When the kernel refuses, after the flags that are known to forbid it were cleared.
pub fn replace(hands: &mut impl Hands) -> io::Result<(Way, Option<Stat>)> {
    let way = put(hands)?;
    hands.lock()?;
    let ours = hands.replica_inode();
    Ok((way, hands.look()?.filter(|stat| stat.ino == ours)))
}

fn put(hands: &mut impl Hands) -> io::Result<Way> {
    let mut last = io::Error::from(io::ErrorKind::Interrupted);
    let mut there = true;
    for _ in 0..ATTEMPTS {
        let (way, tried) = match there {
            true => (Way::Exchanged, hands.exchange()),
            false => (Way::Placed, hands.place()),
        };
        match tried {
            Ok(()) => return Ok(way),
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound if there => there = false,
                io::ErrorKind::AlreadyExists if !there => there = true,
                io::ErrorKind::PermissionDenied => hands.unlock()?,
                _ => return Err(e),
            },
        }
        last = io::Error::from(io::ErrorKind::ResourceBusy);
    }
    Err(last)
}
