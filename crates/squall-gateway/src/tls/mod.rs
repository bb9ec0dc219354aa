//! TLS at the door: which certificate a client is shown, and how its session begins.
//!
//! Certificates come from files that are read again when they change, or, for
//! development, from an authority of the node's own. No connection notices either.

mod certificate;
mod development;
mod files;
mod names;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::HandshakeKind;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use squall_types::metrics::{write_head, write_metric};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use development::Authority;
use files::Files;
use names::Names;

use crate::turn::Tcp;

#[cfg(test)]
use development::pem;

pub use development::ensure_authority;

/// How often the files of certificates are looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(2);
/// Certificates that are named in the metrics, those that expire first.
const EXPIRIES_SHOWN: usize = 20;

/// Where certificates come from, and which clients are served.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    pub certificates: Vec<CertificateFiles>,
    /// Folders of pairs: `NAME.pem` or `NAME.crt` with `NAME.key`, or folders in it with
    /// `fullchain.pem` and `privkey.pem`.
    pub folders: Vec<PathBuf>,
    /// A host; its certificate is shown to clients that name none, or one that has none.
    /// Without it they are refused.
    pub default: Option<String>,
    /// Nothing older than TLS 1.3 instead of 1.2.
    pub only_1_3: bool,
    /// The folder of an authority that makes certificates for development.
    pub development: Option<PathBuf>,
}

/// A certificate with its chain, and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// What is wrong with a certificate, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct TlsError {
    path: PathBuf,
    why: String,
}

impl TlsError {
    fn new(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self { path: path.into(), why: why.into() }
    }
}

/// TLS as the listeners use it. Shared by all cores.
#[derive(Debug)]
pub struct Tls {
    config: Arc<rustls::ServerConfig>,
    shown: Arc<Shown>,
    files: Mutex<Files>,
    counters: Counters,
}

/// Handshakes of all cores.
#[derive(Debug, Default)]
struct Counters {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
    timed_out: AtomicU64,
}

/// What clients may be shown at this moment.
#[derive(Debug)]
struct Shown {
    names: arc_swap::ArcSwap<Names>,
    authority: Option<Authority>,
    unknown_names: AtomicU64,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let found = self.find(hello.server_name());
        if found.is_none() {
            self.unknown_names.fetch_add(1, Ordering::Relaxed);
        }
        found
    }
}

impl Shown {
    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let issue = || self.authority.as_ref().and_then(|authority| authority.issue(name));
        self.names.load().find(name).or_else(issue)
    }
}

impl Tls {
    /// Loads what there is. A pair that can not be used is left out, said in the log and
    /// counted: a server that is started again must not stay away because of it.
    ///
    /// # Errors
    /// Fails without randomness for the keys of tickets, or when the authority for
    /// development can not be used.
    pub fn open(options: TlsOptions) -> Result<Arc<Self>, TlsError> {
        let authority = options.development.as_deref().map(Authority::open).transpose()?;
        let only_1_3 = options.only_1_3;
        let mut files = Files::new(options);
        let names = files.read_changed().unwrap_or_default();
        let shown = Arc::new(Shown {
            names: arc_swap::ArcSwap::from_pointee(names),
            authority,
            unknown_names: AtomicU64::new(0),
        });
        let config = session_config(only_1_3, shown.clone())
            .map_err(|error| TlsError::new("gateway.tls", error.to_string()))?;
        let counters = Counters::default();
        Ok(Arc::new(Self { config: Arc::new(config), shown, files: Mutex::new(files), counters }))
    }

    /// Whether every pair can be used: asked where a person waits for the answer.
    ///
    /// # Errors
    /// The first that can not be.
    pub fn check(options: &TlsOptions) -> Result<(), TlsError> {
        files::check(options)
    }

    /// Looks for changed files until the end of the node.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WATCH_PERIOD).await;
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || tls.reload()).await;
            if let Err(error) = looked {
                tracing::error!("looking for new certificates failed: {error}");
            }
        }
    }

    fn reload(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(names) = files.read_changed() {
            self.shown.names.store(Arc::new(names));
        }
    }

    /// Hosts for which the authority for development makes certificates, beside localhost.
    pub(crate) fn know_hosts<'a>(&self, hosts: impl Iterator<Item = &'a str>) {
        if let Some(authority) = &self.shown.authority {
            authority.know_hosts(hosts);
        }
    }

    /// Whether the certificate that is shown to those who ask for `name` holds for `host`.
    pub(crate) fn covers(&self, name: &str, host: &str) -> bool {
        let Some(shown) = self.shown.find(Some(name)) else { return false };
        shown.end_entity_cert().is_ok_and(|leaf| certificate::holds_for(leaf, host))
    }

    /// # Errors
    /// Fails when the client speaks no TLS that we do, asks for a host without a
    /// certificate, or takes longer than `longest`.
    pub(crate) async fn handshake(
        &self,
        tcp: Tcp,
        longest: Duration,
    ) -> io::Result<TlsStream<Tcp>> {
        let accepting = TlsAcceptor::from(self.config.clone()).accept(tcp);
        let (counter, result) = match tokio::time::timeout(longest, accepting).await {
            Ok(Ok(stream)) => match stream.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => (&self.counters.resumed, Ok(stream)),
                _ => (&self.counters.full, Ok(stream)),
            },
            Ok(Err(error)) => (&self.counters.failed, Err(error)),
            Err(_) => (&self.counters.timed_out, Err(io::ErrorKind::TimedOut.into())),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    pub(crate) fn write_metrics(&self, out: &mut String) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let name = "squall_tls_handshakes_total";
        write_head(out, name, "counter", "TLS handshakes that were completed.");
        for (kind, counter) in [("full", &self.counters.full), ("resumed", &self.counters.resumed)]
        {
            let _ = writeln!(out, "{name}{{kind=\"{kind}\"}} {}", read(counter));
        }
        let name = "squall_tls_handshake_failures_total";
        write_head(out, name, "counter", "TLS handshakes that were given up.");
        let unknown = read(&self.shown.unknown_names);
        let failed = read(&self.counters.failed).saturating_sub(unknown);
        let timed_out = read(&self.counters.timed_out);
        for (why, count) in
            [("unknown_name", unknown), ("timeout", timed_out), ("protocol", failed)]
        {
            let _ = writeln!(out, "{name}{{reason=\"{why}\"}} {count}");
        }
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = [
            ("certificates", "gauge", "Certificates that are shown.", files.usable() as u64),
            (
                "certificate_reloads_total",
                "counter",
                "Certificates that were read anew.",
                files.reloads,
            ),
            (
                "certificate_reload_failures_total",
                "counter",
                "Certificates that could not be read; the ones before stay.",
                files.failures,
            ),
        ];
        for (name, kind, what, value) in rows {
            write_metric(out, &format!("squall_tls_{name}"), kind, what, value);
        }
        let name = "squall_tls_certificate_expiry_seconds";
        write_head(out, name, "gauge", "Until a certificate expires; those that expire first.");
        let now = unix_seconds(SystemTime::now());
        for (host, expires) in files.first_to_expire(EXPIRIES_SHOWN) {
            let _ = writeln!(out, "{name}{{host=\"{host}\"}} {}", expires - now);
        }
    }
}

fn session_config(
    only_1_3: bool,
    shown: Arc<Shown>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    use rustls::version::{TLS12, TLS13};
    let versions: &[_] = if only_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Sessions go on by tickets, which cost the server no memory.
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn unix_seconds(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
