//! Apps and doors for the tests of this crate.

use std::sync::Arc;

use squall_types::manifest::Manifest;
use squall_types::state::{AppState, ApplySnapshot as _, Snapshot};

use crate::inert::inert_contracts;
use crate::{Door, Gateway, Options};

/// A door with these apps behind it.
pub(crate) fn door(apps: &[Arc<AppState>]) -> Arc<Door> {
    let gateway = Gateway::new(Options::default(), inert_contracts());
    gateway.apply(&Arc::new(Snapshot { version: 1, apps: apps.to_vec() }));
    gateway.0
}

/// An app as it is served after a deployment of `name` and the rest of its manifest.
pub(crate) fn deployed(name: &str, rest: &str) -> Arc<AppState> {
    let text = format!("name = {name:?}\n{rest}\n");
    // An app needs something to serve.
    let manifest = Manifest::parse(&text).or_else(|_| {
        Manifest::parse(&format!("{text}\n[[routes]]\nresponse = {{ status = 200 }}\n"))
    });
    crate::inert::deployed(&manifest.unwrap_or_else(|error| panic!("{error}: {text}")))
}
