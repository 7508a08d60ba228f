//! Audit records that anybody may have had a hand in.

use std::time::{Duration, Instant};

use super::act::{acts, doer};
use super::call::{Assembler, Heard};

/// Takes records, one a line, each after a byte that chooses its type and one that moves the
/// clock, and puts the calls together.
pub fn fuzz(bytes: &[u8]) {
    const KINDS: [u16; 8] = [1300, 1302, 1305, 1307, 1320, 1327, 1400, 0];
    let mut now = Instant::now();
    let mut assembler = Assembler::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let [kind, wait, text @ ..] = line else { continue };
        now += Duration::from_millis(u64::from(*wait) * 10);
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        if let Some(Heard::Call(call)) = assembler.take(kind, text, now) {
            let length: usize =
                call.names.iter().filter_map(|n| Some(n.name.as_ref()?.len())).sum();
            assert!(length <= bytes.len(), "names out of nothing");
            let _ = (acts(&call), doer(&call));
        }
        let _ = assembler.lost(now);
    }
}
