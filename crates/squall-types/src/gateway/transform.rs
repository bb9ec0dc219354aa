use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a target sees of a request's URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// The whole path; `{name}` stands for a parameter of the route's template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What takes the place of the matched prefix: `/` cuts it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Changes to headers, made in the order `remove`, `set`, `add`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderChanges {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl HeaderChanges {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    pub(super) fn check(&self, at: &str) -> Result<(), String> {
        let names = self.set.keys().chain(self.add.keys()).chain(&self.remove);
        for name in names {
            super::check::header_name(at, name)?;
            check_changeable(at, name)?;
        }
        for (name, value) in self.set.iter().chain(&self.add) {
            super::check::header_value(at, name, value)?;
        }
        Ok(())
    }
}

/// Framing, routing and identity are the gateway's business.
pub(super) fn check_changeable(at: &str, name: &str) -> Result<(), String> {
    let name = name.to_ascii_lowercase();
    let ours = matches!(
        name.as_str(),
        "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "host"
    );
    if ours || name.starts_with("x-squall-") {
        return Err(format!(
            "{at}: {name} is set by the gateway itself and can not be changed; for another Host use rewrite.host"
        ));
    }
    Ok(())
}

/// Changes to the query, made in the order `remove`, `set`, `add`. Values are written as
/// they mean, without percent-encoding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueryChanges {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

impl QueryChanges {
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}
