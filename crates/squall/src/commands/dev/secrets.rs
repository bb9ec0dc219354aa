//! The developer's own secrets, from `.dev.vars`, on the node that `dev` works with.

use std::collections::BTreeMap;

use http::Method;
use serde_json::json;
use squall_types::{AppName, ErrorCode};

use crate::client::{Client, encode};
use crate::failure::Failure;
use crate::output;
use crate::project::DevVars;

/// What was set by this run of `dev`.
#[derive(Default)]
pub(super) struct LocalSecrets {
    app: Option<AppName>,
    file: String,
    set: BTreeMap<String, String>,
}

impl LocalSecrets {
    /// Makes the app's secrets what the file says. False when the node does not know the
    /// app yet. Secrets that were set in another way stay as they are.
    pub(super) async fn bring(
        &mut self,
        client: &Client,
        app: &AppName,
        wanted: Option<&DevVars>,
    ) -> Result<bool, Failure> {
        if self.app.as_ref() != Some(app) {
            *self = Self { app: Some(app.clone()), ..Self::default() };
        }
        let none = BTreeMap::new();
        let values = wanted.map_or(&none, |wanted| &wanted.values);
        let path = |name: &str| format!("/v1/apps/{app}/secrets/{}", encode(name));

        let gone: Vec<String> =
            self.set.keys().filter(|name| !values.contains_key(*name)).cloned().collect();
        for name in gone {
            let what = format!("deleting secret {name} of {app}");
            match client.send(&what, Method::DELETE, &path(&name), None).await {
                // Somebody else deleted it, or the whole app.
                Err(failure) if is(&failure, ErrorCode::UnknownSecret) => {}
                Err(failure) if is(&failure, ErrorCode::UnknownApp) => {}
                result => result?,
            }
            self.set.remove(&name);
            output::note(&format!("Deleted {name}, which {} has no more", self.file));
        }
        let mut set = Vec::new();
        for (name, value) in values {
            if self.set.get(name) == Some(value) {
                continue;
            }
            let what = format!("setting secret {name} of {app}");
            let body = json!({ "value": value });
            match client.send(&what, Method::PUT, &path(name), Some(&body)).await {
                Err(failure) if is(&failure, ErrorCode::UnknownApp) => return Ok(false),
                result => result?,
            }
            self.set.insert(name.clone(), value.clone());
            set.push(name.as_str());
        }
        if let (Some(wanted), false) = (wanted, set.is_empty()) {
            output::note(&format!("Set from {}: {}", wanted.file, set.join(", ")));
            self.file.clone_from(&wanted.file);
        }
        Ok(true)
    }
}

fn is(failure: &Failure, code: ErrorCode) -> bool {
    failure.code.as_deref() == Some(&code.to_string())
}
