//! Hands one message to a mail server, over SMTP or through the `sendmail` program.
//!
//! Every wait for the server has a limit, and a reply has one too; that a server which sends
//! a byte now and then cannot hold on for ever is the business of [`super::deliver`].
//!
//! Receivers are offered one by one within one transaction, so a receiver that the server
//! refuses does not keep the message from the others. A login goes over an encrypted
//! connection only, unless the configuration says `tls = "none"`.

use std::time::{Duration, Instant};

use lettre::address::Address;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{SmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};

use super::handing::{Handed, Trouble};
use super::message::Message;
use super::sendmail;
use crate::config::{Email, MailServer, Tls};

/// Limits on waiting for a mail server.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// For one step: the connection, one reply.
    pub step: Duration,
    /// For one message.
    pub message: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { step: Duration::from_secs(30), message: Duration::from_secs(180) }
    }
}

/// Why no mail can be sent with this configuration.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// A sender or receiver is not an address.
    #[error("`{}` is not a mail address: {why}", crate::text::escape(address.as_bytes()))]
    Address {
        /// What the configuration says.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be prepared.
    #[error("cannot prepare TLS for {host}: {why}")]
    Tls {
        /// The server.
        host: String,
        /// Why.
        why: String,
    },
}

/// Where a message belongs among others.
pub(super) struct Identity {
    /// The `Message-ID`, without angle brackets: the same for every attempt.
    pub id: String,
    /// The id that all messages about one incident refer to.
    pub thread: String,
    /// There was a message about the same incident before.
    pub follow_up: bool,
}

/// A way to mail the configured receivers.
pub(super) struct Mailer {
    from: Mailbox,
    to: Vec<Mailbox>,
    route: Route,
    patience: Patience,
}

enum Route {
    Smtp(Smtp),
    Sendmail(std::path::PathBuf),
}

struct Smtp {
    host: String,
    port: u16,
    security: Security,
    login: Option<Credentials>,
}

enum Security {
    /// TLS from the first byte.
    Implicit(TlsParameters),
    /// STARTTLS, or nothing is sent.
    Required(TlsParameters),
    /// STARTTLS where it is offered.
    Offered(TlsParameters),
    None,
}

impl Mailer {
    /// Prepares everything that needs files: certificates are read here.
    pub(super) fn new(
        email: &Email,
        password: Option<String>,
        patience: Patience,
    ) -> Result<Self, MailerError> {
        let from = mailbox(&email.from)?;
        let to = email.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?;
        let login = |user: &Option<String>| {
            user.clone().zip(password).map(|(user, password)| Credentials::new(user, password))
        };
        let route = match &email.server {
            MailServer::Sendmail { program } => Route::Sendmail(program.clone()),
            MailServer::Smtps { user, host, port } => Route::Smtp(Smtp {
                security: Security::Implicit(tls_parameters(host)?),
                host: host.clone(),
                port: *port,
                login: login(user),
            }),
            MailServer::Smtp { user, host, port, tls } => Route::Smtp(Smtp {
                security: match tls {
                    Tls::None => Security::None,
                    Tls::Opportunistic if user.is_none() => {
                        Security::Offered(tls_parameters(host)?)
                    }
                    Tls::Required | Tls::Opportunistic => Security::Required(tls_parameters(host)?),
                },
                host: host.clone(),
                port: *port,
                login: login(user),
            }),
        };
        Ok(Self { from, to, route, patience })
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    /// The receivers that are not among `told`.
    pub(super) fn receivers_without(&self, told: &[String]) -> Vec<Address> {
        let receivers = self.to.iter().map(|to| to.email.clone());
        receivers.filter(|to| !told.contains(&to.to_string())).collect()
    }

    /// The message as it goes over the wire.
    pub(super) fn write(&self, message: &Message, identity: &Identity) -> Result<Vec<u8>, String> {
        let subject = if identity.follow_up {
            format!("Re: {}", message.subject)
        } else {
            message.subject.clone()
        };
        let thread = format!("<{}>", identity.thread);
        let mut mail = Mail::builder()
            .from(self.from.clone())
            .subject(subject)
            .message_id(Some(format!("<{}>", identity.id)))
            .references(thread.clone())
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(MIME_VERSION_1_0)
            .header(ContentType::TEXT_PLAIN);
        if identity.follow_up {
            mail = mail.in_reply_to(thread);
        }
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let mail = mail.body(message.body.clone()).map_err(|error| error.to_string())?;
        Ok(mail.formatted())
    }

    /// Hands `mail` over for the receivers `to`.
    pub(super) fn send(&self, mail: &[u8], to: &[Address]) -> Result<Handed, Trouble> {
        match &self.route {
            Route::Smtp(smtp) => smtp.send(self.patience.step, &self.from.email, mail, to),
            Route::Sendmail(program) => {
                let deadline = Instant::now() + self.patience.message / 2;
                sendmail::send(program, &self.from.email, mail, to, deadline)
            }
        }
    }
}

impl Smtp {
    fn send(
        &self,
        step: Duration,
        from: &Address,
        mail: &[u8],
        to: &[Address],
    ) -> Result<Handed, Trouble> {
        let mut connection = self.connect(step)?;
        let handed = self.transact(&mut connection, from, mail, to);
        match handed {
            // The message is delivered; how the server takes leave does not matter.
            Ok(_) => drop(connection.quit()),
            Err(_) => connection.abort(),
        }
        handed
    }

