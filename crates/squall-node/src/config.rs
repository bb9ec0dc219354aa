//! `server.toml`, all of it optional. Unknown keys are refused with a suggestion.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use squall_gateway::tls::{CertificateFiles, TlsOptions};
use squall_gateway::{DoorLimits, UnderscoreHeaders};
use squall_types::ErrorCode;
use squall_types::gateway::AddressRules;
use squall_types::limits::Limits;
use squall_types::manifest::{explain_toml, place_of};

use crate::error::UpError;

/// The whole configuration of a server.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    pub gateway: GatewayConfig,
    pub admin: AdminConfig,
    pub node: NodeConfig,
    pub limits: CapsConfig,
    pub runtime: RuntimeConfig,
    pub usage: UsageConfig,
    pub logs: LogsConfig,
    pub outbound: OutboundConfig,
    pub cache: CacheConfig,
}

/// The edge cache, which all apps of the node share.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// What responses in memory may take together.
    pub memory_bytes: u64,
    /// What responses on disk may take together; 0 keeps them in memory only.
    pub disk_bytes: u64,
    /// Larger bodies pass without being stored, where a route does not say another number.
    pub object_max_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { memory_bytes: 128 << 20, disk_bytes: 4 << 30, object_max_bytes: 32 << 20 }
    }
}

/// The public listener.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayConfig {
    /// Addresses to listen on. Without it `127.0.0.1:8080`, or the next free port.
    pub listen: Vec<SocketAddr>,
    /// Networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    pub head_timeout_ms: u64,
    /// Of a head that has begun, after five seconds of grace.
    pub head_rate_min_bytes_per_s: u64,
    /// How long a connection of HTTP/2 may stay without a request.
    pub idle_timeout_ms: u64,
    pub head_bytes_max: usize,
    pub connections_max: usize,
    /// Of one client at once; 0 for any number.
    pub connections_per_client_max: u32,
    /// Averaged over ten seconds of waiting.
    pub body_rate_min_bytes_per_s: u64,
    pub write_timeout_ms: u64,
    /// What a client of HTTP/2 may send of a body before anybody reads it.
    pub stream_window_bytes: u32,
    pub underscore_headers: Underscores,
    /// A path that the gateway answers by itself, to measure what it costs.
    pub fixed_response_path: Option<String>,
    pub tls: TlsConfig,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        let door = DoorLimits::default();
        Self {
            listen: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            head_timeout_ms: door.head_timeout.as_millis() as u64,
            head_rate_min_bytes_per_s: door.head_rate_min_bytes_per_s,
            idle_timeout_ms: door.idle_timeout.as_millis() as u64,
            head_bytes_max: door.head_bytes_max,
            connections_max: door.connections_max,
            connections_per_client_max: door.connections_per_client_max,
            body_rate_min_bytes_per_s: door.body_rate_min_bytes_per_s,
            write_timeout_ms: door.write_timeout.as_millis() as u64,
            stream_window_bytes: door.stream_window_bytes,
            underscore_headers: Underscores::default(),
            fixed_response_path: None,
            tls: TlsConfig::default(),
        }
    }
}

impl GatewayConfig {
    /// The networks of `trusted_proxies`; a single address is a network of one.
    pub(crate) fn trusted_networks(&self) -> Result<Vec<ipnet::IpNet>, String> {
        let parse = |text: &String| {
            AddressRules::parse_network(text).ok_or_else(|| {
                format!("gateway.trusted_proxies: {text:?} is not a network such as 10.0.0.0/8")
            })
        };
        self.trusted_proxies.iter().map(parse).collect()
    }

    pub(crate) fn door_limits(&self) -> DoorLimits {
        DoorLimits {
            head_timeout: Duration::from_millis(self.head_timeout_ms),
            head_rate_min_bytes_per_s: self.head_rate_min_bytes_per_s,
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            head_bytes_max: self.head_bytes_max,
            connections_max: self.connections_max,
            connections_per_client_max: self.connections_per_client_max,
            stream_window_bytes: self.stream_window_bytes,
            body_rate_min_bytes_per_s: self.body_rate_min_bytes_per_s,
            write_timeout: Duration::from_millis(self.write_timeout_ms),
            ..DoorLimits::default()
        }
    }
}

/// What becomes of headers with an underscore in their name.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Underscores {
    /// A request is refused when one could be taken for another header that counts.
    #[default]
    Reject,
    /// They are removed.
    Drop,
    /// They pass, except those that could be taken for the gateway's own.
    Allow,
}

impl From<Underscores> for UnderscoreHeaders {
    fn from(mode: Underscores) -> Self {
        match mode {
            Underscores::Reject => Self::Reject,
            Underscores::Drop => Self::Drop,
            Underscores::Allow => Self::Allow,
        }
    }
}

