//! Cache-Status (RFC 9211): what the cache did with a request.

use std::fmt::Write as _;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why a request went on to the origin (section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    Bypass,
    Method,
    UriMiss,
    VaryMiss,
    Request,
    Stale,
    Partial,
}

impl Forwarded {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// One member of the field.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    forwarded: Option<Forwarded>,
    status: Option<StatusCode>,
    stored: bool,
    collapsed: bool,
    ttl_s: Option<i64>,
    detail: Option<&'static str>,
}

impl Status {
    const NOTHING: Status = Status {
        forwarded: None,
        status: None,
        stored: false,
        collapsed: false,
        ttl_s: None,
        detail: None,
    };

    pub fn hit(ttl_s: i64) -> Self {
        Self { ttl_s: Some(ttl_s), ..Self::NOTHING }
    }

    pub fn forwarded(why: Forwarded) -> Self {
        Self { forwarded: Some(why), ..Self::NOTHING }
    }

    /// Of the origin's response.
    #[must_use]
    pub fn status(self, status: StatusCode) -> Self {
        Self { status: Some(status), ..self }
    }

    /// The origin's response is stored.
    #[must_use]
    pub fn stored(self) -> Self {
        Self { stored: true, ..self }
    }

    /// It was another request's response.
    #[must_use]
    pub fn collapsed(self) -> Self {
        Self { collapsed: true, ..self }
    }

    #[must_use]
    pub fn ttl(self, ttl_s: i64) -> Self {
        Self { ttl_s: Some(ttl_s), ..self }
    }

    /// A sentence without quotes and backslashes.
    #[must_use]
    pub fn detail(self, detail: &'static str) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// Writes it behind what caches nearer to the origin have said.
    pub fn append(&self, headers: &mut HeaderMap) {
        let mut text = String::with_capacity(64);
        text.push_str("Squall; ");
        match self.forwarded {
            None => text.push_str("hit"),
            Some(why) => {
                text.push_str("fwd=");
                text.push_str(why.as_str());
            }
        }
        // Writing to a string does not fail.
        if let Some(status) = self.status {
            let _ = write!(text, "; fwd-status={}", status.as_u16());
        }
        if self.stored {
            text.push_str("; stored");
        }
        if self.collapsed {
            text.push_str("; collapsed");
        }
        if let Some(ttl_s) = self.ttl_s {
            let _ = write!(text, "; ttl={ttl_s}");
        }
        if let Some(detail) = self.detail {
            let _ = write!(text, "; detail=\"{detail}\"");
        }
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: Status, expected: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_STATUS, HeaderValue::from_static("Inner; hit"));
        status.append(&mut headers);
        let lines: Vec<_> = headers.get_all(CACHE_STATUS).iter().collect();
        assert_eq!(lines, ["Inner; hit", expected]);
    }

    #[test]
    fn members_are_written_as_they_are_registered() {
        check(Status::hit(30), "Squall; hit; ttl=30");
        let miss = Status::forwarded(Forwarded::UriMiss).status(StatusCode::OK);
        check(miss.stored().ttl(60), "Squall; fwd=uri-miss; fwd-status=200; stored; ttl=60");
        check(miss.collapsed(), "Squall; fwd=uri-miss; fwd-status=200; collapsed");
        check(
            Status::forwarded(Forwarded::Method).detail("the response says private"),
            "Squall; fwd=method; detail=\"the response says private\"",
        );
    }
}
