//! Signals, turned into messages by a thread of their own.

use nix::sys::signal::{SigSet, Signal};

use super::wake::Mailer;
use super::workers::Report;

/// Blocks the signals that the daemon answers in this thread and all it starts from now on, and
/// turns them into [`Report::Reload`] and [`Report::Stop`].
///
/// # Errors
/// When the signals cannot be blocked or the thread not be started.
pub fn listen(reports: Mailer<Report>) -> std::io::Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(signal) = set.wait() {
            reports.send(match signal {
                Signal::SIGHUP => Report::Reload,
                _ => Report::Stop,
            });
        }
    })?;
    Ok(())
}
