//! Records in and out of the database.
//!
//! Every fact has its own column, so that `sqlite3 baseline.db` answers questions; lists and
//! what is only ever read whole is JSON. SQLite's integers are signed: what is unsigned here
//! is stored bit for bit.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::db::Baseline;
use super::error::BaselineError;
use super::patterns;
use super::record::{Parent, Record, Replica};
use crate::fault::{Point, reach};
use crate::judge::{Common, Digest, Facts, FileTime, Stat, Xattrs};
use crate::text::{hex_decode, hex_encode};

const COLUMNS: &str = "path, kind, size, sha256, mode, uid, gid, mtime_sec, mtime_nsec, flags, \
    nlink, target, dev, ino, xattrs, policy, origin, parents, mount_point, seal, replica, \
    protected_at";

/// Steadfast's own files, and all others.
const OWN: &str = "origin = 'own'";
const OTHERS: &str = "origin <> 'own'";

impl Baseline {
    /// Every record of what somebody wants protected, in the order of the paths' bytes.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn all(&self) -> Result<Vec<Record>, BaselineError> {
        self.select(OTHERS)
    }

    /// The records of steadfast's own files, in the same order.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn own(&self) -> Result<Vec<Record>, BaselineError> {
        self.select(OWN)
    }

    /// There may be many. What they have in common is kept once; and what is let go soon, the
    /// prepared copies, comes after what stays, so that the room of one is not between that of
    /// others and lost to everybody.
    fn select(&self, which: &str) -> Result<Vec<Record>, BaselineError> {
        self.with(|connection| {
            let query = format!("SELECT {COLUMNS} FROM file WHERE {which} ORDER BY path");
            let mut statement = connection.prepare_cached(&query)?;
            let mut rows = statement.query([])?;
            let (mut records, mut last) = (Vec::new(), None);
            let (mut replicas, mut ends) = (String::new(), Vec::new());
            while let Some(row) = rows.next()? {
                records.push(read_without_replica(row)?.sharing(&mut last));
                let text: Option<String> = row.get("replica")?;
                replicas.push_str(text.as_deref().unwrap_or("null"));
                ends.push(replicas.len());
            }
            let mut begin = 0;
            for (record, end) in records.iter_mut().zip(ends) {
                record.replica = serde_json::from_str(&replicas[begin..end])
                    .map_err(|error| unreadable(format!("replica: {error}")))?;
                begin = end;
            }
            Ok(records)
        })
    }

    /// The record of `path`, if somebody wants it protected.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn get(&self, path: &Path) -> Result<Option<Record>, BaselineError> {
        self.with(|connection| {
            connection
                .prepare_cached(&format!(
                    "SELECT {COLUMNS} FROM file WHERE path = ?1 AND {OTHERS}"
                ))?
                .query_row([bytes(path)], read)
                .optional()
        })
    }

    /// Adds `record`, or puts it in the place of the one with the same path.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written; then nothing has changed.
    pub fn put(&self, record: &Record) -> Result<(), BaselineError> {
        self.durably(|connection| write(connection, record))?;
        reach(Point::RecordPut);
        Ok(())
    }

    /// [`Baseline::put`] for one of steadfast's own files.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written; then nothing has changed.
    pub fn put_own(&self, record: &Record) -> Result<(), BaselineError> {
        self.durably(|connection| write(connection, record))
    }

    /// Forgets `path`, if it is one of steadfast's own files.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn remove_own(&self, path: &Path) -> Result<(), BaselineError> {
        let sql = format!("DELETE FROM file WHERE path = ?1 AND {OWN}");
        self.with(|connection| connection.prepare_cached(&sql)?.execute([bytes(path)]).map(drop))
    }

    /// [`Baseline::put`] for many: all of them or none.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written; then nothing has changed.
    pub fn put_all(&self, records: &[Record]) -> Result<(), BaselineError> {
        self.durably(|connection| {
            let work = connection.transaction()?;
            records.iter().try_for_each(|record| write(&work, record))?;
            work.commit()
        })?;
        reach(Point::RecordPut);
        Ok(())
    }

    /// Forgets `path`; says whether it was known.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn remove(&self, path: &Path) -> Result<bool, BaselineError> {
        let known = self.durably(|connection| {
            let work = connection.unchecked_transaction()?;
            let count =
                work.prepare_cached("DELETE FROM file WHERE path = ?1")?.execute([bytes(path)])?;
            patterns::note_released(&work, bytes(path))?;
            work.commit()?;
            Ok(count > 0)
        })?;
        reach(Point::RecordRemoved);
        Ok(known)
    }

    /// Remembers what `statx` said when `path` was last whole; says whether it is known.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_seal(&self, path: &Path, seal: Option<&Stat>) -> Result<bool, BaselineError> {
        let known = self.set_json("UPDATE file SET seal = ?2 WHERE path = ?1", path, seal)?;
        reach(Point::SealNoted);
        Ok(known)
    }

    /// Remembers the prepared copy of `path`; says whether the path is known.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_replica(
        &self,
        path: &Path,
        replica: Option<&Replica>,
    ) -> Result<bool, BaselineError> {
        let known = self.set_json("UPDATE file SET replica = ?2 WHERE path = ?1", path, replica)?;
        reach(if replica.is_some() { Point::StageNoted } else { Point::UseNoted });
        Ok(known)
    }

    fn set_json<T: Serialize>(
        &self,
        sql: &str,
        path: &Path,
        value: Option<&T>,
    ) -> Result<bool, BaselineError> {
        self.with(|connection| {
            let text = value.map(json).transpose()?;
            connection
                .prepare_cached(sql)?
                .execute(params![bytes(path), text])
                .map(|count| count > 0)
        })
    }
}

