//! The control plane's database. Every change is one transaction; what it returns is
//! durable. Blocking: called off the request cores.

mod clients;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use squall_types::manifest::Manifest;
use squall_types::state::{Asset, BlobId, HandlerWorld};
use squall_types::{AppName, RevisionId};

use crate::time::now_ms;
use crate::tokens::Scope;

pub(crate) use clients::{ClientRow, KeyRow};

const MIGRATIONS: &[&str] = &[FIRST, API_CLIENTS];

const FIRST: &str = "
CREATE TABLE project (id TEXT PRIMARY KEY, name TEXT NOT NULL, created_ms INTEGER NOT NULL) STRICT;
CREATE TABLE apps (
    name TEXT PRIMARY KEY,
    -- Set by hand; NULL leaves it to the live manifest.
    is_default INTEGER,
    updated_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE revisions (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (app, id)
) STRICT;
CREATE TABLE traffic (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    shares TEXT NOT NULL,
    set_ms INTEGER NOT NULL,
    PRIMARY KEY (app, sequence)
) STRICT;
CREATE TABLE secrets (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (app, name)
) STRICT;
CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    last_used_ms INTEGER
) STRICT;
";

const API_CLIENTS: &str = "
CREATE TABLE clients (
    app TEXT NOT NULL REFERENCES apps (name) ON DELETE CASCADE,
    id TEXT NOT NULL,
    plan TEXT,
    -- A JSON array.
    scopes TEXT NOT NULL,
    disabled INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (app, id)
) STRICT;
CREATE TABLE client_keys (
    app TEXT NOT NULL,
    -- The part of the key that is no secret.
    prefix TEXT NOT NULL,
    client TEXT NOT NULL,
    hash BLOB NOT NULL,
    label TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    PRIMARY KEY (app, prefix),
    FOREIGN KEY (app, client) REFERENCES clients (app, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX client_keys_of_client ON client_keys (app, client);
";

/// How many states of an app's traffic are kept for rolling back.
const TRAFFIC_KEPT: i64 = 100;
/// How many revisions of an app are kept, the newest ones.
const REVISIONS_KEPT: i64 = 50;
/// However old they are, revisions of the present traffic and of so many states before it
/// are kept as well: what was live before can be gone back to.
const ROLLBACKS_KEPT: usize = 10;

pub(crate) type Result<T> = std::result::Result<T, StoreError>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the state database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the state database holds something that can not be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _))
            if failure.code == rusqlite::ErrorCode::DiskFull)
    }
}

impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// What a revision is made of; its id is the hash of this.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Content {
    pub(crate) manifest: Manifest,
    /// By function name.
    pub(crate) components: std::collections::BTreeMap<String, Component>,
    pub(crate) assets: std::collections::BTreeMap<String, Asset>,
}

#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Component {
    pub(crate) blob: BlobId,
    pub(crate) bytes: u64,
    pub(crate) world: HandlerWorld,
}

impl Content {
    /// Of an app without files.
    pub(crate) fn of_manifest(manifest: Manifest) -> Self {
        Self {
            manifest,
            components: std::collections::BTreeMap::new(),
            assets: std::collections::BTreeMap::new(),
        }
    }

    pub(crate) fn revision_id(&self) -> RevisionId {
        // Maps are ordered and numbers exact, so equal content gives equal text.
        let text = serde_json::to_vec(self).expect("content is plain data");
        RevisionId::from_digest(&blake3::hash(&text))
    }
    pub(crate) fn bytes(&self) -> u64 {
        let components = self.components.values().map(|component| component.bytes);
        components.chain(self.assets.values().map(|asset| asset.bytes)).sum()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RevisionRow {
    pub(crate) id: RevisionId,
    pub(crate) created_ms: i64,
    /// How large its content is, as it is stored.
    pub(crate) content_bytes: i64,
}

/// A share of traffic, as it is stored and as the API writes it.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct ShareRow {
    pub revision: RevisionId,
    /// 1 to 100.
    pub percent: u8,
}

#[derive(Debug, Clone)]
pub(crate) struct AppRow {
    pub(crate) name: AppName,
    pub(crate) is_default: Option<bool>,
    pub(crate) updated_ms: i64,
    /// Newest first.
    pub(crate) revisions: Vec<RevisionRow>,
    /// Empty when nothing is live.
    pub(crate) traffic: Vec<ShareRow>,
    /// Name, sealed value, time.
    pub(crate) secrets: Vec<(String, Vec<u8>, i64)>,
}

#[derive(Debug, Clone)]
pub(crate) struct TokenRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) scope: Scope,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: Option<i64>,
    pub(crate) last_used_ms: Option<i64>,
}

