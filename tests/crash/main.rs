//! The program killed after every step that leaves something on a disk: whatever it was at, the
//! next start makes everything whole, and nothing lies about.
//!
//! The steps are the points of `steadfast::fault`, which a debug build has. Each test plays the
//! points that its deed passes, one after the other, in one state directory: so each also finds
//! what the crashes before left there.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod heals;
mod journal;
mod room;

use std::collections::BTreeSet;

use steadfast::fault::Point;

#[test]
fn every_point_is_played() {
    let played = [
        heals::EXCHANGE,
        heals::UNLOCK,
        heals::PLACE,
        heals::RELOCK,
        heals::REPAIR,
        heals::PARENT,
        heals::REWRITE,
        commands::PROTECT,
        commands::ACCEPT,
        commands::RELEASE,
        commands::RESTORE,
        commands::FORGET,
        journal::ROTATE,
    ];
    let played: BTreeSet<Point> = played.concat().into_iter().collect();
    let all: BTreeSet<Point> = Point::ALL.iter().copied().collect();
    let missing: Vec<_> = all.difference(&played).collect();
    assert!(missing.is_empty(), "no test has the program die at {missing:?}");
}
