//! What a look said when a file was last whole, in little room: it is kept for each file, by the
//! guard and by the engine, and nearly all of it is what the facts of the file say as well.

use super::facts::FS_IMMUTABLE;
use super::{Facts, FileTime, Stat};

/// See the module. It means what it says only beside the facts that it was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// The rest is as the facts have it.
    AsGood {
        ino: u64,
        mount: u64,
        ctime: FileTime,
    },
    Other(Box<Stat>),
}

impl Seal {
    /// Of a file of which `good` is known.
    #[must_use]
    pub fn of(stat: Stat, good: &Facts) -> Self {
        let Stat { ino, mount, ctime, .. } = stat;
        let short = Self(Form::AsGood { ino, mount, ctime });
        if short.stat(good) == stat { short } else { Self(Form::Other(Box::new(stat))) }
    }

    /// All that the look said.
    #[must_use]
    pub fn stat(&self, good: &Facts) -> Stat {
        match &self.0 {
            Form::AsGood { ino, mount, ctime } => Stat {
                kind: good.kind,
                size: good.size,
                mode: good.mode,
                uid: good.uid,
                gid: good.gid,
                mtime: good.mtime,
                ctime: *ctime,
                nlink: good.nlink,
                dev: good.dev,
                ino: *ino,
                immutable: good.flags.map(|flags| flags & FS_IMMUTABLE != 0),
                mount: *mount,
            },
            Form::Other(stat) => **stat,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Common, FileKind};

    #[test]
    fn it_says_all_that_the_look_said_whatever_the_facts_are() {
        let time = |sec| FileTime { sec, nsec: 7 };
        let common = Common {
            kind: FileKind::File,
            mode: 0o644,
            uid: 1,
            gid: 2,
            flags: Some(FS_IMMUTABLE),
            xattrs: Default::default(),
            nlink: 1,
            target: None,
            dev: 3,
        };
        let good = Facts { size: 4, sha256: None, mtime: time(5), ino: 6, common: common.into() };
        let whole = Stat {
            kind: FileKind::File,
            size: 4,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: time(5),
            ctime: time(8),
            nlink: 1,
            dev: 3,
            ino: 9,
            immutable: Some(true),
            mount: u64::MAX,
        };
        let seal = Seal::of(whole, &good);
        assert!(matches!(seal.0, Form::AsGood { .. }));
        assert_eq!(seal.stat(&good), whole);
        let others = [
            Stat { kind: FileKind::Directory, ..whole },
            Stat { size: 5, ..whole },
            Stat { mode: 0o777, ..whole },
            Stat { uid: 0, ..whole },
            Stat { gid: 0, ..whole },
            Stat { mtime: time(6), ..whole },
            Stat { nlink: 2, ..whole },
            Stat { dev: 4, ..whole },
            Stat { immutable: Some(false), ..whole },
            Stat { immutable: None, ..whole },
        ];
        for other in others {
            let seal = Seal::of(other, &good);
            assert!(matches!(seal.0, Form::Other(_)), "{other:?}");
            assert_eq!(seal.stat(&good), other);
        }
    }
}
