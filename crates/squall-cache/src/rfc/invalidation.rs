//! Requests that change something make what is stored of it invalid (RFC 9111,
//! section 4.4).

use http::header::{self, HeaderMap};
use http::{Method, StatusCode};

use super::key::normalised_url;

/// URLs of which nothing stored may be used any more: the request's own, and those of
/// `Location` and `Content-Location` at the same origin. None after an error, since
/// nothing is known to have changed.
pub fn invalidated(
    method: &Method,
    url: &str,
    status: StatusCode,
    headers: &HeaderMap,
) -> Vec<String> {
    if method.is_safe() || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut urls = vec![url.to_owned()];
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        let other = headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(other) = other.and_then(|other| resolved(url, other))
            && !urls.contains(&other)
        {
            urls.push(other);
        }
    }
    urls
}

/// A reference to a URL of the same origin.
fn resolved(base: &str, reference: &str) -> Option<String> {
    let reference = reference.split('#').next().unwrap_or_default();
    let origin_end = base.find("://").map(|at| at + 3)?;
    let origin_end = base[origin_end..].find('/').map_or(base.len(), |at| origin_end + at);
    let origin = &base[..origin_end];
    let path_end = base.find('?').unwrap_or(base.len());
    let url = if reference.contains("://") {
        reference.to_owned()
    } else if let Some(rest) = reference.strip_prefix("//") {
        format!("{}//{rest}", &origin[..origin.find("//")?])
    } else if reference.starts_with('/') {
        format!("{origin}{reference}")
    } else if reference.starts_with('?') {
        format!("{}{reference}", &base[..path_end])
    } else {
        let folder = base[..path_end].rfind('/').filter(|at| *at >= origin_end);
        format!("{}/{reference}", &base[..folder.unwrap_or(origin_end)])
    };
    let url = normalised_url(&url).ok()?;
    let same = url.strip_prefix(origin).is_some_and(|rest| rest.starts_with('/'));
    same.then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, location: Option<&'static str>, expected: &[&str]) {
        let mut headers = HeaderMap::new();
        if let Some(location) = location {
            headers.insert(header::LOCATION, location.parse().unwrap());
        }
        let url = "https://example.com/a/b?c";
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(invalidated(&Method::POST, url, status, &headers), expected);
    }

    #[test]
    fn only_what_changed_and_only_at_home() {
        let own = "https://example.com/a/b?c";
        check(200, None, &[own]);
        check(303, None, &[own]);
        check(404, None, &[]);
        check(500, None, &[]);
        check(201, Some("/x"), &[own, "https://example.com/x"]);
        check(201, Some("x#y"), &[own, "https://example.com/a/x"]);
        check(201, Some("?d"), &[own, "https://example.com/a/b?d"]);
        check(201, Some("https://EXAMPLE.com:443/x"), &[own, "https://example.com/x"]);
        check(201, Some("//example.com/x"), &[own, "https://example.com/x"]);
        check(201, Some("https://example.com.evil/x"), &[own]);
        check(201, Some("http://example.com/x"), &[own]);
    }

    #[test]
    fn safe_methods_change_nothing() {
        let headers = HeaderMap::new();
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!(invalidated(&method, "https://a/", StatusCode::OK, &headers).is_empty());
        }
        let other = Method::from_bytes(b"M-SEARCH").unwrap();
        assert_eq!(invalidated(&other, "https://a/", StatusCode::OK, &headers).len(), 1);
    }
}
