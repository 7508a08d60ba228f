//! What is kept of the baseline as a whole: texts by name.

use rusqlite::{Connection, OptionalExtension, Result};

/// The text of that name.
pub(super) fn get(connection: &Connection, name: &str) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// Gives that name this text.
pub(super) fn set(connection: &Connection, name: &str, text: &str) -> Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?
        .execute([name, text])
        .map(drop)
}

/// Nothing has that name any more.
pub(super) fn remove(connection: &Connection, name: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([name]).map(drop)
}
