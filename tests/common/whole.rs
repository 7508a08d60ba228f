//! What a file was when it was put under protection, and what of that is no longer so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::flags::is_immutable;

/// Everything of a file that has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// All bytes.
    pub content: Vec<u8>,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds of the last change of the content.
    pub mtime: (i64, i64),
    /// Extended attributes, ACLs and capabilities included.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Number of names.
    pub nlink: u64,
    /// The immutable bit; `None` where the filesystem has none.
    pub immutable: Option<bool>,
}

impl Whole {
    /// What `path` is now; why not, where it is no regular file.
    pub fn of(path: &Path) -> Result<Self, String> {
        let metadata = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
        if !metadata.is_file() {
            return Err(format!("a {:?}, no regular file", metadata.file_type()));
        }
        // A sparse terabyte is not read into memory to find out that it is not 20 bytes.
        if metadata.size() > 256 << 20 {
            return Err(format!("{} bytes long", metadata.size()));
        }
        Ok(Self {
            content: std::fs::read(path).map_err(|error| error.to_string())?,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs: xattrs(path).map_err(|error| error.to_string())?,
            nlink: metadata.nlink(),
            immutable: is_immutable(path),
        })
    }

    /// The same, as it has to be once it is protected on a filesystem that has `+i`.
    pub fn locked(mut self) -> Self {
        self.immutable = self.immutable.map(|_| true);
        self
    }

    /// How `path` differs from this; empty where it does not.
    pub fn differences(&self, path: &Path) -> String {
        let now = match Self::of(path) {
            Ok(now) => now,
            Err(why) => return why,
        };
        let mut out = String::new();
        if now.content != self.content {
            let _ = write!(
                out,
                "content: {} bytes {:?}, not {} bytes {:?}; ",
                now.content.len(),
                start_of(&now.content),
                self.content.len(),
                start_of(&self.content)
            );
        }
        let mut fact = |name: &str, is: String, should: String| {
            if is != should {
                let _ = write!(out, "{name}: {is}, not {should}; ");
            }
        };
        fact("mode", format!("{:o}", now.mode), format!("{:o}", self.mode));
        fact("owner", format!("{:?}", now.owner), format!("{:?}", self.owner));
        fact("mtime", format!("{:?}", now.mtime), format!("{:?}", self.mtime));
        fact("xattrs", show(&now.xattrs), show(&self.xattrs));
        fact("nlink", now.nlink.to_string(), self.nlink.to_string());
        fact("immutable", format!("{:?}", now.immutable), format!("{:?}", self.immutable));
        out
    }
}

fn start_of(content: &[u8]) -> String {
    super::text(&content[..content.len().min(40)])
}

fn show(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> String {
    xattrs.iter().fold(String::new(), |mut out, (name, value)| {
        let _ = write!(out, "{}={value:02x?} ", super::text(name));
        out
    })
}

fn xattrs(path: &Path) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0_u8; 64 << 10];
    let length = match rustix::fs::llistxattr(path, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut all = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        value.truncate(length);
        all.insert(name.to_vec(), value);
    }
    Ok(all)
}
