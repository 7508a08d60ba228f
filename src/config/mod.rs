//! The configuration: what was typed, checked, and resolved into a form that cannot be wrong.
//!
//! [`Config::parse`] reads the text and reports everything that is wrong with it at once.
//! [`resolve`] is the second step, and the only one that looks at the files that are named.

mod duration;
mod glob;
mod load;
mod mail;
mod parse;
mod problem;
mod reader;
mod resolve;
mod territory;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use duration::{parse_duration, show_duration};
pub use glob::is_glob;
pub use load::{LoadError, USUAL_FILE, USUAL_SOCKET, socket_in};
pub use problem::{Problem, Problems};
pub use resolve::{
    Obstacle, Resolution, Unresolved, canonical_path, contents, covers, names, resolve,
    resolve_path, special,
};
pub use territory::is_own;
pub use values::SOCKET_PATH_MAX;

use crate::judge::Policy;

/// A configuration in force. The default one protects nothing and tells nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What is protected, and how.
    pub protect: Vec<Protect>,
    /// Who is told by mail.
    pub email: Option<Email>,
    /// The daemon's own settings.
    pub daemon: Daemon,
}

/// One `[[protect]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protect {
    /// Absolute paths and globs, as written.
    pub paths: Vec<String>,
    /// What the owner wants for them.
    pub policy: Policy,
}

/// How `smtp://` is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// STARTTLS or nothing is sent.
    #[default]
    Required,
    /// STARTTLS where the server offers it.
    Opportunistic,
    /// Plain text.
    None,
}

/// Where mail is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailServer {
    /// `smtp://[user@]host[:port]`, port 587 unless given.
    Smtp {
        /// Login name.
        user: Option<String>,
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// How it is secured.
        tls: Tls,
    },
    /// `smtps://[user@]host[:port]`, port 465 unless given: TLS from the first byte.
    Smtps {
        /// Login name.
        user: Option<String>,
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// `sendmail:` or `sendmail:/path/to/program`.
    Sendmail {
        /// The program.
        program: PathBuf,
    },
}

/// `[alert.email]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The sender's address.
    pub from: String,
    /// The receivers' addresses; never empty.
    pub to: Vec<String>,
    /// Where it is handed over.
    pub server: MailServer,
    /// The file that holds the password.
    pub password_file: Option<PathBuf>,
}

/// How often the flags are looked at with no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagSweep {
    /// As seldom as the sensors allow.
    Auto,
    /// This often.
    Every(Duration),
}

impl std::fmt::Display for FlagSweep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Every(every) => f.write_str(&show_duration(*every)),
        }
    }
}

/// `[daemon]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The state directory.
    pub state: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// How often to look again with no event.
    pub flag_sweep: FlagSweep,
    /// How often to hash again.
    pub content_sweep: Duration,
    /// Where health is served besides the control socket.
    pub listen: Option<SocketAddr>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/steadfast"),
            control: PathBuf::from(USUAL_SOCKET),
            flag_sweep: FlagSweep::Auto,
            content_sweep: Duration::from_secs(3600),
            listen: None,
        }
    }
}

#[cfg(test)]
mod tests;
