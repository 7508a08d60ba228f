//! A bar on the terminal for what takes longer than a moment.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Before this, nobody wonders what is going on.
const MOMENT: Duration = Duration::from_millis(500);

/// Appears on stderr after a moment, if that is a terminal; goes when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: Cell<bool>,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        let bar = ProgressBar::hidden().with_message(what);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent}% {eta}") {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), shown: Cell::new(false) }
    }

    /// `done` of `total`, in any unit.
    pub fn update(&self, done: u64, total: u64) {
        if !self.shown.get() {
            if self.started.elapsed() < MOMENT {
                return;
            }
            self.shown.set(true);
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// Something goes on, and nobody knows how far it is.
    pub fn spin(&self) {
        if self.shown.replace(true) {
            return;
        }
        self.bar.set_style(ProgressStyle::default_spinner());
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.enable_steady_tick(Duration::from_millis(120));
    }

    /// How long to wait before [`Progress::spin`].
    pub fn moment() -> Duration {
        MOMENT
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
