//! What lies in the quarantine, and from which incident.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Row, params};

use super::db::Baseline;
use super::error::BaselineError;
use super::records::{bytes, name, read_name, read_path};
use crate::fault::{Point, reach};
use crate::judge::FileKind;

/// One file that was taken out of a protected place and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The database's number for it, never given twice. [`Baseline::add_evidence`] ignores
    /// what stands here and returns the number it gave.
    pub id: u64,
    /// The incident.
    pub incident: String,
    /// The protected path it stood at.
    pub path: PathBuf,
    /// Where it lies now.
    pub location: PathBuf,
    /// Its type.
    pub kind: FileKind,
    /// Length in bytes.
    pub size: u64,
    /// What it takes on the disk, in blocks of 512 bytes.
    pub blocks: u64,
    /// When it was taken.
    pub taken_at: Timestamp,
}

impl Evidence {
    /// Where it lies in truth: what was left on its own filesystem has a link to it in the
    /// quarantine. A symlink that was itself taken is as long as it was measured.
    #[must_use]
    pub fn lies_at(&self) -> PathBuf {
        match std::fs::read_link(&self.location) {
            Ok(to)
                if self.kind != FileKind::Symlink || to.as_os_str().len() as u64 != self.size =>
            {
                to
            }
            _ => self.location.clone(),
        }
    }
}

impl Baseline {
    /// Adds a piece of evidence and returns its number.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn add_evidence(&self, evidence: &Evidence) -> Result<u64, BaselineError> {
        let id = self.with(|connection| {
            let sql = "INSERT INTO evidence \
                (incident, path, location, kind, size, blocks, taken_at) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            connection.prepare_cached(sql)?.execute(params![
                evidence.incident,
                bytes(&evidence.path),
                bytes(&evidence.location),
                name(&evidence.kind)?,
                evidence.size.cast_signed(),
                evidence.blocks.cast_signed(),
                evidence.taken_at.to_string(),
            ])?;
            Ok(connection.last_insert_rowid().cast_unsigned())
        })?;
        reach(Point::EvidenceNoted);
        Ok(id)
    }

    /// The evidence of `path`, or all there is; the oldest first.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn evidence(&self, path: Option<&Path>) -> Result<Vec<Evidence>, BaselineError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT * FROM evidence WHERE ?1 IS NULL OR path = ?1 ORDER BY id")?
                .query_map([path.map(bytes)], read)?
                .collect()
        })
    }

    /// Forgets a piece of evidence; says whether it was known. The file itself is not touched.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn remove_evidence(&self, id: u64) -> Result<bool, BaselineError> {
        self.with(|connection| {
            connection
                .prepare_cached("DELETE FROM evidence WHERE id = ?1")?
                .execute([id.cast_signed()])
                .map(|count| count > 0)
        })
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<Evidence> {
    Ok(Evidence {
        id: row.get::<_, i64>("id")?.cast_unsigned(),
        incident: row.get("incident")?,
        path: read_path(row, "path")?,
        location: read_path(row, "location")?,
        kind: read_name(row, "kind")?,
        size: row.get::<_, i64>("size")?.cast_unsigned(),
        blocks: row.get::<_, i64>("blocks")?.cast_unsigned(),
        taken_at: read_name(row, "taken_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(path: &str) -> Evidence {
        Evidence {
            id: 0,
            incident: "i-1".to_owned(),
            path: path.into(),
            location: "/state/quarantine/1".into(),
            kind: FileKind::Fifo,
            size: u64::MAX,
            blocks: 8,
            taken_at: "2026-11-21T10:00:00.123456789Z".parse().unwrap(),
        }
    }

    #[test]
    fn evidence_lies_where_the_link_leads_unless_it_is_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::os::unix::fs::symlink("/etc/passwd", at("taken")).unwrap();
        std::os::unix::fs::symlink(at("taken"), at("kept")).unwrap();
        let kept = |location: &str, kind, size| {
            Evidence { location: at(location), kind, size, ..piece("/a") }.lies_at()
        };
        assert_eq!(kept("taken", FileKind::Symlink, 11), at("taken"));
        assert_eq!(kept("kept", FileKind::Symlink, 11), at("taken"));
        assert_eq!(kept("kept", FileKind::File, 11), at("taken"));
        assert_eq!(kept("gone", FileKind::File, 11), at("gone"));
    }

    #[test]
    fn evidence_is_found_by_path_and_its_number_is_never_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        let first = baseline.add_evidence(&piece("/a")).unwrap();
        let second = baseline.add_evidence(&piece("/b")).unwrap();
        let found = baseline.evidence(Some(Path::new("/b"))).unwrap();
        assert_eq!(found, [Evidence { id: second, ..piece("/b") }]);
        assert_eq!(baseline.evidence(None).unwrap().len(), 2);

        assert!(baseline.remove_evidence(second).unwrap());
        assert!(!baseline.remove_evidence(second).unwrap());
        let third = baseline.add_evidence(&piece("/b")).unwrap();
        assert!(third > second && second > first);
    }
}
