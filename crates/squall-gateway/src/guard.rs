//! One reading of a request: its host, its path, and nothing that a client may not say.
//!
//! Sources: RFC 9110 section 7.2 (Host), RFC 9112 sections 3.2 and 6 (targets and
//! framing), RFC 3986 sections 5.2.4 and 6.2.2 (paths).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri, Version};
use squall_types::ErrorCode;

use crate::UnderscoreHeaders;
use crate::rejection::Rejection;

/// Longest request target, in bytes.
const TARGET_MAX_BYTES: usize = 8 << 10;

/// Where a request wants to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Lower case, with its port: what a function sees.
    pub(crate) authority: String,
    /// Where the name in `authority` ends.
    host_bytes: usize,
    /// Normalised, still percent-encoded, and the query as it came.
    pub(crate) path_and_query: PathAndQuery,
}

impl Target {
    /// Without port and without a final dot.
    pub(crate) fn host(&self) -> &str {
        &self.authority[..self.host_bytes]
    }
    pub(crate) fn path(&self) -> &str {
        self.path_and_query.path()
    }
}

fn refuse(code: ErrorCode, message: impl Into<String>) -> Rejection {
    Rejection::new(code, message)
}

/// What a client may ask for at all.
const SERVED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Checks what every request must fulfil, whatever it asks for.
pub(crate) fn check(
    method: &Method,
    version: Version,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Target, Rejection> {
    let http = |scheme: &str| matches!(scheme, "http" | "https");
    if uri.scheme_str().is_some_and(|scheme| !http(scheme)) {
        return Err(refuse(ErrorCode::MalformedRequest, "only http and https are served"));
    }
    if *method == Method::CONNECT {
        return Err(refuse(ErrorCode::MalformedRequest, "CONNECT is not served"));
    }
    if *method == Method::TRACE {
        // It would show a caller what only targets are told.
        let refused = refuse(ErrorCode::MethodNotAllowed, "TRACE is not served");
        return Err(refused.with_header(header::ALLOW, SERVED));
    }
    let fields = Fields::read(headers)?;
    check_framing(version, &fields)?;
    if version == Version::HTTP_2 {
        check_connection_fields(headers)?;
    }
    let (authority, host_bytes) = find_authority(version, uri, fields.host)?;
    let path_and_query = normalise(method, uri)?;
    Ok(Target { authority, host_bytes, path_and_query })
}

/// What the first checks look at. Read by one look at all fields: asking the map for each
/// takes longer.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    length: Option<&'a HeaderValue>,
    coding: Option<&'a HeaderValue>,
}

impl<'a> Fields<'a> {
    fn read(headers: &'a HeaderMap) -> Result<Self, Rejection> {
        let mut fields = Self::default();
        for (name, value) in headers {
            let place = match *name {
                header::HOST => &mut fields.host,
                header::CONTENT_LENGTH => &mut fields.length,
                header::TRANSFER_ENCODING => &mut fields.coding,
                header::EXPECT if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                    let message = "only 100-continue may be expected";
                    return Err(refuse(ErrorCode::ExpectationFailed, message));
                }
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(match *name {
                    header::HOST => {
                        refuse(ErrorCode::BadHost, "there is more than one Host header")
                    }
                    _ => refuse(ErrorCode::MalformedRequest, "the body's length is given twice"),
                });
            }
        }
        Ok(fields)
    }
}

/// What hyper leaves to see; what it hides is the scanner's.
fn check_framing(version: Version, fields: &Fields<'_>) -> Result<(), Rejection> {
    let malformed = |message: &str| Err(refuse(ErrorCode::MalformedRequest, message));
    if fields.coding.is_some() && fields.length.is_some() {
        return malformed("the body's length is given twice");
    }
    if let Some(length) = fields.length {
        let digits = length.as_bytes();
        let zero_led = digits.len() > 1 && digits[0] == b'0';
        if digits.is_empty() || zero_led || !digits.iter().all(u8::is_ascii_digit) {
            return malformed("Content-Length is not a number");
        }
    }
    if let Some(coding) = fields.coding {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if version != Version::HTTP_11 || !is_chunked {
            return malformed("only chunked transfer is understood");
        }
    }
    Ok(())
}

