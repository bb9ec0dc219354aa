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
    /// Certificates of folders whose key is not there; said once.
    keyless: BTreeSet<PathBuf>,
    /// When they were looked at last, in seconds since 1970; `None` before the first time.
    looked: Option<i64>,
    pub(crate) reloads: u64,
    pub(crate) failures: u64,
}

#[derive(Debug, Default)]
struct Pair {
    /// Of the state that was read last, well or badly.
    stamp: Option<Stamp>,
    certificate: Option<Certificate>,
}

/// What changes with a file's content, and with who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp([(u64, u64, [i64; 4]); 2]);

impl Stamp {
    /// `None` when a file is missing.
    fn of(files: &CertificateFiles) -> Option<(Self, SystemTime)> {
        let (certificate, key) =
            (std::fs::metadata(&files.certificate).ok()?, std::fs::metadata(&files.key).ok()?);
        let newest = certificate.modified().ok()?.max(key.modified().ok()?);
        let times = |file: &std::fs::Metadata| {
            [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()]
        };
        let stamp = [certificate, key].map(|file| (file.ino(), file.len(), times(&file)));
        Some((Self(stamp), newest))
    }
}

impl Files {
    pub(crate) fn new(options: TlsOptions) -> Self {
        Self {
            options,
            pairs: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            keyless: BTreeSet::new(),
            looked: None,
            reloads: 0,
            failures: 0,
        }
    }

    /// Reads what is new or has changed. `None` when everything stays as it was.
    pub(crate) fn read_changed(&mut self) -> Option<Names> {
        self.read_changed_at(unix_seconds(SystemTime::now()))
    }

    /// The same at this second since 1970.
    pub(super) fn read_changed_at(&mut self, now: i64) -> Option<Names> {
        let before = self.looked.replace(now);
        let first = before.is_none();
        let listed = self.list();
        let count = self.pairs.len();
        self.pairs.retain(|files, _| {
            let stays = listed.contains(files);
            if !stays {
                let path = files.certificate.display();
                tracing::info!("{path} and its key were removed: it is shown no more");
            }
            stays
        });
        let mut changed = self.pairs.len() != count;
        for files in listed {
            changed |= self.read_pair(files, first);
        }
        // Some hold from now on.
        let mut begins = self.certificates().map(|certificate| certificate.begins);
        changed |= begins.any(|begins| begins <= now && before.is_some_and(|last| last < begins));
        if first && self.usable() == 0 && self.options.development.is_none() {
            tracing::warn!("no certificate can be shown: every handshake of TLS will be refused");
        }
        changed.then(|| Names::new(self.certificates(), self.options.default.as_deref(), now))
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
                let now = unix_seconds(SystemTime::now());
                warn_of_time(&files, &certificate, now);
                let path = files.certificate.display();
                match pair.certificate {
                    Some(_) => tracing::info!("{path} was read anew"),
                    None if certificate.begins > now => {}
                    None if !first => tracing::info!("{path} is shown from now on"),
                    None => {}
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
                Ok(Found { pairs, keyless }) => {
                    self.unreadable.remove(&folder);
                    // One that lost a half is about to be replaced, and stays until it is.
                    let known = self.pairs.keys().filter(|files| files.is_in(&folder));
                    let halves =
                        known.filter(|files| files.certificate.exists() ^ files.key.exists());
                    listed.extend(halves.cloned());
                    listed.extend(pairs);
                    self.warn_of_keyless(&folder, keyless);
                }
                Err(error) => {
                    // What was there stays: a folder that is away is no order to forget.
                    let known = self.pairs.keys();
                    let kept = known.filter(|files| files.is_in(&folder));
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

    fn warn_of_keyless(&mut self, folder: &Path, found: Vec<CertificateFiles>) {
        let now: BTreeSet<PathBuf> = found.iter().map(|files| files.certificate.clone()).collect();
        self.keyless.retain(|known| !known.starts_with(folder) || now.contains(known));
        for files in found {
            let is_known = self.pairs.contains_key(&files);
            let path = files.certificate.clone();
            if self.keyless.insert(path) && !is_known {
                let (path, key) = (files.certificate.display(), files.key.display());
                tracing::warn!("{path} has no key, which would be {key}: it is left out");
            }
        }
    }

    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.pairs.values().filter_map(|pair| pair.certificate.as_ref())
    }

    pub(crate) fn usable(&self) -> usize {
        self.certificates().count()
    }

    /// Hosts and the second in which the last of their certificates expires, soonest first. Of
    /// each certificate the first host stands for all.
    pub(crate) fn first_to_expire(&self, most: usize) -> Vec<(&str, i64)> {
        let mut of_hosts: BTreeMap<&str, i64> = BTreeMap::new();
        for certificate in self.certificates() {
            let Some(host) = certificate.hosts.first() else { continue };
            let expires = of_hosts.entry(host).or_insert(certificate.expires);
            *expires = certificate.expires.max(*expires);
        }
        let mut all: Vec<_> = of_hosts.into_iter().collect();
        all.sort_by_key(|(_, expires)| *expires);
        all.truncate(most);
        all
    }
}

fn warn_of_time(files: &CertificateFiles, certificate: &Certificate, now: i64) {
    let left = certificate.expires - now;
    let path = files.certificate.display();
    if certificate.begins > now {
        let wait = certificate.begins - now;
        tracing::warn!(
            "{path} holds only in {wait} s: until then it is shown where there is no other"
        );
    } else if left < 0 {
        tracing::warn!("{path} has expired: clients will refuse it until it is replaced");
    } else if left < 7 * 86_400 {
        tracing::warn!("{path} expires in less than {} days", left / 86_400 + 1);
    }
}

impl CertificateFiles {
    fn is_in(&self, folder: &Path) -> bool {
        self.certificate.starts_with(folder)
    }
}

/// What a folder has.
#[derive(Default)]
struct Found {
    pairs: Vec<CertificateFiles>,
    /// Certificates without their other half.
    keyless: Vec<CertificateFiles>,
}

fn pairs_in(folder: &Path) -> Result<Found, TlsError> {
    let bad = |error: std::io::Error| {
        TlsError::new(folder, format!("the folder can not be read: {error}"))
    };
    let mut found = Found::default();
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
        match (pair.certificate.exists(), pair.key.exists()) {
            (true, true) => found.pairs.push(pair),
            (true, false) => found.keyless.push(pair),
            (false, _) => {}
        }
    }
    Ok(found)
}

pub(crate) fn check(options: &TlsOptions) -> Result<(), TlsError> {
    let mut listed = options.certificates.clone();
    for folder in &options.folders {
        listed.extend(pairs_in(folder)?.pairs);
    }
    let mut certificates = Vec::with_capacity(listed.len());
    for files in &listed {
        certificates.push(certificate::load(files)?);
    }
    if let Some(host) = &options.default {
        let now = unix_seconds(SystemTime::now());
        let names = Names::new(certificates.iter(), Some(host), now);
        if names.find(None).is_none() {
            return Err(TlsError::new(
                "gateway.tls.default",
                format!("no certificate holds for {host}; name a host that one of them holds for"),
            ));
        }
    }
    Ok(())
}