fn write(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let facts = &record.facts;
    let FileTime { sec, nsec } = facts.mtime;
    let sql = format!(
        "INSERT OR REPLACE INTO file ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
         ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)"
    );
    connection.prepare_cached(&sql)?.execute(params![
        bytes(&record.path),
        name(&facts.kind)?,
        facts.size.cast_signed(),
        facts.sha256.map(|digest| digest.0),
        facts.mode,
        facts.uid,
        facts.gid,
        sec,
        nsec,
        facts.flags,
        facts.nlink,
        facts.target,
        facts.dev.cast_signed(),
        facts.ino.cast_signed(),
        json(&hex_pairs(&facts.xattrs))?,
        json(&record.policy)?,
        name(&record.origin)?,
        json(&*record.parents)?,
        bytes(&record.mount_point),
        record.seal.as_ref().map(json).transpose()?,
        record.replica.as_ref().map(json).transpose()?,
        record.protected_at.to_string(),
    ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record { replica: read_optional_json(row, "replica")?, ..read_without_replica(row)? })
}

fn read_without_replica(row: &Row<'_>) -> rusqlite::Result<Record> {
    Ok(Record {
        path: read_path(row, "path")?.into(),
        facts: read_facts(row)?,
        policy: read_json(row, "policy")?,
        origin: read_name(row, "origin")?,
        parents: read_json::<Vec<Parent>>(row, "parents")?.into(),
        mount_point: read_path(row, "mount_point")?.into(),
        seal: read_optional_json(row, "seal")?,
        replica: None,
        protected_at: read_name(row, "protected_at")?,
    })
}

fn read_facts(row: &Row<'_>) -> rusqlite::Result<Facts> {
    let common = Common {
        kind: read_name(row, "kind")?,
        mode: row.get("mode")?,
        uid: row.get("uid")?,
        gid: row.get("gid")?,
        flags: row.get("flags")?,
        xattrs: read_xattrs(row)?,
        nlink: row.get("nlink")?,
        target: row.get("target")?,
        dev: row.get::<_, i64>("dev")?.cast_unsigned(),
    };
    Ok(Facts {
        size: row.get::<_, i64>("size")?.cast_unsigned(),
        sha256: row.get::<_, Option<[u8; 32]>>("sha256")?.map(Digest),
        mtime: FileTime { sec: row.get("mtime_sec")?, nsec: row.get("mtime_nsec")? },
        ino: row.get::<_, i64>("ino")?.cast_unsigned(),
        common: common.into(),
    })
}

fn hex_pairs(xattrs: &Xattrs) -> Vec<(String, String)> {
    xattrs.iter().map(|(name, value)| (hex_encode(name), hex_encode(value))).collect()
}

fn read_xattrs(row: &Row<'_>) -> rusqlite::Result<Xattrs> {
    let pairs: Vec<(String, String)> = read_json(row, "xattrs")?;
    let decoded: Option<Xattrs> =
        pairs.iter().map(|(name, value)| Some((hex_decode(name)?, hex_decode(value)?))).collect();
    decoded.ok_or_else(|| unreadable("xattrs are not hexadecimal"))
}

pub(super) fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

