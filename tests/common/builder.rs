//! How a test says what is to be guarded.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::{Guard, Place, Sandbox, Whole, write_old};

/// What a guard is to be; [`Builder::start`] makes it so.
pub struct Builder {
    sandbox: Sandbox,
    files: Vec<PathBuf>,
    policy: String,
    daemon: String,
    mail: &'static str,
    without: Vec<String>,
}

impl Builder {
    /// Nothing yet, on `place`.
    pub(super) fn on(place: Place) -> Self {
        Self {
            sandbox: Sandbox::on(place),
            files: Vec::new(),
            policy: String::new(),
            daemon: String::new(),
            mail: "",
            without: Vec::new(),
        }
    }

    /// A file to protect: with an owner, a mode, times and an attribute that no default has.
    pub fn file(mut self, name: impl AsRef<OsStr>, content: &[u8]) -> Self {
        let path = self.write(name.as_ref(), content);
        self.files.push(path);
        self
    }

    /// A file that is left alone.
    pub fn bystander(self, name: impl AsRef<OsStr>, content: &[u8]) -> Self {
        self.write(name.as_ref(), content);
        self
    }

    /// Does anything to the directory before the daemon comes.
    pub fn prepare(self, prepare: impl FnOnce(&Path)) -> Self {
        prepare(self.sandbox.dir());
        self
    }

    /// Protects a path that [`Self::prepare`] made.
    pub fn protect(mut self, name: impl AsRef<OsStr>) -> Self {
        self.files.push(self.sandbox.path(name));
        self
    }

    /// Lines for `[[protect]]`.
    pub fn policy(mut self, toml: &str) -> Self {
        self.policy.push_str(toml);
        self.policy.push('\n');
        self
    }

    /// Lines for `[daemon]`.
    pub fn daemon(mut self, toml: &str) -> Self {
        self.daemon.push_str(toml);
        self.daemon.push('\n');
        self
    }

    /// Somebody is to be told, by a server that is never there.
    pub fn mail(mut self) -> Self {
        self.mail = "[alert.email]\nfrom = \"guard@example.com\"\nto = [\"ops@example.com\"]\n\
            server = \"smtp://127.0.0.1:9\"\ntls = \"none\"\n";
        self
    }

    /// Takes a capability from the daemon, such as `sys_admin`.
    pub fn without(mut self, capability: &str) -> Self {
        self.without.push(format!("-{capability}"));
        self
    }

    /// The daemon can be made to die at a fault point.
    pub fn watch_for_faults(mut self) -> Self {
        self.sandbox.watch_for_faults();
        self
    }

    /// Starts the daemon and waits until it is on guard.
    pub fn start(self) -> Guard {
        let mut good = BTreeMap::new();
        for path in self.files.iter().filter(|path| !path.is_dir()) {
            let whole = Whole::of(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
            good.insert(path.clone(), whole.locked());
        }
        // A configuration cannot hold every name; the option can.
        let (named, by_option): (Vec<_>, Vec<_>) =
            self.files.into_iter().partition(|path| fits_configuration(path));
        let mut toml = self.sandbox.daemon_table(&self.daemon);
        if !named.is_empty() {
            let names: Vec<_> = named.iter().map(|path| format!("{path:?}")).collect();
            toml += &format!("[[protect]]\npaths = [{}]\n{}", names.join(", "), self.policy);
        }
        self.sandbox.configure(&(toml + self.mail));
        let mut guard = Guard::new(self.sandbox, by_option, good, self.without);
        guard.start();
        guard
    }

    fn write(&self, name: &OsStr, content: &[u8]) -> PathBuf {
        let path = self.sandbox.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_old(&path, content);
        chown(&path, Some(1234), Some(4321)).unwrap();
        let _unsupported_on_some = rustix::fs::setxattr(
            &path,
            "user.steadfast-test",
            b"\x00kept\xff",
            rustix::fs::XattrFlags::empty(),
        );
        path
    }
}

fn fits_configuration(path: &Path) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    path.to_str().is_some_and(|path| path.chars().all(plain))
}
