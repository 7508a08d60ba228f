//! What the mail tests need: a mail server, a certificate, a spool, and the second process.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use steadfast::alert::{Item, News, Spool};
use steadfast::record::{Event, Kind, Severity};
use tempfile::TempDir;

/// Nothing here takes so long, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `found` again and again until it finds something.
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A mail server, in another process.
pub struct Server {
    child: Child,
    lines: mpsc::Receiver<Value>,
    pub port: u16,
}

/// How a [`Server`] is to behave.
pub struct Behaviour(Value);

impl Behaviour {
    pub fn plain() -> Self {
        Self(json!({
            "port": 0, "tls": null, "login": null, "refuse_receivers": [], "refuse_messages": [],
        }))
    }

    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.0[key] = value;
        self
    }

    pub fn encrypted(self, how: &str, authority: &Authority) -> Self {
        self.with("tls", json!(how))
            .with("certificate", json!(authority.path("server.pem")))
            .with("key", json!(authority.path("server.key")))
    }

    pub fn start(self) -> Server {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail/server.py");
        // Debian's own Python, because aiosmtpd is installed as a Debian package.
        let mut child = Command::new("/usr/bin/python3")
            .args(["-W", "ignore", script])
            .arg(self.0.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        let started: Value =
            lines.recv_timeout(PATIENCE).expect("the mail server starts (python3-aiosmtpd?)");
        let port = started["port"].as_u64().unwrap().try_into().unwrap();
        Server { child, lines, port }
    }
}

impl Server {
    /// The next message that was accepted.
    pub fn mail(&self) -> Mail {
        let mail = self.next();
        assert!(mail.get("mail").is_some(), "{mail}");
        Mail(mail)
    }

    /// What the server refuses next.
    pub fn refusal(&self) -> String {
        let next = self.next();
        next["refused"].as_str().unwrap_or_else(|| panic!("{next}")).to_owned()
    }

    /// Nothing else has arrived so far.
    pub fn assert_idle(&self) {
        assert_eq!(self.lines.try_recv().ok(), None);
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("something reaches the mail server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message as the server has it.
pub struct Mail(Value);

impl Mail {
    pub fn receivers(&self) -> Vec<&str> {
        self.0["receivers"].as_array().unwrap().iter().map(|to| to.as_str().unwrap()).collect()
    }

    pub fn is_encrypted(&self) -> bool {
        self.0["encrypted"] == true
    }

    pub fn is_logged_in(&self) -> bool {
        self.0["login"] == true
    }

    /// Header lines, unfolded.
    pub fn head(&self) -> Vec<String> {
        let text = self.0["mail"].as_str().unwrap();
        let head = text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        head.lines().map(str::to_owned).collect()
    }

    pub fn header(&self, name: &str) -> String {
        let start = format!("{name}: ");
        let mut found =
            self.head().into_iter().filter_map(|l| Some(l.strip_prefix(&start)?.into()));
        let value = found.next().unwrap_or_else(|| panic!("no {name} in {:?}", self.head()));
        assert_eq!(found.next(), None, "two of {name}");
        value
    }

    pub fn subject(&self) -> String {
        self.header("Subject")
    }

    /// The body, decoded by Python's mail library rather than by what encoded it.
    pub fn body(&self) -> String {
        let script = "import email,email.policy,json,sys\n\
             raw = json.load(sys.stdin)['mail'].encode('latin-1')\n\
             m = email.message_from_bytes(raw, policy=email.policy.default)\n\
             sys.stdout.buffer.write(m.get_content().encode())";
        let mut python = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        serde_json::to_writer(python.stdin.take().unwrap(), &self.0).unwrap();
        String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap()
    }
}

/// A certificate authority, and a certificate from it for `localhost`.
pub struct Authority(TempDir);

impl Authority {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = "set -e
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                -subj /CN=authority -keyout ca.key -out ca.pem
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
                -keyout server.key -out server.csr
            echo subjectAltName=DNS:localhost > names
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names \
                -out server.pem";
        let made = Command::new("sh")
            .args(["-c", script])
            .current_dir(directory.path())
            .output()
            .expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(directory)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A state directory with a spool, and a configuration that points to it.
pub struct Room {
    directory: TempDir,
    pub spool: Spool,
    pub server: String,
    extra: String,
}

impl Room {
    /// `server` is what stands in the configuration.
    pub fn new(server: impl Into<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(&directory.path().join("state")).unwrap();
        Self { directory, spool, server: server.into(), extra: String::new() }
    }

    /// Further lines for `[alert.email]`.
    pub fn with(mut self, line: &str) -> Self {
        self.extra.push_str(line);
        self.extra.push('\n');
        self
    }

    pub fn with_password(self, password: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path("password");
        std::fs::write(&path, format!("{password}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        let line = format!("password_file = {:?}", path.display().to_string());
        self.with(&line)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the second process; `trust` is a file of certificates.
    pub fn deliver(&self, trust: Option<&Path>) -> Deliver {
        let config = self.path("steadfast.toml");
        let text = format!(
            "[alert.email]\nfrom = \"Guard <guard@example.com>\"\n\
             to = [\"a@example.com\", \"b@example.com\"]\nserver = {:?}\n{}\
             [daemon]\nstate = {:?}\n",
            self.server,
            self.extra,
            self.path("state")
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        command.arg("deliver").arg("--config").arg(&config);
        command.env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
        if let Some(trust) = trust {
            command.env("SSL_CERT_FILE", trust);
        }
        command.env("STEADFAST_LIFELINE", "stdin").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        Deliver { lifeline: child.stdin.take(), child }
    }

    /// Puts one incident, due at once.
    pub fn put(&mut self, incident: &str, paths: &[&Path]) {
        let (incident, not_before) = (incident.to_owned(), Timestamp::now());
        let event = |path: &&Path| {
            Event::new(Timestamp::UNIX_EPOCH, Kind::ContentChanged, Severity::Warning).about(path)
        };
        let events = paths.iter().map(event).collect();
        self.spool.put(&Item { incident, not_before, events }).unwrap();
    }

    /// The next thing that the daemon gets to know.
    pub fn news(&mut self) -> News {
        eventually("news of a message", || {
            let mut news = self.spool.collect().unwrap();
            assert!(news.len() <= 1, "{news:?}");
            news.pop()
        })
    }

    pub fn assert_delivered(&mut self, incident: &str) {
        assert_eq!(self.news(), News::Delivered { incident: incident.to_owned() });
    }

    /// The error of the next failure, and the number of attempts.
    pub fn failure(&mut self) -> (String, u32) {
        match self.news() {
            News::Failed { error, attempts, .. } => (error, attempts),
            news => panic!("{news:?}"),
        }
    }
}

/// The second process. Dropping it kills it.
pub struct Deliver {
    child: Child,
    lifeline: Option<ChildStdin>,
}

impl Deliver {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.pid().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// What happens when the daemon ends.
    pub fn cut_lifeline(&mut self) {
        self.lifeline = None;
    }

    pub fn wait(&mut self) -> ExitStatus {
        eventually("the end of the process", || self.child.try_wait().unwrap())
    }

    /// Fields of `/proc/PID/status`, once the process is at work.
    pub fn status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap()
    }
}

impl Drop for Deliver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
