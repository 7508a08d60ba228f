//! SHA-256, in pieces, and while copying.

use std::io::{self, Read, Write};

use sha2::Digest as _;

use crate::judge::Digest;

/// How much is read and written at a time, bytes.
const CHUNK: usize = 256 * 1024;

/// A SHA-256 under way.
#[derive(Clone, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Nothing hashed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all that was added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The digest of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(sha2::Sha256::digest(bytes).into())
}

/// Which side of a copy failed.
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies to the end of `from`; returns the digest and the number of bytes.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<(Digest, u64), CopyError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let got = match from.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        // A reader that claims more than it had room for is broken.
        let bytes =
            buffer.get(..got).ok_or_else(|| CopyError::Read(io::ErrorKind::Other.into()))?;
        hasher.update(bytes);
        to.write_all(bytes).map_err(CopyError::Write)?;
        size += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_give_the_digest_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), sha256(b"abc"));
        assert_eq!(
            sha256(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
