//! A gateway without a node: it can say where a request would go, and sends it nowhere.

use std::sync::Arc;

use squall_cache::store::Store;
use squall_types::dial::{Dial, Endpoint, OpenFuture, ResolveFuture};
use squall_types::invoke::{Invocation, InvokeFuture};
use squall_types::log::{AccessRecord, AppLine, LogLine, LogSink};
use squall_types::manifest::Manifest;
use squall_types::outbound::{
    Outbound, OutboundError, OutboundErrorKind, OutboundFuture, OutboundPolicy, OutboundTimeouts,
};
use squall_types::state::{
    AppState, BlobId, FunctionKey, FunctionSpec, HandlerWorld, RevisionState, Share,
};
use squall_types::usage::{UsageRecord, UsageSink};
use squall_types::{Body, ErrorCode, Invoke, InvokeError, RevisionId};

use crate::Contracts;

struct Inert;

impl UsageSink for Inert {
    fn record(&self, _: UsageRecord) {}
}

impl LogSink for Inert {
    fn line(&self, _: LogLine) {}
    fn app_line(&self, _: AppLine) {}
    fn access(&self, _: &AccessRecord<'_>) {}
}

impl Invoke for Inert {
    fn invoke(&self, _: Invocation) -> InvokeFuture {
        Box::pin(async { Err(InvokeError::new(ErrorCode::Draining, "this gateway runs nothing")) })
    }
}

impl Outbound for Inert {
    fn send(
        &self,
        _: http::Request<Body>,
        _: Arc<OutboundPolicy>,
        _: OutboundTimeouts,
    ) -> OutboundFuture {
        let message = "this gateway asks nobody";
        Box::pin(async move { Err(OutboundError::new(OutboundErrorKind::Denied, message)) })
    }
}

impl Dial for Inert {
    fn resolve(&self, _: &Endpoint) -> ResolveFuture {
        Box::pin(std::future::pending())
    }
    fn open(&self, _: &Endpoint, _: std::net::SocketAddr) -> OpenFuture {
        Box::pin(std::future::pending())
    }
}

pub(crate) fn inert_contracts() -> Contracts {
    let inert = Arc::new(Inert);
    Contracts {
        invoke: inert.clone(),
        usage: inert.clone(),
        logs: inert.clone(),
        outbound: inert.clone(),
        blobs: Arc::new(|id: &BlobId| id.to_string().into()),
        dial: inert,
        cache: Arc::new(Store::in_memory(0)),
    }
}

/// An app as it would be served after a deployment of its manifest.
pub(crate) fn deployed(manifest: &Manifest) -> Arc<AppState> {
    let id = RevisionId::parse("abcdefghij").expect("letters only");
    let functions = manifest.functions.iter().map(|(function, settings)| {
        Arc::new(FunctionSpec {
            key: FunctionKey {
                app: manifest.name.clone(),
                revision: id.clone(),
                function: function.clone(),
            },
            code: BlobId([0; 32]),
            world: HandlerWorld::JavaScript,
            mode: settings.instances,
            shared: settings.shared.clone(),
            limits: settings.limits.clone(),
            allowed_hosts: settings.allowed_hosts.clone(),
            allow_private: settings.allow_private,
            variables: manifest.variables_of(settings),
            fall_through: settings.fall_through,
            bindings: manifest.bindings_of(settings),
        })
    });
    let revision = Arc::new(RevisionState {
        functions: functions.collect(),
        id: id.clone(),
        app: manifest.name.clone(),
        assets: Default::default(),
        manifest: manifest.clone(),
    });
    Arc::new(AppState {
        name: manifest.name.clone(),
        hosts: manifest.hosts.clone(),
        default: manifest.default,
        traffic: vec![Share { revision: revision.clone(), percent: 100 }],
        revisions: vec![revision],
        environment: Arc::default(),
        clients: Arc::default(),
    })
}
