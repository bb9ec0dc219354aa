//! API clients and their keys. A key is kept by its hash.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use squall_types::AppName;
use squall_types::clients::{ApiClient, ApiKey, ApiKeyText, Clients};

use super::{Result, Store, StoreError};
use crate::time::now_ms;

#[derive(Debug, Clone)]
pub(crate) struct ClientRow {
    pub(crate) about: ApiClient,
    pub(crate) keys: u32,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct KeyRow {
    pub(crate) prefix: String,
    pub(crate) label: String,
    pub(crate) created_ms: i64,
    pub(crate) expires_ms: Option<i64>,
}

impl Store {
    /// All clients of an app, as the data plane looks them up.
    pub(crate) fn clients(&self, app: &AppName) -> Result<Clients> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(
            "SELECT id, plan, scopes, disabled, prefix, hash, expires_ms
             FROM clients JOIN client_keys ON client_keys.app = clients.app AND client = id
             WHERE clients.app = ?1 ORDER BY id",
        )?;
        let mut rows = rows.query([app.as_str()])?;
        let mut clients = Clients::default();
        let mut client: Option<Arc<ApiClient>> = None;
        while let Some(row) = rows.next()? {
            let about = read_client(row)?;
            // A client's keys follow each other, and share it.
            let client = match &client {
                Some(known) if known.id == about.id => known.clone(),
                _ => client.insert(Arc::new(about)).clone(),
            };
            let prefix: String = row.get(4)?;
            // The data plane counts whole seconds: a key may live up to one longer.
            let expires_at =
                row.get::<_, Option<i64>>(6)?.map(|ms| (ms.max(0) as u64).div_ceil(1_000));
            clients.keys.insert(prefix.into(), ApiKey { client, hash: row.get(5)?, expires_at });
        }
        Ok(clients)
    }

    /// At most `limit` clients whose ids come after `after`, by id.
    pub(crate) fn client_page(
        &self,
        app: &AppName,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ClientRow>> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(&format!(
            "{SELECT_CLIENTS} WHERE app = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
        ))?;
        let mut rows = rows.query(params![app.as_str(), after, limit as i64])?;
        let mut clients = Vec::new();
        while let Some(row) = rows.next()? {
            clients.push(read_client_row(row)?);
        }
        Ok(clients)
    }

    pub(crate) fn client(&self, app: &AppName, id: &str) -> Result<Option<ClientRow>> {
        find_client(&self.lock(), app, id)
    }

