//! From the name that a client asks for to a certificate.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Made whole and swapped whole.
#[derive(Debug, Default)]
pub(crate) struct Names {
    exact: HashMap<Box<str>, Shown>,
    /// By what follows the star: it stands for one label (RFC 9525, section 6.3).
    wildcards: HashMap<Box<str>, Shown>,
    default: Option<Arc<CertifiedKey>>,
}

#[derive(Debug)]
struct Shown {
    key: Arc<CertifiedKey>,
    worth: Worth,
}

/// Which of two is shown: whether it holds by now, and when it expires.
type Worth = (bool, i64);

impl Names {
    /// Where two certificates are for a name, the one that expires later is shown; one that does
    /// not hold before a later time only where there is no other. `now` in seconds since 1970.
    pub(crate) fn new<'a>(
        certificates: impl Iterator<Item = &'a Certificate>,
        default: Option<&str>,
        now: i64,
    ) -> Self {
        let mut names = Self::default();
        for certificate in certificates {
            let worth = (certificate.begins <= now, certificate.expires);
            for name in &certificate.hosts {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut names.wildcards, parent),
                    None => (&mut names.exact, name.as_str()),
                };
                if map.get(name).is_none_or(|held| held.worth < worth) {
                    let key = certificate.key.clone();
                    map.insert(name.into(), Shown { key, worth });
                }
            }
        }
        names.default = default.and_then(|host| names.find_host(&host.to_ascii_lowercase()));
        names
    }

    /// For a name as TLS carries it, in lower case.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        name.and_then(|name| self.find_host(name)).or_else(|| self.default.clone())
    }

    fn find_host(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let parent = || name.split_once('.').and_then(|(_, parent)| self.wildcards.get(parent));
        self.exact.get(name).or_else(parent).map(|shown| shown.key.clone())
    }
}
