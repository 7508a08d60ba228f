//! How the daemon lives: what it tells of its health, how it stops, how it takes up another
//! configuration, and what it does when something goes wrong with itself.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod alone;
#[path = "../common/mod.rs"]
mod common;
mod http;
mod packaging;
mod page;
mod reload;
mod stop;
