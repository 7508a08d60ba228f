//! steadfast keeps critical files as they should be, and names whoever changed them.
//!
//! An event travels one way, and the modules stand in the order in which it meets them:
//!
//! 1. [`sense`] turns what the kernel says into plain observations: this file was written,
//!    that directory lost a name, a process opened this one.
//! 2. [`attribute`] says which process it was, from what was captured while it was alive,
//!    and how sure that is.
//! 3. [`judge`] compares what is there with what should be. It is pure: no clock, no file.
//! 4. [`engine`] is the state machine that ties these together. Observations, looks and
//!    outcomes go in; actions come out. It does no I/O, so a simulator can play it.
//! 5. [`respond`] carries out the healing actions: exchange, relock, repair, quarantine.
//! 6. [`record`] keeps the hash-chained journal.
//! 7. [`alert`] turns incidents into messages in a durable spool, and delivers them from a
//!    second process.
//!
//! Around that line stand [`baseline`] (what is known to be good, and where the copies are),
//! [`config`], [`daemon`] (the shell that performs the engine's actions), [`doctor`] (is this
//! host fit for it?), [`selftest`] (does it really see, name and heal?), [`cli`] (the only module
//! that prints), [`sys`] (the only module with `unsafe`) and [`fault`] (where tests have it end
//! suddenly).

pub mod sense;

pub mod attribute;

pub mod judge;

pub mod engine;

pub mod respond;

pub mod record;

pub mod alert;

pub mod baseline;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod fault;
#[cfg(fuzzing)]
pub mod fuzz;
pub mod selftest;
pub mod sys;
pub mod text;
