//! What the daemon wants of the thread.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use super::super::{Order, PATIENCE};
use super::Listener;
use crate::attribute::{InodeKey, LATE, SLACK, held};

/// Whoever asks while records are known to be kept back is answered within this time.
const TROUBLED: Duration = Duration::from_millis(250);

impl Listener {
    /// False when it is time to stop.
    pub(super) fn obey(&mut self, orders: &Receiver<Order>) -> bool {
        let mut rung = [0; 8];
        let _ = rustix::io::read(&self.shared.bell, &mut rung);
        loop {
            match orders.try_recv() {
                Ok(Order::Tag { file, path }) => {
                    self.shared.at_path(file, &path);
                    // What was done to it before was not recorded: see it whole once more.
                    self.pending_everywhere = true;
                }
                Ok(Order::Had { file, key }) => self.shared.had(file, key),
                Ok(Order::Forget { file }) => {
                    self.shared.state().inodes.forget(file);
                    self.shared.tags().forget(file);
                }
                Ok(Order::Scan(done)) => {
                    self.scan();
                    self.hear_the_past();
                    // A look from now on is later than the last order by its own account too.
                    std::thread::sleep(LATE + SLACK);
                    // Whoever asked may have gone on without.
                    let _ = done.send(());
                }
                Ok(Order::Ask(question)) => {
                    let clear = self.proven && self.trouble.is_none();
                    self.signal(Some(question), if clear { PATIENCE } else { TROUBLED });
                }
                Ok(Order::Leave) => self.leaves = true,
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Who has something protected open already: those descriptors were never asked about.
    fn scan(&mut self) {
        let mut inodes: HashMap<u64, Vec<InodeKey>> = HashMap::new();
        for key in self.shared.state().inodes.keys() {
            inodes.entry(key.ino).or_default().push(key);
        }
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != self.us) {
            let mut own: Vec<InodeKey> = Vec::new();
            held::held(pid, |ino, _| own.extend(inodes.get(&ino).into_iter().flatten()));
            for key in own {
                self.captures.held(pid, key);
            }
        }
    }
}
