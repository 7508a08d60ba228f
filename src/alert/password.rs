//! The password for the mail server: from a file, or from a systemd credential.

use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The credential, which goes before the file that the configuration names: whoever runs as a
/// user of its own cannot read that. `LoadCredential=smtp-password:…` in the unit.
const CREDENTIAL: &str = "smtp-password";

/// A password file of more bytes than this is some other file.
const MAX_BYTES: u64 = 4096;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Other users can read or change the file.
    #[error(
        "other users can read or change the password file {0}: \
         `chmod 600 {0}`, and change the password if it may have been read",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no password.
    #[error("the password file {} {why}: it has to hold the password, on one line", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The server's address names a user, and there is no password for it.
    #[error(
        "`server` names the user {user}, but there is no password: set `password_file`, or \
         give the unit a credential `{CREDENTIAL}`"
    )]
    Missing {
        /// The user.
        user: String,
    },
    /// There is a password file, and no user to go with it.
    #[error("`password_file` is set, but `server` names no user: write it as smtps://USER@HOST")]
    NoUser,
}

/// The password for `user`. `credentials` is what systemd calls `$CREDENTIALS_DIRECTORY`.
pub(super) fn find(
    user: Option<&str>,
    file: Option<&Path>,
    credentials: Option<&Path>,
) -> Result<Option<String>, PasswordError> {
    match (user, file) {
        (None, Some(_)) => Err(PasswordError::NoUser),
        (None, None) => Ok(None),
        (Some(user), file) => {
            let credential = credentials.map(|directory| directory.join(CREDENTIAL));
            let credential = credential.filter(|path| path.exists());
            match credential.as_deref().or(file) {
                Some(path) => read(path).map(Some),
                None => Err(PasswordError::Missing { user: user.to_owned() }),
            }
        }
    }
}

fn read(path: &Path) -> Result<String, PasswordError> {
    let unreadable = |source| PasswordError::Read { path: path.to_owned(), source };
    let content = |why| PasswordError::Content { path: path.to_owned(), why };
    // A symlink is fine: secrets often are one. Opening a pipe must not wait for its writer.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(content("is not a regular file"));
    }
    if metadata.mode() & 0o027 != 0 {
        return Err(PasswordError::Exposed { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(content("is too large"));
    }
    let text = String::from_utf8(bytes).map_err(|_| content("is not UTF-8 text"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(content("is empty"));
    }
    if password.contains(['\r', '\n', '\0']) {
        return Err(content("has more than one line"));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CREDENTIAL);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn the_newline_that_an_editor_adds_is_no_part_of_the_password() {
        let (_directory, path) = file(b" p\xc3\xa4ss \r\n\n", 0o640);
        assert_eq!(find(Some("u"), Some(&path), None).unwrap().unwrap(), " päss ");
    }

    #[test]
    fn a_file_that_others_can_read_or_its_group_can_change_is_refused_with_the_remedy() {
        for mode in [0o644, 0o660, 0o602] {
            let (_directory, path) = file(b"x", mode);
            let error = find(Some("u"), Some(&path), None).unwrap_err();
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())));
        }
    }

    #[test]
    fn what_is_no_password_is_refused() {
        for content in [&b"\n"[..], b"", b"a\nb", b"\xff", &[b'x'; 5000]] {
            let (_directory, path) = file(content, 0o600);
            let error = find(Some("u"), Some(&path), None).unwrap_err();
            assert!(matches!(error, PasswordError::Content { .. }), "{error}");
        }
        let (directory, _) = file(b"x", 0o600);
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(find(Some("u"), Some(&pipe), None).is_err());
        assert!(find(Some("u"), Some(Path::new("/dev/zero")), None).is_err());
    }

    #[test]
    fn a_systemd_credential_stands_in_for_the_file() {
        let (directory, _) = file(b"secret\n", 0o400);
        let found = find(Some("u"), None, Some(directory.path())).unwrap();
        assert_eq!(found.as_deref(), Some("secret"));
        let closed = Path::new("/nowhere");
        let found = find(Some("u"), Some(closed), Some(directory.path())).unwrap();
        assert_eq!(found.as_deref(), Some("secret"));
        assert!(matches!(find(Some("u"), None, None), Err(PasswordError::Missing { .. })));
    }

    #[test]
    fn without_a_user_no_password_is_looked_for() {
        let (directory, path) = file(b"secret\n", 0o400);
        assert_eq!(find(None, None, Some(directory.path())).unwrap(), None);
        assert!(matches!(find(None, Some(&path), None), Err(PasswordError::NoUser)));
    }
}
