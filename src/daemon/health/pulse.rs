//! Whether every thread gets on with its work.
//!
//! A thread says when it begins to work and when it goes to rest. One that works for longer than
//! its patience is stalled: whether it waits for a lock, runs in circles or is stopped. Those
//! that rightly work for long, because they read large files, count as getting on while they
//! use the processor.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a thread's work is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Short pieces: whoever works for long is stalled.
    Short,
    /// Long pieces: whoever works for long is stalled if it uses no processor.
    Long,
}

/// All threads that are watched.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    threads: Arc<Mutex<Vec<Watched>>>,
}

#[derive(Debug)]
struct Watched {
    beat: Beat,
    work: Work,
    patience: Duration,
    /// The processor time it had used when it was looked at last.
    used: Option<u64>,
}

/// A thread's own handle.
#[derive(Clone, Debug)]
pub struct Beat {
    name: &'static str,
    signs: Arc<Signs>,
}

#[derive(Debug)]
struct Signs {
    born: Instant,
    /// Milliseconds since then at the last sign of life, and one more; 0 at rest.
    since: AtomicU64,
    /// The kernel's number of the thread.
    thread: AtomicI32,
}

impl Beat {
    /// It begins with something, or has come round.
    pub fn work(&self) {
        self.signs.since.store(self.signs.now(), Ordering::Relaxed);
    }

    /// It waits for something to do, or is done.
    pub fn rest(&self) {
        self.signs.since.store(0, Ordering::Relaxed);
    }

    /// This thread is the one.
    pub fn here(&self) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        self.signs.thread.store(thread, Ordering::Relaxed);
    }
}

impl Signs {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

impl Pulse {
    /// One more thread, at rest.
    #[must_use]
    pub fn thread(&self, name: &'static str, work: Work, patience: Duration) -> Beat {
        let signs =
            Signs { born: Instant::now(), since: AtomicU64::new(0), thread: AtomicI32::new(0) };
        let beat = Beat { name, signs: Arc::new(signs) };
        self.threads().push(Watched { beat: beat.clone(), work, patience, used: None });
        beat
    }

    /// The threads that are stalled, and for how long. To be asked regularly.
    #[must_use]
    pub fn stalled(&self) -> Vec<(&'static str, Duration)> {
        self.threads().iter_mut().filter_map(Watched::stalled).collect()
    }

    fn threads(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.threads.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl Watched {
    fn stalled(&mut self) -> Option<(&'static str, Duration)> {
        let signs = &self.beat.signs;
        let since = signs.since.load(Ordering::Relaxed);
        if since == 0 {
            return None;
        }
        if self.work == Work::Long {
            let used = processor_time(signs.thread.load(Ordering::Relaxed));
            if used.is_some() && std::mem::replace(&mut self.used, used) != used {
                // If it has gone to rest or begun anew meanwhile, that counts.
                let now = signs.now();
                let order = Ordering::Relaxed;
                let _ = signs.since.compare_exchange(since, now, order, order);
                return None;
            }
        }
        let lasting = Duration::from_millis(signs.now().saturating_sub(since));
        (lasting > self.patience).then_some((self.beat.name, lasting))
    }
}

/// What this thread of ours has used so far, in nanoseconds.
fn processor_time(thread: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn wait_for(mut check: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !check() {
            assert!(Instant::now() < deadline, "in vain");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_rests_is_never_stalled_and_who_works_on_and_on_is() {
        let pulse = Pulse::default();
        let resting = pulse.thread("resting", Work::Short, Duration::ZERO);
        resting.work();
        resting.rest();
        let working = pulse.thread("working", Work::Short, SHORT);
        working.work();
        wait_for(|| pulse.stalled().iter().any(|(name, _)| *name == "working"));
        working.work();
        working.rest();
        assert_eq!(pulse.stalled(), []);
    }

    #[test]
    fn a_long_piece_of_work_counts_as_stalled_only_while_it_uses_no_processor() {
        let pulse = Pulse::default();
        let beat = pulse.thread("reader", Work::Long, Duration::from_secs(3600));
        let (start, begun) = channel();
        let (stop, stopped) = channel::<()>();
        let busy = std::thread::spawn(move || {
            beat.here();
            beat.work();
            while begun.try_recv().is_err() {
                std::hint::spin_loop();
            }
            let _ = stopped.recv();
        });
        let since = |pulse: &Pulse| {
            pulse.threads().first().map(|t| t.beat.signs.since.load(Ordering::Relaxed))
        };
        // It spins: each look finds it further, and its patience begins anew.
        let mut seen = since(&pulse);
        for _ in 0..3 {
            wait_for(|| {
                assert_eq!(pulse.stalled(), []);
                std::mem::replace(&mut seen, since(&pulse)) != seen
            });
        }
        start.send(()).unwrap();
        // It sleeps: before long nothing moves any more, and its time is up.
        wait_for(|| {
            let before = since(&pulse);
            let _ = pulse.stalled();
            std::thread::sleep(Duration::from_millis(20));
            let _ = pulse.stalled();
            since(&pulse) == before
        });
        pulse.threads().iter_mut().for_each(|thread| thread.patience = Duration::ZERO);
        wait_for(|| pulse.stalled().iter().any(|(name, _)| *name == "reader"));
        drop(stop);
        busy.join().unwrap();
    }
}
