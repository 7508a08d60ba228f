//! A bar on the terminal for what takes longer than a moment.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::daemon::api;
use crate::text::size;

/// Before this, nobody wonders what is going on.
const MOMENT: Duration = Duration::from_millis(500);

/// Appears on stderr after a moment, if that is a terminal; goes when it is dropped.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
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
        Self { what, bar, started: Instant::now(), shown: Cell::new(false) }
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

    /// How far a command is.
    pub fn tell(&self, so_far: api::Progress) {
        self.update(so_far.done, so_far.of);
        if self.shown.get() && so_far.bytes > 0 {
            self.bar.set_message(format!("{} ({} read)", self.what, size(so_far.bytes)));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
