//! Which other origins' pages may read responses
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! The gateway alone speaks about it: preflights end here, and what a target says is
//! replaced. It never allows the origin `null`, never reflects an origin that is not
//! configured, and never gives `*` together with credentials. The header of the former
//! Private Network Access drafts is not answered: no browser waits for it any more.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use squall_types::Body;
use squall_types::gateway::Cors;

use crate::vary;

/// What a target may have said about CORS.
const ANSWERS: [HeaderName; 7] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
];
const PREFLIGHT_VARY: &str =
    "origin, access-control-request-method, access-control-request-headers";

/// The rules of a route, ready to be applied.
pub(crate) struct CorsRules {
    origins: Origins,
    methods: Vec<Method>,
    allow_methods: HeaderValue,
    headers: AllowHeaders,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

enum Origins {
    Any,
    Some {
        exact: Vec<Box<str>>,
        /// What stands before and behind the `*` of `https://*.example.com`.
        below: Vec<(Box<str>, Box<str>)>,
    },
}

enum AllowHeaders {
    None,
    /// Those that the page asks for: with credentials, a literal `*` would be the name of
    /// a header, and without them it would leave out `Authorization`.
    Asked,
    Listed(HeaderValue),
}

impl CorsRules {
    /// `None` where the settings name no origin: the target decides.
    pub(crate) fn compile(settings: &Cors) -> Option<Self> {
        if settings.origins.is_empty() {
            return None;
        }
        let list = |names: &[String]| {
            let text = names.join(", ");
            HeaderValue::try_from(text).expect("the manifest's check lets only tokens through")
        };
        let is_any = |names: &[String]| names.iter().any(|name| name == "*");
        let parsed = settings.methods.iter().filter_map(|name| name.parse().ok());
        let mut methods: Vec<Method> = vec![Method::GET, Method::HEAD, Method::POST];
        for method in parsed {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        let names: Vec<String> = methods.iter().map(|method| method.to_string()).collect();
        Some(Self {
            origins: Origins::compile(&settings.origins),
            methods,
            allow_methods: list(&names),
            headers: match settings.headers.as_slice() {
                [] => AllowHeaders::None,
                names if is_any(names) => AllowHeaders::Asked,
                names => AllowHeaders::Listed(list(names)),
            },
            expose: (!settings.expose.is_empty()).then(|| list(&settings.expose)),
            credentials: settings.credentials,
            max_age: settings.max_age_s.into(),
        })
    }

    /// The answer to a preflight; `None` when the request is none.
    ///
    /// One that is refused gets the same 204 without any permission. The browser refuses
    /// the request by that, and a cache in between keeps nothing that is worth anything.
    pub(crate) fn preflight(&self, method: &Method, asked: &HeaderMap) -> Option<Response<Body>> {
        if method != Method::OPTIONS || !asked.contains_key(header::ORIGIN) {
            return None;
        }
        let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static(PREFLIGHT_VARY));
        let known = self.methods.iter().any(|one| one.as_str().as_bytes() == wanted.as_bytes());
        let Some(allowed) = self.allow_origin(asked).filter(|_| known) else {
            return Some(response);
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, true_value());
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.allow_methods.clone());
        let allowed_headers = match &self.headers {
            AllowHeaders::None => None,
            AllowHeaders::Asked => reflect(asked),
            AllowHeaders::Listed(names) => Some(names.clone()),
        };
        if let Some(names) = allowed_headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(response)
    }

    /// What a response to this request's origin will say. Decided before the request's
    /// head is handed on.
    pub(crate) fn permit(&self, asked: &HeaderMap) -> CorsPermit {
        CorsPermit { allow_origin: self.allow_origin(asked) }
    }

    /// Writes the headers of a response, rejections included: a page may read why it was
    /// refused.
    pub(crate) fn decorate(&self, permit: CorsPermit, headers: &mut HeaderMap) {
        for name in ANSWERS {
            headers.remove(name);
        }
        // Also without an origin, or for one that is refused: a cache must not give that
        // response to a page of an origin that is allowed.
        if !matches!(self.origins, Origins::Any) {
            vary::add(headers, "origin");
        }
        let Some(allowed) = permit.allow_origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, true_value());
        }
        if let Some(names) = &self.expose {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, names.clone());
        }
    }

    /// The value of `Access-Control-Allow-Origin`, where there is to be one.
    fn allow_origin(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        match &self.origins {
            // Without an origin as well: a cache may give that response to a page.
            Origins::Any => Some(HeaderValue::from_static("*")),
            Origins::Some { exact, below } => {
                let mut lines = asked.get_all(header::ORIGIN).iter();
                let origin = lines.next()?;
                if lines.next().is_some() {
                    return None;
                }
                let text = origin.to_str().ok()?;
                let known = exact.iter().any(|one| **one == *text)
                    || below.iter().any(|(before, behind)| is_below(text, before, behind));
                known.then(|| origin.clone())
            }
        }
    }
}

