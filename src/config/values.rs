//! Single values, each with its bounds. The errors are sentences for the person who typed it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::FlagSweep;
use super::duration::{parse_duration, show_duration};
use crate::text::escape;

/// The kernel's limit on a unix socket's path, without the final NUL.
pub const SOCKET_PATH_MAX: usize = 107;

const FLAG_SWEEP: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(3600));
const CONTENT_SWEEP: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600));

pub(super) fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let shown = escape(text.as_bytes());
    if text.is_empty() {
        return Err("a path is empty: write an absolute path".to_owned());
    }
    if text.contains('\0') {
        return Err(format!("`{shown}` holds a NUL byte, which no path can"));
    }
    if !text.starts_with('/') {
        return Err(format!("`{shown}` is not absolute: write it from / on"));
    }
    Ok(PathBuf::from(text))
}

/// A path or glob of `paths`.
pub(super) fn protected_path(text: &str) -> Result<String, String> {
    let path = absolute_path(text)?;
    if Path::new("/") == path {
        return Err("`/` would protect the whole system: name the files that matter".to_owned());
    }
    if super::glob::is_glob(text) {
        super::glob::Glob::new(text)?;
    }
    Ok(text.to_owned())
}

pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > SOCKET_PATH_MAX {
        return Err(format!(
            "the socket's path has {} bytes and the kernel takes {SOCKET_PATH_MAX}: choose a \
             shorter one",
            text.len()
        ));
    }
    absolute_path(text)
}

pub(super) fn flag_sweep(text: &str) -> Result<FlagSweep, String> {
    if text == "auto" {
        return Ok(FlagSweep::Auto);
    }
    let duration = parse_duration(text).map_err(|message| format!("{message}, or \"auto\""))?;
    within("flag_sweep", duration, FLAG_SWEEP).map(FlagSweep::Every)
}

pub(super) fn content_sweep(text: &str) -> Result<Duration, String> {
    within("content_sweep", parse_duration(text)?, CONTENT_SWEEP)
}

fn within(
    key: &str,
    value: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, String> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(format!(
        "`{key}` can be {} to {}, not {}",
        show_duration(least),
        show_duration(most),
        show_duration(value)
    ))
}

/// Health is told to whoever asks, so only this host may ask.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let shown = escape(text.as_bytes());
    let address: SocketAddr = text.parse().map_err(|_| {
        format!("`{shown}` is not an address with a port: write for example 127.0.0.1:9733")
    })?;
    if !address.ip().is_loopback() {
        return Err(format!(
            "`{shown}` is not a loopback address: use 127.0.0.1 or [::1], with a proxy before it \
             if others have to reach it"
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_name_something_smaller_than_everything() {
        assert!(absolute_path("/srv/app").is_ok());
        for bad in ["", "srv", "./x", "/a\0b"] {
            assert!(absolute_path(bad).is_err(), "{bad:?}");
        }
        for bad in ["/", "//", "/srv/[", "/srv/{a"] {
            assert!(protected_path(bad).is_err(), "{bad:?}");
        }
        assert!(protected_path("/srv/**/*.py").is_ok());
    }

    #[test]
    fn sweeps_keep_to_their_bounds() {
        assert_eq!(flag_sweep("auto"), Ok(FlagSweep::Auto));
        assert_eq!(flag_sweep("1s"), Ok(FlagSweep::Every(Duration::from_secs(1))));
        assert!(flag_sweep("0s").unwrap_err().contains("10ms to 1h, not 0ms"));
        assert!(flag_sweep("sometimes").unwrap_err().contains("or \"auto\""));
        assert!(content_sweep("31d").is_err());
    }

    #[test]
    fn health_is_for_this_host_only() {
        assert!(listen_address("127.0.0.1:9733").is_ok());
        assert!(listen_address("[::1]:9733").is_ok());
        assert!(listen_address("0.0.0.0:9733").unwrap_err().contains("loopback"));
        assert!(listen_address("localhost").is_err());
    }
}
