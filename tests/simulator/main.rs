//! Plays the engine against a made-up world: random interleavings of tampering, events, lost
//! events, sweeps, failing actions and restarts, on a made-up clock.
//!
//! A run is named by its seed. `STEADFAST_SEED=7 STEADFAST_RUNS=1 cargo test --test simulator`
//! plays run 7 alone; a run that breaks a promise prints its story.

mod case;
mod heal;
mod left;
mod naming;
mod play;
mod promises;
mod regressions;
mod rng;
mod sim;
mod stage;
mod story;
mod tamper;
mod world;

use std::time::Instant;

const RUNS: u64 = 100_000;
const THREADS: u64 = 2;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[test]
fn every_promise_holds_in_every_interleaving() {
    let first = setting("STEADFAST_SEED").unwrap_or(1);
    let runs = setting("STEADFAST_RUNS").unwrap_or(RUNS);
    let base = Instant::now();
    let lane = |lane: u64| {
        (first + lane..first + runs).step_by(THREADS as usize).find(|seed| {
            let played = std::panic::catch_unwind(|| play::play(*seed, false, base));
            !matches!(played, Ok(Ok(())))
        })
    };
    let broken = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..THREADS).map(|n| scope.spawn(move || lane(n))).collect();
        lanes.into_iter().filter_map(|lane| lane.join().expect("a lane panics")).min()
    });
    println!("simulator: {runs} interleavings, seeds {first}..{}", first + runs - 1);
    let Some(seed) = broken else { return };
    match play::play(seed, true, base) {
        Err((why, story)) => panic!("seed {seed}: {why}\n{story}"),
        Ok(()) => panic!("seed {seed} breaks a promise only sometimes"),
    }
}
