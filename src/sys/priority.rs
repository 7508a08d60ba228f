//! Threads that must not wait for their turn, and those that must not take it from others.
//!
//! Under the ordinary policy a thread that wakes on a busy processor can wait for a whole tick,
//! milliseconds, before it runs; a real-time one runs at once. What such a thread does has to
//! be short and bounded: nothing ordinary runs on its processor meanwhile.

use std::io;

/// Of [`interrupt_nobody`]: one against ten ordinary threads has three quarters of a processor.
const NICE: i32 = -15;

/// Lets the calling thread run before every ordinary one: `SCHED_FIFO`, see sched(7). Among
/// those that asked, the higher `level` goes first; 1 is the lowest. What the thread starts
/// later is ordinary.
///
/// # Errors
/// Without `CAP_SYS_NICE`, or where the cgroup has no real-time budget.
pub fn run_at_once(level: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: level };
    // SAFETY: thread 0 is the caller, and the kernel only reads the structure, which outlives
    // the call.
    match unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &parameters)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread interrupt nobody: what wakes it runs on first, `SCHED_BATCH`. On a
/// processor with nothing to do it runs as soon as any other; and where many want one, it has
/// most of it once it has its turn: those who make its work cannot keep it from doing it.
///
/// # Errors
/// Where a system call filter forbids it, and without `CAP_SYS_NICE`.
pub fn interrupt_nobody() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: as above.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameters) } {
        // Of this thread alone, on Linux.
        0 => Ok(rustix::process::setpriority_process(None, NICE)?),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    /// The policy as the kernel has it: field 41 of `/proc/thread-self/stat`.
    fn policy() -> String {
        field(41)
    }

    fn field(number: usize) -> String {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after_name) = stat.rsplit_once(") ").unwrap();
        after_name.split(' ').nth(number - 3).unwrap().to_owned()
    }

    #[test]
    fn a_thread_runs_at_once_and_what_it_starts_is_ordinary() {
        let policies = std::thread::spawn(|| {
            if super::run_at_once(1).is_err() {
                return None;
            }
            Some((policy(), std::thread::spawn(policy).join().unwrap()))
        });
        match policies.join().unwrap() {
            Some((own, child)) => assert_eq!((own.as_str(), child.as_str()), ("1", "0")),
            None => crate::sys::test::skipped("this machine gives no real-time priority"),
        }
    }
    #[test]
    fn a_thread_that_interrupts_nobody_is_a_batch_job() {
        let own = std::thread::spawn(|| {
            let favoured = super::interrupt_nobody().is_ok();
            (policy(), field(19) == super::NICE.to_string(), favoured)
        });
        let (own, nice, favoured) = own.join().unwrap();
        assert_eq!((own.as_str(), nice), ("3", favoured));
    }
}
