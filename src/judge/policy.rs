//! What the owner wants for a file.

use serde::{Deserialize, Serialize};

/// When a person is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertWhen {
    /// As soon as the incident has settled.
    #[default]
    Now,
    /// Together with others, later.
    Digest,
    /// Not at all; the journal has it.
    Never,
}

/// What happens to a file that appears in a protected directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unexpected {
    /// It is reported and stays.
    #[default]
    Report,
    /// It is reported and moved to the quarantine.
    Quarantine,
}

/// What the owner wants for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Keep the immutable bit set.
    pub immutable: bool,
    /// Put the known-good copy back.
    pub restore: bool,
    /// When a person is told.
    pub alert: AlertWhen,
    /// What happens to strangers in a protected directory.
    pub unexpected: Unexpected,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            immutable: true,
            restore: true,
            alert: AlertWhen::default(),
            unexpected: Unexpected::default(),
        }
    }
}
