//! Every way to tamper with a protected file, against the running daemon and against a stopped
//! one: afterwards the file is as it was in every respect, `+i`, and there is one incident that
//! says what happened, who did it, and where the evidence is.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod bit;
mod content;
mod directories;
mod elsewhere;
mod evidence;
mod keeping;
mod metadata;
mod names;
mod parents;
mod persistence;
mod programs;
mod strange;

use common::{Builder, GOOD};

/// What a write in place may be called.
const WRITE: &[&str] = &["content-changed", "metadata-changed"];
/// What a new inode under the name may be called.
const REPLACE: &[&str] = &["replaced", "content-changed", "metadata-changed", "moved", "deleted"];
/// What a change of metadata may be called.
const METADATA: &[&str] = &["metadata-changed"];

fn with_evil(builder: Builder) -> Builder {
    builder.file("main.py", GOOD).bystander("evil", b"TAMPERED\n")
}
