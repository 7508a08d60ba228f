//! What a person was told that the watchdog cannot do, so that a restart does not tell it again.

use super::db::Baseline;
use super::error::BaselineError;
use super::meta;

impl Baseline {
    /// What was told of and not said to be over; none where that is not known.
    ///
    /// # Errors
    ///
    /// Where the database cannot be read.
    pub fn complaints(&self) -> Result<Vec<String>, BaselineError> {
        let text = self.with(|connection| meta::get(connection, "complaints"))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    /// Remembers what was told of from now on.
    ///
    /// # Errors
    ///
    /// Where the database cannot be written.
    pub fn set_complaints(&self, told: &[String]) -> Result<(), BaselineError> {
        let text = serde_json::json!(told).to_string();
        self.with(|connection| meta::set(connection, "complaints", &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_of_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(dir.path()).unwrap();
        assert!(baseline.complaints().unwrap().is_empty());
        baseline.set_complaints(&["audit".to_owned()]).unwrap();
        assert_eq!(baseline.complaints().unwrap(), ["audit"]);
    }
}
