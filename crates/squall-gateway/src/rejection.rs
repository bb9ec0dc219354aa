//! What a caller gets instead of a response: little, and always the same shape.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use squall_types::{Body, ErrorCode, InvokeError};

/// A request that ends here.
#[derive(Debug)]
pub(crate) struct Rejection {
    pub(crate) code: ErrorCode,
    /// For the access log; the caller sees the code's title.
    pub(crate) message: String,
    pub(crate) retry_after_s: Option<u32>,
    /// The caller may be told `message`: it is about nothing but the request itself.
    public: bool,
    /// What follows on this connection can not be trusted.
    pub(crate) close: bool,
    /// Beside those of every rejection; `None` is the usual case and costs nothing.
    headers: Option<Box<HeaderMap>>,
}

impl Rejection {
    /// About the request alone, so the caller may know why.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after_s: None,
            public: true,
            close: false,
            headers: None,
        }
    }

    /// With a header more. A value that can not be sent is left out.
    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.get_or_insert_default().append(name, value);
        }
        self
    }

    #[must_use]
    pub(crate) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// As a problem (RFC 9457) for programs and as a line of text for people.
    pub(crate) fn into_response(self, request: &HeaderMap) -> Response<Body> {
        let status =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wants_json = request
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.contains("json"));
        let detail = if self.public { self.message.as_str() } else { "" };
        let (kind, body) = if wants_json {
            let mut problem = serde_json::json!({
                "type": format!("urn:squall:error:{}", self.code),
                "title": self.code.title(),
                "status": status.as_u16(),
                "code": self.code,
            });
            if !detail.is_empty() {
                problem["detail"] = detail.into();
            }
            ("application/problem+json", problem.to_string())
        } else {
            let separator = if detail.is_empty() { "" } else { ": " };
            let code = self.code;
            let title = code.title();
            ("text/plain; charset=utf-8", format!("{code} {title}{separator}{detail}\n"))
        };
        let mut response = Response::new(Body::full(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(own) = self.headers {
            headers.extend(*own);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<InvokeError> for Rejection {
    /// What a function did is its owner's business: the caller learns the class only.
    fn from(error: InvokeError) -> Self {
        Self {
            code: error.code,
            message: error.message,
            retry_after_s: error.retry_after_s,
            public: false,
            close: false,
            headers: None,
        }
    }
}
