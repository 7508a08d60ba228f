//! `[alert.email]`: addresses and the server, checked before the first mail has to go out.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use lettre::message::Mailbox;

use super::reader::{Reader, Section};
use super::values::absolute_path;
use super::{Email, MailServer, Tls};
use crate::text::escape;

pub(super) const KEYS: [&str; 5] = ["from", "to", "server", "password_file", "tls"];

const DEFAULT_SENDMAIL: &str = "/usr/sbin/sendmail";
const TLS: [(&str, Tls); 3] =
    [("required", Tls::Required), ("opportunistic", Tls::Opportunistic), ("none", Tls::None)];
const SERVER_FORMS: &str =
    "write smtp://user@host, smtps://user@host, each with :port if need be, or sendmail:";

/// Reads the table; `None` where something that is needed is missing or wrong.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    at: std::ops::Range<usize>,
) -> Option<Email> {
    let from = reader.parsed(section, "from", mail_address);
    let to = receivers(reader, section);
    let server = reader.parsed(section, "server", mail_server);
    let password_file = reader.parsed(section, "password_file", absolute_path);
    let needed = [
        ("from", "from = \"steadfast@example.com\""),
        ("to", "to = [\"ops@example.com\"]"),
        ("server", "server = \"smtps://mailer@mail.example.com\""),
    ];
    let absent: Vec<_> =
        needed.into_iter().filter(|(key, _)| section.table.get(*key).is_none()).collect();
    if !absent.is_empty() {
        // One problem for all of them: they are at one place.
        let keys: Vec<_> = absent.iter().map(|(key, _)| *key).collect();
        let examples: Vec<_> = absent.iter().map(|(_, example)| *example).collect();
        reader.missing(at, section.name, &keys.join("`, `"), &examples.join(", "));
    }
    // Read even where the server cannot be: every problem is told at once.
    let tls = reader.choice(section, "tls", &TLS);
    let server = with_tls(reader, section, server?, tls);
    check_password(reader, section, &server, password_file.is_some());
    Some(Email { from: from?, to: to?, server, password_file })
}

fn receivers(reader: &mut Reader<'_>, section: Section<'_>) -> Option<Vec<String>> {
    let array = reader.array(section, "to")?;
    if array.is_empty() {
        let span = section.table.get("to").map_or(0..0, toml::Spanned::span);
        reader.problem(span, "`to` is empty: name at least one receiver");
        return None;
    }
    let mut addresses = Vec::new();
    for value in array {
        let Some(text) = reader.text(value, "a receiver in `to`") else { continue };
        match mail_address(text.value) {
            Ok(address) => addresses.push(address),
            Err(message) => reader.problem(text.span, message),
        }
    }
    (addresses.len() == array.len()).then_some(addresses)
}

/// Puts the `tls` key into the server it is about.
fn with_tls(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    server: MailServer,
    tls: Option<Tls>,
) -> MailServer {
    let Some(chosen) = tls else { return server };
    match server {
        MailServer::Smtp { user, host, port, .. } => {
            MailServer::Smtp { user, host, port, tls: chosen }
        }
        other => {
            let span = section.table.get("tls").map_or(0..0, toml::Spanned::span);
            reader.problem(span, "`tls` is for smtp:// servers: remove it here");
            other
        }
    }
}

