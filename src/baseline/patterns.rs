//! The patterns of the configuration that were in force when a daemon last began: what has come
//! to match one of them since then is a stranger, and what matches a new one is not.

use rusqlite::OptionalExtension;

use super::db::Baseline;
use super::error::BaselineError;

impl Baseline {
    /// The patterns that were in force; none before the first start.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn patterns(&self) -> Result<Vec<String>, BaselineError> {
        let text: Option<String> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value FROM meta WHERE key = 'patterns'")?
                .query_row([], |row| row.get(0))
                .optional()
        })?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Remembers the patterns that are in force.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_patterns(&self, patterns: &[String]) -> Result<(), BaselineError> {
        self.write_patterns(&serde_json::json!(patterns).to_string())
    }

    pub(super) fn write_patterns(&self, text: &str) -> Result<(), BaselineError> {
        self.held().patterns = Some(text.to_owned());
        self.with(|connection| {
            connection
                .prepare_cached("INSERT OR REPLACE INTO meta VALUES ('patterns', ?1)")?
                .execute([text])
                .map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_remembered_and_what_is_none_is_no_pattern() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        assert!(baseline.patterns().unwrap().is_empty());
        let patterns = ["/etc/*.conf".to_owned(), "/a \"b\"/*".to_owned()];
        baseline.set_patterns(&patterns).unwrap();
        assert_eq!(baseline.patterns().unwrap(), patterns);
        baseline.with(|c| c.execute("UPDATE meta SET value = 'cat'", [])).unwrap();
        assert!(baseline.patterns().unwrap().is_empty());
    }
}
