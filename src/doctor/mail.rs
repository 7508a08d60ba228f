//! Whether anybody would be told.

use std::os::unix::fs::PermissionsExt;

use super::{Finding, Level};
use crate::alert;
use crate::config::{Email, MailServer};
use crate::text::{escape, escape_path};

pub(super) fn examine(email: Option<&Email>) -> Vec<Finding> {
    let finding = |level, says: String| Finding::new("mail", level, says);
    let Some(email) = email else {
        let says = "no mail is configured, so nobody is told of anything: add [alert.email] to the \
                    configuration";
        return vec![finding(Level::Limit, says.to_owned())];
    };
    let mut all = Vec::new();
    if let Err(error) = alert::check_password(email) {
        // The unit may have been given one; that is not for us to see.
        let unseen = matches!(error, alert::PasswordError::Missing { .. });
        let level = if unseen { Level::Limit } else { Level::Problem };
        all.push(finding(level, escape(error.to_string().as_bytes())));
    }
    if let MailServer::Sendmail { program } = &email.server {
        let runs = std::fs::metadata(program)
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
        if !runs {
            let program = escape_path(program);
            let says = format!(
                "{program} is no program that can be run: install a mail server, or give \
                 another `server`"
            );
            all.push(finding(Level::Problem, says));
        }
    }
    if all.is_empty() {
        let to = escape(email.to.join(", ").as_bytes());
        all.push(finding(Level::Good, format!("mail goes to {to}")));
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn email(server: MailServer, password_file: Option<PathBuf>) -> Email {
        Email { from: "a@b".into(), to: vec!["ops@b".into()], server, password_file }
    }

    #[test]
    fn a_missing_password_and_a_missing_program_are_problems() {
        assert_eq!(examine(None)[0].level, Level::Limit);
        let server = |user: Option<&str>| MailServer::Smtps {
            user: user.map(str::to_owned),
            host: "mail.example.com".into(),
            port: 465,
        };
        let absent = Some(PathBuf::from("/nonexistent/password"));
        let found = examine(Some(&email(server(Some("u")), absent)));
        assert_eq!(found[0].level, Level::Problem);
        assert!(found[0].says.contains("/nonexistent/password"), "{found:?}");
        let program = |path: &str| MailServer::Sendmail { program: path.into() };
        assert_eq!(examine(Some(&email(program("/nonexistent"), None)))[0].level, Level::Problem);
        assert_eq!(examine(Some(&email(program("/bin/sh"), None)))[0].level, Level::Good);
        assert_eq!(examine(Some(&email(server(None), None)))[0].says, "mail goes to ops@b");
    }
}
