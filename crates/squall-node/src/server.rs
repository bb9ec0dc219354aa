//! The server process: builds every room from the configuration, joins them, runs until
//! it is told to drain. The sockets are the supervisor's; this process inherits them.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use squall_control::{Control, ControlOptions};
use squall_gateway::tls::Tls;
use squall_gateway::{Contracts, Gateway};
use squall_net::{ClientOptions, GuardedClient};
use squall_runtime::cores::Cores;
use squall_runtime::{Runtime, RuntimeOptions};
use squall_telemetry::{Ledger, LedgerOptions, Logs, LogsOptions};
use squall_types::bindings::{Bindings, BoundRequest};
use squall_types::build::Build as _;
use squall_types::cache::{CacheError, CacheFuture, CacheRequest, FunctionCaches};
use squall_types::invoke::InvokeFuture;
use squall_types::node::{Node, NodeStatus};
use squall_types::state::FunctionSpec;
use squall_types::{Body, ErrorCode, InvokeError};
use squall_wasm::engine::{EngineOptions, Engines};
use squall_wasm::executor::{WasmExecutor, WasmOptions};
use tokio::runtime::Handle;

use crate::admin::AdminServer;
use crate::build::ChildBuilder;
use crate::cache;
use crate::config::ServerConfig;
use crate::control_channel::{Channel, Command, Event, JOB_VARIABLE, ServerJob};
use crate::data_dir::node_key;
use crate::error::UpError;
use crate::javascript::StoredMaps;

/// Threads for the control plane and everything else that is not a request.
const BACKGROUND_THREADS: usize = 2;
/// How long open admin requests may take to finish before a handover.
const ADMIN_PATIENCE: Duration = Duration::from_secs(45);
/// By then most of what an old server had to finish is in the ledger.
const QUOTAS_AFTER_HANDOVER: Duration = Duration::from_secs(60);

/// `squall __server`: what the supervisor starts. Returns the exit code.
pub fn serve() -> i32 {
    start_log();
    crate::faults::die_of_sent_faults();
    crate::allocator::hold_little();
    let job = match take_job() {
        Ok(job) => job,
        Err(why) => {
            eprintln!("this command is the supervisor's: {why}; run `squall up`");
            return 2;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(BACKGROUND_THREADS)
        .thread_name("squall-background")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("the background threads do not start: {error}");
            return 1;
        }
    };
    let code = runtime.block_on(run(job));
    runtime.shutdown_background();
    code
}

fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SQUALL_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // Saying that nothing can be said would end the server.
        .log_internal_errors(false)
        .try_init();
}

/// Where callers are sent that are to use HTTPS.
/// The CPU of each core, where each keeps to one.
fn core_cpus(cores: &Cores) -> Vec<usize> {
    let cpus = squall_runtime::own_cpus();
    if cpus.len() == cores.handles().len() { cpus } else { Vec::new() }
}

fn https_port(config: &ServerConfig, sockets: &Sockets) -> Option<u16> {
    let listener = sockets.tls.first().and_then(|sockets| sockets.first());
    let own = || Some(listener?.local_addr().ok()?.port());
    config.gateway.tls.public_port.or_else(own)
}

fn take_job() -> Result<ServerJob, String> {
    let text = std::env::var(JOB_VARIABLE).map_err(|_| "there is no job".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("the job can not be read: {error}"))
}

async fn run(job: ServerJob) -> i32 {
    // SAFETY: the supervisor opened the descriptors for this process and told their
    // numbers; each is taken once.
    let (mut channel, gateway, tls, admin) = unsafe {
        let control = OwnedFd::from_raw_fd(job.control_fd);
        let take = |addresses: &[Vec<i32>]| -> Vec<Vec<TcpListener>> {
            let of_one =
                |fds: &Vec<i32>| fds.iter().map(|fd| TcpListener::from_raw_fd(*fd)).collect();
            addresses.iter().map(of_one).collect()
        };
        let (gateway, tls) = (take(&job.gateway_fds), take(&job.tls_fds));
        let admin = TcpListener::from_raw_fd(job.admin_fd);
        match Channel::new(control) {
            Ok(channel) => (channel, gateway, tls, admin),
            Err(error) => {
                tracing::error!("the supervisor can not be reached: {error}");
                return 1;
            }
        }
    };
    let server = match Server::build(job, Sockets { gateway, tls, admin }) {
        Ok(server) => server,
        Err(error) => {
            let failed = Event::Failed { code: error.code(), message: error.to_string() };
            let _ = channel.send(&failed).await;
            return 1;
        }
    };
    server.run(channel).await
}

