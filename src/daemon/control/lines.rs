//! An answer in lines: how far a command is, once a second, and in the end what came of it.
//!
//! So whoever waits can tell a daemon that works from one that hangs.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use tokio::sync::oneshot;
use tokio::time::{Interval, interval};

use crate::daemon::api::{Gauge, Line, Report};

/// How often a line comes.
const EVERY: Duration = Duration::from_secs(1);

/// What is said when nobody is left to carry the command out.
pub(super) const GAVE_UP: &str = "the daemon gave up the command: see its log";

/// The body of such an answer.
pub(super) struct Lines {
    answer: oneshot::Receiver<Report>,
    gauge: Arc<Gauge>,
    tick: Interval,
    over: bool,
}

impl Lines {
    /// Lines that tell of `gauge` until there is the `answer`.
    pub fn new(answer: oneshot::Receiver<Report>, gauge: Arc<Gauge>) -> Self {
        Self { answer, gauge, tick: interval(EVERY), over: false }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Line>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(answer) = Pin::new(&mut self.answer).poll(cx) {
            self.over = true;
            let end = answer.map_or_else(|_| Line::Error(GAVE_UP.to_owned()), Line::Report);
            return Poll::Ready(Some(end));
        }
        ready!(self.tick.poll_tick(cx));
        Poll::Ready(Some(Line::Progress(self.gauge.read())))
    }
}

impl Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.next(cx).map(|line| {
            let line = line?;
            let mut text = serde_json::to_vec(&line).unwrap_or_default();
            text.push(b'\n');
            Some(Ok(Frame::data(text.into())))
        })
    }
}
