//! Under construction.

pub mod deliver;