/// The supervisor's sockets, of which this process has copies.
struct Sockets {
    /// One for each core, for each address.
    gateway: Vec<Vec<TcpListener>>,
    tls: Vec<Vec<TcpListener>>,
    admin: TcpListener,
}

struct Server {
    job: ServerJob,
    sockets: Sockets,
    tls: Option<Arc<Tls>>,
    facts: Arc<Facts>,
    ledger: Arc<Ledger>,
    logs: Arc<Logs>,
    builder: Arc<ChildBuilder>,
    cores: Arc<Cores>,
    executor: Arc<WasmExecutor>,
    runtime: Runtime,
    gateway: Gateway,
    /// The cache's disk, while the server before still has it.
    awaited_cache: Option<cache::Awaited>,
    control: Control,
}

impl Server {
    fn build(job: ServerJob, sockets: Sockets) -> Result<Self, UpError> {
        raise_file_limit();
        let config = &job.config;
        let data = &job.data_dir;
        let storage = |what: &str, error: std::io::Error| {
            let full = error.kind() == std::io::ErrorKind::StorageFull;
            let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageFailed };
            UpError::new(code, format!("{what} can not be opened: {error}"))
        };

        let mut ledger = LedgerOptions::new(data.join("usage"));
        ledger.flush_interval = Duration::from_millis(config.usage.flush_ms);
        ledger.retain.days = config.usage.retain_days;
        ledger.on_thread_start = squall_runtime::wake_promptly;
        let ledger = Ledger::open(ledger).map_err(|error| storage("the usage ledger", error))?;
        let mut logs = LogsOptions::new(data.join("logs"));
        logs.access_log = config.logs.access_log;
        logs.max_bytes = config.logs.file_bytes_max;
        logs.files = config.logs.files;
        logs.on_thread_start = squall_runtime::wake_promptly;
        let logs = Logs::open(logs).map_err(|error| storage("the log", error))?;

        let outbound = GuardedClient::new(ClientOptions {
            extra_roots: read_roots(&config.outbound.extra_roots)?,
            ..ClientOptions::default()
        });
        let outbound = outbound.map_err(|error| {
            let why = format!("outbound.extra_roots: {error}");
            UpError::new(ErrorCode::InvalidConfig, why)
        })?;

        let caps = config.caps();
        let engine_options = EngineOptions {
            instance_slots: config.runtime.instance_slots,
            memory_bytes_max: caps.memory_bytes.next_multiple_of(64 << 10),
        };
        let engines = Engines::new(&engine_options).map_err(|error| {
            UpError::other(format!(
                "memory for {} instances can not be reserved: {error:#}; lower runtime.instance_slots or limits.memory_bytes in server.toml",
                engine_options.instance_slots
            ))
        })?;
        let artifacts = data.join("artifacts");
        let builder =
            ChildBuilder::new(artifacts, engines.clone(), engine_options, config.node.builds);
        let artifact_path = {
            let builder = builder.clone();
            Arc::new(move |function: &FunctionSpec| {
                builder.artifact_path(&function.code, &function.target())
            })
        };
        let blob_path = {
            let data = data.clone();
            Arc::new(move |id: &_| Control::blob_path(&data, id))
        };
        let from_functions = Arc::new(FromFunctions::default());
        let executor = WasmExecutor::new(WasmOptions {
            bindings: from_functions.clone(),
            caches: from_functions.clone(),
            recordings: None,
            engines,
            artifact_path,
            logs: logs.clone(),
            outbound: Arc::new(outbound.clone()),
            stacks: Arc::new(StoredMaps { blob_path: blob_path.clone() }),
        });
        let executor = executor
            .map_err(|error| UpError::other(format!("the executor does not start: {error:#}")))?;

