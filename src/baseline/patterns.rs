//! The patterns of the configuration that are in force: what comes to match one of them is a
//! stranger, and what matches a new one is not. Neither is what the owner let go meanwhile.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rusqlite::Connection;

use super::db::Baseline;
use super::error::BaselineError;
use super::meta;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    /// Their text; none before the first start.
    pub texts: Vec<String>,
    /// What was protected and then released since they came into force.
    pub released: HashSet<PathBuf>,
}

impl Baseline {
    /// The patterns that are in force.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn patterns(&self) -> Result<Patterns, BaselineError> {
        self.with(|connection| {
            let text = meta::get(connection, "patterns")?;
            let texts = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            let released = connection
                .prepare_cached(
                    "SELECT unhex(value) FROM meta
                     WHERE key LIKE 'released %' AND unhex(value) NOTNULL",
                )?
                .query_map([], |row| row.get(0))?
                .map(|bytes| Ok(OsString::from_vec(bytes?).into()))
                .collect::<rusqlite::Result<_>>()?;
            Ok(Patterns { texts, released })
        })
    }

    /// Remembers the patterns that are in force from now on.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_patterns(&self, texts: &[String]) -> Result<(), BaselineError> {
        self.write_patterns(&serde_json::json!(texts).to_string())
    }

    pub(super) fn write_patterns(&self, text: &str) -> Result<(), BaselineError> {
        self.held().patterns = Some(text.to_owned());
        self.with(|connection| {
            connection
                .prepare_cached("DELETE FROM meta WHERE key LIKE 'released %'")?
                .execute([])?;
            meta::set(connection, "patterns", text)
        })
    }
}

/// The owner let this path go.
pub(super) fn note_released(connection: &Connection, path: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('released ' || hex(?1), hex(?1))")?
        .execute([path])
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    use super::*;

    #[test]
    fn patterns_and_what_was_released_are_remembered_and_what_is_none_is_no_pattern() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        assert_eq!(baseline.patterns().unwrap(), Patterns::default());
        let texts = ["/etc/*.conf".to_owned(), "/a \"b\"/*".to_owned()];
        baseline.set_patterns(&texts).unwrap();
        let odd = Path::new(std::ffi::OsStr::from_bytes(b"/a\xff'\n"));
        baseline.remove(odd).unwrap();
        let found = baseline.patterns().unwrap();
        assert_eq!(found.texts, texts);
        assert_eq!(found.released, HashSet::from([odd.to_owned()]));
        baseline.set_patterns(&texts).unwrap();
        assert!(baseline.patterns().unwrap().released.is_empty());
        baseline.with(|c| c.execute("UPDATE meta SET value = 'cat'", [])).unwrap();
        assert!(baseline.patterns().unwrap().texts.is_empty());
    }
}
