//! The kernel, one object a file. The only module with `unsafe`, and most of it has none:
//! where rustix or nix offer a call safely, this is only the careful way of using it.
//!
//! Rules that hold throughout: a path is never followed through a symlink, a name is one
//! component, nothing that could be a fifo or a device is opened for reading or writing, and
//! what a tamperer can make large is read with a bound.
#![allow(unsafe_code)]

pub mod audit;
pub mod clock;
pub mod connector;
pub mod fanotify;
pub mod flags;
pub mod handle;
pub mod inherit;
pub mod lease;
pub mod memory;
pub mod mount;
pub mod open;
pub mod pidfd;
pub mod priority;
pub mod privilege;
pub mod read;
pub mod rename;
pub mod shared;
pub mod stat;
pub mod tampering;
pub mod xattr;

#[cfg(test)]
pub(crate) mod test;
