//! The cookies of a request. Browsers send whatever bytes a script has put into them, and
//! one that is no text hides no other.

use http::header::{self, HeaderMap, HeaderValue};

/// Names and values, in the order of the request, as RFC 6265, section 5.4, writes them.
pub(crate) fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()))
    })
}

/// The values of one name.
pub(crate) fn values<'h>(headers: &'h HeaderMap, name: &str) -> impl Iterator<Item = &'h [u8]> {
    pairs(headers).filter(move |(own, _)| *own == name.as_bytes()).map(|(_, value)| value)
}

/// Takes one name out, whatever its values.
pub(crate) fn remove(headers: &mut HeaderMap, name: &str) {
    if values(headers, name).next().is_none() {
        return;
    }
    let mut left = Vec::new();
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let own = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
            if own.trim_ascii() == name.as_bytes() {
                continue;
            }
            if !left.is_empty() {
                left.extend_from_slice(b"; ");
            }
            left.extend_from_slice(pair.trim_ascii());
        }
    }
    headers.remove(header::COOKIE);
    if let Ok(line) = HeaderValue::from_bytes(&left)
        && !left.is_empty()
    {
        headers.insert(header::COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_beside_any_other() {
        let mut headers = HeaderMap::new();
        let line = HeaderValue::from_bytes("name=Zoë; tok = a=b;;alone; tok=c".as_bytes());
        headers.append(header::COOKIE, line.unwrap());
        headers.append(header::COOKIE, HeaderValue::from_static("tok=\"d\""));
        let found: Vec<&[u8]> = values(&headers, "tok").collect();
        assert_eq!(found, [&b"a=b"[..], b"c", b"\"d\""]);
        assert_eq!(values(&headers, "name").next(), Some("Zoë".as_bytes()));
        assert_eq!(values(&headers, "alone").count(), 0);
        remove(&mut headers, "tok");
        assert_eq!(headers[header::COOKIE], "name=Zoë; ; alone".as_bytes());
        remove(&mut headers, "none");
        assert_eq!(headers[header::COOKIE], "name=Zoë; ; alone".as_bytes());
        let mut only = HeaderMap::new();
        only.append(header::COOKIE, HeaderValue::from_static("tok=a"));
        remove(&mut only, "tok");
        assert!(only.is_empty());
    }
}