/// What was decided about the origin of one request.
#[derive(Default)]
pub(crate) struct CorsPermit {
    allow_origin: Option<HeaderValue>,
}

impl Origins {
    fn compile(origins: &[String]) -> Self {
        if origins.iter().any(|origin| origin == "*") {
            return Self::Any;
        }
        let mut exact = Vec::new();
        let mut below = Vec::new();
        for origin in origins {
            match origin.split_once('*') {
                None => exact.push(origin.as_str().into()),
                Some((before, behind)) => below.push((before.into(), behind.into())),
            }
        }
        Self::Some { exact, below }
    }
}

/// Whether something that can only be labels of a host name stands for the `*`.
fn is_below(origin: &str, before: &str, behind: &str) -> bool {
    let Some(rest) = origin.strip_prefix(before) else { return false };
    let Some(name) = rest.strip_suffix(behind) else { return false };
    let letter =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(letter)
}

/// The names that a page asks for, as long as they are names.
fn reflect(asked: &HeaderMap) -> Option<HeaderValue> {
    let lines = asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let mut names = String::new();
    for line in lines.filter_map(|line| line.to_str().ok()) {
        for name in line.split(',').map(str::trim) {
            if HeaderName::from_bytes(name.as_bytes()).is_ok() {
                if !names.is_empty() {
                    names.push_str(", ");
                }
                names.push_str(name);
            }
        }
    }
    HeaderValue::try_from(names).ok().filter(|names| !names.is_empty())
}

