use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Gateway, IdentitySource, Plan, Policy, Route, Upstream};
use crate::manifest::{Manifest, ManifestError};
use crate::{AppName, FunctionName};

/// The part of a manifest that says how requests reach an app, without what they reach:
/// it can be changed without a build and without an upload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayPart {
    #[serde(skip_serializing_if = "super::is_false")]
    pub default: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    #[serde(skip_serializing_if = "Gateway::is_default")]
    pub gateway: Gateway,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Upstream>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub identity: BTreeMap<String, IdentitySource>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub plans: BTreeMap<String, Plan>,
    /// Of each function of the app, how it is reached.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<FunctionName, FunctionPart>,
}

/// How a function is reached.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FunctionPart {
    pub routes: Vec<String>,
    #[serde(skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
}

/// Why a gateway part does not fit an app.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// It speaks of a function that the app does not have.
    #[error("functions.{0} is not in what is live")]
    FunctionMissing(FunctionName),
    /// It is silent about a function that the app has.
    #[error("functions.{0} is live, but this configuration does not name it")]
    FunctionUnnamed(FunctionName),
    #[error(transparent)]
    Invalid(#[from] ManifestError),
}

impl GatewayPart {
    pub fn of(manifest: &Manifest) -> Self {
        let functions = manifest.functions.iter().map(|(name, function)| {
            let part =
                FunctionPart { routes: function.routes.clone(), policy: function.policy.clone() };
            (name.clone(), part)
        });
        Self {
            default: manifest.default,
            hosts: manifest.hosts.clone(),
            gateway: manifest.gateway.clone(),
            routes: manifest.routes.clone(),
            upstreams: manifest.upstreams.clone(),
            identity: manifest.identity.clone(),
            plans: manifest.plans.clone(),
            functions: functions.collect(),
        }
    }

    /// A manifest in which this part takes the place of the other's. Everything else stays
    /// as it was, the functions among it: the two must name the same ones.
    ///
    /// # Errors
    /// When they do not, or when the result is not a valid manifest.
    pub fn put_into(self, live: &Manifest) -> Result<Manifest, PartError> {
        let missing = self.functions.keys().find(|name| !live.functions.contains_key(*name));
        if let Some(name) = missing {
            return Err(PartError::FunctionMissing(name.clone()));
        }
        let unnamed = live.functions.keys().find(|name| !self.functions.contains_key(*name));
        if let Some(name) = unnamed {
            return Err(PartError::FunctionUnnamed(name.clone()));
        }
        let mut manifest = live.clone();
        for (name, part) in self.functions {
            if let Some(function) = manifest.functions.get_mut(&name) {
                (function.routes, function.policy) = (part.routes, part.policy);
            }
        }
        manifest.default = self.default;
        manifest.hosts = self.hosts;
        manifest.gateway = self.gateway;
        manifest.routes = self.routes;
        manifest.upstreams = self.upstreams;
        manifest.identity = self.identity;
        manifest.plans = self.plans;
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest of an app that is nothing but this.
    ///
    /// # Errors
    /// When it names functions, or is not a valid manifest.
    pub fn into_manifest(self, app: AppName) -> Result<Manifest, PartError> {
        self.put_into(&Manifest::named(app))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = r#"
name = "shop"
hosts = ["shop.example.com"]
env = { A = "1" }

[functions.api]
component = "api.wasm"
routes = ["/api/*"]
limits = { queue = 7 }

[[routes]]
paths = ["/old"]
response = { status = 410 }
"#;

    fn shop() -> Manifest {
        Manifest::parse(SHOP).unwrap()
    }

    #[test]
    fn a_part_taken_out_and_put_back_changes_nothing() {
        assert_eq!(GatewayPart::of(&shop()).put_into(&shop()).unwrap(), shop());
    }

    #[test]
    fn only_how_requests_arrive_is_replaced() {
        let other = SHOP
            .replace("queue = 7", "queue = 8")
            .replace("/api/*", "/v2/*")
            .replace("410", "404")
            .replace("A = \"1\"", "A = \"2\"");
        let part = GatewayPart::of(&Manifest::parse(&other).unwrap());
        let merged = part.put_into(&shop()).unwrap();
        let expected = Manifest::parse(&SHOP.replace("/api/*", "/v2/*").replace("410", "404"));
        assert_eq!(merged, expected.unwrap());
    }

    #[test]
    fn a_part_names_the_functions_that_are_live_and_no_others() {
        let part = GatewayPart::of(&shop());
        let api = FunctionName::parse("api").unwrap();
        let created = part.clone().into_manifest(AppName::parse("shop").unwrap());
        assert_eq!(created, Err(PartError::FunctionMissing(api.clone())));
        let silent = GatewayPart { functions: BTreeMap::new(), ..part };
        assert_eq!(silent.clone().put_into(&shop()), Err(PartError::FunctionUnnamed(api)));
        let alone = silent.into_manifest(AppName::parse("shop").unwrap()).unwrap();
        assert!(alone.functions.is_empty() && alone.routes.len() == 1);
    }
}
