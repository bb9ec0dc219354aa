//! One certificate with its key, as files hold it.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;

use super::{CertificateFiles, TlsError};

/// Far more than a chain takes; a wrong path must not be read into memory.
const FILE_MAX_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// In lower case; `*.` begins a wildcard.
    pub(crate) hosts: Vec<String>,
    /// The first and the last second in which it holds, since 1970.
    pub(crate) begins: i64,
    pub(crate) expires: i64,
}

pub(crate) fn load(files: &CertificateFiles) -> Result<Certificate, TlsError> {
    let bad = |why: String| TlsError::new(&files.certificate, why);
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&read(&files.certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(format!("is not PEM: {error}")))?;
    let Some(leaf) = chain.first().cloned() else {
        return Err(
            bad("holds no certificate; it must begin with `-----BEGIN CERTIFICATE`".into()),
        );
    };
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| {
        let why = match error {
            pem::Error::NoItemsFound => "holds no private key in PEM".to_owned(),
            error => format!("is not PEM: {error}"),
        };
        TlsError::new(&files.key, why)
    })?;
    let (begins, expires) =
        validity(&leaf).ok_or_else(|| bad("is no certificate (X.509)".into()))?;
    let hosts = hosts(&leaf).map_err(|error| bad(format!("can not be used: {error}")))?;
    if hosts.is_empty() {
        return Err(bad(
            "names no host: clients look for it in the subject's alternative names".into()
        ));
    }
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            bad(format!("does not belong to the key {}", files.key.display()))
        }
        error => TlsError::new(&files.key, format!("can not be used: {error}")),
    })?;
    Ok(Certificate { key: Arc::new(key), hosts, begins, expires })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let bad = |error: std::io::Error| TlsError::new(path, format!("can not be read: {error}"));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(bad)?;
    file.take(FILE_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(bad)?;
    if bytes.len() as u64 > FILE_MAX_BYTES {
        return Err(TlsError::new(path, "is larger than 1 MiB, so it is no certificate"));
    }
    Ok(bytes)
}

/// Whether clients that ask for `host` take this certificate.
pub(super) fn holds_for(certificate: &CertificateDer<'_>, host: &str) -> bool {
    // An address of IPv6 has brackets in a URL only.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let Ok(name) = ServerName::try_from(bare) else { return false };
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return false };
    certificate.verify_is_valid_for_subject_name(&name).is_ok()
}

fn hosts(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let certificate = webpki::EndEntityCert::try_from(certificate)?;
    Ok(certificate.valid_dns_names().map(str::to_ascii_lowercase).collect())
}

/// When it begins to hold and when that ends, in seconds since 1970 (RFC 5280, section 4.1.2.5).
fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate, _) = element(certificate)?;
    let (_, to_be_signed, _) = element(certificate)?;
    let mut rest = to_be_signed;
    // An explicit version, then the serial number, the algorithm and the issuer.
    let (tag, _, after) = element(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (begin_tag, begin, rest) = element(validity)?;
    let (end_tag, end, _) = element(rest)?;
    Some((parse_time(begin_tag, begin)?, parse_time(end_tag, end)?))
}

/// The first element of DER: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (bytes, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(bytes)?;
    Some((tag, content, rest))
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ`.
fn parse_time(tag: u8, text: &[u8]) -> Option<i64> {
    let digits = text.strip_suffix(b"Z")?;
    let number = |digits: &[u8]| {
        let all = digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| all)?.parse::<i64>().ok()
    };
    let (year, rest) = match (tag, digits.len()) {
        (0x17, 12) => {
            let year = number(&digits[..2])?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (0x18, 14) => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let field = |index: usize| number(&rest[index * 2..index * 2 + 2]);
    let (month, day) = (field(0)?, field(1)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since 1970 of a date (Howard Hinnant, chrono-compatible date algorithms).
    let shifted = if month > 2 { year } else { year - 1 };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + field(2)? * 3_600 + field(3)? * 60 + field(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(parse_time(0x17, b"700101000000Z"), Some(0));
        assert_eq!(parse_time(0x17, b"240229235959Z"), Some(1_709_251_199));
        assert_eq!(parse_time(0x18, b"20500101000000Z"), Some(2_524_608_000));
        assert_eq!(parse_time(0x17, b"490101000000Z"), Some(2_493_072_000));
        for wrong in [&b"7001010000Z"[..], b"700101000000", b"701301000000Z", b"70010x000000Z"] {
            assert_eq!(parse_time(0x17, wrong), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            validity(&bytes);
        }

        #[test]
        fn a_damaged_certificate_is_read_without_panic(at in 0usize..400, byte: u8) {
            let mut der = rcgen::generate_simple_self_signed(["a.example".to_owned()])
                .unwrap().cert.der().to_vec();
            let at = at % der.len();
            der[at] = byte;
            validity(&der);
        }
    }
}
