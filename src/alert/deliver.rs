//! The second process: it waits for items in the spool and mails them.
//!
//! It reads what needs root (the configuration, the password, certificates, the spool's
//! directories) and then becomes `nobody` for good, if it was root. It talks to mail servers,
//! which may be slow, broken or hostile, so it is also limited in memory, and a message that
//! takes too long ends the process: whoever started it, systemd or [`super::Supervisor`],
//! starts it again, and the item waits its turn.
//!
//! SIGTERM and SIGINT end it; a message that is being sent has a few seconds to arrive.

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::handing::{Handed, Trouble};
use super::mailer::{Identity, Mailer, MailerError, Patience};
use super::message::{Place, compose};
use super::password::{self, PasswordError};
use super::pickup::{Due, Failure, Pickup};
use super::receipt::{backoff, clean};
use super::waiting::{Waiting, Woken};
use crate::config::{Config, Email, MailServer};
use crate::sys::privilege::{self, PrivilegeError};

/// The process may allocate so much, bytes.
const MAX_MEMORY: u64 = 256 << 20;

/// With no event, the spool is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// After trouble with the server, nothing is tried for so long at most, so that a new
/// incident is not kept back by an old outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long a message that is being sent may hold up the end of the process.
const GRACE: Duration = Duration::from_secs(5);

