//! What a person types, and what comes of it.

use std::time::Duration;

use super::*;
use crate::judge::{AlertWhen, Unexpected};

fn messages(text: &str) -> Vec<String> {
    let problems = Config::parse(text, "f").expect_err("a problem");
    problems.all.iter().map(|p| format!("{}:{}: {}", p.line, p.column, p.message)).collect()
}

#[test]
fn the_empty_file_is_the_default() {
    assert_eq!(Config::parse("", "f"), Ok(Config::default()));
}

#[test]
fn everything_that_can_be_set_is_read() {
    let config = Config::parse(
        r#"
        [[protect]]
        paths = ["/srv/app/main.py", "/etc/nginx/**/*.conf"]
        immutable = false
        restore = false
        alert = "digest"
        unexpected = "quarantine"

        [[protect]]
        paths = ["/etc/hosts"]

        [alert.email]
        from = "steadfast@example.com"
        to = ["ops@example.com"]
        server = "smtp://mailer@mail.example.com"
        password_file = "/etc/steadfast/smtp-password"
        tls = "required"

        [daemon]
        state = "/s"
        control = "/c"
        flag_sweep = "500ms"
        content_sweep = "10m"
        listen = "127.0.0.1:9733"
        "#,
        "f",
    )
    .unwrap();
    assert_eq!(
        config.protect[0].policy,
        Policy {
            immutable: false,
            restore: false,
            alert: AlertWhen::Digest,
            unexpected: Unexpected::Quarantine,
        }
    );
    assert_eq!(config.protect[1].policy, Policy::default());
    let email = config.email.unwrap();
    assert_eq!(email.to, ["ops@example.com"]);
    assert!(matches!(email.server, MailServer::Smtp { port: 587, tls: Tls::Required, .. }));
    assert_eq!(config.daemon.flag_sweep, FlagSweep::Every(Duration::from_millis(500)));
    assert_eq!(config.daemon.content_sweep, Duration::from_secs(600));
    assert_eq!(config.daemon.listen, Some("127.0.0.1:9733".parse().unwrap()));
}

#[test]
fn every_problem_is_reported_at_once_in_the_order_of_the_file() {
    let text = "\
[[protect]]
paths = [\"srv\", 7]
imutable = true
restore = \"yes\"

[[protect]]
flag_sweep = \"1s\"

[alert.email]
from = \"nobody\"
server = \"mail\"

[daemon]
flag_sweep = 5
colour = 1
";
    assert_eq!(
        messages(text),
        [
            "2:10: `srv` is not absolute: write it from / on",
            "2:17: an entry of `paths` is a number; write it in quotes",
            "3:1: unknown key `imutable` in [[protect]]: did you mean `immutable`?",
            "4:11: `restore` is a string; write true or false, no quotes",
            "6:1: [[protect]] needs `paths`: for example paths = [\"/srv/app/main.py\"]",
            "7:1: unknown key `flag_sweep` in [[protect]]: it belongs in [daemon]",
            "9:1: [alert.email] needs `to`: for example to = [\"ops@example.com\"]",
            "10:8: `nobody` is not a mail address: write name@example.com, one in each string",
            "11:10: `mail` is not a mail server: write smtp://user@host, smtps://user@host, each \
         with :port if need be, or sendmail:",
            "14:14: `flag_sweep` is a number; write it in quotes",
            "15:1: unknown key `colour` in [daemon]: known here: state, control, flag_sweep, \
         content_sweep, listen",
        ]
    );
}

#[test]
fn an_empty_mail_table_is_one_problem_that_tells_all_it_needs() {
    let told = messages("[alert.email]\n");
    assert_eq!(told.len(), 1, "{told:?}");
    for key in ["from = ", "to = ", "server = "] {
        assert!(told[0].contains(key), "{told:?}");
    }
    assert!(messages("[alert]\n")[0].contains("[alert] is empty"));
    assert!(messages("alert.email = {}\n")[0].contains("needs"));
}

#[test]
fn a_table_of_the_wrong_shape_is_refused_with_the_right_one() {
    assert!(messages("[protect]\npaths = [\"/a\"]\n")[0].contains("write [[protect]]"));
    assert!(messages("protect = [1]")[0].contains("expected the table [[protect]]"));
    assert!(messages("[[daemon]]\n")[0].contains("there is only one: write [daemon]"));
    assert!(messages("alert = \"now\"")[0].contains("expected the table [alert]"));
}

#[test]
fn a_broken_line_does_not_hide_the_other_problems() {
    let all = messages("[[protect]]\npaths = /a\n\n[daemon]\nstat = \"/s\"\n");
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].starts_with("2:9: "), "{all:?}");
    assert!(all[1].contains("did you mean `state`"), "{all:?}");
}

