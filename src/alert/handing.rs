//! What came of handing a message over, whatever it was handed to.

/// What became of a message that the server has dealt with.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Handed {
    /// Receivers it was taken for.
    pub told: Vec<String>,
    /// Receivers it was refused for, and the server's words.
    pub refused: Vec<(String, String)>,
}

/// The server could not be asked, or would not listen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble(pub String);
