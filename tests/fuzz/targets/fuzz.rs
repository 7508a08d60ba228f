//! libFuzzer on whatever the environment names. `tests/fuzz/run` builds it as it has to be.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("STEADFAST_FUZZ").unwrap_or_default();
        let found = steadfast::fuzz::TARGETS.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("STEADFAST_FUZZ has to name a target, not {name:?}")).1
    })
}

fuzz_target!(|data: &[u8]| target()(data));