/// HTTPS: there is a listener for it as soon as there are certificates.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Addresses to listen on. Without it `127.0.0.1:8443`, or the next free port.
    pub listen: Vec<SocketAddr>,
    pub certificates: Vec<CertificateConfig>,
    /// Folders of pairs: `NAME.pem` or `NAME.crt` with `NAME.key`, and folders with
    /// `fullchain.pem` and `privkey.pem`.
    pub folders: Vec<PathBuf>,
    /// A host whose certificate is shown to clients that name no host, or one without a
    /// certificate. Without it they are refused.
    pub default: Option<String>,
    pub min_version: TlsVersion,
    /// The port of URLs that callers are redirected to. Without it that of the listener.
    pub public_port: Option<u16>,
    /// Certificates for localhost and the hosts of the apps are made by an authority of
    /// the node's own.
    pub development: bool,
}

/// PEM files: a certificate followed by its chain, and its key.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

impl TlsConfig {
    pub(crate) fn is_on(&self) -> bool {
        self.development || !self.certificates.is_empty() || !self.folders.is_empty()
    }

    pub(crate) fn options(&self, data_dir: &Path) -> TlsOptions {
        let files = |pair: &CertificateConfig| CertificateFiles {
            certificate: pair.cert.clone(),
            key: pair.key.clone(),
        };
        TlsOptions {
            certificates: self.certificates.iter().map(files).collect(),
            folders: self.folders.clone(),
            default: self.default.clone(),
            only_1_3: self.min_version == TlsVersion::Tls13,
            development: self.development.then(|| Self::authority_folder(data_dir)),
        }
    }

    pub(crate) fn authority_folder(data_dir: &Path) -> PathBuf {
        data_dir.join("tls")
    }

    fn check(&self) -> Result<(), String> {
        if self.is_on() {
            return Ok(());
        }
        let unused = [
            ("listen", !self.listen.is_empty()),
            ("default", self.default.is_some()),
            ("min_version", self.min_version != TlsVersion::default()),
        ];
        match unused.into_iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(format!(
                "gateway.tls.{key} is of no use without certificates; give gateway.tls.certificates, .folders, or development = true"
            )),
            None => Ok(()),
        }
    }
}

/// The admin API.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Without it `127.0.0.1:8081`, or the next free port.
    pub listen: Option<SocketAddr>,
    /// Names under which it may be called, beside addresses and localhost.
    pub hosts: Vec<String>,
    pub upload_bytes_max: u64,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { listen: None, hosts: Vec::new(), upload_bytes_max: 2 << 30 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Request cores; one for each CPU without it.
    pub cores: Option<usize>,
    /// How long a server that ends lets requests finish.
    pub drain_s: u64,
    /// Components compiled at once.
    pub builds: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { cores: None, drain_s: 30, builds: 1 }
    }
}

/// The most that any function gets, whatever its manifest asks for. What is not given
/// stays at the node's own cap.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CapsConfig {
    pub memory_bytes: Option<u64>,
    pub wall_time_ms: Option<u64>,
    pub cpu_time_ms: Option<u64>,
    pub request_body_bytes: Option<u64>,
    pub response_body_bytes: Option<u64>,
    pub concurrency: Option<u32>,
    pub queue: Option<u32>,
    pub queue_time_ms: Option<u64>,
    pub log_bytes: Option<u64>,
    pub outbound_requests: Option<u32>,
}

