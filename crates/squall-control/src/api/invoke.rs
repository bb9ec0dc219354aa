//! Calling a function through the admin API, live or of any revision.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use squall_types::invoke::Scheduled;
use squall_types::shard::Local;
use squall_types::state::HandlerWorld;
use squall_types::trace::{TraceContext, random};
use squall_types::usage::Meter;
use squall_types::{AppName, Body, ErrorCode, Invocation, Trigger};

use crate::api::apps::invalid_json;
use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Path, unknown_app};
use crate::tokens::Scope;

/// A larger response is cut off with an error: this is for trying things out.
const RESPONSE_MAX_BYTES: usize = 16 << 20;

#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvokeRequest {
    /// Needed when the app has more than one.
    pub function: Option<String>,
    /// The one with most traffic, unless given.
    pub revision: Option<String>,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default = "root")]
    pub path: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body_base64: Option<String>,
    /// Runs the function's `scheduled` handler instead; what is said of a request does not
    /// reach it.
    pub scheduled: Option<ScheduledRequest>,
}

/// An event of a schedule, as if its time had come.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledRequest {
    /// What the handler finds as `controller.cron`.
    #[serde(default)]
    pub cron: String,
    /// Milliseconds since 1970; now, unless given.
    pub time_ms: Option<u64>,
}

fn get() -> String {
    "GET".to_owned()
}
fn root() -> String {
    "/".to_owned()
}

#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct InvokeAnswer {
    pub status: u16,
    /// Name and value; a name may come more than once.
    pub headers: Vec<(String, String)>,
    pub body_base64: String,
    pub duration_us: u64,
    pub trace_id: String,
}

pub(crate) async fn invoke(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    asked: Result<Json<InvokeRequest>, axum::extract::rejection::JsonRejection>,
) -> Answer<Json<InvokeAnswer>> {
    caller.needs(Scope::Deploy)?;
    let Json(asked) = asked.map_err(invalid_json)?;
    let name = AppName::parse(&app).map_err(|_| unknown_app(&app))?;
    let state = inner.desired().app(&name).ok_or_else(|| unknown_app(&app))?;
    let revision = match &asked.revision {
        Some(id) => state.revisions.iter().find(|one| one.id.as_str() == id).cloned(),
        None => state.traffic.iter().max_by_key(|s| s.percent).map(|share| share.revision.clone()),
    };
    let revision = revision.ok_or_else(|| {
        Problem::new(ErrorCode::UnknownRevision, format!("the app {name} has no such revision"))
    })?;
    let function = match (&asked.function, revision.functions.as_slice()) {
        (Some(wanted), all) => all.iter().find(|one| one.key.function.as_str() == wanted),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let function = function.cloned().ok_or_else(|| {
        let names: Vec<&str> =
            revision.functions.iter().map(|one| one.key.function.as_str()).collect();
        Problem::new(
            ErrorCode::UnknownFunction,
            match names.as_slice() {
                [] => format!("the app {app} has no functions"),
                names => format!("name one of the app's functions: {}", names.join(", ")),
            },
        )
    })?;

    let invalid = |what: String| Problem::new(ErrorCode::InvalidRequest, what);
    let body = asked.body_base64.as_deref().map(|body| STANDARD.decode(body)).transpose();
    let body = body.map_err(|error| invalid(format!("body_base64: {error}")))?.unwrap_or_default();
    let host = format!("{name}.localhost");
    let mut request = http::Request::builder()
        .method(asked.method.as_str())
        .uri(format!("http://{host}{}", asked.path));
    for (header, value) in &asked.headers {
        request = request.header(header, value);
    }
    let trace = TraceContext::from_random(random());
    let mut request =
        request.body(Body::full(body)).map_err(|error| invalid(format!("the request: {error}")))?;
    if !asked.headers.keys().any(|header| header.eq_ignore_ascii_case("host"))
        && let Ok(host) = host.parse()
    {
        request.headers_mut().insert("host", host);
    }
    if let Ok(parent) = http::HeaderValue::from_bytes(&trace.header()) {
        request.headers_mut().insert("traceparent", parent);
    }
    if let Some(scheduled) = asked.scheduled {
        if function.world != HandlerWorld::JavaScript {
            let name = &function.key.function;
            let what = format!(
                "{name} is a component: only functions with a source have a scheduled handler"
            );
            return Err(Problem::new(ErrorCode::InvalidRequest, what));
        }
        let now_ms = || {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.unwrap_or_default().as_millis() as u64
        };
        let time_ms = scheduled.time_ms.unwrap_or_else(now_ms);
        request.extensions_mut().insert(Scheduled { cron: scheduled.cron, time_ms });
    }
    let accepted = Instant::now();
    let function = Local::from(function);
    let meter = Meter::start(
        inner.options.usage_sink.clone().into(),
        function.clone(),
        Trigger::Manual,
        &trace,
        SystemTime::now(),
        accepted,
    );
    let invocation = Invocation {
        function,
        environment: state.environment.clone().into(),
        trigger: Trigger::Manual,
        request,
        trace,
        meter: meter.clone(),
    };
    let response = match inner.options.invoke.invoke(invocation).await {
        Ok(response) => response,
        Err(error) => {
            meter.set_status(error.code.status());
            meter.finish();
            return Err(Problem::new(error.code, error.message));
        }
    };
    let (head, body) = response.into_parts();
    meter.set_status(head.status.as_u16());
    let body = http_body_util::Limited::new(body, RESPONSE_MAX_BYTES).collect().await;
    let body = body
        .map_err(|error| {
            Problem::new(ErrorCode::GuestError, format!("the response broke off: {error}"))
        })?
        .to_bytes();
    meter.add_bytes_out(body.len() as u64);
    meter.finish();
    let headers = head.headers.iter().map(|(header, value)| {
        (header.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    Ok(Json(InvokeAnswer {
        status: head.status.as_u16(),
        headers: headers.collect(),
        body_base64: STANDARD.encode(&body),
        duration_us: accepted.elapsed().as_micros() as u64,
        trace_id: trace.trace_id_hex().to_string(),
    }))
}
