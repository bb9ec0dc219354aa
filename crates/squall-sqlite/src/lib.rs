//! Opening SQLite databases the way Squall keeps them: WAL, FULL, migrated.
//!
//! Holds no schema and no query. What is here is what every database of the node needs:
//! the pragmas that make an acknowledged commit survive a power cut, and migrations
//! that refuse a database of a newer version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

/// How long a writer waits for another: an upgrade has two processes for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: {source}")]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    /// Written by a version that knows more migrations.
    #[error(
        "{path} has schema version {found}, and this version of Squall knows up to {known}; start the version that wrote it, or a newer one"
    )]
    TooNew { path: PathBuf, found: usize, known: usize },
}

/// Opens or creates a database and brings it to the newest of `migrations`.
///
/// The version is the number of migrations that have run, kept in `user_version`.
/// Each runs in a transaction of its own. Migrations are only ever added at the end.
///
/// # Errors
/// Fails when the file is not a database, when a migration fails, or when the file was
/// written by a newer version.
pub fn open(path: &Path, migrations: &[&str]) -> Result<Connection, OpenError> {
    let explain = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(explain)?;
    configure(&connection).map_err(explain)?;
    let found = version(&connection).map_err(explain)?;
    if found > migrations.len() {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: migrations.len() });
    }
    for (index, migration) in migrations.iter().enumerate().skip(found) {
        migrate(&mut connection, index, migration).map_err(explain)?;
    }
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // In WAL mode NORMAL may lose the last commits in a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A database file that someone prepared must not run code of theirs.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)
}

fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).map(|version| {
        // A negative version is none of ours and newer than anything.
        usize::try_from(version).unwrap_or(usize::MAX)
    })
}

fn migrate(connection: &mut Connection, index: usize, migration: &str) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if version(&transaction)? > index {
        return Ok(());
    }
    transaction.execute_batch(migration)?;
    transaction.pragma_update(None, "user_version", index as i64 + 1)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE wind (speed INTEGER)";
    const SECOND: &str = "ALTER TABLE wind ADD COLUMN gust INTEGER";

    #[test]
    fn migrations_run_once_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        open(&path, &[FIRST]).unwrap().execute("INSERT INTO wind VALUES (7)", ()).unwrap();
        for _ in 0..2 {
            let connection = open(&path, &[FIRST, SECOND]).unwrap();
            let row: (i64, Option<i64>) = connection
                .query_row("SELECT speed, gust FROM wind", (), |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap();
            assert_eq!(row, (7, None));
        }
    }

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(open(&path, &[FIRST, SECOND]).unwrap());
        let refused = open(&path, &[FIRST]).unwrap_err();
        assert!(matches!(refused, OpenError::TooNew { found: 2, known: 1, .. }), "{refused}");
        open(&path, &[FIRST, SECOND]).unwrap();
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        open(&path, &[FIRST, "CREATE TABLE other (x); NONSENSE"]).unwrap_err();
        let connection = open(&path, &[FIRST]).unwrap();
        connection.query_row("SELECT x FROM other", (), |_| Ok(())).unwrap_err();
    }

    #[test]
    fn commits_are_durable_by_default() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir.path().join("a.db"), &[]).unwrap();
        let pragma = |name: &str| {
            connection
                .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
                .unwrap()
        };
        assert_eq!(pragma("journal_mode"), rusqlite::types::Value::Text("wal".into()));
        assert_eq!(pragma("synchronous"), rusqlite::types::Value::Integer(2));
    }
}