/// RFC 9113, section 8.2.2: connection-specific fields make a request of HTTP/2 malformed.
fn check_connection_fields(headers: &HeaderMap) -> Result<(), Rejection> {
    let te = headers.get(header::TE).is_some_and(|te| te.as_bytes() != b"trailers");
    if te || headers.keys().any(|name| is_hop_by_hop(name.as_str())) {
        let message = "HTTP/2 has no connection-specific headers";
        return Err(refuse(ErrorCode::MalformedRequest, message));
    }
    // Whoever reads it in HTTP/1 next takes the blanks away (RFC 9113, section 8.2.1).
    let is_padded =
        |value: &HeaderValue| matches!(value.as_bytes(), [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    if headers.values().any(is_padded) {
        let message = "a header's value begins or ends with a blank";
        return Err(refuse(ErrorCode::MalformedRequest, message));
    }
    Ok(())
}

/// The host that a refused request is for, as far as there is one: for the log.
pub(crate) fn host_of(version: Version, uri: &Uri, headers: &HeaderMap) -> String {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    let found = find_authority(version, uri, host).ok().filter(|_| other.is_none());
    found.map_or_else(String::new, |(mut authority, host_bytes)| {
        authority.truncate(host_bytes);
        authority
    })
}

fn find_authority(
    version: Version,
    uri: &Uri,
    host: Option<&HeaderValue>,
) -> Result<(String, usize), Rejection> {
    let bad = |message: &str| refuse(ErrorCode::BadHost, message);
    let host = match host {
        Some(host) => Some(host.to_str().map_err(|_| bad("the Host header is not ASCII"))?),
        None => None,
    };
    let target = uri.authority().map(http::uri::Authority::as_str);
    let authority = match (target, host) {
        (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => {
            return Err(bad("the Host header contradicts the request target"));
        }
        // RFC 9112, section 3.2: whatever the target says.
        (Some(_), None) if version == Version::HTTP_11 => {
            return Err(bad("the Host header is missing"));
        }
        (Some(target), _) => target,
        (None, Some(host)) => host,
        (None, None) if version == Version::HTTP_10 => {
            return Err(bad("a request of HTTP/1.0 needs a Host header here"));
        }
        (None, None) => return Err(bad("the Host header is missing")),
    };
    let authority = authority.to_ascii_lowercase();
    let host_bytes = check_authority(&authority).ok_or_else(|| bad("the host is not valid"))?;
    Ok((authority, host_bytes))
}

/// The length of the host in `host[:port]`, without a final dot.
fn check_authority(authority: &str) -> Option<usize> {
    if authority.len() > 260 {
        return None;
    }
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')?;
        authority[1..end].parse::<std::net::Ipv6Addr>().ok()?;
        (&authority[..=end], &authority[end + 1..])
    } else {
        let end = authority.bytes().position(|byte| byte == b':').unwrap_or(authority.len());
        (&authority[..end], &authority[end..])
    };
    if let Some(port) = port.strip_prefix(':') {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse::<u16>().ok().filter(|_| digits)?;
    } else if !port.is_empty() {
        return None;
    }
    if host.starts_with('[') {
        return Some(host.len());
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    is_name(name).then_some(name.len())
}

/// Labels of up to 63 letters, digits, hyphens and underscores, with dots between them.
fn is_name(name: &str) -> bool {
    let mut label_bytes = 0;
    for byte in name.bytes() {
        match byte {
            b'.' if label_bytes > 0 => label_bytes = 0,
            b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' if label_bytes < 63 => {
                label_bytes += 1;
            }
            _ => return false,
        }
    }
    label_bytes > 0
}

/// The path with dot segments resolved and unreserved characters decoded. What could
/// be read in two ways is refused: raw bytes, encoded slashes, NUL, backslashes.
fn normalise(method: &Method, uri: &Uri) -> Result<PathAndQuery, Rejection> {
    let Some(target) = uri.path_and_query() else {
        return Err(refuse(ErrorCode::MalformedRequest, "the request target has no path"));
    };
    if target.as_str().len() > TARGET_MAX_BYTES {
        return Err(refuse(
            ErrorCode::UriTooLong,
            format!("the request target is longer than {TARGET_MAX_BYTES} bytes"),
        ));
    }
    if target.path() == "*" {
        if *method == Method::OPTIONS {
            return Ok(PathAndQuery::from_static("/"));
        }
        return Err(refuse(ErrorCode::MalformedRequest, "only OPTIONS may ask for *"));
    }
    let bad = |message: &str| refuse(ErrorCode::BadPath, message);
    if !target.as_str().bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err(bad("the path holds bytes that must be percent-encoded"));
    }
    let path = target.path();
    // An absolute target may have a query and no path.
    if is_normal(path) && target.as_str().starts_with('/') {
        return Ok(target.clone());
    }
    let normal = normalise_path(path).map_err(bad)?;
    let rebuilt = match target.query() {
        Some(query) => PathAndQuery::try_from(format!("{normal}?{query}")),
        None => PathAndQuery::try_from(normal),
    };
    rebuilt.map_err(|_| bad("the path is not valid"))
}

/// Nothing in it has to be looked at more closely.
fn is_normal(path: &str) -> bool {
    let mut before = 0;
    path.starts_with('/')
        && path.bytes().all(|byte| {
            let pair = (std::mem::replace(&mut before, byte), byte);
            !matches!(pair, (b'/', b'/' | b'.') | (_, b'%' | b'\\'))
        })
}

fn normalise_path(path: &str) -> Result<String, &'static str> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'\\' => return Err("the path holds a backslash"),
            b'%' => {
                let [high, low, after @ ..] = rest else {
                    return Err("the path ends inside a percent-encoding");
                };
                let digit = |digit: u8| char::from(digit).to_digit(16);
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    return Err("the path has a percent sign without two hex digits");
                };
                rest = after;
                let byte = (high * 16 + low) as u8;
                match byte {
                    b'/' | b'\\' => return Err("the path holds an encoded slash"),
                    0 => return Err("the path holds an encoded NUL"),
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                        decoded.push(char::from(byte));
                    }
                    _ => decoded.push_str(&format!("%{byte:02X}")),
                }
            }
            byte => decoded.push(char::from(*byte)),
        }
    }
    if !decoded.starts_with('/') {
        return Err("the path does not begin with a slash");
    }
    let mut segments: Vec<&str> = Vec::new();
    let last = decoded.matches('/').count() - 1;
    for (index, segment) in decoded[1..].split('/').enumerate() {
        let is_last = index == last;
        match segment {
            ".." => {
                if segments.pop().is_none() {
                    return Err("the path leaves the root");
                }
                if is_last {
                    segments.push("");
                }
            }
            "." if is_last => segments.push(""),
            "." => {}
            // Slashes in a row count as one: a route must not be passed by adding some.
            "" if !is_last => {}
            segment => segments.push(segment),
        }
    }
    Ok(format!("/{}", segments.join("/")))
}

