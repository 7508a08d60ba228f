//! System calls that no crate offers safely, one kernel object a file. The only `unsafe`.
#![allow(unsafe_code)]

pub mod privilege;
