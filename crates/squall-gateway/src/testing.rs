//! Apps and doors for the tests of this crate.

use std::sync::Arc;

use squall_types::invoke::{Invocation, InvokeFuture};
use squall_types::log::{AccessRecord, LogLine, LogSink};
use squall_types::manifest::Manifest;
use squall_types::state::{
    AppState, ApplySnapshot as _, BlobId, FunctionKey, FunctionSpec, HandlerWorld, RevisionState,
    Share, Snapshot,
};
use squall_types::usage::{UsageRecord, UsageSink};
use squall_types::{Body, Invoke, RevisionId};

use crate::{Contracts, Door, Gateway, Options};

/// Answers nothing and keeps nothing.
struct Nobody;

impl UsageSink for Nobody {
    fn record(&self, _: UsageRecord) {}
}
impl LogSink for Nobody {
    fn line(&self, _: LogLine) {}
    fn access(&self, _: AccessRecord) {}
}
impl Invoke for Nobody {
    fn invoke(&self, _: Invocation) -> InvokeFuture {
        Box::pin(async { Ok(http::Response::new(Body::empty())) })
    }
}

pub(crate) fn contracts() -> Contracts {
    let nobody = Arc::new(Nobody);
    Contracts {
        invoke: nobody.clone(),
        usage: nobody.clone(),
        logs: nobody,
        blobs: Arc::new(|id: &BlobId| id.to_string().into()),
    }
}

/// A door with these apps behind it.
pub(crate) fn door(apps: &[Arc<AppState>]) -> Arc<Door> {
    let gateway = Gateway::new(Options::default(), contracts());
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
    let manifest = manifest.unwrap_or_else(|error| panic!("{error}: {text}"));
    let id = RevisionId::parse("abcdefghij").unwrap();
    let functions: Vec<_> = manifest
        .functions
        .iter()
        .map(|(function, settings)| {
            Arc::new(FunctionSpec {
                key: FunctionKey {
                    app: manifest.name.clone(),
                    revision: id.clone(),
                    function: function.clone(),
                },
                code: BlobId([0; 32]),
                world: HandlerWorld::Http02,
                mode: settings.instances,
                shared: settings.shared.clone(),
                limits: settings.limits.clone(),
                allowed_hosts: Vec::new(),
                allow_private: false,
                variables: Default::default(),
                fall_through: settings.fall_through,
                bindings: Default::default(),
            })
        })
        .collect();
    let revision = Arc::new(RevisionState {
        id,
        app: manifest.name.clone(),
        functions,
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