/// Fields that end at this connection (RFC 9110, section 7.6.1).
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "transfer-encoding"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
    )
}

/// Fields by which a client could claim to be somebody else. The gateway sets what is
/// true instead.
fn is_identity(name: &str) -> bool {
    matches!(name, "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" | "x-request-id")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-squall-")
}

/// Removes what must not reach a function. `Proxy-Authorization` was for us alone.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    remove_all(headers, |name| {
        is_identity(name) || matches!(name, "proxy-authorization" | "expect")
    });
}

/// With HTTP/2 a client may send the parts of its cookie each by itself. Whoever reads them
/// without it gets one field (RFC 9113, section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut parts = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (parts.next(), parts.next()) else { return };
    let mut joined = first.as_bytes().to_vec();
    for part in std::iter::once(second).chain(parts) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(part.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// One look at each name, since most of the time there is nothing to remove: asking the map
/// for each that may be there costs more than the rest of a request's reading.
fn remove_all(headers: &mut HeaderMap, must_go: impl Fn(&str) -> bool) {
    let must_go = |name: &&HeaderName| must_go(name.as_str());
    if headers.keys().any(|name| must_go(&name)) {
        let names: Vec<HeaderName> = headers.keys().filter(must_go).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// Headers whose names are those of others but for underscores.
pub(crate) fn check_underscores(
    mode: UnderscoreHeaders,
    headers: &mut HeaderMap,
) -> Result<(), Rejection> {
    let has_underscore = |name: &&HeaderName| name.as_str().as_bytes().contains(&b'_');
    if !headers.keys().any(|name| has_underscore(&name)) {
        return Ok(());
    }
    let found: Vec<HeaderName> = headers.keys().filter(has_underscore).cloned().collect();
    for name in found {
        let dashed = name.as_str().replace('_', "-");
        let shadows = is_ours(&dashed) || headers.contains_key(dashed.as_str());
        match mode {
            UnderscoreHeaders::Reject if shadows => {
                return Err(refuse(
                    ErrorCode::MalformedRequest,
                    format!("the header {name} could be taken for {dashed}"),
                ));
            }
            UnderscoreHeaders::Allow if is_ours(&dashed) => drop(headers.remove(&name)),
            UnderscoreHeaders::Drop => drop(headers.remove(&name)),
            UnderscoreHeaders::Reject | UnderscoreHeaders::Allow => {}
        }
    }
    Ok(())
}

/// Whether a request's meaning or its sender's identity hangs on this header.
fn is_ours(name: &str) -> bool {
    is_identity(name) || is_hop_by_hop(name) || has_meaning(name)
}

/// Fields on which framing, routing and authentication hang (RFC 9110, section 6.5.1).
fn has_meaning(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "content-range"
            | "authorization"
            | "proxy-authorization"
            | "cookie"
            | "expect"
            | "te"
            | "trailer"
            | "max-forwards"
            | "x-http-method-override"
    )
}

/// Removes trailers that somebody could merge into the head: what they say comes too
/// late to be checked.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> =
        trailers.keys().filter(|name| is_ours(&name.as_str().replace('_', "-"))).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// Also for responses: a function can not speak about our connection.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderValue> = headers.get_all(header::CONNECTION).iter().cloned().collect();
        headers.remove(header::CONNECTION);
        for connection in &named {
            remove_named(headers, connection);
        }
    }
    remove_all(headers, is_hop_by_hop);
    if headers.get(header::TE).is_some_and(|te| te != "trailers") {
        headers.remove(header::TE);
    }
}

