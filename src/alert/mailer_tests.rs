use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use super::*;

/// A server on loopback that treats its one client as `behave` says.
fn server(behave: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        behave(client);
    });
    port
}

/// Greets, then answers each line with what `answer` says; `None` closes the connection.
fn answering(answer: impl Fn(&str) -> Option<&'static str> + Send + 'static) -> u16 {
    server(move |mut client| {
        let lines = BufReader::new(client.try_clone().unwrap()).lines();
        let _ = client.write_all(b"220 ready\r\n");
        for line in lines.map_while(Result::ok) {
            let Some(text) = answer(&line) else { return };
            let _ = client.write_all(text.as_bytes());
        }
    })
}

fn mailer(port: u16) -> Mailer {
    let email = Email {
        from: "steadfast <guard@example.com>".into(),
        to: vec!["a@example.com".into(), "b@example.com".into()],
        server: MailServer::Smtp { user: None, host: "127.0.0.1".into(), port, tls: Tls::None },
        password_file: None,
    };
    let patience = Patience { step: Duration::from_millis(300), message: Duration::from_secs(60) };
    Mailer::new(&email, None, patience).unwrap()
}

fn send(port: u16) -> Result<Handed, Trouble> {
    let mailer = mailer(port);
    mailer.send(b"Subject: x\r\n\r\nx\r\n", &mailer.receivers_without(&[]))
}

fn trouble(port: u16) -> String {
    send(port).unwrap_err().0
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let text = trouble(server(|client| {
        let _ = BufReader::new(client).lines().count();
    }));
    assert!(text.contains("does not answer"), "{text}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let text = trouble(port);
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"), "{text}");
}

#[test]
fn rubbish_instead_of_a_greeting_is_trouble() {
    trouble(server(|mut client| {
        let _ = client.write_all(b"\x00\xff\x1b]0;x\x07 HTTP/1.1 400\r\n\r\n");
    }));
}

#[test]
fn a_greeting_without_end_is_trouble_and_bounded() {
    let line = format!("220-{}\r\n", "x".repeat(900));
    let text =
        trouble(server(move |mut client| while client.write_all(line.as_bytes()).is_ok() {}));
    assert!(text.contains("too large"), "{text}");
}

#[test]
fn a_connection_that_breaks_midway_is_trouble() {
    trouble(answering(|line| (!line.starts_with("MAIL")).then_some("250 ok\r\n")));
    trouble(answering(|line| match line {
        "DATA" => Some("354 go\r\n"),
        "Subject: x" | "" => Some(""),
        "x" => None,
        _ => Some("250 ok\r\n"),
    }));
}

#[test]
fn a_refused_receiver_does_not_keep_the_message_from_the_other() {
    let handed = send(answering(|line| {
        Some(match line {
            "DATA" => "354 go\r\n",
            "RCPT TO:<a@example.com>" => "550 5.1.1 no such user\r\n",
            "Subject: x" | "" | "x" => "",
            _ => "250 ok\r\n",
        })
    }))
    .unwrap();
    assert_eq!(handed.told, ["b@example.com"]);
    let [(to, why)] = handed.refused.as_slice() else { panic!("{handed:?}") };
    assert_eq!(to, "a@example.com");
    assert!(why.contains("no such user"), "{why}");
}

#[test]
fn a_refused_sender_or_message_is_a_refusal_for_everybody() {
    let sender = send(answering(|line| {
        Some(if line.starts_with("MAIL") { "553 who\r\n" } else { "250 ok\r\n" })
    }));
    assert_eq!(sender.unwrap().refused.len(), 2);
    let message = send(answering(|line| {
        Some(if line == "DATA" { "452 disk full\r\n" } else { "250 ok\r\n" })
    }));
    let message = message.unwrap();
    assert_eq!((message.told.len(), message.refused.len()), (0, 2));
}

#[test]
fn a_server_that_is_closing_is_trouble_and_not_a_refusal() {
    let text = trouble(answering(|line| {
        Some(if line.starts_with("RCPT") { "421 going down\r\n" } else { "250 ok\r\n" })
    }));
    assert!(text.contains("going down"), "{text}");
}

#[test]
fn without_starttls_nothing_is_sent_where_it_is_required() {
    let port = answering(|line| {
        assert!(!line.starts_with("MAIL"));
        Some("250 ok\r\n")
    });
    let server =
        MailServer::Smtp { user: None, host: "127.0.0.1".into(), port, tls: Tls::Required };
    let email = Email {
        from: "a@example.com".into(),
        to: vec!["a@example.com".into()],
        server,
        password_file: None,
    };
    let mailer = Mailer::new(&email, None, Patience::default()).unwrap();
    let Trouble(text) = mailer.send(b"x", &mailer.receivers_without(&[])).unwrap_err();
    assert!(text.contains("does not offer STARTTLS"), "{text}");
}

#[test]
fn a_password_never_goes_over_an_unencrypted_opportunistic_connection() {
    let port = answering(|line| {
        assert!(!line.starts_with("AUTH"));
        Some(if line.starts_with("EHLO") { "250-x\r\n250 AUTH PLAIN\r\n" } else { "250 ok\r\n" })
    });
    let (user, host) = (Some("u".to_owned()), "127.0.0.1".to_owned());
    let email = Email {
        from: "a@example.com".into(),
        to: vec!["a@example.com".into()],
        server: MailServer::Smtp { user, host, port, tls: Tls::Opportunistic },
        password_file: None,
    };
    let mailer = Mailer::new(&email, Some("secret".into()), Patience::default()).unwrap();
    assert!(mailer.send(b"x", &mailer.receivers_without(&[])).is_err());
}

#[test]
fn no_subject_and_no_host_can_add_a_header() {
    let mailer = mailer(1);
    let message = Message {
        subject: "x\r\nBcc: evil@example.com\r\n\r\nbody".into(),
        body: ".\r\nMAIL FROM:<x>\r\n".into(),
    };
    let identity = Identity { id: "i.r@host".into(), thread: "i@host".into(), follow_up: true };
    let mail = String::from_utf8(mailer.write(&message, &identity).unwrap()).unwrap();
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
    assert!(head.contains("Message-ID: <i.r@host>"), "{head}");
    assert!(head.contains("In-Reply-To: <i@host>"), "{head}");
    assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
}

#[test]
fn an_address_that_is_none_is_named() {
    let email = Email {
        from: "a@example.com".into(),
        to: vec!["a@example.com\r\nDATA".into()],
        server: MailServer::Sendmail { program: "/usr/sbin/sendmail".into() },
        password_file: None,
    };
    let error = Mailer::new(&email, None, Patience::default()).err().unwrap().to_string();
    assert!(error.starts_with("`a@example.com\\r\\nDATA` is not a mail address"), "{error}");
}
