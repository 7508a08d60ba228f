//! `run` and `deliver`: the two processes, in the foreground.

use std::io::IsTerminal;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use tracing_subscriber::EnvFilter;

use super::progress::Progress;
use super::screen::{STRONG, Screen, count, style_of};
use super::{Outcome, absolute, require_root};
use crate::config::Config;
use crate::daemon::RunOptions;
use crate::daemon::api::Status;
use crate::record::{Entry, describe_at};

/// The daemon. Each event is printed as it comes; nobody has to read it.
pub(super) fn run(
    screen: &Screen,
    config: &Config,
    config_file: Option<PathBuf>,
    protect: Vec<PathBuf>,
    deliver: bool,
) -> anyhow::Result<Outcome> {
    require_root("run the daemon")?;
    let protect = protect.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?;
    let zone = TimeZone::system();
    let on_entry = move |entry: &Entry| {
        let line = describe_at(&entry.event, &zone);
        // It comes from another thread than the rest of the output.
        let _ = Screen::new().styled(style_of(entry.event.severity), line);
    };
    let heard = screen.clone();
    let warned = screen.clone();
    let on_ready = move |status: &Status| {
        let paths = count(status.protected, "path", "paths");
        let _ =
            heard.styled(STRONG, format_args!("on guard: {paths} protected ({})", status.state));
    };
    let progress = Progress::new("protecting");
    let options = RunOptions {
        on_progress: Box::new(move |so_far| progress.tell(so_far)),
        protect,
        config_file,
        deliver,
        on_entry: Box::new(on_entry),
        on_warning: Box::new(move |warning| warned.remark(warning)),
        on_ready: Box::new(on_ready),
    };
    crate::daemon::run(config, options)?;
    Ok(Outcome::Fine)
}

/// The second process.
pub(super) fn deliver(config: &Config) -> anyhow::Result<Outcome> {
    crate::alert::deliver::run(config)?;
    Ok(Outcome::Fine)
}

/// Sends the log to stderr: `RUST_LOG` says how much; else what the long-running commands do,
/// and what troubles the others.
pub(super) fn log(long_running: bool) {
    let usual = if long_running { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .finish();
    // Only a test process has one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