pub(super) fn read_path(row: &Row<'_>, column: &str) -> rusqlite::Result<PathBuf> {
    row.get(column).map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
}

fn json<T: Serialize + ?Sized>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn read_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(format!("{column}: {error}")))
}

fn read_optional_json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    parsed.map_err(|error| unreadable(format!("{column}: {error}")))
}

/// The text of a value whose JSON is a string, without the quotes.
pub(super) fn name<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => Ok(text),
        Ok(other) => Err(unreadable(format!("{other} is not a name"))),
        Err(error) => Err(rusqlite::Error::ToSqlConversionFailure(error.into())),
    }
}

pub(super) fn read_name<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_value(Value::String(text))
        .map_err(|error| unreadable(format!("{column}: {error}")))
}

fn unreadable(what: impl Into<String>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, what.into().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::baseline::Origin;
    use crate::judge::{FileKind, Policy};

    fn record(path: &[u8]) -> Record {
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        let mtime = FileTime { sec: -1, nsec: 999_999_999 };
        Record {
            facts: Facts {
                size: u64::MAX,
                sha256: Some(Digest([0xab; 32])),
                mtime,
                ino: u64::MAX,
                common: Common {
                    kind: FileKind::File,
                    mode: 0o4755,
                    uid: u32::MAX,
                    gid: 0,
                    flags: Some(0x10),
                    xattrs: BTreeMap::from([(b"user.\xff".to_vec(), vec![0, 1, 255])]),
                    nlink: 2,
                    target: Some(b"to\xfe".to_vec()),
                    dev: 1 << 63,
                }
                .into(),
            },
            policy: Policy::default(),
            origin: Origin::Configuration,
            parents: [Parent {
                path: path.clone(),
                mode: 0o755,
                uid: 0,
                gid: 0,
                ino: 2,
                handle: Some((1, vec![1, 2, 3])),
            }]
            .into(),
            mount_point: path.as_path().into(),
            seal: None,
            replica: Some(Replica { path: path.clone(), ino: 3, size: 4, ctime: mtime }),
            protected_at: "2026-11-21T10:00:00.000000001Z".parse().unwrap(),
            path: path.into(),
        }
    }

    #[test]
    fn every_fact_of_a_record_survives_with_any_bytes_in_its_paths() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        let odd = record(b"/srv/\xff\n'\"\x01");
        let plain = record("/srv/é".as_bytes());
        baseline.put_all(&[odd.clone(), plain.clone()]).unwrap();
        assert_eq!(baseline.get(&odd.path).unwrap(), Some(odd.clone()));
        drop(baseline);
        let again = Baseline::open_read_only(dir.path()).unwrap();
        assert_eq!(again.all().unwrap(), [plain, odd]);
    }

    #[test]
    fn a_record_is_replaced_amended_and_removed_by_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        let mut record = record(b"/srv/main.py");
        baseline.put(&record).unwrap();
        record.facts.size = 3;
        baseline.put(&record).unwrap();
        record.seal = Some(seal());
        assert!(baseline.set_seal(&record.path, record.seal.as_ref()).unwrap());
        record.replica = None;
        assert!(baseline.set_replica(&record.path, None).unwrap());
        assert_eq!(baseline.all().unwrap(), [record.clone()]);

        assert!(!baseline.set_seal(Path::new("/other"), None).unwrap());
        assert!(baseline.remove(&record.path).unwrap());
        assert!(!baseline.remove(&record.path).unwrap());
        assert_eq!(baseline.get(&record.path).unwrap(), None);
    }

    #[test]
    fn a_column_that_makes_no_sense_is_called_damage() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        baseline.put(&record(b"/srv/a")).unwrap();
        for nonsense in ["kind = 'cat'", "parents = '[{]'", "sha256 = x'00'", "mode = -1"] {
            baseline.put(&record(b"/srv/a")).unwrap();
            let sql = format!("UPDATE file SET {nonsense}");
            baseline.with(|connection| connection.execute(&sql, [])).unwrap();
            let error = baseline.all().unwrap_err();
            assert!(matches!(error, BaselineError::Corrupted { .. }), "{nonsense}: {error}");
        }
    }

    fn seal() -> Stat {
        let time = FileTime { sec: 1, nsec: 2 };
        Stat {
            kind: FileKind::File,
            size: 3,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: time,
            ctime: time,
            nlink: 1,
            dev: 5,
            ino: 6,
            immutable: Some(true),
            mount: u64::MAX,
        }
    }
}