#[test]
fn a_bracket_too_few_is_one_problem() {
    let all = messages("[[protect]]\npaths = [\"/a\"\nimmutable = true\n[daemon]\nstat = 1\n");
    assert_eq!(all, ["3:1: missing comma between array elements, expected `,`"]);
}

#[test]
fn a_key_given_twice_is_refused() {
    assert_eq!(messages("[daemon]\nstate = \"/a\"\nstate = \"/b\"\n").len(), 1);
}

#[test]
fn a_password_that_could_be_read_or_would_not_be_used_is_refused() {
    let with = |server: &str, tls: &str| {
        Config::parse(
            &format!(
                "[alert.email]\nfrom = \"a@b\"\nto = [\"c@d\"]\nserver = \"{server}\"\n\
                 password_file = \"/p\"\n{tls}"
            ),
            "f",
        )
        .map_err(|problems| problems.to_string())
    };
    assert!(with("smtp://u@h", "").is_ok());
    assert!(with("smtp://u@127.0.0.1:25", "tls = \"none\"").is_ok());
    assert!(with("smtp://u@h", "tls = \"none\"").unwrap_err().contains("plain text"));
    assert!(with("smtp://h", "").unwrap_err().contains("login name"));
    assert!(with("sendmail:", "").unwrap_err().contains("no use"));
    assert!(with("smtps://u@h", "tls = \"none\"").unwrap_err().contains("remove it"));
}

#[test]
fn no_text_crashes_the_reader() {
    let seed = "[[protect]]\npaths=[\"/a\\u00e9\"]\n[alert.email]\nto=['x']\n[daemon]\nlisten=1\n";
    for from in 0..seed.len() {
        for to in from..seed.len() {
            let _ = Config::parse(seed.get(from..to).unwrap_or(""), "f").map_err(|p| p.to_string());
        }
    }
    let deep = format!("protect = {}", "[".repeat(100_000));
    assert!(Config::parse(&deep, "f").is_err());
    let dotted = format!("{}a = 1", "a.".repeat(50_000));
    assert!(Config::parse(&dotted, "f").is_err());
}

#[test]
fn the_file_that_ships_is_right_with_and_without_its_suggestions() {
    let shipped = include_str!("../../config/steadfast.toml");
    Config::parse(shipped, "steadfast.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let all_in_force: String = shipped
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with([' ', '#']) => setting,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let config = Config::parse(&all_in_force, "steadfast.toml")
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!config.protect.is_empty() && config.email.is_some());
    assert_eq!(
        Config { daemon: Daemon { listen: None, ..config.daemon }, ..Config::default() },
        Config::default()
    );
}

#[test]
fn the_readme_shows_a_configuration_with_every_key_and_the_defaults_of_the_daemon() {
    let readme = include_str!("../../README.md");
    let block = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.unwrap();
    let config = Config::parse(block, "README.md").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.daemon, Daemon::default());
    for key in parse::keys() {
        let shown = readme.contains(&format!("{key} = "));
        assert!(shown, "README.md lacks `{key}`");
    }
}

#[test]
fn a_file_that_is_missing_huge_a_pipe_or_no_text_is_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("latin"), b"# a\n# \xe9\n").unwrap();
    std::fs::File::create(path("huge")).unwrap().set_len(1 << 40).unwrap();
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    for (name, why) in [
        ("absent", "does not exist"),
        ("latin", "line 2 is not UTF-8"),
        ("huge", "larger than 1 MiB"),
        ("pipe", "not a regular file"),
        (".", "not a regular file"),
    ] {
        let message = Config::load(&path(name)).unwrap_err().to_string();
        assert!(message.contains(why) && !message.contains('\n'), "{message}");
    }
}