/// Why the second process cannot work, or has to start anew.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// There is nobody to write to.
    #[error("no mail is configured: add an [alert.email] table with from, to and server")]
    NotConfigured,
    /// The spool is not there or not accessible.
    #[error("cannot use the mail spool in {}: {source}", state.display())]
    Spool {
        /// The state directory.
        state: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Receipts could not be written by the user that the process runs as.
    #[error(
        "cannot write in {}/spool/receipts, which has to belong to the user that `steadfast \
         deliver` runs as: {source}",
        state.display()
    )]
    Receipts {
        /// The state directory.
        state: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no usable password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The configuration cannot be turned into a way to send mail.
    #[error(transparent)]
    Mailer(#[from] MailerError),
    /// Root's privileges are still there.
    #[error(transparent)]
    Privilege(#[from] PrivilegeError),
    /// The kernel refused something without which waiting is not possible.
    #[error("cannot wait for work: {0}")]
    Wait(#[source] std::io::Error),
    /// A message could neither be sent nor given up.
    #[error("sending a message took longer than {} seconds: starting anew", .0.as_secs())]
    Stuck(Duration),
}

/// Delivers what comes into the spool, until a signal, or the end of the daemon that started
/// this process, ends it. Gives up root's privileges of the whole process on the way.
pub fn run(config: &Config) -> Result<(), DeliverError> {
    let email = config.email.as_ref().ok_or(DeliverError::NotConfigured)?;
    let state = &config.daemon.state;
    let spool = |source| DeliverError::Spool { state: state.clone(), source };
    let password = password_of(email)?;
    let mailer = Mailer::new(email, password, Patience::default())?;
    let pickup = Pickup::open(state).map_err(spool)?;
    let waiting = Waiting::new(&pickup.items_path()).map_err(DeliverError::Wait)?;
    let place = Place { host: host(), zone: TimeZone::system() };
    confine(email, &pickup, state)?;
    pickup
        .check_writable()
        .map_err(|source| DeliverError::Receipts { state: state.clone(), source })?;
    tracing::info!("delivering alerts to {}", email.to.join(", "));
    Courier::new(pickup, mailer, place, waiting, state.clone()).work()
}

/// Leaves this process with what it needs to read the spool and talk to a server.
fn confine(email: &Email, pickup: &Pickup, state: &std::path::Path) -> Result<(), DeliverError> {
    privilege::limit_memory(MAX_MEMORY)?;
    if privilege::is_root() {
        let (uid, gid) = privilege::nobody();
        pickup
            .hand_over(uid, gid)
            .map_err(|source| DeliverError::Receipts { state: state.to_owned(), source })?;
        privilege::become_user(uid, gid)?;
    }
    // The usual sendmail programs are set-id, and need to be.
    if !matches!(email.server, MailServer::Sendmail { .. }) {
        privilege::forbid_new_privileges()?;
    }
    Ok(())
}

/// Whether the password that `email` needs can be had.
///
/// # Errors
/// Why not.
pub fn check_password(email: &Email) -> Result<(), PasswordError> {
    password_of(email).map(drop)
}

fn password_of(email: &Email) -> Result<Option<String>, PasswordError> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    password::find(user(email), email.password_file.as_deref(), credentials.as_deref())
}

fn user(email: &Email) -> Option<&str> {
    match &email.server {
        MailServer::Smtp { user, .. } | MailServer::Smtps { user, .. } => user.as_deref(),
        MailServer::Sendmail { .. } => None,
    }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// Whether to go on.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    End,
}

/// Carries items from the spool to the mail server.
pub(super) struct Courier {
    pickup: Pickup,
    mailer: Arc<Mailer>,
    place: Place,
    waiting: Waiting,
    state: PathBuf,
    /// Failures of the server in a row.
    troubles: u32,
    pause_until: Option<Instant>,
}

impl Courier {
    pub(super) fn new(
        pickup: Pickup,
        mailer: Mailer,
        place: Place,
        waiting: Waiting,
        state: PathBuf,
    ) -> Self {
        let mailer = Arc::new(mailer);
        Self { pickup, mailer, place, waiting, state, troubles: 0, pause_until: None }
    }

    fn work(mut self) -> Result<(), DeliverError> {
        loop {
            let spool = |source| DeliverError::Spool { state: self.state.clone(), source };
            if self.pickup.refresh().map_err(spool)? {
                self.pause_until = None;
            }
            if self.pass()? == Then::End {
                return Ok(());
            }
            if self.waiting.for_work(self.idle()).map_err(DeliverError::Wait)? == Woken::End {
                return Ok(());
            }
        }
    }

    /// Delivers what is due, until nothing is or the server fails.
    fn pass(&mut self) -> Result<Then, DeliverError> {
        while self.pause_until.is_none_or(|until| Instant::now() >= until) {
            let Some(due) = self.pickup.next_due(Timestamp::now()) else { break };
            if self.deliver(&due)? == Then::End {
                return Ok(Then::End);
            }
        }
        Ok(Then::GoOn)
    }

    /// How long there is nothing to do.
    fn idle(&self) -> Duration {
        let now = Timestamp::now();
        let next = self.pickup.next_moment().map_or(LOOK_AGAIN, |moment| {
            Duration::try_from(moment.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        let pause = self
            .pause_until
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
        next.max(pause).min(LOOK_AGAIN)
    }

    fn deliver(&mut self, due: &Due) -> Result<Then, DeliverError> {
        self.pickup.begin(due, Timestamp::now());
        let receivers = self.mailer.receivers_without(&due.told);
        let mail = match self.mailer.write(&self.letter(due), &self.identity(due)) {
            Ok(mail) => mail,
            Err(error) => {
                self.fail(due, Vec::new(), error, false);
                return Ok(Then::GoOn);
            }
        };
        if receivers.is_empty() {
            self.pickup.delivered(due);
            return Ok(Then::GoOn);
        }
        let (result, then) = self.send(due, mail, receivers)?;
        match result {
            Some(Ok(handed)) => self.settle(due, handed),
            Some(Err(Trouble(error))) => self.fail(due, Vec::new(), error, true),
            None => {
                let error = "steadfast was stopped while the message was sent";
                self.fail(due, Vec::new(), error.to_owned(), true);
            }
        }
        Ok(then)
    }

    /// Sends on another thread, so that this one can notice signals and the time. No result:
    /// the process has to end and the server is not ready.
    #[allow(clippy::type_complexity)]
    fn send(
        &mut self,
        due: &Due,
        mail: Vec<u8>,
        receivers: Vec<lettre::Address>,
    ) -> Result<(Option<Result<Handed, Trouble>>, Then), DeliverError> {
        let (answer, answered) = mpsc::channel();
        let (mailer, bell) = (Arc::clone(&self.mailer), self.waiting.bell());
        let sender = move || {
            let _ = answer.send(mailer.send(&mail, &receivers));
            bell.ring();
        };
        std::thread::Builder::new()
            .name("send".into())
            .spawn(sender)
            .map_err(DeliverError::Wait)?;
        let patience = self.mailer.patience().message;
        let mut deadline = Instant::now() + patience;
        let mut then = Then::GoOn;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let listen = then == Then::GoOn;
            let woken = self.waiting.for_bell(left, listen).map_err(DeliverError::Wait)?;
            if let Ok(result) = answered.try_recv() {
                return Ok((Some(result), then));
            }
            match woken {
                Woken::End => {
                    then = Then::End;
                    deadline = deadline.min(Instant::now() + GRACE);
                }
                Woken::Time if then == Then::End => return Ok((None, then)),
                Woken::Time if Instant::now() >= deadline => {
                    let error = format!("the mail server took more than {patience:?}");
                    self.fail(due, Vec::new(), error, true);
                    return Err(DeliverError::Stuck(patience));
                }
                Woken::Time | Woken::Work => {}
            }
        }
    }

    /// The server has dealt with the message, perhaps not for all receivers.
    fn settle(&mut self, due: &Due, handed: Handed) {
        if std::mem::take(&mut self.troubles) > 0 {
            self.pickup.expedite();
        }
        self.pause_until = None;
        let incident = &due.item.incident;
        if handed.refused.is_empty() {
            tracing::info!("incident {incident} was mailed to {}", handed.told.join(", "));
            self.pickup.delivered(due);
            return;
        }
        let refusals: Vec<String> =
            handed.refused.iter().map(|(to, why)| format!("{to}: {why}")).collect();
        self.fail(due, handed.told, refusals.join("; "), false);
    }

    fn fail(&mut self, due: &Due, told: Vec<String>, error: String, server_trouble: bool) {
        tracing::warn!("incident {} could not be mailed: {}", due.item.incident, clean(&error));
        if server_trouble {
            self.troubles = self.troubles.saturating_add(1);
            self.pause_until = Some(Instant::now() + backoff(self.troubles).min(LONGEST_PAUSE));
        }
        self.pickup.defer(due, told, Failure { error, server_trouble }, Timestamp::now());
    }

    fn letter(&self, due: &Due) -> super::Message {
        let mut message = compose(&self.place, &due.item.events);
        if due.left_out > 0 {
            message.body.push_str(&format!(
                "\n{} more events are not in this message: `steadfast events` has them all.\n",
                due.left_out
            ));
        }
        if due.follow_up {
            let earlier = "This follows an earlier message about the same incident.\n\n";
            message.body.insert_str(0, earlier);
        }
        message
    }

    fn identity(&self, due: &Due) -> Identity {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || "-.".contains(*c);
        let host: String = self.place.host.chars().filter(allowed).take(64).collect();
        let host = if host.is_empty() { "localhost" } else { host.as_str() };
        let incident = &due.item.incident;
        Identity {
            id: format!("{incident}.{}@{host}", due.revision),
            thread: format!("{incident}@{host}"),
            follow_up: due.follow_up,
        }
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
