//! An authority of the node's own, for development: whoever trusts it sees the node's
//! hosts under https. Its key never leaves the data directory.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::TlsError;

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
const DAY: Duration = Duration::from_secs(86_400);
/// Names that certificates are kept for; beyond it they are made anew.
const KEPT_MAX: usize = 1_000;
/// Clients refuse certificates that hold longer than 398 days.
const HOLDS_DAYS: u32 = 390;
/// A certificate that was made so long ago is made anew.
const RENEWED_AFTER: Duration = Duration::from_secs(30 * 86_400);

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// One key for all of them: to make a certificate is then one signature.
    leaf: KeyPair,
    leaf_signer: Arc<dyn SigningKey>,
    hosts: ArcSwap<HashSet<String>>,
    made: Mutex<HashMap<String, (SystemTime, Arc<CertifiedKey>)>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Authority")
    }
}

/// Makes the authority in `folder`, unless it is there. Returns its certificate's path.
///
/// # Errors
/// Fails when it can not be written.
pub fn ensure_authority(folder: &Path) -> Result<PathBuf, TlsError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if certificate.exists() && key.exists() {
        return Ok(certificate);
    }
    let bad = |error: std::io::Error| TlsError::new(folder, format!("can not be written: {error}"));
    let made = rcgen_error(folder, KeyPair::generate())?;
    let mut params = authority_params();
    (params.not_before, params.not_after) = holds_for(3_650);
    let signed = rcgen_error(folder, params.self_signed(&made))?;
    std::fs::create_dir_all(folder).map_err(bad)?;
    write(&key, 0o600, &pem("PRIVATE KEY", made.serialized_der())).map_err(bad)?;
    write(&certificate, 0o644, &pem("CERTIFICATE", signed.der())).map_err(bad)?;
    Ok(certificate)
}

/// What an issuer's certificate says; the same for making it and for signing with it.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Squall development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From yesterday, as clocks differ.
fn holds_for<T: From<SystemTime>>(days: u32) -> (T, T) {
    let now = SystemTime::now();
    ((now - DAY).into(), (now + DAY * days).into())
}

impl Authority {
    pub(crate) fn open(folder: &Path) -> Result<Self, TlsError> {
        let path = folder.join(KEY);
        let key = PrivatePkcs8KeyDer::from_pem_file(&path)
            .map_err(|error| TlsError::new(&path, format!("can not be read: {error}")))?;
        let key = rcgen_error(&path, KeyPair::try_from(&key))?;
        let leaf = rcgen_error(folder, KeyPair::generate())?;
        let der = PrivateKeyDer::Pkcs8(leaf.serialized_der().to_vec().into());
        let leaf_signer = rustls::crypto::ring::sign::any_ecdsa_type(&der)
            .map_err(|error| TlsError::new(folder, error.to_string()))?;
        Ok(Self {
            issuer: Issuer::new(authority_params(), key),
            leaf,
            leaf_signer,
            hosts: ArcSwap::default(),
            made: Mutex::default(),
        })
    }

    pub(crate) fn know_hosts<'a>(&self, hosts: impl Iterator<Item = &'a str>) {
        self.hosts.store(Arc::new(hosts.map(str::to_owned).collect()));
    }

    /// A certificate for a name of this node, made when it is first asked for. Without a
    /// name it holds for localhost and its addresses.
    pub(crate) fn issue(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let name = name.unwrap_or("localhost");
        if name != "localhost" && !name.ends_with(".localhost") && !self.is_known(name) {
            return None;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, key)) = made.get(name)
            && at.elapsed().is_ok_and(|since| since < RENEWED_AFTER)
        {
            return Some(key.clone());
        }
        let key = match self.make(name) {
            Ok(key) => Arc::new(key),
            Err(error) => {
                tracing::error!("no certificate for {name}: {error}");
                return None;
            }
        };
        if made.len() >= KEPT_MAX {
            made.clear();
        }
        made.insert(name.to_owned(), (SystemTime::now(), key.clone()));
        Some(key)
    }

    fn is_known(&self, name: &str) -> bool {
        let hosts = self.hosts.load();
        let mut above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        hosts.contains(name) || above.any(|parent| hosts.contains(&format!("*.{parent}")))
    }

    fn make(&self, name: &str) -> Result<CertifiedKey, rcgen::Error> {
        let mut names = vec![name.to_owned()];
        if name == "localhost" {
            names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = holds_for(HOLDS_DAYS);
        let signed = params.signed_by(&self.leaf, &self.issuer)?;
        Ok(CertifiedKey::new(vec![signed.der().clone()], self.leaf_signer.clone()))
    }
}

fn rcgen_error<T>(path: &Path, result: Result<T, rcgen::Error>) -> Result<T, TlsError> {
    result.map_err(|error| TlsError::new(path, error.to_string()))
}

/// RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn write(path: &Path, mode: u32, text: &str) -> std::io::Result<()> {
    let mut file =
        std::fs::File::options().create(true).truncate(true).write(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