/// A password that would never be used, or sent where everybody can read it, is a mistake.
fn check_password(
    reader: &mut Reader<'_>,
    section: Section<'_>,
    server: &MailServer,
    has_password: bool,
) {
    let Some(value) = section.table.get("password_file").filter(|_| has_password) else { return };
    let message = match server {
        MailServer::Sendmail { .. } => "`password_file` is of no use with sendmail: remove it",
        MailServer::Smtp { user: None, .. } | MailServer::Smtps { user: None, .. } => {
            "`password_file` needs a login name: write it in `server` as smtps://user@host"
        }
        MailServer::Smtp { host, tls, .. } if *tls != Tls::Required && !is_loopback(host) => {
            "the password could cross the network in plain text: set tls = \"required\""
        }
        _ => return,
    };
    reader.problem(value.span(), message);
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// One mail address, with or without a name: `ops@example.com` or `Ops <ops@example.com>`.
fn mail_address(text: &str) -> Result<String, String> {
    let refused = || {
        let text = escape(text.as_bytes());
        format!("`{text}` is not a mail address: write name@example.com, one in each string")
    };
    let text = text.trim();
    let mailbox = Mailbox::from_str(text).map_err(|_| refused())?;
    // The parser stops at the end of the first address and says nothing of the rest.
    let address: &str = mailbox.email.as_ref();
    let whole = text == address || text.ends_with(&format!("<{address}>"));
    if whole && !text.chars().any(char::is_control) { Ok(text.to_owned()) } else { Err(refused()) }
}

/// Reads the server URL; `tls` is put in later.
fn mail_server(text: &str) -> Result<MailServer, String> {
    let refused = |why: &str| {
        Err(format!("`{}` is not a mail server: {why}{SERVER_FORMS}", escape(text.as_bytes())))
    };
    if let Some(program) = text.strip_prefix("sendmail:") {
        let program = if program.is_empty() { DEFAULT_SENDMAIL } else { program };
        return Ok(MailServer::Sendmail { program: absolute_path(program)? });
    }
    let (secure, rest) = match (text.strip_prefix("smtps://"), text.strip_prefix("smtp://")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        _ => return refused(""),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (user, address) = match rest.rsplit_once('@') {
        Some((user, address)) => (Some(user), address),
        None => (None, rest),
    };
    if user.is_some_and(|user| user.contains(':')) {
        // The text is not repeated: it holds a password.
        return Err("a password does not belong in `server`: put it into a file that only root \
                    can read and name that in `password_file`"
            .to_owned());
    }
    let user = match user.map(percent_decode) {
        Some(None) => return refused("the login name is empty or not text; "),
        Some(user) => user,
        None => None,
    };
    let Some((host, port)) = split_port(address) else {
        return refused("the host or port is wrong; ");
    };
    let host = host.to_owned();
    Ok(if secure {
        MailServer::Smtps { user, host, port: port.unwrap_or(465) }
    } else {
        MailServer::Smtp { user, host, port: port.unwrap_or(587), tls: Tls::default() }
    })
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => {
            let (host, port) = match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            };
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || host.starts_with('-') || !host.chars().all(good) {
                return None;
            }
            (host, port)
        }
    };
    match port {
        None => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok().filter(|port| *port != 0)?))),
    }
}

/// Undoes the `%40` of a login name that is itself a mail address.
fn percent_decode(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        bytes.extend(crate::text::hex_decode(digits)?);
        bytes.extend(part.get(2..)?.as_bytes());
    }
    let text = String::from_utf8(bytes).ok()?;
    (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn smtps(user: Option<&str>, host: &str, port: u16) -> MailServer {
        MailServer::Smtps { user: user.map(str::to_owned), host: host.to_owned(), port }
    }

    #[test]
    fn every_form_of_a_server_is_read() {
        for (text, server) in [
            ("smtps://mail.example.com", smtps(None, "mail.example.com", 465)),
            ("smtps://me@mail.example.com:4465/", smtps(Some("me"), "mail.example.com", 4465)),
            ("smtps://me%40example.com@h", smtps(Some("me@example.com"), "h", 465)),
            ("smtps://me@example.com@h", smtps(Some("me@example.com"), "h", 465)),
            ("smtps://[::1]:25", smtps(None, "::1", 25)),
            ("sendmail:", MailServer::Sendmail { program: PathBuf::from("/usr/sbin/sendmail") }),
            ("sendmail:/opt/mta", MailServer::Sendmail { program: PathBuf::from("/opt/mta") }),
        ] {
            assert_eq!(mail_server(text), Ok(server), "{text}");
        }
        assert!(matches!(mail_server("smtp://h"), Ok(MailServer::Smtp { port: 587, .. })));
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for text in [
            "",
            "mail.example.com",
            "http://h",
            "smtp://",
            "smtp://@h",
            "smtp://h:0",
            "smtp://h:x",
            "smtp://h:65536",
            "smtp://h/path",
            "smtp://a b",
            "smtp://-oProxy",
            "smtp://[::1",
            "smtp://[x]",
            "smtp://u%4@h",
            "smtp://u%0a@h",
            "smtp://%ff@h",
            "sendmail:relative",
        ] {
            assert!(mail_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let message = mail_server("smtp://me:hunter2@h").unwrap_err();
        assert!(message.contains("password_file") && !message.contains("hunter2"), "{message}");
    }

    #[test]
    fn addresses_are_read_with_and_without_a_name_and_one_at_a_time() {
        for good in ["ops@example.com", "Ops <ops@example.com>", "root@localhost"] {
            assert_eq!(mail_address(good), Ok(good.to_owned()));
        }
        for bad in ["", "ops", "@example.com", "a@b, c@d", "a@b c@d", "a@b\r\nBcc: c@d", "<a@b> x"]
        {
            assert!(mail_address(bad).is_err(), "{bad:?}");
        }
    }
}
