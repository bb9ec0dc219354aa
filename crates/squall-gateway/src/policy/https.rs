//! Requests that came without TLS, and what browsers are told about it.

use http::header::{self, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use squall_types::gateway::{self, Policy};
use squall_types::{Body, ErrorCode};

use crate::guard::Target;
use crate::rejection::Rejection;

#[derive(Debug)]
pub(crate) struct Https {
    cleartext: gateway::Https,
    hsts: Option<HeaderValue>,
}

impl Https {
    pub(crate) fn compile(policy: &Policy) -> Self {
        let hsts = policy.hsts.as_ref().map(|hsts| {
            let subdomains = if hsts.include_subdomains { "; includeSubDomains" } else { "" };
            let preload = if hsts.preload { "; preload" } else { "" };
            let text = format!("max-age={}{subdomains}{preload}", hsts.max_age_s);
            HeaderValue::try_from(text).expect("digits and letters")
        });
        Self { cleartext: policy.https.unwrap_or(gateway::Https::Optional), hsts }
    }

    /// What answers a request in place of its target: with `https` nothing does. A
    /// redirect keeps method and body (308) and leads to `port`, or the usual one.
    pub(crate) fn check(
        &self,
        https: bool,
        target: &Target,
        port: Option<u16>,
    ) -> Result<Option<Response<Body>>, Rejection> {
        if https {
            return Ok(None);
        }
        match self.cleartext {
            gateway::Https::Optional => Ok(None),
            gateway::Https::Required => {
                Err(Rejection::new(ErrorCode::HttpsRequired, "ask for it with https"))
            }
            gateway::Https::Redirect => {
                let port = port.filter(|port| *port != 443);
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                let location = format!("https://{}{port}{}", target.host(), target.path_and_query);
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
                let location =
                    HeaderValue::try_from(location).expect("a checked host and a checked path");
                response.headers_mut().insert(header::LOCATION, location);
                Ok(Some(response))
            }
        }
    }

    /// Browsers heed it over TLS only, and it must be sent there only (RFC 6797, section
    /// 7.2).
    pub(crate) fn finish(&self, https: bool, headers: &mut HeaderMap) {
        if let Some(hsts) = self.hsts.as_ref().filter(|_| https) {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri, Version};

    use super::*;
    use crate::guard;

    fn policy(text: &str) -> Https {
        let (name, policy) = ("name = \"a\"", format!("[gateway.policy]\n{text}"));
        let rest = "[[routes]]\nresponse = { status = 200 }";
        let manifest =
            squall_types::manifest::Manifest::parse(&format!("{name}\n{policy}\n{rest}\n"));
        Https::compile(&manifest.unwrap().gateway.policy)
    }

    fn ask(policy: &Https, https: bool, port: Option<u16>) -> Result<Option<String>, ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("A.example:8080"));
        let uri = Uri::from_static("/x/../y?z=1");
        let target = guard::check(&Method::GET, Version::HTTP_11, &uri, &headers).unwrap();
        let answered = policy.check(https, &target, port).map_err(|rejection| rejection.code)?;
        Ok(answered.map(|response| {
            assert_eq!(response.status(), 308);
            response.headers()[header::LOCATION].to_str().unwrap().to_owned()
        }))
    }

    #[test]
    fn cleartext_is_served_redirected_or_refused() {
        for text in ["", "https = \"optional\""] {
            assert_eq!(ask(&policy(text), false, None), Ok(None));
        }
        let redirect = policy("https = \"redirect\"");
        assert_eq!(ask(&redirect, true, None), Ok(None));
        let to = |port| ask(&redirect, false, port).unwrap().unwrap();
        assert_eq!(to(None), "https://a.example/y?z=1");
        assert_eq!(to(Some(443)), "https://a.example/y?z=1");
        assert_eq!(to(Some(8443)), "https://a.example:8443/y?z=1");
        let required = policy("https = \"required\"");
        assert_eq!(ask(&required, false, None), Err(ErrorCode::HttpsRequired));
        assert_eq!(ask(&required, true, None), Ok(None));
    }

    #[test]
    fn strict_transport_security_is_said_over_tls_only() {
        let check = |text: &str, https: bool, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            policy(text).finish(https, &mut headers);
            let found = headers.get(header::STRICT_TRANSPORT_SECURITY);
            assert_eq!(found.map(|value| value.to_str().unwrap()), expected);
        };
        check("", true, None);
        check("hsts = { max_age_s = 60 }", true, Some("max-age=60"));
        check("hsts = { max_age_s = 60 }", false, None);
        check(
            "hsts = { max_age_s = 0, include_subdomains = true, preload = true }",
            true,
            Some("max-age=0; includeSubDomains; preload"),
        );
    }
}