/// `Connection` names further fields of this hop. It can not name those that the
/// request's meaning hangs on.
fn remove_named(headers: &mut HeaderMap, connection: &HeaderValue) {
    const KEPT: [HeaderName; 5] = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::COOKIE,
    ];
    let Ok(names) = connection.to_str() else { return };
    for name in names.split(',') {
        if let Ok(name) = HeaderName::try_from(name.trim())
            && !KEPT.contains(&name)
        {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn underscores(mode: UnderscoreHeaders, names: &[&'static str], expected: Option<&[&str]>) {
        let mut headers = HeaderMap::new();
        for name in names {
            headers.insert(*name, HeaderValue::from_static("1"));
        }
        let checked = check_underscores(mode, &mut headers).ok();
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(checked.map(|()| left.as_slice()), expected, "{mode:?} {names:?}");
    }

    #[test]
    fn a_header_does_not_shadow_another_by_underscores() {
        use UnderscoreHeaders::{Allow, Drop, Reject};
        underscores(Reject, &["accept", "x-a"], Some(&["accept", "x-a"]));
        underscores(Reject, &["x_a"], Some(&["x_a"]));
        underscores(Reject, &["x_a", "x-a"], None);
        for ours in ["x_forwarded_for", "x-squall_client", "content_length", "x_forwarded_user"] {
            underscores(Reject, &[ours], None);
            underscores(Allow, &[ours, "x_a"], Some(&["x_a"]));
        }
        underscores(Drop, &["x_a", "x-b"], Some(&["x-b"]));
        underscores(Allow, &["x_a", "x-a"], Some(&["x-a", "x_a"]));
    }

    #[test]
    fn routes_are_written_with_the_escapes_that_requests_come_with() {
        for byte in 0..=u8::MAX {
            for escape in [format!("%{byte:02X}"), format!("%{byte:02x}")] {
                let path = format!("/a{escape}b");
                let comes = normalise_path(&path).is_ok_and(|normal| normal == path);
                let route = format!("paths = [{path:?}]\nresponse = {{ status = 200 }}");
                let manifest = format!("name = \"one\"\n[[routes]]\n{route}\n");
                let taken = squall_types::manifest::Manifest::parse(&manifest);
                assert_eq!(taken.is_ok(), comes, "{path}: {taken:?}");
            }
        }
    }

    #[test]
    fn trailers_say_nothing_about_the_request() {
        let mut trailers = HeaderMap::new();
        for name in ["grpc-status", "content-length", "x_squall_client", "authorization", "te"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        strip_trailers(&mut trailers);
        assert_eq!(trailers.keys().collect::<Vec<_>>(), ["grpc-status"]);
    }

    #[test]
    fn the_parts_of_a_cookie_become_one() {
        let joined = |parts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for part in parts {
                headers.append(header::COOKIE, HeaderValue::from_static(part));
            }
            join_cookies(&mut headers);
            headers.get_all(header::COOKIE).iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(joined(&[]), [""; 0]);
        assert_eq!(joined(&["a=1; b=2"]), ["a=1; b=2"]);
        assert_eq!(joined(&["a=1", "b=2", "c=3"]), ["a=1; b=2; c=3"]);
    }

    #[track_caller]
    fn path(raw: &str, expected: Result<&str, ErrorCode>) {
        let uri: Uri = raw.parse().unwrap();
        let found = normalise(&Method::GET, &uri).map_err(|rejection| rejection.code);
        assert_eq!(
            found.as_ref().map(PathAndQuery::as_str).map_err(|code| *code),
            expected,
            "{raw}"
        );
    }

    #[test]
    fn paths_are_normalised_once() {
        path("/", Ok("/"));
        path("http://a", Ok("/"));
        path("http://a?b=1", Ok("/?b=1"));
        path("/a/b?c=/../d", Ok("/a/b?c=/../d"));
        path("/a/../b", Ok("/b"));
        path("/a/./b/.", Ok("/a/b/"));
        path("/a/b/..", Ok("/a/"));
        path("/%61%2D%7e", Ok("/a-~"));
        path("/a/%2e%2E/b", Ok("/b"));
        path("//a///b/", Ok("/a/b/"));
        path("/%c3%a9%20", Ok("/%C3%A9%20"));
        path("/...", Ok("/..."));
        path("/..", Err(ErrorCode::BadPath));
        path("/a/../../b", Err(ErrorCode::BadPath));
        path("/a%2fb", Err(ErrorCode::BadPath));
        path("/a%5cb", Err(ErrorCode::BadPath));
        path("/a%00", Err(ErrorCode::BadPath));
        path("/%", Err(ErrorCode::BadPath));
        path("/%zz", Err(ErrorCode::BadPath));
        path(&format!("/{}", "a".repeat(9000)), Err(ErrorCode::UriTooLong));
    }

    #[test]
    fn normalised_paths_stay_as_they_are() {
        for raw in ["/a/../b//c/./%41%2e", "/%2e%2e%2e/", "/x/%25%32%65"] {
            let uri: Uri = raw.parse().unwrap();
            let once = normalise(&Method::GET, &uri).unwrap();
            let again: Uri = once.as_str().parse().unwrap();
            assert_eq!(normalise(&Method::GET, &again).unwrap(), once, "{raw}");
        }
    }

    #[track_caller]
    fn host(uri: &str, hosts: &[&str], expected: Result<&str, ErrorCode>) {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        let uri: Uri = uri.parse().unwrap();
        let found = check(&Method::GET, Version::HTTP_11, &uri, &headers);
        let found = found.as_ref().map(Target::host).map_err(|rejection| rejection.code);
        assert_eq!(found, expected, "{uri} {hosts:?}");
    }

    #[test]
    fn there_is_exactly_one_host() {
        host("/", &["A.Example:8080"], Ok("a.example"));
        host("/", &["a.example."], Ok("a.example"));
        host("/", &["[::1]:80"], Ok("[::1]"));
        host("/", &["127.0.0.1"], Ok("127.0.0.1"));
        host("http://a.example/x", &["a.example"], Ok("a.example"));
        for hosts in [
            &[][..],
            &["a", "a"],
            &[""],
            &["u@a"],
            &["a/x"],
            &["a:x"],
            &["a:"],
            &["a:99999"],
            &["a..b"],
            &["a b"],
            &["[::1"],
            &["a,b"],
        ] {
            host("/", hosts, Err(ErrorCode::BadHost));
        }
        host("http://a.example/", &["b.example"], Err(ErrorCode::BadHost));
        host("http://a.example/", &["a.example:80"], Err(ErrorCode::BadHost));
    }

    #[test]
    fn what_belongs_to_the_connection_or_claims_an_identity_is_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-private, authorization"),
            ("x-private", "1"),
            ("authorization", "Bearer x"),
            ("te", "gzip"),
            ("x-forwarded-for", "8.8.8.8"),
            ("forwarded", "for=8.8.8.8"),
            ("x-forwarded-user", "root"),
            ("x-squall-app", "other"),
            ("accept", "*/*"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        strip_request(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization"]);
    }
}
