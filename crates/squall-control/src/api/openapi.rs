//! The OpenAPI 3.1 document, built from the types that the handlers use. One row of the
//! table for each operation; a test compares it with the routes and with the golden file.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};
use squall_types::cache::{CacheInspect, CacheInspection, CacheReport, PurgeRequest};
use squall_types::gateway::{ExplainQuery, Explanation};
use squall_types::gateway::{RoutesReport, UpstreamsReport};
use squall_types::log::LogEntry;
use squall_types::node::NodeStatus;

use super::{
    ApiClient, ApiClientChange, ApiClientRequest, ApiKey, ApiKeyRequest, App, AppChange,
    AppliedGateway, GatewayChange, InvokeAnswer, InvokeRequest, LiveGateway, NewApiKey, NewToken,
    Page, ProblemBody, Revision, Rollback, RolledBack, Secret, SecretValue, Split, Token,
    TokenRequest, TrafficChange, Usage,
};
use crate::deploy::DeployEvent;

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

struct Operation {
    method: &'static str,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// `None` where no token is needed.
    scope: Option<&'static str>,
    query: &'static [(&'static str, &'static str)],
    request: Option<(&'static str, Option<SchemaOf>)>,
    status: &'static str,
    answer: Option<(&'static str, Option<SchemaOf>)>,
}

const JSON: &str = "application/json";
const PAGING: &[(&str, &str)] = &[
    ("limit", "Items of a page, 1 to 500; 100 by default."),
    ("cursor", "`next` of the page before."),
];
const LOG_FILTER: &[(&str, &str)] = &[
    ("app", "Of this app only."),
    ("function", "Of this function only."),
    ("level", "debug, info, warn or error: this level or a graver one."),
    ("status", "404, or a class: 5xx. Matches access records only."),
    ("trace_id", "Of this trace only."),
    ("limit", "The newest so many entries; 100 by default."),
    ("tail", "For the stream: so many older entries first."),
];

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn read(
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    answer: SchemaOf,
) -> Operation {
    Operation {
        method: "get",
        path,
        id,
        summary,
        scope: Some("read"),
        query: &[],
        request: None,
        status: "200",
        answer: Some((JSON, Some(answer))),
    }
}

#[rustfmt::skip]
const OPERATIONS: &[Operation] = &[
    Operation { scope: None, answer: Some(("text/plain", None)), ..read("/livez", "livez", "The process answers.", schema::<String>) },
    Operation { scope: None, answer: Some(("text/plain", None)), ..read("/readyz", "readyz", "The node serves; 503 until it does.", schema::<String>) },
    Operation { scope: None, answer: Some(("text/plain", None)), ..read("/metrics", "metrics", "Metrics in the Prometheus text format.", schema::<String>) },
    Operation { scope: None, answer: Some((JSON, None)), ..read("/v1/openapi.json", "openapi", "This document.", schema::<String>) },
    read("/v1/status", "getStatus", "Facts of the node.", schema::<NodeStatus>),
    Operation { query: PAGING, ..read("/v1/apps", "listApps", "Apps by name.", schema::<Page<App>>) },
    read("/v1/apps/{app}", "getApp", "One app.", schema::<App>),
    Operation { method: "patch", scope: Some("deploy"), request: Some((JSON, Some(schema::<AppChange>))), ..read("/v1/apps/{app}", "changeApp", "Change an app without deploying.", schema::<App>) },
    Operation { method: "delete", scope: Some("admin"), status: "204", answer: None, ..read("/v1/apps/{app}", "deleteApp", "Delete an app, its revisions and secrets. What runs finishes.", schema::<App>) },
    Operation { method: "post", scope: Some("deploy"), query: &[("activate", "false files the revision without making it live.")], request: Some(("application/x-tar", None)), answer: Some(("application/x-ndjson", Some(schema::<DeployEvent>))), ..read("/v1/apps/{app}/deployments", "deploy", "Deploy a tar archive of squall.toml and the files that it names. Answers with a line of JSON for each step; the last is `live` or `failed`.", schema::<DeployEvent>) },
    Operation { query: PAGING, ..read("/v1/apps/{app}/revisions", "listRevisions", "Revisions of an app, newest first.", schema::<Page<Revision>>) },
    read("/v1/apps/{app}/revisions/{revision}", "getRevision", "One revision, with its manifest.", schema::<Revision>),
    Operation { method: "put", scope: Some("deploy"), request: Some((JSON, Some(schema::<TrafficChange>))), ..read("/v1/apps/{app}/traffic", "setTraffic", "Split an app's traffic between revisions by percent.", schema::<Split>) },
    Operation { method: "post", scope: Some("deploy"), request: Some((JSON, Some(schema::<Rollback>))), ..read("/v1/apps/{app}/rollback", "rollBack", "Go back to what was live before, or to a given revision.", schema::<RolledBack>) },
    read("/v1/apps/{app}/gateway", "getGateway", "How requests reach an app: the gateway part of what is live.", schema::<LiveGateway>),
    Operation { method: "put", scope: Some("deploy"), request: Some((JSON, Some(schema::<GatewayChange>))), ..read("/v1/apps/{app}/gateway", "applyGateway", "Replace the gateway part of what is live. Makes a revision of the same functions and files; makes an app that is only that, where there was none.", schema::<AppliedGateway>) },
    Operation { query: PAGING, ..read("/v1/apps/{app}/clients", "listClients", "API clients of an app, by id.", schema::<Page<ApiClient>>) },
    Operation { method: "post", scope: Some("deploy"), request: Some((JSON, Some(schema::<ApiClientRequest>))), status: "201", ..read("/v1/apps/{app}/clients", "createClient", "Make an API client. 200 when the same one was there already.", schema::<ApiClient>) },
    read("/v1/apps/{app}/clients/{client}", "getClient", "One API client.", schema::<ApiClient>),
    Operation { method: "patch", scope: Some("deploy"), request: Some((JSON, Some(schema::<ApiClientChange>))), ..read("/v1/apps/{app}/clients/{client}", "changeClient", "Change an API client; it holds for the next request.", schema::<ApiClient>) },
    Operation { method: "delete", scope: Some("deploy"), status: "204", answer: None, ..read("/v1/apps/{app}/clients/{client}", "deleteClient", "Delete an API client with its keys.", schema::<ApiClient>) },
    Operation { query: PAGING, ..read("/v1/apps/{app}/clients/{client}/keys", "listClientKeys", "Keys of an API client, oldest first.", schema::<Page<ApiKey>>) },
    Operation { method: "post", scope: Some("deploy"), request: Some((JSON, Some(schema::<ApiKeyRequest>))), status: "201", ..read("/v1/apps/{app}/clients/{client}/keys", "createClientKey", "Make a key. It is shown once.", schema::<NewApiKey>) },
    Operation { method: "delete", scope: Some("deploy"), status: "204", answer: None, ..read("/v1/apps/{app}/clients/{client}/keys/{prefix}", "revokeClientKey", "Revoke a key.", schema::<ApiKey>) },
    read("/v1/apps/{app}/secrets", "listSecrets", "Names of an app's secrets.", schema::<Page<Secret>>),
    Operation { method: "put", scope: Some("deploy"), request: Some((JSON, Some(schema::<SecretValue>))), status: "204", answer: None, ..read("/v1/apps/{app}/secrets/{name}", "setSecret", "Set a secret; running functions see it with their next request.", schema::<Secret>) },
    Operation { method: "delete", scope: Some("deploy"), status: "204", answer: None, ..read("/v1/apps/{app}/secrets/{name}", "deleteSecret", "Delete a secret.", schema::<Secret>) },
    Operation { method: "post", scope: Some("deploy"), request: Some((JSON, Some(schema::<InvokeRequest>))), ..read("/v1/apps/{app}/invoke", "invoke", "Call a function of an app.", schema::<InvokeAnswer>) },
    Operation { method: "post", scope: Some("deploy"), request: Some((JSON, Some(schema::<PurgeRequest>))), status: "204", answer: None, ..read("/v1/apps/{app}/cache/purge", "purgeCache", "Take responses out of an app's cache. It holds for every later request, also after a restart.", schema::<PurgeRequest>) },
    Operation { method: "post", request: Some((JSON, Some(schema::<CacheInspect>))), ..read("/v1/apps/{app}/cache/inspect", "inspectCache", "What the cache has for a URL, and what it would do with a request for it.", schema::<CacheInspection>) },
    Operation { query: &[("app", "Routes of this app only.")], ..read("/v1/cache", "getCache", "What the cache did for each route since the server process started, and what it holds.", schema::<CacheReport>) },
    Operation { method: "post", request: Some((JSON, Some(schema::<ExplainQuery>))), ..read("/v1/gateway/explain", "explainRequest", "What would become of a request, and why. The request is not made.", schema::<Explanation>) },
    Operation { scope: Some("admin"), query: PAGING, ..read("/v1/tokens", "listTokens", "Tokens, oldest first.", schema::<Page<Token>>) },
    Operation { method: "post", scope: Some("admin"), request: Some((JSON, Some(schema::<TokenRequest>))), status: "201", ..read("/v1/tokens", "createToken", "Make a token. It is shown once.", schema::<NewToken>) },
    Operation { method: "delete", scope: Some("admin"), status: "204", answer: None, ..read("/v1/tokens/{id}", "revokeToken", "Revoke a token.", schema::<Token>) },
    Operation { query: LOG_FILTER, ..read("/v1/logs", "getLogs", "The newest log entries, oldest first.", schema::<Page<LogEntry>>) },
    Operation { query: LOG_FILTER, answer: Some(("text/event-stream", None)), ..read("/v1/logs/stream", "followLogs", "Log entries as they come: events `entry` and `dropped`.", schema::<LogEntry>) },
    Operation { query: &[("app", "Of this app only."), ("client", "Of the API clients of this id only."), ("since", "First day, YYYY-MM-DD in UTC."), ("until", "Last day, included.")], ..read("/v1/usage", "getUsage", "Usage by day, app, function or upstream, revision and API client.", schema::<Usage>) },
    Operation { query: &[("app", "Of this app only.")], ..read("/v1/gateway/routes", "getRoutes", "What the gateway counted for each route since the server process started.", schema::<RoutesReport>) },
    Operation { query: &[("app", "Of this app only.")], ..read("/v1/gateway/upstreams", "getUpstreams", "Upstreams and their targets, as they are now.", schema::<UpstreamsReport>) },
];

/// The whole document.
pub(super) fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let problem = schema::<ProblemBody>(&mut generator);
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let described = describe(operation, &problem, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Squall admin API",
            "version": "1",
            "description": "Apps, revisions, traffic, gateway, API clients, secrets, tokens, logs and usage of a Squall node.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of scope read, deploy or admin; each includes those before it.",
                }
            },
        },
    })
}

fn describe(operation: &Operation, problem: &Schema, generator: &mut SchemaGenerator) -> Value {
    let mut content = |of: &Option<(&str, Option<SchemaOf>)>| {
        let (kind, schema) = of.as_ref()?;
        let schema = schema.map_or_else(|| json!({}), |schema| schema(generator).to_value());
        Some(json!({ *kind: { "schema": schema } }))
    };
    let mut success = json!({ "description": "Done." });
    if let Some(answer) = content(&operation.answer) {
        success["content"] = answer;
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": {
            operation.status: success,
            "default": {
                "description": "A problem (RFC 9457) with a stable code.",
                "content": { "application/problem+json": { "schema": problem } },
            },
        },
    });
    if let Some(body) = content(&operation.request) {
        described["requestBody"] = json!({ "required": true, "content": body });
    }
    match operation.scope {
        Some(scope) => described["description"] = format!("Needs a token of scope {scope}.").into(),
        None => described["security"] = json!([]),
    }
    let in_path = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
    });
    let in_query = operation.query.iter().map(|(name, what)| {
        json!({"name": name, "in": "query", "description": what, "schema": {"type": "string"}})
    });
    let parameters: Vec<Value> = in_path.chain(in_query).collect();
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    described
}