    /// The plans that clients of an app are on, and how many are on each.
    pub(crate) fn plans_in_use(&self, app: &AppName) -> Result<Vec<(String, u32)>> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(
            "SELECT plan, count(*) FROM clients WHERE app = ?1 AND plan IS NOT NULL
             GROUP BY plan ORDER BY plan",
        )?;
        let plans = rows.query_map([app.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(plans.collect::<rusqlite::Result<_>>()?)
    }

    /// Files a client. Returns the one that has the id already, when one does.
    pub(crate) fn add_client(
        &self,
        app: &AppName,
        client: &ApiClient,
    ) -> Result<std::result::Result<ClientRow, ClientRow>> {
        self.write(|transaction| {
            if let Some(there) = find_client(transaction, app, &client.id)? {
                return Ok(Err(there));
            }
            let now = now_ms();
            let scopes = serde_json::to_string(&client.scopes)?;
            transaction.execute(
                "INSERT INTO clients VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
                params![app.as_str(), client.id, client.plan, scopes, client.disabled, now],
            )?;
            let about = client.clone();
            Ok(Ok(ClientRow { about, keys: 0, created_ms: now, updated_ms: now }))
        })
    }

    /// Replaces what is known of a client; its keys stay. False when there is none.
    pub(crate) fn set_client(&self, app: &AppName, client: &ApiClient) -> Result<bool> {
        self.write(|transaction| {
            let scopes = serde_json::to_string(&client.scopes)?;
            let changed = transaction.execute(
                "UPDATE clients SET plan = ?3, scopes = ?4, disabled = ?5, updated_ms = ?6
                 WHERE app = ?1 AND id = ?2",
                params![app.as_str(), client.id, client.plan, scopes, client.disabled, now_ms()],
            )?;
            Ok(changed == 1)
        })
    }

    /// Deletes a client with its keys.
    pub(crate) fn delete_client(&self, app: &AppName, id: &str) -> Result<bool> {
        self.write(|transaction| {
            let deleted = transaction.execute(
                "DELETE FROM clients WHERE app = ?1 AND id = ?2",
                params![app.as_str(), id],
            )?;
            Ok(deleted == 1)
        })
    }

    /// Oldest first.
    pub(crate) fn client_keys(&self, app: &AppName, client: &str) -> Result<Vec<KeyRow>> {
        let connection = self.lock();
        let mut rows = connection.prepare_cached(
            "SELECT prefix, label, created_ms, expires_ms FROM client_keys
             WHERE app = ?1 AND client = ?2 ORDER BY created_ms, prefix",
        )?;
        let keys = rows.query_map(params![app.as_str(), client], |row| {
            Ok(KeyRow {
                prefix: row.get(0)?,
                label: row.get(1)?,
                created_ms: row.get(2)?,
                expires_ms: row.get(3)?,
            })
        })?;
        Ok(keys.collect::<rusqlite::Result<_>>()?)
    }

    pub(crate) fn add_client_key(
        &self,
        app: &AppName,
        client: &str,
        key: &ApiKeyText,
        label: &str,
        expires_ms: Option<i64>,
    ) -> Result<KeyRow> {
        let row = KeyRow {
            prefix: key.prefix().to_owned(),
            label: label.to_owned(),
            created_ms: now_ms(),
            expires_ms,
        };
        self.write(|transaction| {
            transaction.execute(
                "INSERT INTO client_keys (app, prefix, client, hash, label, created_ms, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    app.as_str(),
                    row.prefix,
                    client,
                    key.hash(),
                    row.label,
                    row.created_ms,
                    row.expires_ms
                ],
            )?;
            Ok(())
        })?;
        Ok(row)
    }

    pub(crate) fn delete_client_key(
        &self,
        app: &AppName,
        client: &str,
        prefix: &str,
    ) -> Result<bool> {
        self.write(|transaction| {
            let deleted = transaction.execute(
                "DELETE FROM client_keys WHERE app = ?1 AND client = ?2 AND prefix = ?3",
                params![app.as_str(), client, prefix],
            )?;
            Ok(deleted == 1)
        })
    }
}

const SELECT_CLIENTS: &str = "SELECT id, plan, scopes, disabled, created_ms, updated_ms,
    (SELECT count(*) FROM client_keys WHERE client_keys.app = clients.app AND client = id)
    FROM clients";

fn find_client(connection: &Connection, app: &AppName, id: &str) -> Result<Option<ClientRow>> {
    connection
        .prepare_cached(&format!("{SELECT_CLIENTS} WHERE app = ?1 AND id = ?2"))?
        .query_row(params![app.as_str(), id], |row| Ok(read_client_row(row)))
        .optional()?
        .transpose()
}

fn read_client_row(row: &rusqlite::Row<'_>) -> Result<ClientRow> {
    let about = read_client(row)?;
    Ok(ClientRow { about, created_ms: row.get(4)?, updated_ms: row.get(5)?, keys: row.get(6)? })
}

/// The first four columns: id, plan, scopes, disabled.
fn read_client(row: &rusqlite::Row<'_>) -> Result<ApiClient> {
    let scopes: String = row.get(2)?;
    let scopes = serde_json::from_str(&scopes).map_err(StoreError::from)?;
    Ok(ApiClient { id: row.get(0)?, plan: row.get(1)?, scopes, disabled: row.get(3)? })
}
