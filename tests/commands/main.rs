//! The commands a person types, without a daemon and with one, and the shapes of their JSON.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod daemon;
mod directories;
mod journal;
mod offline;
mod passed_by;
mod released;
mod shapes;
mod stateless;
mod trouble;
mod unconfigured;
mod vault;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{GOOD, Place, Sandbox, Whole, chattr};
use serde_json::Value;

/// A sandbox without a daemon, and one protected file in it.
fn protected() -> (Sandbox, PathBuf, Whole) {
    let sandbox = Sandbox::on(Place::disk());
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let good = Whole::of(&file).unwrap();
    assert_eq!(good.immutable, Some(true));
    (sandbox, file, good)
}

fn tamper(file: &Path) {
    chattr("-i", file);
    std::fs::write(file, b"# good\nprint('TAMPERED')\n").unwrap();
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap_or_else(|| panic!("{value}")).keys().map(String::as_str).collect()
}

fn set<'a>(names: &'a [&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}
