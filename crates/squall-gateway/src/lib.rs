//! The HTTP data plane: from a listening socket to a function or a file, and back.
//!
//! `request.rs` is the life of a request from top to bottom. What stands before it
//! (`listener`, `framing`, `guard`) makes sure that there is exactly one way to read what
//! came in. Nothing here runs guests, and nothing here changes desired state.

mod request;

mod clients;
mod connection;
mod cookie;
mod flood;
mod framing;
mod listener;
mod proxy_protocol;
pub mod tls;

mod assets;
mod bindings;
mod cache;
mod client;
mod explain;
mod guard;
mod home;
mod http1;
mod inert;
mod lines;
mod origin;
mod policy;
mod proxy;
mod rejection;
mod response;
mod rest;
mod routing;
mod stream;
mod timer;
mod transform;
mod turn;
mod upload;
mod vary;

mod metrics;
mod route_metrics;

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use squall_cache::store::Store;
use squall_types::dial::Dial;
use squall_types::gateway::{ReportRoutes, ReportUpstreams, RoutesReport, UpstreamsReport};
use squall_types::log::LogSink;
use squall_types::outbound::Outbound;
use squall_types::shard::Spread;
use squall_types::state::{ApplySnapshot, BlobId, Snapshot};
use squall_types::usage::{UsageFilter, UsageSink, UsageStore};
use squall_types::{AppName, Invoke};
use tokio::runtime::Handle;

pub use crate::explain::explain_manifest;

use crate::assets::Files;
use crate::cache::EdgeCache;
use crate::metrics::Counters;
use crate::policy::compression::Encoders;
use crate::policy::identity::Sources;
use crate::policy::limits::{EmbeddedRates, Limits};
use crate::proxy::Upstreams;
use crate::route_metrics::RouteRegistry;
use crate::routing::RouteTable;
use crate::tls::Tls;

pub use crate::policy::identity::hash_password;

/// What a client may use of the door before any function has a say.
#[derive(Debug, Clone)]
pub struct DoorLimits {
    /// From the start of a connection, or the end of a response, to a whole head.
    pub head_timeout: Duration,
    /// A head that has begun and comes slower is given up, after five seconds of grace.
    pub head_rate_min_bytes_per_s: u64,
    /// A connection of HTTP/2 without requests is ended after so long.
    pub idle_timeout: Duration,
    /// For a handshake of TLS.
    pub handshake_timeout: Duration,
    pub head_bytes_max: usize,
    pub headers_max: usize,
    /// At once, on this node. Beyond it, connections wait in the backlog.
    pub connections_max: usize,
    /// Of one client at once, 0 for any number. Those beyond it are closed.
    pub connections_per_client_max: u32,
    /// A request body slower than this, averaged over ten seconds, is given up.
    pub body_rate_min_bytes_per_s: u64,
    /// A client that takes nothing of its response for so long is given up.
    pub write_timeout: Duration,
    /// Requests at once on a connection of HTTP/2.
    pub streams_max: u32,
    /// What a client may send of a body before anybody reads it, with HTTP/2.
    pub stream_window_bytes: u32,
}

impl DoorLimits {
    /// What is read of a connection of HTTP/1 before its request is known.
    pub(crate) fn http1_buffer_bytes(&self) -> usize {
        self.head_bytes_max.max(8 << 10)
    }
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(30),
            head_rate_min_bytes_per_s: 240,
            idle_timeout: Duration::from_secs(120),
            handshake_timeout: Duration::from_secs(10),
            head_bytes_max: 64 << 10,
            headers_max: 100,
            connections_max: 20_000,
            connections_per_client_max: 0,
            body_rate_min_bytes_per_s: 240,
            write_timeout: Duration::from_secs(60),
            streams_max: 100,
            stream_window_bytes: 64 << 10,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub limits: DoorLimits,
    /// Peers whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections begin with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
    /// What becomes of headers with an underscore in their name.
    pub underscore_headers: UnderscoreHeaders,
    /// The port to which callers are sent for https; 443 without it.
    pub https_port: Option<u16>,
    /// A path that the gateway answers by itself, to measure what it costs.
    pub fixed_response_path: Option<String>,
    /// Larger responses are not stored by routes that do not say it themselves.
    pub cache_object_max_bytes: Option<u64>,
    /// The CPU of each core, in the order in which they are given to `serve`, where each keeps
    /// to one. Connections follow their packets then.
    pub core_cpus: Vec<usize>,
    /// For the sockets that `serve_tls` is given.
    pub tls: Option<Arc<Tls>>,
}

impl Options {
    pub(crate) fn is_trusted(&self, peer: std::net::IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}

/// Programs behind a gateway often take `_` and `-` in a header's name for the same (CGI,
/// WSGI), so one may shadow another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnderscoreHeaders {
    /// A request is refused when one would shadow a header that it has as well, or one
    /// that the gateway answers for. Others pass.
    #[default]
    Reject,
    /// All of them are removed.
    Drop,
    /// All pass, except what would shadow the gateway's own word; that is removed.
    Allow,
}

/// Where the file of a blob lies.
pub type BlobPath = Arc<dyn Fn(&BlobId) -> PathBuf + Send + Sync>;

/// What the gateway needs of the rest of the node.
pub struct Contracts {
    pub invoke: Arc<dyn Invoke>,
    pub usage: Arc<dyn UsageSink>,
    pub logs: Arc<dyn LogSink>,
    pub blobs: BlobPath,
    /// For the keys of token issuers.
    pub outbound: Arc<dyn Outbound>,
    /// Opens connections to upstreams.
    pub dial: Arc<dyn Dial>,
    /// Where responses are kept.
    pub cache: Arc<Store>,
}

