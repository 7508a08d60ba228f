//! The daemon as a service of a real systemd: a small Debian that systemd-nspawn boots, in which
//! it is installed as a person would install it. Audit control does not work in there, for the
//! kernel gives it to the first pid namespace only.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod boot;
mod own;
mod reload;
mod restarts;
mod room;
