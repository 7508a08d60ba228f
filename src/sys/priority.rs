//! Threads that must not wait for their turn, and those that must not take it from others.
//!
//! Under the ordinary policy a thread that wakes on a busy processor can wait for a whole tick,
//! milliseconds, before it runs; a real-time one runs at once. What such a thread does has to
//! be short and bounded: nothing ordinary runs on its processor meanwhile.

use std::io;

/// Of [`take_share`]: one against ten ordinary threads has three quarters of a processor.
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
/// processor with nothing to do it runs as soon as any other.
///
/// # Errors
/// Where a system call filter forbids it.
pub fn interrupt_nobody() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: as above.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the calling thread have most of its processor once it has its turn, where `much`, or
/// else an ordinary share.
///
/// # Errors
/// Without `CAP_SYS_NICE`.
pub fn take_share(much: bool) -> io::Result<()> {
    // Of this thread alone, on Linux.
    Ok(rustix::process::setpriority_process(None, if much { NICE } else { 0 })?)
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
            super::interrupt_nobody().unwrap();
            policy()
        });
        assert_eq!(own.join().unwrap(), "3");
    }

    #[test]
    fn a_thread_takes_more_for_a_while_and_the_others_keep_what_they_have() {
        let own = std::thread::spawn(|| {
            let taken = super::take_share(true).is_ok();
            let more = field(19);
            (taken, more, super::take_share(false).is_ok(), field(19))
        });
        let (before, own) = (field(19), own.join().unwrap());
        match own {
            (false, ..) => crate::sys::test::skipped("this machine lets no thread take more"),
            (taken, more, given, after) => {
                assert_eq!((taken, more, given), (true, super::NICE.to_string(), true));
                assert_eq!((after.as_str(), before.as_str()), ("0", "0"));
            }
        }
    }
}