pub(crate) struct Store(Mutex<Connection>);

impl Store {
    pub(crate) fn open(path: &Path) -> std::result::Result<Self, squall_sqlite::OpenError> {
        Ok(Self(Mutex::new(squall_sqlite::open(path, MIGRATIONS)?)))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic inside a transaction rolled it back: the connection is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    /// Makes the project of a new node.
    pub(crate) fn ensure_project(&self) -> Result<()> {
        self.write(|transaction| {
            let there: i64 =
                transaction.query_row("SELECT count(*) FROM project", (), |row| row.get(0))?;
            if there == 0 {
                transaction.execute(
                    "INSERT INTO project VALUES (?1, 'default', ?2)",
                    params![ulid::Ulid::new().to_string(), now_ms()],
                )?;
            }
            Ok(())
        })
    }

    pub(crate) fn app_names(&self) -> Result<Vec<AppName>> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached("SELECT name FROM apps ORDER BY name")?;
        let names = rows.query_map((), |row| row.get::<_, String>(0))?;
        names.map(|name| parse_app(&name?)).collect()
    }

    pub(crate) fn app(&self, name: &AppName) -> Result<Option<AppRow>> {
        let connection = self.lock();
        let found = connection
            .prepare_cached("SELECT is_default, updated_ms FROM apps WHERE name = ?1")?
            .query_row([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((is_default, updated_ms)) = found else { return Ok(None) };
        let mut rows = connection.prepare_cached(
            "SELECT id, created_ms, octet_length(content) FROM revisions
             WHERE app = ?1 ORDER BY sequence DESC",
        )?;
        let revisions = rows
            .query_map([name.as_str()], |row| {
                Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
            })?
            .map(|row| {
                let (id, created_ms, content_bytes) = row?;
                Ok(RevisionRow { id: parse_revision(&id)?, created_ms, content_bytes })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut rows = connection.prepare_cached(
            "SELECT name, sealed, updated_ms FROM secrets WHERE app = ?1 ORDER BY name",
        )?;
        let secrets = rows
            .query_map([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let traffic = current_traffic(&connection, name)?;
        Ok(Some(AppRow { name: name.clone(), is_default, updated_ms, revisions, traffic, secrets }))
    }

    /// What a revision is made of. A route table can make it large: it is read where it is
    /// needed only.
    pub(crate) fn content(&self, app: &AppName, id: &RevisionId) -> Result<Option<Content>> {
        let connection = self.lock();
        let text: Option<String> = connection
            .prepare_cached("SELECT content FROM revisions WHERE app = ?1 AND id = ?2")?
            .query_row(params![app.as_str(), id.as_str()], |row| row.get(0))
            .optional()?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Files a revision and, when asked, makes it live. Returns whether it is new.
    pub(crate) fn deploy(
        &self,
        app: &AppName,
        id: &RevisionId,
        content: &Content,
        activate: bool,
    ) -> Result<bool> {
        let text = serde_json::to_string(content)?;
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO apps (name, updated_ms) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET updated_ms = excluded.updated_ms",
                params![app.as_str(), now_ms()],
            )?;
            let created = transaction.execute(
                "INSERT INTO revisions (app, id, created_ms, sequence, content)
                 VALUES (?1, ?2, ?3, (SELECT coalesce(max(sequence), 0) + 1 FROM revisions WHERE app = ?1), ?4)
                 ON CONFLICT (app, id) DO NOTHING",
                params![app.as_str(), id.as_str(), now_ms(), text],
            )?;
            if activate {
                let all = [ShareRow { revision: id.clone(), percent: 100 }];
                set_traffic(transaction, app, &all)?;
            }
            forget_old_revisions(transaction, app)?;
            Ok(created == 1)
        })
    }

    pub(crate) fn set_traffic(&self, app: &AppName, shares: &[ShareRow]) -> Result<()> {
        self.write(|transaction| {
            touch(transaction, app)?;
            set_traffic(transaction, app, shares)
        })
    }

    /// What `roll_back` would go back to; nothing when there is nothing.
    pub(crate) fn earlier_traffic(&self, app: &AppName) -> Result<Vec<ShareRow>> {
        traffic(&self.lock(), app, 1)
    }

    /// Goes back to the traffic before the present one. Returns what it was and what it
    /// is, or `None` when there is nothing to go back to.
    pub(crate) fn roll_back(
        &self,
        app: &AppName,
    ) -> Result<Option<(Vec<ShareRow>, Vec<ShareRow>)>> {
        self.write(|transaction| {
            let from = current_traffic(transaction, app)?;
            // Steps back through history; what was left behind is forgotten, so that two
            // rollbacks go two steps.
            let removed = transaction.execute(
                "DELETE FROM traffic WHERE app = ?1
                 AND sequence = (SELECT max(sequence) FROM traffic WHERE app = ?1)
                 AND (SELECT count(*) FROM traffic WHERE app = ?1) > 1",
                [app.as_str()],
            )?;
            if removed == 0 {
                return Ok(None);
            }
            touch(transaction, app)?;
            Ok(Some((from, current_traffic(transaction, app)?)))
        })
    }

    /// Whether somebody said that an app is the default one, or that it is not, whatever its
    /// manifest says. `None` also for an app that is not there yet.
    pub(crate) fn default_by_hand(&self, app: &AppName) -> Result<Option<bool>> {
        let said: Option<Option<bool>> = self
            .lock()
            .prepare_cached("SELECT is_default FROM apps WHERE name = ?1")?
            .query_row([app.as_str()], |row| row.get(0))
            .optional()?;
        Ok(said.flatten())
    }

    /// Says whether an app is the default one; `None` leaves it to its manifest. `others` are it
    /// no more, be it by hand or by their manifests.
    pub(crate) fn set_default(
        &self,
        app: &AppName,
        is_default: Option<bool>,
        others: &[AppName],
    ) -> Result<()> {
        self.write(|transaction| {
            if is_default == Some(true) {
                transaction.execute("UPDATE apps SET is_default = 0 WHERE is_default = 1", ())?;
            }
            for other in others {
                transaction.execute(
                    "UPDATE apps SET is_default = 0, updated_ms = ?2 WHERE name = ?1",
                    params![other.as_str(), now_ms()],
                )?;
            }
            transaction.execute(
                "UPDATE apps SET is_default = ?2, updated_ms = ?3 WHERE name = ?1",
                params![app.as_str(), is_default, now_ms()],
            )?;
            Ok(())
        })
    }

    pub(crate) fn delete_app(&self, app: &AppName) -> Result<()> {
        self.write(|transaction| {
            transaction.execute("DELETE FROM apps WHERE name = ?1", [app.as_str()])?;
            Ok(())
        })
    }

    pub(crate) fn set_secret(&self, app: &AppName, name: &str, sealed: &[u8]) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO secrets VALUES (?1, ?2, ?3, ?4) ON CONFLICT (app, name)
                 DO UPDATE SET sealed = excluded.sealed, updated_ms = excluded.updated_ms",
                params![app.as_str(), name, sealed, now_ms()],
            )?;
            Ok(())
        })
    }

