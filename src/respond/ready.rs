//! The copy that lies ready for a heal, as it is remembered: there is one for each file, and
//! there may be many files, so its name is kept as the numbers that it is made of.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::baseline::Replica;
use crate::judge::FileTime;

/// See the module.
#[derive(Clone, Debug)]
pub struct Ready {
    slot: Arc<PathBuf>,
    name: Name,
    ino: u64,
    size: u64,
    ctime: FileTime,
}

/// What it is called.
#[derive(Clone, Debug)]
enum Name {
    /// When and by which process it was made, which one it was there, and the inode that the file
    /// had; the inode of its own follows.
    Ours {
        made: NonZeroU64,
        process: u32,
        count: u32,
        of: u64,
    },
    Other(Box<OsStr>),
}

impl Ready {
    /// The run-time form of a replica, which lies in `slot` nearly always.
    #[must_use]
    pub fn of(replica: &Replica, slot: Option<&Arc<PathBuf>>) -> Self {
        let Replica { ref path, ino, size, ctime } = *replica;
        let lies = path.parent().unwrap_or(Path::new(""));
        let slot =
            slot.filter(|slot| ***slot == *lies).map_or_else(|| Arc::new(lies.into()), Arc::clone);
        let name = path.file_name().unwrap_or_default();
        let ours = numbers(name).filter(|ours| *written(ours, ino) == *name);
        let name = ours.unwrap_or_else(|| Name::Other(name.into()));
        Self { slot, name, ino, size, ctime }
    }

    /// The form in which the baseline keeps it.
    #[must_use]
    pub fn replica(&self) -> Replica {
        Replica { path: self.path(), ino: self.ino, size: self.size, ctime: self.ctime }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.slot.join(self.name())
    }

    /// The directory that it lies in.
    #[must_use]
    pub fn slot(&self) -> &Path {
        &self.slot
    }

    /// Its name there.
    #[must_use]
    pub fn name(&self) -> OsString {
        written(&self.name, self.ino)
    }
}

/// The numbers of a name, which need not come to the same name again.
fn numbers(name: &OsStr) -> Option<Name> {
    let mut parts = name.to_str()?.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let mut next = || parts.next().flatten();
    let (made, process, count, of) = (next()?, next()?, next()?, next()?);
    let made = NonZeroU64::new(made)?;
    let (process, count) = (process.try_into().ok()?, count.try_into().ok()?);
    Some(Name::Ours { made, process, count, of })
}

fn written(name: &Name, ino: u64) -> OsString {
    match name {
        Name::Ours { made, process, count, of } => {
            format!("{made:x}-{process:x}-{count:x}-{of:x}-{ino:x}").into()
        }
        Name::Other(name) => name.as_ref().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_copy_is_found_again_under_whatever_name_it_was_given() {
        let slot = Arc::new(PathBuf::from("/var/lib/steadfast/replicas"));
        let ctime = FileTime { sec: 1, nsec: 2 };
        let names: [&[u8]; 8] = [
            b"6442e1ab3c4d5-3a2b-1f4-5c3e21-4d2",
            b"6442e1ab3c4d5-3a2b-1f4-5c3e21-4d3",
            b"06442e1ab3c4d5-3a2b-1f4-5c3e21-4d2",
            b"6442E1ab3c4d5-3a2b-1f4-5c3e21-4d2",
            b"1-2-3-4-4d2-5",
            b"1-123456789-3-4-4d2",
            b"canary",
            b"\xff\n",
        ];
        for name in names {
            let path = slot.join(OsStr::from_bytes(name));
            let replica = Replica { path: path.clone(), ino: 0x4d2, size: 7, ctime };
            for known in [None, Some(&slot), Some(&Arc::new("/srv/.steadfast".into()))] {
                let ready = Ready::of(&replica, known);
                assert_eq!(ready.replica(), replica);
                assert_eq!((ready.slot(), ready.path()), (slot.as_path(), path.clone()));
            }
        }
        let ready =
            Ready::of(&Replica { path: slot.join("1-2-3-4-5"), ino: 5, size: 0, ctime }, None);
        let Name::Ours { made, process, count, of } = ready.name else { panic!("it is ours") };
        assert_eq!((made.get(), process, count, of), (1, 2, 3, 4));
    }
}