fn true_value() -> HeaderValue {
    HeaderValue::from_static("true")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(settings: Cors) -> CorsRules {
        CorsRules::compile(&settings).unwrap()
    }

    fn settings(origins: &[&str]) -> Cors {
        Cors {
            origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
            methods: vec!["PUT".to_owned()],
            headers: Vec::new(),
            expose: Vec::new(),
            credentials: false,
            max_age_s: 60,
        }
    }

    fn asked(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn origin(value: &str) -> HeaderMap {
        asked(&[("origin", value)])
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    fn check(origins: &[&str], given: &str, expected: &str) {
        let rules = rules(settings(origins));
        let mut headers = HeaderMap::new();
        rules.decorate(rules.permit(&origin(given)), &mut headers);
        assert_eq!(text(&headers, "access-control-allow-origin"), expected, "{given}");
    }

    #[test]
    fn an_origin_is_allowed_when_it_is_configured() {
        let both = ["https://app.example.com", "https://*.example.org:8443"];
        check(&both, "https://app.example.com", "https://app.example.com");
        check(&both, "https://a.example.org:8443", "https://a.example.org:8443");
        check(&both, "https://a.b.example.org:8443", "https://a.b.example.org:8443");
        for other in [
            "null",
            "https://app.example.com.evil.test",
            "https://evil-app.example.com",
            "http://app.example.com",
            "https://app.example.com:444",
            "https://APP.example.com",
            "https://example.org:8443",
            "https://.example.org:8443",
            "https://a.example.org",
            "https://a.example.org:84430",
            "https://evil.test/.example.org:8443",
            "https://evil.test#.example.org:8443",
            "https://u@evil.test:x.example.org:8443",
            "https://evilexample.org:8443",
            "",
        ] {
            check(&both, other, "");
        }
        check(&["*"], "https://anything.test", "*");
        check(&["*"], "null", "*");
    }

    #[test]
    fn two_origins_are_none() {
        let some = rules(settings(&["https://a.test", "https://b.test"]));
        let two = asked(&[("origin", "https://a.test"), ("origin", "https://b.test")]);
        assert!(some.permit(&two).allow_origin.is_none());
        assert!(some.permit(&HeaderMap::new()).allow_origin.is_none());
        // A response that every page may read says so whoever asked: caches keep it.
        let any = rules(settings(&["*"]));
        assert_eq!(any.permit(&HeaderMap::new()).allow_origin.unwrap(), "*");
    }

    #[test]
    fn only_an_options_request_with_origin_and_method_is_a_preflight() {
        let rules = rules(settings(&["*"]));
        let full = [("origin", "https://a.test"), ("access-control-request-method", "PUT")];
        assert!(rules.preflight(&Method::OPTIONS, &asked(&full)).is_some());
        assert!(rules.preflight(&Method::GET, &asked(&full)).is_none());
        assert!(rules.preflight(&Method::OPTIONS, &asked(&full[..1])).is_none());
        assert!(rules.preflight(&Method::OPTIONS, &asked(&full[1..])).is_none());
    }

    fn preflight(settings: Cors, origin: &str, method: &str, headers: &str) -> HeaderMap {
        let asked = asked(&[
            ("origin", origin),
            ("access-control-request-method", method),
            ("access-control-request-headers", headers),
        ]);
        let response = rules(settings).preflight(&Method::OPTIONS, &asked).unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(text(response.headers(), "vary"), PREFLIGHT_VARY);
        response.headers().clone()
    }

    #[test]
    fn a_preflight_says_what_is_allowed() {
        let some = Cors {
            headers: vec!["content-type".into(), "x-token".into()],
            credentials: true,
            ..settings(&["https://a.test"])
        };
        let headers = preflight(some.clone(), "https://a.test", "PUT", "x-token");
        assert_eq!(text(&headers, "access-control-allow-origin"), "https://a.test");
        assert_eq!(text(&headers, "access-control-allow-credentials"), "true");
        assert_eq!(text(&headers, "access-control-allow-methods"), "GET, HEAD, POST, PUT");
        assert_eq!(text(&headers, "access-control-allow-headers"), "content-type, x-token");
        assert_eq!(text(&headers, "access-control-max-age"), "60");
        assert!(!headers.contains_key("access-control-expose-headers"));
        // Simple methods are always allowed: a page can send them without asking, too.
        let headers = preflight(some.clone(), "https://a.test", "POST", "");
        assert!(headers.contains_key("access-control-allow-origin"));

        for (origin, method) in [
            ("https://b.test", "PUT"),
            ("null", "PUT"),
            ("https://a.test", "DELETE"),
            ("https://a.test", "put"),
            ("https://a.test", ""),
        ] {
            let headers = preflight(some.clone(), origin, method, "x-token");
            assert_eq!(headers.len(), 1, "{origin} {method}: {headers:?}");
        }
    }

    #[test]
    fn any_header_means_those_that_are_asked_for() {
        let any = Cors { headers: vec!["*".into()], ..settings(&["https://a.test"]) };
        let headers = preflight(any.clone(), "https://a.test", "PUT", "authorization, x-b,,a b");
        assert_eq!(text(&headers, "access-control-allow-headers"), "authorization, x-b");
        let headers = preflight(any, "https://a.test", "PUT", "");
        assert!(!headers.contains_key("access-control-allow-headers"));
    }

    #[test]
    fn what_a_target_said_is_replaced() {
        let rules = rules(Cors {
            credentials: true,
            expose: vec!["x-request-id".into(), "retry-after".into()],
            ..settings(&["https://a.test"])
        });
        let said = [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-origin", "https://b.test"),
            ("access-control-allow-methods", "DELETE"),
            ("vary", "accept-encoding"),
            ("x-own", "1"),
        ];
        let mut headers = asked(&said);
        rules.decorate(rules.permit(&origin("https://a.test")), &mut headers);
        let allowed: Vec<_> = headers.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(allowed, ["https://a.test"]);
        assert_eq!(text(&headers, "access-control-expose-headers"), "x-request-id, retry-after");
        assert_eq!(text(&headers, "access-control-allow-credentials"), "true");
        assert!(!headers.contains_key("access-control-allow-methods"));
        let varied: Vec<_> = headers.get_all("vary").iter().collect();
        assert_eq!(varied, ["accept-encoding", "origin"]);

        let mut headers = asked(&said);
        rules.decorate(rules.permit(&origin("https://b.test")), &mut headers);
        assert!(!headers.contains_key("access-control-allow-origin"));
        assert!(!headers.contains_key("access-control-allow-credentials"));
        assert_eq!(headers.get_all("vary").iter().count(), 2);
    }

    #[test]
    fn no_origin_leaves_it_to_the_target() {
        assert!(CorsRules::compile(&settings(&[])).is_none());
    }

    proptest! {
        #[test]
        fn what_stands_for_the_star_is_a_name(name in "[ -~]{0,20}") {
            let rules = rules(settings(&["https://*.example.org"]));
            let given = format!("https://{name}.example.org");
            let allowed = rules.permit(&origin(&given)).allow_origin.is_some();
            let is_name = !name.is_empty() && name.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte)
            });
            prop_assert_eq!(allowed, is_name);
        }
    }
}