    pub(crate) fn delete_secret(&self, app: &AppName, name: &str) -> Result<bool> {
        self.write(|transaction| {
            let deleted = transaction.execute(
                "DELETE FROM secrets WHERE app = ?1 AND name = ?2",
                params![app.as_str(), name],
            )?;
            Ok(deleted == 1)
        })
    }

    pub(crate) fn add_token(
        &self,
        name: &str,
        hash: &[u8; 32],
        scope: Scope,
        expires_ms: Option<i64>,
    ) -> Result<TokenRow> {
        let row = TokenRow {
            id: ulid::Ulid::new().to_string().to_ascii_lowercase(),
            name: name.to_owned(),
            scope,
            created_ms: now_ms(),
            expires_ms,
            last_used_ms: None,
        };
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)",
                params![row.id, row.name, hash, scope.as_str(), row.created_ms, expires_ms],
            )?;
            Ok(())
        })?;
        Ok(row)
    }

    pub(crate) fn token(&self, hash: &[u8; 32]) -> Result<Option<TokenRow>> {
        let connection = self.lock();
        let row = connection
            .prepare_cached(&format!("{SELECT_TOKENS} WHERE hash = ?1"))?
            .query_row([hash], read_token)
            .optional()?;
        row.map(check_token).transpose()
    }

    pub(crate) fn tokens(&self) -> Result<Vec<TokenRow>> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(&format!("{SELECT_TOKENS} ORDER BY id"))?;
        let tokens = rows.query_map((), read_token)?;
        tokens.map(|token| check_token(token?)).collect()
    }

    pub(crate) fn note_token_used(&self, id: &str) -> Result<()> {
        self.write(|transaction| {
            transaction.execute(
                "UPDATE tokens SET last_used_ms = ?2 WHERE id = ?1",
                params![id, now_ms()],
            )?;
            Ok(())
        })
    }

    pub(crate) fn delete_token(&self, id: &str) -> Result<bool> {
        self.write(|transaction| {
            Ok(transaction.execute("DELETE FROM tokens WHERE id = ?1", [id])? == 1)
        })
    }
}

