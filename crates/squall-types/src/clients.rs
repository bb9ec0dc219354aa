//! API clients: who calls an app's API by a key, and what they may use of it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// One API client of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiClient {
    /// Unique in the app, such as `acme`; what functions and upstreams are told.
    pub id: String,
    /// A plan of the app's manifest; without one, only the routes' own limits hold.
    pub plan: Option<String>,
    pub scopes: Vec<String>,
    /// Its keys are refused while it is.
    pub disabled: bool,
}

/// One key of a client. The key itself is shown once and then known by its hash.
#[derive(Clone)]
pub struct ApiKey {
    pub client: Arc<ApiClient>,
    /// BLAKE3 of the whole key.
    pub hash: [u8; 32],
    /// Seconds since 1970.
    pub expires_at: Option<u64>,
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey").field("client", &self.client.id).finish_non_exhaustive()
    }
}

/// All clients of an app, as the gateway looks them up. One `Arc` per state of them.
#[derive(Debug, Default)]
pub struct Clients {
    /// By the part of a key that is no secret.
    pub keys: HashMap<Box<str>, ApiKey>,
}
