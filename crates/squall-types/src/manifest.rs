//! `squall.toml`: what an app is. Unknown keys are refused with a suggestion, because
//! a misspelt limit that is silently ignored is an incident waiting to happen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bindings::Binding;
use crate::gateway::{Gateway, IdentitySource, Plan, Policy, Route, Upstream};
use crate::limits::Limits;
use crate::{AppName, FunctionName};

mod lists;
mod place;

/// The app manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// A DNS label: the app answers on `<name>.localhost`.
    pub name: AppName,
    /// Answers on any Host. At most one app of a node may be the default.
    #[serde(default, skip_serializing_if = "is_false")]
    pub default: bool,
    /// Own domains, such as `www.example.com`, or every name below one: `*.example.com`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Variables of every function of the app. Secrets do not belong here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub functions: BTreeMap<FunctionName, Function>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assets: Option<Assets>,
    /// Policies of the whole app.
    #[serde(default, skip_serializing_if = "Gateway::is_default")]
    pub gateway: Gateway,
    /// Routes beside those of the functions. Among equally good matches the first wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Services behind the gateway, by the name that routes know them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Upstream>,
    /// Ways to know a caller, by the name that policies know them by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identity: BTreeMap<String, IdentitySource>,
    /// What API clients may use, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plans: BTreeMap<String, Plan>,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Path of the WebAssembly component, relative to the manifest. A function has this
    /// or `source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// Path of the JavaScript or TypeScript entry file, relative to the manifest. It is
    /// bundled with everything that it imports when the app is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Shell command that is run before, by `squall deploy` and `squall dev` on the
    /// developer's machine, in the manifest's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Paths that this function answers: exact (`/api/me`), a prefix (`/api/*`, `/*`) or a
    /// template (`/users/{id}`). May be empty where `[[routes]]` or service bindings lead to
    /// the function.
    #[serde(default)]
    pub routes: Vec<String>,
    #[serde(default)]
    pub instances: InstanceMode,
    /// How shared instances are used; only with `instances = "shared"`.
    #[serde(default)]
    pub shared: SharedInstances,
    #[serde(default)]
    pub limits: Limits,
    /// Hosts that outbound requests may reach: `api.example.com`, `*.example.com`,
    /// with an optional `:port`, or `*` for every public one. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<String>,
    /// Allows outbound requests to private and loopback addresses. For development.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_private: bool,
    /// Variables of this function, over those of the app.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Answer GET and HEAD from the assets where this function answers 404.
    #[serde(default, skip_serializing_if = "is_false")]
    pub fall_through: bool,
    /// Other functions that this one calls in process, by their name in its environment:
    /// `AUTH = "auth"` for a function of this app, `AUTH = "accounts/auth"` for one of
    /// another. For functions with a `source`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, String>,
    /// Policies of the function's `routes`, over those of the app.
    #[serde(default, skip_serializing_if = "Policy::is_empty")]
    pub policy: Policy,
}

/// The file that a function is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code<'a> {
    Component(&'a str),
    Source(&'a str),
}

impl<'a> Code<'a> {
    /// As the manifest has it.
    pub fn path(self) -> &'a str {
        match self {
            Code::Component(path) | Code::Source(path) => path,
        }
    }

    /// The key in the manifest.
    pub fn key(self) -> &'static str {
        match self {
            Code::Component(_) => "component",
            Code::Source(_) => "source",
        }
    }
}

impl Function {
    /// # Panics
    /// When the manifest was not checked: a function has one of the two.
    pub fn code(&self) -> Code<'_> {
        match (&self.component, &self.source) {
            (Some(component), None) => Code::Component(component),
            (None, Some(source)) => Code::Source(source),
            _ => unreachable!("Manifest::check refuses a function with both or none"),
        }
    }
}

/// Who an instance serves.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceMode {
    /// A new instance for every request: nothing is left from one to the next.
    #[default]
    PerRequest,
    /// An instance serves many requests; its globals live on.
    Shared,
}

/// Limits of a shared instance's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SharedInstances {
    /// Requests until an instance is retired.
    pub max_requests: u32,
    /// Requests at once in an instance; components of WASI 0.2 always serve one.
    pub max_concurrent: u32,
    /// Time without a request until an instance is retired.
    pub idle_ms: u64,
}

