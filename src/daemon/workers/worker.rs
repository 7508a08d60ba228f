//! A thread that does what the guard must not wait for, one thing after the other.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::daemon::health::Beat;

/// A thread with a queue. What can wait takes turns with the rest.
#[derive(Debug)]
pub struct Worker<T> {
    queue: Option<Sender<T>>,
    thread: Option<JoinHandle<()>>,
    hurry: Hurry,
    /// Jobs that it was given and has not done.
    left: Arc<AtomicUsize>,
}

/// Set when the daemon stops: what the next start does as well is left.
pub(in crate::daemon) type Hurry = Arc<AtomicBool>;

impl<T: Send + 'static> Worker<T> {
    /// Starts it; `can_wait` says what takes turns with the rest.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(in crate::daemon) fn start(
        name: &str,
        beat: Beat,
        can_wait: fn(&T) -> bool,
        mut work: impl FnMut(T, &Hurry) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, jobs) = channel();
        let hurry = Hurry::default();
        let told = Arc::clone(&hurry);
        let left = Arc::<AtomicUsize>::default();
        let done = Arc::clone(&left);
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            beat.here();
            // What is to be done first, and what can wait.
            let mut lanes = <[VecDeque<T>; 2]>::default();
            loop {
                if lanes.iter().all(VecDeque::is_empty) {
                    // There may have been one for each file.
                    lanes = Default::default();
                    let Ok(job) = jobs.recv() else { break };
                    lanes[usize::from(can_wait(&job))].push_back(job);
                }
                for job in jobs.try_iter() {
                    lanes[usize::from(can_wait(&job))].push_back(job);
                }
                for job in lanes.iter_mut().filter_map(VecDeque::pop_front) {
                    beat.work();
                    work(job, &told);
                    beat.rest();
                    done.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), hurry, left })
    }

    /// Whether it has done all that it was given.
    pub fn is_idle(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// Has it do what cannot be left, and waits for that until the `deadline`. False where it
    /// did not come to an end.
    pub fn end(mut self, deadline: Instant) -> bool {
        self.hurry.store(true, Ordering::Relaxed);
        self.queue = None;
        self.thread.take().is_none_or(|thread| join_until(thread, deadline).is_some())
    }

    /// Queues a job.
    pub fn push(&self, job: T) {
        if let Some(queue) = &self.queue {
            self.left.fetch_add(1, Ordering::Relaxed);
            // The thread ends only when this handle does.
            let _ = queue.send(job);
        }
    }
}

/// What the thread returns, if it ends before the `deadline`. Otherwise it is left behind.
pub(in crate::daemon) fn join_until<R>(thread: JoinHandle<R>, deadline: Instant) -> Option<R> {
    while !thread.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.is_finished().then(|| thread.join().ok())?
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::health::Health;
    use crate::daemon::start::starting;

    #[test]
    fn what_cannot_wait_waits_for_one_that_can_at_most_and_both_keep_their_order() {
        let (begun, first) = channel();
        let (go_on, held) = channel::<()>();
        let (done, order) = channel();
        let beat = Health::new(starting());
        let can_wait = |job: &(char, u32)| job.0 == 'w';
        let worker = Worker::start("test", beat.stager.clone(), can_wait, move |job, _| {
            if job == ('-', 0) {
                begun.send(()).unwrap();
                held.recv().unwrap();
            }
            done.send(job).unwrap();
        })
        .unwrap();
        worker.push(('-', 0));
        first.recv().unwrap();
        // It has its hands full while these come.
        (0..4).for_each(|n| worker.push(('w', n)));
        (0..2).for_each(|n| worker.push(('u', n)));
        go_on.send(()).unwrap();
        drop(worker);
        let order: String = order.iter().map(|(kind, n)| format!("{kind}{n} ")).collect();
        assert_eq!(order, "-0 u0 w0 u1 w1 w2 w3 ");
    }
}