        let cores = Cores::start(config.cores())
            .map_err(|error| UpError::other(format!("the cores do not start: {error}")))?;
        let cores = Arc::new(cores);
        let slots = config.runtime.instance_slots;
        let runtime = Runtime::new(
            RuntimeOptions {
                // Below the pool: a full node queues instead of failing.
                max_invocations: slots - slots / 10,
                max_waiting: config.runtime.max_waiting,
                idle_unload: Duration::from_secs(config.runtime.idle_unload_s),
                max_loaded: config.runtime.max_loaded,
            },
            cores.clone(),
            executor.clone(),
            logs.clone(),
        );
        let tls = &config.gateway.tls;
        let tls = tls.is_on().then(|| Tls::open(tls.options(data))).transpose();
        let tls = tls.map_err(|error| UpError::new(ErrorCode::InvalidConfig, error.to_string()))?;
        let cache::Opened { store, awaited } = cache::open(&config.cache, data);
        let gateway = Gateway::new(
            squall_gateway::Options {
                underscore_headers: config.gateway.underscore_headers.into(),
                https_port: https_port(config, &sockets),
                core_cpus: core_cpus(&cores),
                tls: tls.clone(),
                limits: config.gateway.door_limits(),
                trusted_proxies: config
                    .gateway
                    .trusted_networks()
                    .map_err(|why| UpError::new(ErrorCode::InvalidConfig, why))?,
                proxy_protocol: config.gateway.proxy_protocol,
                fixed_response_path: config.gateway.fixed_response_path.clone(),
                cache_object_max_bytes: Some(config.cache.object_max_bytes),
            },
            Contracts {
                invoke: Arc::new(runtime.clone()),
                usage: ledger.clone(),
                logs: logs.clone(),
                blobs: blob_path,
                outbound: Arc::new(outbound.clone()),
                dial: Arc::new(outbound.clone()),
                cache: store,
            },
        );
        if awaited.is_some() {
            gateway.await_cache();
        }
        from_functions.join(&gateway);
        let facts = Facts::new(&job, &sockets).map_err(|error| {
            UpError::other(format!("the sockets were not handed over: {error}"))
        })?;
        let facts = Arc::new(facts);
        let control = Control::open(ControlOptions {
            data_dir: data.clone(),
            node_key: node_key(data).map_err(|error| storage("node.key", error))?,
            build: builder.clone(),
            // Functions are known before requests for them come.
            apply: vec![Arc::new(runtime.clone()), Arc::new(gateway.clone())],
            invoke: Arc::new(runtime.clone()),
            explain: Arc::new(gateway.clone()),
            usage_sink: ledger.clone(),
            usage: ledger.clone(),
            logs: logs.clone(),
            routes: Arc::new(gateway.clone()),
            upstreams: Arc::new(gateway.clone()),
            cache: Arc::new(gateway.clone()),
            node: facts.clone(),
            caps,
            upload_bytes_max: config.admin.upload_bytes_max,
            admin_hosts: config.admin.hosts.clone(),
        });
        let control = control.map_err(|error| match error {
            squall_control::OpenError::Database(
                error @ squall_sqlite::OpenError::TooNew { .. },
            ) => UpError::new(ErrorCode::DataDirTooNew, error.to_string()),
            other => UpError::new(ErrorCode::StorageFailed, other.to_string()),
        })?;
        let server = Self {
            job,
            sockets,
            tls,
            facts,
            ledger,
            logs,
            builder,
            cores,
            executor,
            runtime,
            gateway,
            awaited_cache: awaited,
            control,
        };
        server.join_metrics(&outbound);
        Ok(server)
    }

    fn join_metrics(&self, outbound: &GuardedClient) {
        let (gateway, runtime) = (self.gateway.clone(), self.runtime.clone());
        let (executor, outbound) = (self.executor.clone(), outbound.clone());
        let (ledger, logs) = (self.ledger.clone(), self.logs.clone());
        let write = move |out: &mut String| {
            gateway.write_metrics(out);
            runtime.write_metrics(out);
            executor.write_metrics(out);
            outbound.write_metrics(out);
            ledger.write_metrics(out);
            logs.write_metrics(out);
            squall_telemetry::process_metrics(out);
        };
        let _ = self.facts.metrics.set(Box::new(write));
    }

    async fn run(mut self, mut channel: Channel) -> i32 {
        if let Some(disk) = self.awaited_cache.take() {
            tokio::spawn(disk.join(self.gateway.clone()));
        }
        match self.prepare_and_serve(&mut channel).await {
            Ok(admin) => self.obey(channel, admin).await,
            Err(error) => {
                let failed = Event::Failed { code: error.code(), message: error.to_string() };
                let _ = channel.send(&failed).await;
                1
            }
        }
    }

    async fn prepare_and_serve(&self, channel: &mut Channel) -> Result<AdminServer, UpError> {
        let gone =
            |error: std::io::Error| UpError::other(format!("the supervisor is gone: {error}"));
        if self.job.handover {
            // The old server answers until everything is compiled for this one.
            self.control_work(Control::load).await?;
            prepare_js(&self.control, &self.builder).await;
            build_missing(self.control.clone(), self.builder.clone(), true).await;
        }
        channel.send(&Event::Prepared).await.map_err(gone)?;
        match channel.receive::<Command>().await.map_err(gone)? {
            Some(Command::Go) => {}
            other => {
                return Err(UpError::other(format!("expected the order to go, got {other:?}")));
            }
        }
        if !self.job.handover {
            // Nobody else uses the data directory now.
            self.control_work(Control::load).await?;
            let control = self.control.clone();
            let swept = tokio::task::spawn_blocking(move || control.sweep()).await;
            if let Ok(Err(error)) = swept {
                tracing::warn!("leftovers could not be removed: {error}");
            }
        }
        self.control_work(Control::reload).await?;
        self.restore_quotas().await;
        if self.builder.js_is_compiled() {
            // To map it takes milliseconds: no request shall find it missing.
            prepare_js(&self.control, &self.builder).await;
        }
        let first_token = self.ensure_token().await?;
        self.serve_sockets(&self.sockets.gateway, Gateway::serve)?;
        self.serve_sockets(&self.sockets.tls, Gateway::serve_tls)?;
        if let Some(tls) = &self.tls {
            tokio::spawn(tls.clone().watch());
        }
        let admin = self.serve_admin()?;
        tokio::spawn(self.runtime.clone().sweep_idle());
        tokio::spawn(self.executor.clone().sweep_idle());
        self.become_ready();
        let event = Event::Serving {
            gateway_urls: self.facts.gateway_urls.clone(),
            admin_url: self.facts.admin_url.clone(),
            started_at: self.facts.started_at.clone(),
            first_token,
        };
        channel.send(&event).await.map_err(gone)?;
        Ok(admin)
    }

    /// What API clients used of their quotas is in the ledger. A server that takes over
    /// looks again when the old one has written what it had still to finish.
    async fn restore_quotas(&self) {
        restore_quotas(self.gateway.clone(), self.ledger.clone()).await;
        if self.job.handover {
            let (gateway, ledger) = (self.gateway.clone(), self.ledger.clone());
            tokio::spawn(async move {
                tokio::time::sleep(QUOTAS_AFTER_HANDOVER).await;
                restore_quotas(gateway, ledger).await;
            });
        }
    }

    fn serve_sockets(
        &self,
        addresses: &[Vec<TcpListener>],
        serve: fn(&Gateway, &Handle, TcpListener) -> std::io::Result<()>,
    ) -> Result<(), UpError> {
        let handles = self.cores.handles();
        for (core, socket) in addresses.iter().flat_map(|sockets| sockets.iter().enumerate()) {
            let core = &handles[core % handles.len()];
            socket
                .try_clone()
                .and_then(|socket| serve(&self.gateway, core, socket))
                .map_err(|error| UpError::other(format!("a socket is unusable: {error}")))?;
        }
        Ok(())
    }

    async fn control_work(
        &self,
        work: fn(&Control) -> Result<(), squall_control::OpenError>,
    ) -> Result<(), UpError> {
        let control = self.control.clone();
        let done = tokio::task::spawn_blocking(move || work(&control)).await;
        let done = done.map_err(|error| UpError::other(error.to_string()))?;
        done.map_err(|error| UpError::new(ErrorCode::StorageFailed, error.to_string()))
    }

    async fn ensure_token(&self) -> Result<Option<String>, UpError> {
        let path = self.job.data_dir.join("admin.token");
        let control = self.control.clone();
        let made = tokio::task::spawn_blocking(move || {
            let existing = std::fs::read_to_string(&path).ok();
            let existing = existing.as_deref().map(str::trim);
            let failed = |why: String| UpError::new(ErrorCode::StorageFailed, why);
            let token =
                control.ensure_local_token(existing).map_err(|error| failed(error.to_string()))?;
            if let Some(token) = &token {
                let line = format!("{token}\n");
                crate::data_dir::write_atomically(&path, line.as_bytes())
                    .map_err(|error| failed(format!("admin.token can not be written: {error}")))?;
            }
            Ok(token)
        });
        made.await.map_err(|error| UpError::other(error.to_string()))?
    }

    /// Ready when everything live is compiled, which it is except after an upgrade that
    /// was not handed over, or on another CPU.
    fn become_ready(&self) {
        let (control, builder) = (self.control.clone(), self.builder.clone());
        let facts = self.facts.clone();
        tokio::spawn(async move {
            facts.wait_for(Some("compiling live revisions for this version and CPU"));
            prepare_js(&control, &builder).await;
            build_missing(control.clone(), builder.clone(), true).await;
            facts.wait_for(None);
            build_missing(control, builder.clone(), false).await;
            let swept = tokio::task::spawn_blocking(move || builder.sweep_other_engines()).await;
            if let Ok(Err(error)) = swept {
                tracing::warn!("old artifacts could not be removed: {error}");
            }
        });
    }

    fn serve_admin(&self) -> Result<AdminServer, UpError> {
        let socket = self.sockets.admin.try_clone().and_then(tokio::net::TcpListener::from_std);
        let socket = socket
            .map_err(|error| UpError::other(format!("the admin socket is unusable: {error}")))?;
        Ok(AdminServer::start(socket, self.control.router()))
    }

    /// Obeys the supervisor until the end.
    async fn obey(self, mut channel: Channel, admin: AdminServer) -> i32 {
        let mut admin = Some(admin);
        loop {
            match channel.receive::<Command>().await {
                Ok(Some(Command::StopAdmin)) => {
                    self.control.end_streams();
                    if let Some(admin) = admin.take() {
                        admin.stop(ADMIN_PATIENCE).await;
                    }
                    if channel.send(&Event::AdminStopped).await.is_err() {
                        return 1;
                    }
                }
                Ok(Some(Command::ResumeAdmin)) => match self.serve_admin() {
                    Ok(server) => {
                        self.control.allow_streams();
                        admin = Some(server);
                    }
                    Err(error) => tracing::error!("the admin API can not go on: {error}"),
                },
                Ok(Some(Command::Drain)) => return self.drain(admin).await,
                Ok(Some(Command::Go)) => tracing::warn!("told to go while going"),
                Ok(None) | Err(_) => {
                    tracing::error!("the supervisor is gone");
                    return 1;
                }
            }
        }
    }

    async fn drain(self, admin: Option<AdminServer>) -> i32 {
        self.facts.wait_for(Some("draining"));
        let longest = Duration::from_secs(self.job.config.node.drain_s);
        let until = tokio::time::Instant::now() + longest;
        self.control.end_streams();
        let ending_admin = async {
            if let Some(admin) = admin {
                admin.stop(longest).await;
            }
        };
        let letting_go = cache::let_go(self.gateway.clone(), &self.job.config.cache);
        let (cut, (), ()) = tokio::join!(self.gateway.drain(longest), ending_admin, letting_go);
        if cut > 0 {
            tracing::warn!("{cut} connections were cut off after {} s", longest.as_secs());
        }
        // What guests do after their response, within the same time.
        while self.runtime.running() > 0 && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let flushed = tokio::task::spawn_blocking(move || {
            self.cores.stop();
            self.logs.close();
            self.ledger.close()
        });
        match flushed.await {
            Ok(Ok(())) => 0,
            Ok(Err(error)) => {
                tracing::error!("usage records could not be written: {error}");
                1
            }
            Err(error) => {
                tracing::error!("ending failed: {error}");
                1
            }
        }
    }
}