/// The gateway of a node. Clones share everything.
#[derive(Clone)]
pub struct Gateway(Arc<Door>);

pub(crate) struct Door {
    pub(crate) options: Options,
    pub(crate) contracts: Contracts,
    pub(crate) usage: Spread<dyn UsageSink>,
    pub(crate) routes: ArcSwap<RouteTable>,
    pub(crate) files: Files,
    pub(crate) upstreams: Upstreams,
    pub(crate) counters: Counters,
    pub(crate) identity: Sources,
    pub(crate) route_metrics: RouteRegistry,
    pub(crate) encoders: Arc<Encoders>,
    pub(crate) limits: Limits,
    pub(crate) cache: EdgeCache,
    pub(crate) connections: listener::Connections,
}

impl Gateway {
    pub fn new(options: Options, contracts: Contracts) -> Self {
        let files = Files::new(contracts.blobs.clone());
        let upstreams = Upstreams::new(contracts.dial.clone(), contracts.logs.clone());
        let identity = Sources::new(contracts.outbound.clone());
        let connections = listener::Connections::new(&options);
        let cache = EdgeCache::new(contracts.cache.clone(), options.cache_object_max_bytes);
        Self(Arc::new(Door {
            options,
            usage: contracts.usage.clone().into(),
            contracts,
            identity,
            routes: ArcSwap::from_pointee(RouteTable::default()),
            files,
            upstreams,
            counters: Counters::default(),
            route_metrics: RouteRegistry::default(),
            encoders: Arc::default(),
            // The place where a store that nodes share would take over.
            limits: Limits::new(Arc::new(EmbeddedRates::new())),
            cache,
            connections,
        }))
    }

    /// Accepts connections of `listener` on a core until `drain`. The socket must not
    /// block.
    ///
    /// # Errors
    /// Fails when the socket can not be registered with the core's runtime.
    pub fn serve(&self, core: &Handle, listener: TcpListener) -> std::io::Result<()> {
        self.accept(core, listener, None)
    }

    /// As `serve`, for connections that begin with a handshake of TLS.
    ///
    /// # Errors
    /// Fails as `serve` does, and without TLS among the options.
    pub fn serve_tls(&self, core: &Handle, listener: TcpListener) -> std::io::Result<()> {
        let tls = self.0.options.tls.clone();
        let tls = tls.ok_or_else(|| std::io::Error::other("there is no TLS configuration"))?;
        self.accept(core, listener, Some(tls))
    }

    fn accept(
        &self,
        core: &Handle,
        listener: TcpListener,
        tls: Option<Arc<Tls>>,
    ) -> std::io::Result<()> {
        self.0.upstreams.run_on(core);
        let _entered = core.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let here = self.0.connections.core(core);
        core.spawn(listener::accept(self.0.clone(), here, listener, tls));
        Ok(())
    }

    /// Raises the counts of quotas to what the ledger has of this month. To be called
    /// before requests come: until then every client begins at none. Reads from disk.
    ///
    /// # Errors
    /// Fails when the ledger can not be read; counts are then as they were.
    pub fn restore_quotas(&self, usage: &dyn UsageStore) -> std::io::Result<()> {
        let now = SystemTime::now();
        let from = Some(Limits::quotas_begin(now).to_string());
        let rows = usage.usage(&UsageFilter { from, ..UsageFilter::default() })?;
        self.0.limits.restore_quotas(&rows, now);
        Ok(())
    }

    /// Purges wait from now on: another store follows, with responses that a purge must
    /// reach.
    pub fn await_cache(&self) {
        self.0.cache.await_store();
    }

    /// Keeps responses in another store from now on: in that of a disk which was not free
    /// before, or in one that leaves the disk to a successor.
    pub fn set_cache(&self, store: Arc<Store>) {
        self.0.cache.set_store(store);
    }

    /// No other store follows.
    pub fn no_other_cache(&self) {
        self.0.cache.no_other_store();
    }

    /// Stops accepting, lets every connection end after its present request, and waits
    /// until all have ended, at most `longest`. Returns how many had to be cut off.
    pub async fn drain(&self, longest: Duration) -> usize {
        self.0.connections.drain(longest).await
    }

    /// Prometheus text.
    pub fn write_metrics(&self, out: &mut String) {
        self.0.counters.write(out, &self.0.connections);
        self.0.identity.write_metrics(out);
        self.0.upstreams.write_metrics(out);
        self.0.route_metrics.write(out);
        self.0.encoders.write_metrics(out);
        self.0.limits.write_metrics(out);
        self.0.cache.write_metrics(&self.0.route_metrics.cache_reports(None), out);
        if let Some(tls) = &self.0.options.tls {
            tls.write_metrics(out);
        }
    }
}

impl ApplySnapshot for Gateway {
    fn apply(&self, snapshot: &Arc<Snapshot>) {
        let before = self.0.routes.load_full();
        self.0.routes.store(Arc::new(RouteTable::compile(snapshot, &before, &self.0)));
        drop(before);
        self.0.route_metrics.forget_gone();
        if let Some(tls) = &self.0.options.tls {
            tls.know_hosts(snapshot.apps.iter().flat_map(|app| &app.hosts).map(String::as_str));
        }
    }
}

impl ReportRoutes for Gateway {
    fn routes(&self, app: Option<&AppName>) -> RoutesReport {
        self.0.route_metrics.report(app)
    }
}

impl ReportUpstreams for Gateway {
    fn upstreams(&self, app: Option<&AppName>) -> UpstreamsReport {
        let routes = self.0.routes.load();
        self.0.upstreams.report(app, |pool| routes.revisions_with(pool))
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
