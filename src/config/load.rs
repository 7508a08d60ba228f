//! The configuration file itself: found, read within bounds, parsed.

use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{Config, Problems, parse};
use crate::text::escape_path;

/// Where the configuration is unless somebody says otherwise.
pub const USUAL_FILE: &str = "/etc/steadfast/steadfast.toml";
/// Where the control socket is unless the configuration says otherwise.
pub const USUAL_SOCKET: &str = "/run/steadfast/control.sock";

/// A file larger than this is not a configuration, in bytes.
const SIZE_MAX: u64 = 1024 * 1024;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error("the configuration {} cannot be read: {why}", escape_path(.path))]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
        /// Whether it is simply not there.
        missing: bool,
    },
    /// The file was read and is wrong.
    #[error("{0}")]
    Wrong(#[from] Problems),
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let refuse = |why: String, missing| {
            Err(LoadError::Unreadable { path: path.to_owned(), why, missing })
        };
        match read(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Self::parse(&text, &escape_path(path))?),
                Err(error) => {
                    let at = error.utf8_error().valid_up_to();
                    let before = error.as_bytes().get(..at).unwrap_or_default();
                    let line = before.split(|byte| *byte == b'\n').count();
                    refuse(format!("line {line} is not UTF-8: save it as UTF-8"), false)
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse("it does not exist; create it or name another with --config".into(), true)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                refuse("permission denied; run this as root".into(), false)
            }
            Err(error) => refuse(error.to_string(), false),
        }
    }

    /// Checks `text`; `name` is the file's name in messages, safe to print.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str, name: &str) -> Result<Self, Problems> {
        parse::parse(text, name)
    }
}

/// The control socket that the file at `path` names, though it may be wrong in all else, or the
/// usual one: a daemon that had a right one before may still answer there.
#[must_use]
pub fn socket_in(path: &Path) -> PathBuf {
    let text = read(path).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let table = text.and_then(|text| text.parse::<toml::Table>().ok());
    let named = table.as_ref().and_then(|table| table.get("daemon")?.get("control")?.as_str());
    PathBuf::from(named.unwrap_or(USUAL_SOCKET))
}

/// A bounded read of a regular file; a named pipe in its place does not block.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}
