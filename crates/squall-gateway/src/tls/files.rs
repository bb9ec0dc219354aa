//! Which files hold certificates, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::certificate::{self, Certificate};
use super::names::Names;
use super::{CertificateFiles, TlsError, TlsOptions, unix_seconds};

/// A file that changed just now may be the first half of a pair.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Files {
    options: TlsOptions,
    pairs: BTreeMap<CertificateFiles, Pair>,
    /// Folders that could not be read; said once.
    unreadable: BTreeSet<PathBuf>,
    /// All were read once.
    begun: bool,
    pub(crate) reloads: u64,
    pub(crate) failures: u64,
}

#[derive(Debug, Default)]
struct Pair {
    /// Of the state that was read last, well or badly.
    stamp: Option<Stamp>,
    certificate: Option<Certificate>,
}

/// What changes with a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([(u64, u64, i64, i64); 2]);

impl Stamp {
    /// `None` when a file is missing.
    fn of(files: &CertificateFiles) -> Option<(Self, SystemTime)> {
        let (certificate, key) =
            (std::fs::metadata(&files.certificate).ok()?, std::fs::metadata(&files.key).ok()?);
        let newest = certificate.modified().ok()?.max(key.modified().ok()?);
        let stamp = [certificate, key]
            .map(|file| (file.ino(), file.len(), file.mtime(), file.mtime_nsec()));
        Some((Self(stamp), newest))
    }
}

impl Files {
    pub(crate) fn new(options: TlsOptions) -> Self {
        Self {
            options,
            pairs: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            begun: false,
            reloads: 0,
            failures: 0,
        }
    }

    /// Reads what is new or has changed. `None` when everything stays as it was.
    pub(crate) fn read_changed(&mut self) -> Option<Names> {
        let first = !std::mem::replace(&mut self.begun, true);
        let listed = self.list();
        let before = self.pairs.len();
        self.pairs.retain(|files, _| listed.contains(files));
        let mut changed = self.pairs.len() != before;
        for files in listed {
            changed |= self.read_pair(files, first);
        }
        changed.then(|| {
            let certificates = self.pairs.values().filter_map(|pair| pair.certificate.as_ref());
            Names::new(certificates, self.options.default.as_deref())
        })
    }

    fn read_pair(&mut self, files: CertificateFiles, first: bool) -> bool {
        let found = Stamp::of(&files);
        let pair = self.pairs.entry(files.clone()).or_default();
        let stamp = found.map(|(stamp, _)| stamp);
        if stamp == pair.stamp && !(first && stamp.is_none()) {
            return false;
        }
        let settling = found.is_some_and(|(_, newest)| {
            newest.elapsed().is_ok_and(|since| since < SETTLED) && !first
        });
        if settling {
            return false;
        }
        pair.stamp = stamp;
        match certificate::load(&files) {
            Ok(certificate) => {
                warn_of_expiry(&files, &certificate);
                if pair.certificate.is_some() {
                    tracing::info!("{} was read anew", files.certificate.display());
                }
                self.reloads += u64::from(!first);
                pair.certificate = Some(certificate);
                true
            }
            Err(error) => {
                self.failures += 1;
                let stays = match pair.certificate {
                    Some(_) => "the certificate that was read before stays",
                    None => "its hosts have no certificate",
                };
                tracing::error!("{error}; {stays}");
                false
            }
        }
    }

    fn list(&mut self) -> BTreeSet<CertificateFiles> {
        let mut listed: BTreeSet<_> = self.options.certificates.iter().cloned().collect();
        for folder in self.options.folders.clone() {
            match pairs_in(&folder) {
                Ok(pairs) => {
                    self.unreadable.remove(&folder);
                    listed.extend(pairs);
                }
                Err(error) => {
                    // What was there stays: a folder that is away is no order to forget.
                    let known = self.pairs.keys();
                    let kept = known.filter(|files| files.certificate.starts_with(&folder));
                    listed.extend(kept.cloned());
                    if self.unreadable.insert(folder) {
                        self.failures += 1;
                        tracing::error!("{error}; the certificates that were read before stay");
                    }
                }
            }
        }
        listed
    }

    pub(crate) fn usable(&self) -> usize {
        self.pairs.values().filter(|pair| pair.certificate.is_some()).count()
    }

    /// A host of each certificate and the second in which it expires, soonest first.
    pub(crate) fn first_to_expire(&self, most: usize) -> Vec<(&str, i64)> {
        let certificates = self.pairs.values().filter_map(|pair| pair.certificate.as_ref());
        let mut all: Vec<_> = certificates
            .filter_map(|certificate| {
                Some((certificate.hosts.first()?.as_str(), certificate.expires))
            })
            .collect();
        all.sort_unstable_by_key(|(_, expires)| *expires);
        all.truncate(most);
        all
    }
}

fn warn_of_expiry(files: &CertificateFiles, certificate: &Certificate) {
    let left = certificate.expires - unix_seconds(SystemTime::now());
    let path = files.certificate.display();
    if left < 0 {
        tracing::warn!("{path} has expired: clients will refuse it until it is replaced");
    } else if left < 7 * 86_400 {
        tracing::warn!("{path} expires in less than {} days", left / 86_400 + 1);
    }
}

/// The pairs of a folder; files without their other half are left out.
fn pairs_in(folder: &Path) -> Result<Vec<CertificateFiles>, TlsError> {
    let bad = |error: std::io::Error| {
        TlsError::new(folder, format!("the folder can not be read: {error}"))
    };
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(bad)? {
        let path = entry.map_err(bad)?.path();
        let pair = if path.is_dir() {
            CertificateFiles {
                certificate: path.join("fullchain.pem"),
                key: path.join("privkey.pem"),
            }
        } else if path.extension().is_some_and(|end| end == "pem" || end == "crt") {
            CertificateFiles { key: path.with_extension("key"), certificate: path }
        } else {
            continue;
        };
        if pair.certificate.exists() && pair.key.exists() {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

pub(crate) fn check(options: &TlsOptions) -> Result<(), TlsError> {
    let mut listed = options.certificates.clone();
    for folder in &options.folders {
        listed.extend(pairs_in(folder)?);
    }
    let mut certificates = Vec::with_capacity(listed.len());
    for files in &listed {
        certificates.push(certificate::load(files)?);
    }
    if let Some(host) = &options.default {
        let names = Names::new(certificates.iter(), Some(host));
        if names.find(None).is_none() {
            return Err(TlsError::new(
                "gateway.tls.default",
                format!("no certificate holds for {host}; name a host that one of them holds for"),
            ));
        }
    }
    Ok(())
}