    /// Connects, encrypts and logs in, as far as the configuration asks for it.
    fn connect(&self, step: Duration) -> Result<SmtpConnection, Trouble> {
        let (host, hello) = (self.host.as_str(), ClientId::default());
        let implicit = match &self.security {
            Security::Implicit(tls) => Some(tls),
            _ => None,
        };
        let server = (host.trim_matches(['[', ']']), self.port);
        let mut connection = SmtpConnection::connect(server, Some(step), &hello, implicit, None)
            .map_err(|error| self.trouble("connecting to", &error))?;
        let starttls = match &self.security {
            Security::Required(tls) => Some(tls),
            Security::Offered(tls) if connection.can_starttls() => Some(tls),
            _ => None,
        };
        if let Some(tls) = starttls {
            if !connection.can_starttls() {
                connection.abort();
                return Err(Trouble(format!(
                    "{host}:{} does not offer STARTTLS, so nothing was sent: use smtps:// if \
                     it has that, or set tls = \"none\" if plain text is acceptable",
                    self.port
                )));
            }
            let encrypted = connection.starttls(tls, &hello);
            encrypted.map_err(|error| self.trouble("starting TLS with", &error))?;
        }
        if let Some(login) = &self.login {
            let accepted = connection.auth(&[Mechanism::Plain, Mechanism::Login], login);
            accepted.map_err(|error| {
                connection.abort();
                self.trouble("logging in to", &error)
            })?;
        }
        Ok(connection)
    }

    fn transact(
        &self,
        connection: &mut SmtpConnection,
        from: &Address,
        mail: &[u8],
        to: &[Address],
    ) -> Result<Handed, Trouble> {
        let mut handed = Handed::default();
        let mut accepted: Vec<&Address> = Vec::new();
        let mut parameters = Vec::new();
        if std::iter::once(from).chain(to).any(|address| !is_ascii(address)) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                return Err(Trouble(format!(
                    "{} does not take addresses with characters beyond ASCII",
                    self.host
                )));
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if let Err(error) = connection.command(MailFrom::new(Some(from.clone()), parameters)) {
            self.refuse(&mut handed, to.iter(), "the sender", &error)?;
            return Ok(handed);
        }
        for address in to {
            match connection.command(Rcpt::new(address.clone(), Vec::new())) {
                Ok(_) => accepted.push(address),
                Err(error) => {
                    self.refuse(&mut handed, std::iter::once(address), "the receiver", &error)?;
                }
            }
        }
        if accepted.is_empty() {
            return Ok(handed);
        }
        let sent = connection.command(Data).and_then(|_| connection.message(mail));
        match sent {
            Ok(_) => handed.told = accepted.iter().map(ToString::to_string).collect(),
            Err(error) => {
                self.refuse(&mut handed, accepted.into_iter(), "the message", &error)?;
            }
        }
        Ok(handed)
    }

    /// Sorts a negative reply, which concerns the receivers `to`, from a broken connection.
    fn refuse<'a>(
        &self,
        handed: &mut Handed,
        to: impl Iterator<Item = &'a Address>,
        what: &str,
        error: &SmtpError,
    ) -> Result<(), Trouble> {
        // 421: the server is about to close the connection.
        match error.status().map(u16::from) {
            None | Some(421) => Err(self.trouble("talking to", error)),
            Some(_) => {
                for address in to {
                    let words = format!("{} refused {what}: {error}", self.host);
                    handed.refused.push((address.to_string(), words));
                }
                Ok(())
            }
        }
    }

    fn trouble(&self, doing: &str, error: &SmtpError) -> Trouble {
        let mut text = format!("{doing} {}:{} failed: {error}", self.host, self.port);
        if let Some(hint) = hint(error) {
            text = format!("{text} ({hint})");
        }
        Trouble(text)
    }
}

/// What a person can do about `error`.
fn hint(error: &SmtpError) -> Option<&'static str> {
    let text = error.to_string();
    if text.contains("certificate") || text.contains("UnknownIssuer") {
        Some(
            "nothing was sent; is the server's certificate for this name, still valid, and \
              from an authority that this host trusts?",
        )
    } else if error.status().map(u16::from) == Some(535) {
        Some("are the user and the password right?")
    } else if error.is_response() || text.contains("valid UTF-8") {
        Some(
            "what answers there does not speak SMTP: are the host and the port right, and is it smtp:// or smtps://?",
        )
    } else if error.is_timeout() || text.contains("os error 11") {
        Some("the server does not answer")
    } else {
        None
    }
}

fn is_ascii(address: &Address) -> bool {
    AsRef::<str>::as_ref(address).is_ascii()
}

fn mailbox(text: &str) -> Result<Mailbox, MailerError> {
    text.parse().map_err(|error: lettre::address::AddressError| MailerError::Address {
        address: text.to_owned(),
        why: error.to_string(),
    })
}

fn tls_parameters(host: &str) -> Result<TlsParameters, MailerError> {
    TlsParameters::new(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| MailerError::Tls { host: host.to_owned(), why: error.to_string() })
}

#[cfg(test)]
#[path = "mailer_tests.rs"]
mod tests;