impl Default for SharedInstances {
    fn default() -> Self {
        Self { max_requests: 10_000, max_concurrent: 16, idle_ms: 10_000 }
    }
}

/// Files served as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assets {
    /// Folder, relative to the manifest. `x.js.br`, `.gz` and `.zst` beside `x.js`
    /// are its precompressed variants.
    pub dir: String,
    /// Answer unknown paths of HTML navigations with `/index.html`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub spa: bool,
    /// Look for an asset before the functions rather than after them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub first: bool,
    /// The name under which functions with a `source` find the assets in their
    /// environment: `binding = "ASSETS"` makes `env.ASSETS.fetch(request)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Cache-Control by path pattern (`/assets/*`); the longest match wins. Without one:
    /// `public, max-age=0, must-revalidate`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cache_control: BTreeMap<String, String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What is wrong with a manifest, and where.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct ManifestError {
    /// One sentence or more, with the fix.
    pub message: String,
    /// Line and column in the TOML text, from 1, where known.
    pub position: Option<(usize, usize)>,
}

impl Manifest {
    /// An app with nothing in it yet.
    pub fn named(name: AppName) -> Self {
        Self {
            name,
            default: false,
            hosts: Vec::new(),
            env: BTreeMap::new(),
            functions: BTreeMap::new(),
            assets: None,
            gateway: Gateway::default(),
            routes: Vec::new(),
            upstreams: BTreeMap::new(),
            identity: BTreeMap::new(),
            plans: BTreeMap::new(),
        }
    }

