//! Where a redirect leads (RFC 9110, section 15.4).

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HeaderMap, LOCATION};
use http::{Method, StatusCode, Uri, uri::PathAndQuery};

/// What to send next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) uri: Uri,
    pub(crate) method: Method,
    /// The method became GET: the body and what describes it stay behind.
    pub(crate) drops_body: bool,
}

/// `None` when the response is no redirect; `Err` with the reason when it leads nowhere.
pub(crate) fn step(
    status: StatusCode,
    headers: &HeaderMap,
    from: &Uri,
    method: &Method,
) -> Option<Result<Step, String>> {
    let drops_body = match status.as_u16() {
        // POST becomes GET, as every browser does it (Fetch standard, HTTP-redirect fetch).
        301 | 302 => *method == Method::POST,
        303 => *method != Method::GET && *method != Method::HEAD,
        307 | 308 => false,
        _ => return None,
    };
    let location = headers.get(LOCATION)?;
    let target = location.to_str().ok().and_then(|location| join(from, location));
    let Some(uri) = target else {
        return Some(Err(format!("{from} redirects to {location:?}, which is not an HTTP URL")));
    };
    if from.scheme_str() == Some("https") && uri.scheme_str() != Some("https") {
        return Some(Err(format!("{from} redirects to {uri}, which is not encrypted")));
    }
    let method = if drops_body { Method::GET } else { method.clone() };
    Some(Ok(Step { uri, method, drops_body }))
}

/// Adapts headers to the next step.
pub(crate) fn adapt_headers(headers: &mut HeaderMap, from: &Uri, step: &Step) {
    let origin = |uri: &Uri| {
        (
            uri.scheme_str().map(str::to_owned),
            uri.host().map(str::to_ascii_lowercase),
            uri.port_u16(),
        )
    };
    if origin(from) != origin(&step.uri) {
        // Credentials were meant for the first host only.
        headers.remove(AUTHORIZATION);
        headers.remove(COOKIE);
    }
    if step.drops_body {
        headers.remove(CONTENT_LENGTH);
        headers.remove(CONTENT_TYPE);
        headers.remove(http::header::CONTENT_ENCODING);
    }
}

/// Resolves a reference against an absolute URI (RFC 3986, section 5.2). Dot segments are
/// left to the server.
fn join(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.split('#').next().unwrap_or_default();
    let lower = reference.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        let uri: Uri = reference.parse().ok()?;
        return uri.host().is_some().then_some(uri);
    }
    let scheme = base.scheme_str()?;
    if reference.starts_with("//") {
        return format!("{scheme}:{reference}").parse().ok();
    }
    let has_scheme = reference.split(['/', '?']).next().is_some_and(|head| head.contains(':'));
    if has_scheme {
        return None;
    }
    let path = base.path();
    let joined = if reference.starts_with('/') {
        reference.to_owned()
    } else if reference.is_empty() {
        base.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
    } else if reference.starts_with('?') {
        format!("{path}{reference}")
    } else {
        let folder = path.rfind('/').map_or("/", |slash| &path[..=slash]);
        format!("{folder}{reference}")
    };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(joined.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(base: &str, reference: &str, want: Option<&str>) {
        let joined = join(&base.parse().unwrap(), reference).map(|uri| uri.to_string());
        assert_eq!(joined.as_deref(), want, "{base} {reference}");
    }

    #[test]
    fn references_are_joined() {
        let base = "http://a.test:81/b/c?d";
        check(base, "https://other.test/x#y", Some("https://other.test/x"));
        check(base, "HTTP://other.test", Some("http://other.test/"));
        check(base, "//other.test/x", Some("http://other.test/x"));
        check(base, "/x?y", Some("http://a.test:81/x?y"));
        check(base, "x", Some("http://a.test:81/b/x"));
        check(base, "?y", Some("http://a.test:81/b/c?y"));
        check(base, "", Some("http://a.test:81/b/c?d"));
        check(base, "file:///etc/passwd", None);
        check(base, "gopher:x", None);
        check(base, "http://", None);
    }

    #[track_caller]
    fn check_step(status: u16, method: &Method, want: Option<(Method, bool)>) {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "/next".parse().unwrap());
        let status = StatusCode::from_u16(status).unwrap();
        let step = step(status, &headers, &"http://a.test/".parse().unwrap(), method);
        assert_eq!(step.map(|step| step.map(|step| (step.method, step.drops_body)).unwrap()), want);
    }

    #[test]
    fn methods_change_as_browsers_change_them() {
        check_step(200, &Method::GET, None);
        check_step(304, &Method::GET, None);
        check_step(301, &Method::POST, Some((Method::GET, true)));
        check_step(302, &Method::PUT, Some((Method::PUT, false)));
        check_step(303, &Method::DELETE, Some((Method::GET, true)));
        check_step(303, &Method::HEAD, Some((Method::HEAD, false)));
        check_step(307, &Method::POST, Some((Method::POST, false)));
        check_step(308, &Method::PATCH, Some((Method::PATCH, false)));
    }

    #[test]
    fn encryption_is_not_given_up() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, "http://a.test/".parse().unwrap());
        let from = "https://a.test/".parse().unwrap();
        assert!(step(StatusCode::FOUND, &headers, &from, &Method::GET).unwrap().is_err());
    }
}
