//! Files that are opened thousands of times a second: who opens one waits to be looked at, and
//! so many would notice. Where audit records who changes the file, that is enough: openers are
//! no longer asked or told of, for a while. Where it does not, naming counts for more.

use std::time::{Duration, Instant};

use super::Guard;
use super::ward::Ward;
use crate::attribute::InodeKey;
use crate::judge::Stat;
use crate::text::escape_path;

/// So long openers pass unseen; then it is tried again.
const SPARED: Duration = Duration::from_secs(60);

impl Guard {
    /// This inode is opened all the time.
    pub(super) fn too_hot(&mut self, inode: InodeKey) {
        let has_it = |seal: Stat| (seal.dev, seal.ino) == (inode.dev, inode.ino);
        let found = self.wards().find(|(_, ward)| ward.patient.sealed().is_some_and(has_it));
        let Some((file, ward)) = found else { return };
        let known = ward.spared().is_some();
        let spared = self.sensors.spare_openers(&ward.patient);
        self.herd.trouble(file);
        let Some(ward) = self.ward_mut(file) else { return };
        ward.spare(Some(Instant::now() + SPARED));
        let then = match spared {
            true => {
                "who opens it is not looked at for a while, so that nobody waits; audit still \
                 tells who changes it, though not always for sure"
            }
            false => "each opener waits until it is looked at; with audit that is not needed",
        };
        if !known {
            tracing::info!("{}: {HOT}: {then}", escape_path(&*ward.patient.path));
        }
        ward.no_longer_falls_short_by(HOT);
        ward.falls_short([format!("{HOT}: {then}")]);
    }

    /// Looks at openers again where that has been left for long enough.
    pub(in crate::daemon) fn look_at_openers_again(&mut self) {
        let now = Instant::now();
        let over = |ward: &Ward| ward.spared().is_some_and(|until| until <= now);
        let over: Vec<_> =
            self.troubled().filter(|(_, ward)| over(ward)).map(|(file, _)| file).collect();
        for file in over {
            if let Some(ward) = self.ward_mut(file) {
                ward.spare(None);
                ward.no_longer_falls_short_by(HOT);
            }
            self.watch(file);
        }
    }
}

/// How the shortcoming begins.
const HOT: &str = "it is opened thousands of times a second";