    /// Reads and checks a manifest.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if let Some(start) = lists::in_place_of_a_table(text) {
            // The list begins where its first element does.
            let path = place::path_at(text, start).unwrap_or_default();
            let path = path.strip_suffix("[1]").unwrap_or(&path);
            let message = format!("{path}: is a table, not a list; write [{path}] once, with keys");
            return Err(ManifestError { message, position: Some(position(text, start)) });
        }
        let manifest: Manifest =
            toml::from_str(text).map_err(|error| explain_toml(text, &error))?;
        manifest
            .check()
            .map_err(|error| ManifestError { position: place_of(text, &error.message), ..error })?;
        Ok(manifest)
    }

    /// The variables of a function: the app's, with its own over them.
    pub fn variables_of(&self, function: &Function) -> BTreeMap<String, String> {
        let mut variables = self.env.clone();
        variables.extend(function.env.iter().map(|(name, value)| (name.clone(), value.clone())));
        variables
    }

    /// What a function reaches, by the name in its environment. # Panics
    /// When the manifest was not checked.
    pub fn bindings_of(&self, function: &Function) -> BTreeMap<String, Binding> {
        if let Code::Component(_) = function.code() {
            return BTreeMap::new();
        }
        let services = function.services.iter().map(|(name, target)| {
            let target = Binding::parse_service(target).expect("Manifest::check parsed it");
            (name.clone(), target)
        });
        let assets = self.assets.as_ref().and_then(|assets| assets.binding.clone());
        services.chain(assets.map(|name| (name, Binding::Assets))).collect()
    }

    /// The JSON Schema of `squall.toml`, for editors.
    pub fn json_schema() -> serde_json::Value {
        let mut schema = schemars::schema_for!(Manifest).to_value();
        schema["title"] = "squall.toml".into();
        schema
    }

    /// Rules beyond the shape of the document.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.functions.is_empty() && self.assets.is_none() && self.routes.is_empty() {
            return fail(format!(
                "the app {} has neither functions nor assets nor routes; add a [functions.NAME] table, [assets] or [[routes]]",
                self.name
            ));
        }
        let mut owners: BTreeMap<&str, &FunctionName> = BTreeMap::new();
        for (name, function) in &self.functions {
            match (&function.component, &function.source) {
                (Some(_), None) | (None, Some(_)) => {}
                (None, None) => {
                    return fail(format!(
                        "functions.{name} has no code; add source = \"src/index.ts\" for JavaScript and TypeScript, or component = \"build/app.wasm\""
                    ));
                }
                (Some(_), Some(_)) => {
                    return fail(format!(
                        "functions.{name} has a component and a source; a function is made of one of them"
                    ));
                }
            }
            let code = function.code();
            check_relative_path(&format!("functions.{name}.{}", code.key()), code.path())?;
            if function.routes.is_empty()
                && matches!(code, Code::Component(_))
                && !self.routes.iter().any(|route| route.leads_to(name))
            {
                return fail(format!(
                    "functions.{name} has no routes; add routes = [\"/*\"] to answer every path"
                ));
            }
            for route in &function.routes {
                check_route(name, route)?;
                if let Some(owner) = owners.insert(route, name) {
                    return fail(format!(
                        "route {route:?} is claimed by functions.{owner} and by functions.{name}; a route belongs to one function"
                    ));
                }
            }
            for host in &function.allowed_hosts {
                check_host_pattern(&format!("functions.{name}.allowed_hosts"), host, true)?;
            }
            let limits = &function.limits;
            let zero = [
                ("memory_bytes", limits.memory_bytes),
                ("wall_time_ms", limits.wall_time_ms),
                ("cpu_time_ms", limits.cpu_time_ms),
                ("concurrency", limits.concurrency.into()),
            ];
            if let Some((limit, _)) = zero.iter().find(|(_, value)| *value == 0) {
                return fail(format!(
                    "functions.{name}.limits.{limit} is 0, which no request could meet; give at least 1"
                ));
            }
            if function.shared.max_requests == 0 || function.shared.max_concurrent == 0 {
                return fail(format!(
                    "functions.{name}.shared: max_requests and max_concurrent must be at least 1"
                ));
            }
            check_variables(&format!("functions.{name}.env"), &function.env)?;
            self.check_bindings(name, function)?;
        }
        check_variables("env", &self.env)?;
        for host in &self.hosts {
            check_host_pattern("hosts", host.strip_prefix("*.").unwrap_or(host), false)?;
        }
        crate::gateway::check(self).map_err(|message| ManifestError { message, position: None })?;
        if let Some(assets) = &self.assets {
            check_relative_path("assets.dir", &assets.dir)?;
            for (pattern, value) in &assets.cache_control {
                if !pattern.starts_with('/') {
                    return fail(format!(
                        "assets.cache_control: {pattern:?} must begin with /, such as \"/assets/*\""
                    ));
                }
                if http::HeaderValue::from_str(value).is_err() {
                    return fail(format!(
                        "assets.cache_control: {value:?} can not be sent in a header"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Manifest {
    fn check_bindings(
        &self,
        name: &FunctionName,
        function: &Function,
    ) -> Result<(), ManifestError> {
        if let (Code::Component(_), Some((service, _))) =
            (function.code(), function.services.first_key_value())
        {
            return fail(format!(
                "functions.{name}.services.{service}: service bindings are for functions with a source; a component calls others by HTTP"
            ));
        }
        let assets = self.assets.as_ref().and_then(|assets| assets.binding.as_ref());
        let variables = self.variables_of(function);
        for binding in function.services.keys().chain(assets) {
            let is_name = binding.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !binding.is_empty()
                && !binding.starts_with(|first: char| first.is_ascii_digit());
            if !is_name {
                return fail(format!(
                    "{binding:?} can not be the name of a binding; use letters, digits and _, such as \"ASSETS\""
                ));
            }
            let twice = variables.contains_key(binding)
                || assets == Some(binding) && function.services.contains_key(binding);
            if twice {
                return fail(format!(
                    "functions.{name} has two things named {binding} in its environment; rename the variable or the binding"
                ));
            }
        }
        for (binding, target) in &function.services {
            let parsed = Binding::parse_service(target).map_err(|why| ManifestError {
                message: format!(
                    "functions.{name}.services.{binding} = {target:?} is no function: {why}; write \"FUNCTION\", or \"APP/FUNCTION\" for another app"
                ),
                position: None,
            })?;
            if let Binding::Service { app: None, function: wanted } = &parsed
                && !self.functions.contains_key(wanted)
            {
                return fail(format!(
                    "functions.{name}.services.{binding} = {target:?}, but this app has no such function; write \"APP/FUNCTION\" for one of another app"
                ));
            }
        }
        Ok(())
    }
}

fn fail(message: String) -> Result<(), ManifestError> {
    Err(ManifestError { message, position: None })
}

fn check_relative_path(key: &str, path: &str) -> Result<(), ManifestError> {
    let escapes = path.split('/').any(|part| part == "..");
    if path.is_empty() || path.starts_with('/') || path.contains('\\') || escapes {
        return fail(format!(
            "{key} = {path:?} must be a path inside the manifest's folder, such as \"build/api.wasm\""
        ));
    }
    Ok(())
}

fn check_route(function: &FunctionName, route: &str) -> Result<(), ManifestError> {
    let parsed = crate::gateway::PathPattern::parse(route);
    match parsed.and_then(|_| crate::gateway::check_escapes(route)) {
        Ok(()) => Ok(()),
        Err(why) => fail(format!("functions.{function}: route {route:?} {why}")),
    }
}

fn check_variables(key: &str, variables: &BTreeMap<String, String>) -> Result<(), ManifestError> {
    for (name, value) in variables {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            return fail(format!(
                "{key}: {name:?} is not a variable; names may not be empty or hold =, and nothing may hold NUL"
            ));
        }
    }
    Ok(())
}

fn check_host_pattern(
    key: &str,
    pattern: &str,
    wildcard_and_port: bool,
) -> Result<(), ManifestError> {
    if wildcard_and_port && pattern == "*" {
        return Ok(());
    }
    let mut host = pattern;
    if wildcard_and_port && !pattern.contains('/') {
        if let Some((name, port)) = host.rsplit_once(':')
            && !name.is_empty()
            && !host.ends_with(']')
        {
            if port.parse::<u16>().is_err() {
                return fail(format!("{key}: {pattern:?} has no valid port"));
            }
            host = name;
        }
        host = host.strip_prefix("*.").unwrap_or(host);
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let labels = !host.is_empty()
        && host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        });
    if address.is_ok() && wildcard_and_port || labels {
        return Ok(());
    }
    fail(format!(
        "{key}: {pattern:?} is not a host name in lower case, without scheme or path, such as \"api.example.com\""
    ))
}

/// What is wrong with a TOML document of ours, with its place and, for an unknown key,
/// the key that was probably meant.
pub fn explain_toml(text: &str, error: &toml::de::Error) -> ManifestError {
    let start = error.span().map(|span| span.start);
    let path = start.and_then(|start| place::path_at(text, start));
    let message = match path {
        Some(path) => format!("{path}: {}", explain(error.message(), &path)),
        None => explain(error.message(), ""),
    };
    ManifestError { message, position: start.map(|start| position(text, start)) }
}

/// Where `text` has the key that `message` begins with: line and column, from 1.
pub fn place_of(text: &str, message: &str) -> Option<(usize, usize)> {
    place::of_message(text, message).map(|start| position(text, start))
}

/// serde says which keys and types it expected; a person wants to know what to write.
fn explain(message: &str, path: &str) -> String {
    if let Some((start, expected)) = message.rsplit_once(", expected ")
        && let Some(most) = most_of(expected)
    {
        return format!("{start}, expected a whole number from 0 to {most}");
    }
    match message {
        "invalid type: map, expected a sequence" => {
            return format!("is a list of tables; write [[{path}]] for each");
        }
        "wanted exactly 1 element, found 0 elements" => {
            return format!("lacks its kind; it is a table of its own, such as [{path}.api_key]");
        }
        "wanted exactly 1 element, more than 1 element" => {
            return "has more than one kind; give each a name of its own".to_owned();
        }
        _ => {}
    }
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return message.to_owned();
    };
    let Some((unknown, expected)) = rest.split_once('`') else {
        return message.to_owned();
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    let nearest = known
        .iter()
        .map(|key| (strsim::osa_distance(unknown, key), *key))
        .min()
        .filter(|(distance, key)| *distance <= 1 + key.len().min(unknown.len()) / 3);
    match nearest {
        Some((_, key)) => format!("unknown key `{unknown}`; did you mean `{key}`?"),
        None => format!("unknown key `{unknown}`; the keys here are {}", known.join(", ")),
    }
}

/// The largest number of one of Rust's types, which TOML's own integers reach at most.
fn most_of(kind: &str) -> Option<i64> {
    Some(match kind {
        "u8" => u8::MAX.into(),
        "u16" => u16::MAX.into(),
        "u32" => u32::MAX.into(),
        "u64" | "usize" => i64::MAX,
        _ => return None,
    })
}

/// Line and column of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