impl CapsConfig {
    fn merged(&self) -> Limits {
        let caps = Limits::node_caps();
        Limits {
            memory_bytes: self.memory_bytes.unwrap_or(caps.memory_bytes),
            wall_time_ms: self.wall_time_ms.unwrap_or(caps.wall_time_ms),
            cpu_time_ms: self.cpu_time_ms.unwrap_or(caps.cpu_time_ms),
            request_body_bytes: self.request_body_bytes.unwrap_or(caps.request_body_bytes),
            response_body_bytes: self.response_body_bytes.unwrap_or(caps.response_body_bytes),
            concurrency: self.concurrency.unwrap_or(caps.concurrency),
            queue: self.queue.unwrap_or(caps.queue),
            queue_time_ms: self.queue_time_ms.unwrap_or(caps.queue_time_ms),
            log_bytes: self.log_bytes.unwrap_or(caps.log_bytes),
            outbound_requests: self.outbound_requests.unwrap_or(caps.outbound_requests),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Instances at once for each kind of engine.
    pub instance_slots: u32,
    /// Time without a call until a function's code is unmapped.
    pub idle_unload_s: u64,
    /// Functions whose code stays mapped at once.
    pub max_loaded: usize,
    /// Invocations that may wait for a place on the node.
    pub max_waiting: u32,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { instance_slots: 1_000, idle_unload_s: 60, max_loaded: 2_500, max_waiting: 20_000 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UsageConfig {
    /// Records are durable after so long, at most 1000.
    pub flush_ms: u64,
    /// How long single records are kept beside the sums.
    pub retain_days: u64,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { flush_ms: 200, retain_days: 35 }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogsConfig {
    /// Write a line for each request to `logs/access.log`.
    pub access_log: bool,
    pub file_bytes_max: u64,
    pub files: usize,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { access_log: true, file_bytes_max: 64 << 20, files: 5 }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundConfig {
    /// PEM files of certificates that are trusted beside Mozilla's.
    pub extra_roots: Vec<PathBuf>,
}

impl ServerConfig {
    /// Reads a file. # Errors: names the file, the place and the fix.
    pub(crate) fn read(path: &Path) -> Result<Self, UpError> {
        let invalid = |message: String| UpError::new(ErrorCode::InvalidConfig, message);
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("{} can not be read: {error}", path.display())))?;
        let problem = |position: Option<(usize, usize)>, why: String| {
            let place =
                position.map_or_else(String::new, |(line, column)| format!(":{line}:{column}"));
            invalid(format!("{}{place}: {why}", path.display()))
        };
        let config: Self = toml::from_str(&text).map_err(|error| {
            let found = explain_toml(&text, &error);
            problem(found.position, found.message)
        })?;
        config.check().map_err(|why| problem(place_of(&text, &why), why))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        self.gateway.trusted_networks()?;
        self.gateway.tls.check()?;
        if self.runtime.instance_slots < 10 || self.runtime.instance_slots > 20_000 {
            return Err("runtime.instance_slots must be from 10 to 20000".to_owned());
        }
        if self.gateway.head_timeout_ms == 0 || self.gateway.connections_max == 0 {
            return Err("gateway.head_timeout_ms and connections_max must be at least 1".to_owned());
        }
        if self.gateway.head_bytes_max < 8 << 10 {
            return Err("gateway.head_bytes_max must be at least 8192".to_owned());
        }
        // RFC 9113, section 6.9.2: what a stream begins with, and the most that it may have.
        if !(65_535..=0x7fff_ffff).contains(&self.gateway.stream_window_bytes) {
            return Err("gateway.stream_window_bytes must be from 65535 to 2147483647".to_owned());
        }
        if self.node.cores.is_some_and(|cores| !(1..=1_024).contains(&cores)) {
            return Err("node.cores must be from 1 to 1024".to_owned());
        }
        let at_least_one = [
            ("node.builds", self.node.builds as u64),
            ("logs.files", self.logs.files as u64),
            ("admin.upload_bytes_max", self.admin.upload_bytes_max),
            ("limits.memory_bytes", self.limits.memory_bytes.unwrap_or(1)),
            ("limits.wall_time_ms", self.limits.wall_time_ms.unwrap_or(1)),
            ("limits.cpu_time_ms", self.limits.cpu_time_ms.unwrap_or(1)),
            ("limits.concurrency", self.limits.concurrency.unwrap_or(1).into()),
        ];
        if let Some((key, _)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{key} must be at least 1"));
        }
        if !(10..=1_000).contains(&self.usage.flush_ms) {
            return Err("usage.flush_ms must be from 10 to 1000".to_owned());
        }
        if self.gateway.fixed_response_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err("gateway.fixed_response_path must begin with a slash".to_owned());
        }
        if self.node.drain_s > 86_400 {
            return Err("node.drain_s must be at most 86400, a day".to_owned());
        }
        Ok(())
    }

    pub(crate) fn caps(&self) -> Limits {
        self.limits.merged()
    }

    pub(crate) fn cores(&self) -> usize {
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.node.cores.unwrap_or(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cap_leaves_the_others_alone() {
        let config: ServerConfig = toml::from_str("[limits]\nmemory_bytes = 65536\n").unwrap();
        let expected = Limits { memory_bytes: 65536, ..Limits::node_caps() };
        assert_eq!(config.caps(), expected);
        assert_eq!(ServerConfig::default().caps(), Limits::node_caps());
    }

    #[test]
    fn trusted_proxies_are_networks_or_addresses() {
        let parse = |text: &str| {
            let config = GatewayConfig { trusted_proxies: vec![text.into()], ..Default::default() };
            config.trusted_networks().map(|networks| networks[0].to_string())
        };
        assert_eq!(parse("10.0.0.0/8"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(parse("10.1.2.3"), Ok("10.1.2.3/32".to_owned()));
        assert_eq!(parse("::ffff:10.0.0.0/104"), Ok("10.0.0.0/8".to_owned()));
        assert_eq!(parse("::ffff:10.1.2.3"), Ok("10.1.2.3/32".to_owned()));
        assert!(parse("::ffff:0.0.0.0/90").unwrap_err().contains("trusted_proxies"));
        assert!(parse("ten").unwrap_err().contains("trusted_proxies"));
    }
}