/// What functions ask of the gateway, which calls functions: the circle is closed once both
/// are there.
#[derive(Default)]
struct FromFunctions(OnceLock<Gateway>);

const STILL_STARTING: &str = "the node is still starting";

impl FromFunctions {
    fn join(&self, gateway: &Gateway) {
        let _ = self.0.set(gateway.clone());
    }

    fn caches<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Gateway) -> CacheFuture<T>,
    ) -> CacheFuture<T> {
        match self.0.get() {
            Some(gateway) => ask(gateway),
            None => Box::pin(async {
                let message = STILL_STARTING.to_owned();
                Err(CacheError { code: ErrorCode::Draining, message })
            }),
        }
    }
}

impl Bindings for FromFunctions {
    fn fetch(&self, request: BoundRequest) -> InvokeFuture {
        match self.0.get() {
            Some(gateway) => gateway.fetch(request),
            None => Box::pin(async {
                Err(InvokeError::new(ErrorCode::Draining, STILL_STARTING).retry_after_s(1))
            }),
        }
    }
}

impl FunctionCaches for FromFunctions {
    fn find(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<Option<http::Response<Body>>> {
        self.caches(|gateway| gateway.find(from, name, request))
    }

    fn put(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
        response: http::Response<Body>,
    ) -> CacheFuture<bool> {
        self.caches(|gateway| gateway.put(from, name, request, response))
    }

    fn delete(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<bool> {
        self.caches(|gateway| gateway.delete(from, name, request))
    }
}

/// Has the engine of JavaScript functions compiled and mapped, where there are any.
async fn prepare_js(control: &Control, builder: &ChildBuilder) {
    if control.has_javascript()
        && let Err(error) = builder.prepare_js().await
    {
        tracing::error!("JavaScript functions can not be called: {error}");
    }
}

/// Compiles what is missing, live revisions or all, one after the other.
async fn build_missing(control: Control, builder: Arc<ChildBuilder>, live_only: bool) {
    let missing = tokio::task::spawn_blocking(move || control.missing_artifacts()).await;
    let missing = missing.unwrap_or_default();
    let wanted: Vec<_> = missing.into_iter().filter(|one| one.live || !live_only).collect();
    if wanted.is_empty() {
        return;
    }
    tracing::info!("compiling {} components for this version and CPU", wanted.len());
    for one in wanted {
        let label = one.job.label.clone();
        if let Err(error) = builder.build(one.job).await {
            tracing::error!("{label} can not be compiled any more: {error}");
        }
    }
}

/// Appends the metrics of all rooms.
type WriteMetrics = Box<dyn Fn(&mut String) + Send + Sync>;

/// Facts of this process, for its admin API.
struct Facts {
    gateway_urls: Vec<String>,
    admin_url: String,
    started_at: String,
    data_dir: String,
    supervisor_pid: u32,
    ready: AtomicBool,
    waiting_for: Mutex<Option<&'static str>>,
    metrics: OnceLock<WriteMetrics>,
}

impl Facts {
    fn new(job: &ServerJob, sockets: &Sockets) -> std::io::Result<Self> {
        let mut gateway_urls = Vec::new();
        for (scheme, addresses) in [("http", &sockets.gateway), ("https", &sockets.tls)] {
            for socket in addresses.iter().filter_map(|sockets| sockets.first()) {
                gateway_urls.push(format!("{scheme}://{}/", reachable(socket.local_addr()?)));
            }
        }
        Ok(Self {
            gateway_urls,
            admin_url: format!("http://{}/", reachable(sockets.admin.local_addr()?)),
            started_at: squall_control::now_rfc3339(),
            data_dir: job.data_dir.display().to_string(),
            supervisor_pid: std::os::unix::process::parent_id(),
            ready: AtomicBool::new(false),
            waiting_for: Mutex::new(Some("starting")),
            metrics: OnceLock::new(),
        })
    }

    fn wait_for(&self, what: Option<&'static str>) {
        *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner) = what;
        self.ready.store(what.is_none(), Ordering::Release);
    }
}

/// An address that this machine can connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        address.set_ip(loopback);
    }
    address
}

