//! How a run goes: a time of trouble, then quiet, and what has to hold by then.

use std::time::Instant;

use crate::promises::{Broken, file};
use crate::rng::Rng;
use crate::sim::Sim;
use crate::stage::{Plan, Stage};
use crate::tamper::Call;

/// So many rounds of quiet, each a second and a sweep, are enough for everything to settle:
/// the longest wait between two attempts to heal is a minute.
const ROUNDS: usize = 150;
/// No chain of answers and actions without tampering is longer than this.
const LONGEST_CHAIN: usize = 400;

/// Plays the run of this seed; what was broken, with the story where it was asked for.
pub fn play(seed: u64, traced: bool, base: Instant) -> Result<(), (Broken, String)> {
    let mut rng = Rng::new(seed);
    let plan = Plan::random(&mut rng);
    let mut stage = Stage::new(plan.clone(), rng, traced);
    stage.tell(|| format!("{plan:?}"));
    let mut sim = Sim::new(stage, base).map_err(|broken| (broken, String::new()))?;
    match trouble(&mut sim).and_then(|()| check_quiet(&mut sim)) {
        Ok(()) => Ok(()),
        Err(broken) => Err((broken, sim.stage.trace())),
    }
}

fn trouble(sim: &mut Sim) -> Result<(), Broken> {
    for _ in 0..sim.stage.plan.steps {
        let plan = sim.stage.plan.clone();
        if sim.stage.rng.percent(plan.tampering) {
            sim.stage.tamper();
            continue;
        }
        if sim.stage.rng.below(1000) < plan.restarts {
            sim.restart()?;
            continue;
        }
        step(sim)?;
    }
    Ok(())
}

fn step(sim: &mut Sim) -> Result<(), Broken> {
    let now = sim.stage.world.now;
    match sim.stage.rng.below(100) {
        0..40 if sim.perform()? => {}
        0..62 if !sim.flying.is_empty() => {
            let which = sim.stage.rng.below(sim.flying.len());
            sim.fly(which)?;
        }
        62..78 => drop(sim.deliver()?),
        78..80 => drop(sim.read_evidence()?),
        80..83 => sim.sweep()?,
        83..85 => {
            let place = sim.stage.rng.below(sim.stage.plan.places);
            let process = sim.stage.rng.below(sim.stage.plan.processes);
            sim.stage.call(process, place, Call::Read);
        }
        85 => {
            let place = sim.stage.rng.below(sim.stage.plan.places);
            let held = sim.stage.world.held.iter().any(|held| held.place == place);
            let rare = sim.stage.rng.percent(30);
            let another = !sim.stage.world.acts.is_empty() && sim.stage.rng.percent(20);
            let it = &mut sim.stage.world.places[place];
            let comes = !it.mounted;
            it.mounted = comes || held || !rare;
            it.anew |= comes;
            if comes && another {
                // Another filesystem, with nothing on it.
                (it.name, it.replica) = (None, None);
            }
            let mounted = it.mounted;
            sim.stage.tell(|| format!("f{place}: its filesystem is mounted: {mounted}"));
        }
        86..90 => {
            for place in 0..sim.stage.plan.places {
                if sim.stage.world.places[place].replica.is_none() {
                    sim.stage.world.stage(place);
                }
            }
        }
        90.. => {
            let longest = sim.stage.rng.pick(&[300, 3_000, 3_000, 3_000, 80_000, 5_000_000]);
            let wait = sim.stage.rng.below(longest);
            // What the shell does at once, it does at once; only threads take their time.
            while wait > 1_000 && sim.perform()? {}
            sim.pass(now + 1 + wait as u64)?;
        }
        _ => {}
    }
    Ok(())
}

/// Performs everything that waits, reads every event, ends everything that is under way.
fn drain(sim: &mut Sim) -> Result<(), Broken> {
    for _ in 0..LONGEST_CHAIN {
        if sim.perform()? || sim.deliver()? || sim.read_evidence()? {
            continue;
        }
        if sim.flying.is_empty() {
            return Ok(());
        }
        sim.fly(0)?;
    }
    Err("it never comes to rest".to_owned())
}

fn check_quiet(sim: &mut Sim) -> Result<(), Broken> {
    sim.stage.tell(|| "and now it is quiet".to_owned());
    let plan = &mut sim.stage.plan;
    (plan.lost, plan.faults, plan.tampering, plan.midway, plan.restarts) = (0, 0, 0, 0, 0);
    let keep = sim.stage.rng.percent(50);
    if !keep {
        sim.stage.world.held.clear();
    }
    for place in &mut sim.stage.world.places {
        place.anew |= !place.mounted;
        place.mounted = true;
    }
    let places = sim.wards.len();
    let broken: Vec<bool> = (0..places).map(|place| !sim.stage.world.is_whole(place)).collect();
    let heals = sim.ledger.heals;
    settle(sim)?;
    if sim.ledger.heals - heals > 8 * places {
        return Err(format!("{} heals while nobody tampers", sim.ledger.heals - heals));
    }
    for (place, was_broken) in broken.into_iter().enumerate() {
        if sim.stage.plan.restore && !sim.stage.world.is_whole(place) {
            return Err(format!("f{place} is not whole: {:?}", sim.stage.world.places[place]));
        }
        if was_broken && !sim.ledger.tells_of(place) {
            return Err(format!("f{place} was tampered with and nothing tells of it"));
        }
    }
    sim.ledger.check_incidents(sim.stage.plan.restore)?;
    let harmless = sim.ledger.heals == 0 && !(0..places).any(|p| sim.ledger.tells_of(p));
    if sim.stage.world.acts.is_empty() && !harmless {
        return Err("nobody did anything, and somebody is blamed".to_owned());
    }
    check_silence(sim)?;
    if sim.ledger.actions > 12 * sim.ledger.inputs + 50 {
        return Err(format!("{} actions for {} inputs", sim.ledger.actions, sim.ledger.inputs));
    }
    Ok(())
}

/// Sweeps until every file is settled.
fn settle(sim: &mut Sim) -> Result<(), Broken> {
    for _ in 0..ROUNDS {
        drain(sim)?;
        sim.pass(sim.stage.world.now + 1_000_000)?;
        drain(sim)?;
        sim.sweep()?;
        drain(sim)?;
        let settled = (0..sim.wards.len()).all(|place| sim.engine.is_settled(file(place)));
        if settled && sim.engine.open_incidents() == 0 {
            return Ok(());
        }
    }
    let open: Vec<_> = (0..sim.wards.len()).filter(|p| !sim.engine.is_settled(file(*p))).collect();
    let why: Vec<_> = sim.engine.broken().map(|(_, why)| why.to_owned()).collect();
    Err(format!("these never settle: {open:?} {why:?}"))
}

/// Nothing more is done or said while nothing happens.
fn check_silence(sim: &mut Sim) -> Result<(), Broken> {
    let before = (sim.ledger.heals, sim.ledger.journal.len());
    for _ in 0..5 {
        sim.pass(sim.stage.world.now + 1_000_000)?;
        sim.sweep()?;
        drain(sim)?;
    }
    if before != (sim.ledger.heals, sim.ledger.journal.len()) {
        return Err("its own heals count as tampering".to_owned());
    }
    Ok(())
}