const SELECT_TOKENS: &str =
    "SELECT id, name, scope, created_ms, expires_ms, last_used_ms FROM tokens";

type RawToken = (String, String, String, i64, Option<i64>, Option<i64>);

fn read_token(row: &rusqlite::Row<'_>) -> rusqlite::Result<RawToken> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn check_token(raw: RawToken) -> Result<TokenRow> {
    let (id, name, scope, created_ms, expires_ms, last_used_ms) = raw;
    let scope =
        Scope::parse(&scope).ok_or_else(|| StoreError::Corrupt(format!("token scope {scope}")))?;
    Ok(TokenRow { id, name, scope, created_ms, expires_ms, last_used_ms })
}

fn parse_app(name: &str) -> Result<AppName> {
    AppName::parse(name).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn parse_revision(id: &str) -> Result<RevisionId> {
    RevisionId::parse(id).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn touch(transaction: &Transaction<'_>, app: &AppName) -> Result<()> {
    transaction.execute(
        "UPDATE apps SET updated_ms = ?2 WHERE name = ?1",
        params![app.as_str(), now_ms()],
    )?;
    Ok(())
}

fn current_traffic(connection: &Connection, app: &AppName) -> Result<Vec<ShareRow>> {
    traffic(connection, app, 0)
}

/// What an app's traffic was, so many changes ago.
fn traffic(connection: &Connection, app: &AppName, changes_ago: u32) -> Result<Vec<ShareRow>> {
    let shares: Option<String> = connection
        .prepare_cached(
            "SELECT shares FROM traffic WHERE app = ?1 ORDER BY sequence DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![app.as_str(), changes_ago], |row| row.get(0))
        .optional()?;
    Ok(shares.map(|shares| serde_json::from_str(&shares)).transpose()?.unwrap_or_default())
}

fn set_traffic(transaction: &Transaction<'_>, app: &AppName, shares: &[ShareRow]) -> Result<()> {
    if current_traffic(transaction, app)? == shares {
        return Ok(());
    }
    transaction.execute(
        "INSERT INTO traffic VALUES
         (?1, (SELECT coalesce(max(sequence), 0) + 1 FROM traffic WHERE app = ?1), ?2, ?3)",
        params![app.as_str(), serde_json::to_string(shares)?, now_ms()],
    )?;
    transaction.execute(
        "DELETE FROM traffic WHERE app = ?1 AND sequence <=
         (SELECT max(sequence) FROM traffic WHERE app = ?1) - ?2",
        params![app.as_str(), TRAFFIC_KEPT],
    )?;
    Ok(())
}

/// Keeps an app that is deployed every minute from growing without bound. Files that only
/// forgotten revisions named are swept at the next start.
fn forget_old_revisions(transaction: &Transaction<'_>, app: &AppName) -> Result<()> {
    let mut rows = transaction.prepare_cached(
        "SELECT sequence, shares FROM traffic WHERE app = ?1 ORDER BY sequence DESC",
    )?;
    let states = rows
        .query_map([app.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut needed = HashSet::new();
    let mut states = states.into_iter();
    for (_, shares) in states.by_ref().take(1 + ROLLBACKS_KEPT) {
        let shares: Vec<ShareRow> = serde_json::from_str(&shares)?;
        needed.extend(shares.into_iter().map(|share| share.revision.to_string()));
    }
    let mut rows = transaction.prepare_cached(
        "SELECT id FROM revisions WHERE app = ?1 ORDER BY sequence DESC LIMIT -1 OFFSET ?2",
    )?;
    let mut forgotten = rows
        .query_map(params![app.as_str(), REVISIONS_KEPT], |row| row.get::<_, String>(0))?
        .collect::<rusqlite::Result<HashSet<_>>>()?;
    forgotten.retain(|id| !needed.contains(id));
    if forgotten.is_empty() {
        return Ok(());
    }
    for id in &forgotten {
        transaction.execute(
            "DELETE FROM revisions WHERE app = ?1 AND id = ?2",
            params![app.as_str(), id],
        )?;
    }
    // Nobody can go back to a state whose revisions are gone.
    for (sequence, shares) in states {
        let shares: Vec<ShareRow> = serde_json::from_str(&shares)?;
        if shares.iter().any(|share| forgotten.contains(share.revision.as_str())) {
            transaction.execute(
                "DELETE FROM traffic WHERE app = ?1 AND sequence = ?2",
                params![app.as_str(), sequence],
            )?;
        }
    }
    Ok(())
}