impl Node for Facts {
    fn status(&self) -> NodeStatus {
        let waiting_for = *self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner);
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            supervisor_pid: self.supervisor_pid,
            started_at: self.started_at.clone(),
            gateway_urls: self.gateway_urls.clone(),
            admin_url: self.admin_url.clone(),
            data_dir: self.data_dir.clone(),
            ready: self.ready.load(Ordering::Acquire),
            waiting_for: waiting_for.map(str::to_owned),
        }
    }

    fn metrics(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        if let Some(write) = self.metrics.get() {
            write(&mut out);
        }
        out
    }
}

async fn restore_quotas(gateway: Gateway, ledger: Arc<Ledger>) {
    let restored = tokio::task::spawn_blocking(move || gateway.restore_quotas(&*ledger)).await;
    if let Ok(Err(error)) = restored {
        tracing::error!(
            "quotas of API clients begin at none, because the usage ledger can not be read: {error}"
        );
    }
}

fn read_roots(paths: &[std::path::PathBuf]) -> Result<Vec<CertificateDer<'static>>, UpError> {
    let mut roots = Vec::new();
    for path in paths {
        let invalid = |why: String| {
            let why = format!("outbound.extra_roots: {}: {why}", path.display());
            UpError::new(ErrorCode::InvalidConfig, why)
        };
        let found =
            CertificateDer::pem_file_iter(path).map_err(|error| invalid(error.to_string()))?;
        for root in found {
            roots.push(root.map_err(|error| invalid(error.to_string()))?);
        }
    }
    Ok(roots)
}

/// Every connection and every mapped function holds a descriptor.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}
