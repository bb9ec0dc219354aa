//! Compression of responses on their way out (RFC 9110, section 8.4).
//!
//! It never touches a body that is encoded already (precompressed files among them), a part
//! of one, one whose headers vouch for its bytes, or server-sent events. A strong entity tag
//! becomes a weak one, since the bytes are no longer those that it names.

mod body;
mod encoder;
pub(crate) mod negotiation;

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body::Body as _;
use squall_types::Body;
use squall_types::gateway::{Compression, CompressionAlgorithm};

use self::body::CompressedBody;
use self::encoder::inline_bytes_max;
pub(crate) use self::encoder::{Encoders, content_coding};
use self::negotiation::Choice;
use crate::vary;

/// Digests of the body as it is: RFC 9530, RFC 3230 and RFC 2616.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// The rules of a route, ready to be applied.
pub(crate) struct CompressionRules {
    algorithms: Vec<CompressionAlgorithm>,
    min_bytes: u64,
    types: MediaTypes,
}

#[derive(Default)]
struct MediaTypes {
    exact: Vec<Box<str>>,
    /// `text/`
    kinds: Vec<Box<str>>,
    /// `+json`
    suffixes: Vec<Box<str>>,
}

/// What is kept of a request until its response is there.
#[derive(Default)]
pub(crate) struct Offer {
    choice: Choice,
    /// Entity tags that the client has, line by line, where one of a line is weak.
    known_tags: Vec<HeaderValue>,
}

impl CompressionRules {
    /// `None` where the settings name no algorithm.
    pub(crate) fn compile(settings: &Compression) -> Option<Self> {
        if settings.algorithms.is_empty() {
            return None;
        }
        let mut types = MediaTypes::default();
        for name in &settings.types {
            if let Some(suffix) = name.strip_prefix('*') {
                types.suffixes.push(suffix.into());
            } else if let Some(kind) = name.strip_suffix('*') {
                types.kinds.push(kind.into());
            } else {
                types.exact.push(name.as_str().into());
            }
        }
        Some(Self { algorithms: settings.algorithms.clone(), min_bytes: settings.min_bytes, types })
    }

    pub(crate) fn offer(&self, asked: &HeaderMap) -> Offer {
        let choice = negotiation::choose(asked, &self.algorithms);
        let known_tags = asked
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter(|tags| contains(tags, b"W/"))
            .cloned()
            .collect();
        Offer { choice, known_tags }
    }

    /// Compresses a response where the client wants it and nothing speaks against it.
    pub(crate) fn apply(
        &self,
        offer: Offer,
        method: &Method,
        encoders: &Arc<Encoders>,
        response: &mut Response<Body>,
    ) {
        if response.status() == StatusCode::NOT_MODIFIED {
            let headers = response.headers_mut();
            weaken_known_tag(&offer.known_tags, headers);
            // As the response has that it confirms, of which the type is seldom told here.
            if headers.get(header::CONTENT_TYPE).is_none_or(|kind| self.types.contain(kind)) {
                vary::add(headers, "accept-encoding");
            }
            return;
        }
        let Some(size) = self.compressible_bytes(response) else { return };
        let small = size.is_some_and(|size| size < self.min_bytes);
        if size == Some(0) || (small && !offer.choice.identity_refused) {
            return;
        }
        vary::add(response.headers_mut(), "accept-encoding");
        let Some(algorithm) = offer.choice.algorithm else { return };
        if method == Method::HEAD {
            // As GET would have it, whose length is not known.
            *response.body_mut() = Body::empty();
            encoded_as(algorithm, response.headers_mut());
            return;
        }
        let Some(mut lease) = encoders.take(algorithm) else { return };

        let source = std::mem::take(response.body_mut());
        let short = source.as_full().filter(|bytes| bytes.len() <= inline_bytes_max(algorithm));
        let compressed = match short {
            None => Ok(None),
            Some(bytes) => lease.finish(bytes).map(Some),
        };
        *response.body_mut() = match compressed {
            Ok(None) => Body::stream(CompressedBody::new(source, lease)),
            Ok(Some(bytes)) => source.replaced_by(bytes),
            Err(error) => {
                tracing::error!("a response is sent as it is, since an encoder failed: {error}");
                *response.body_mut() = source;
                return;
            }
        };
        encoded_as(algorithm, response.headers_mut());
    }

    /// The size of a body that may be compressed, as far as it is known; `None` when it may
    /// not be.
    fn compressible_bytes(&self, response: &Response<Body>) -> Option<Option<u64>> {
        let status = response.status();
        let headers = response.headers();
        let whole = !status.is_informational()
            && !matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::PARTIAL_CONTENT
            )
            && !headers.contains_key(header::CONTENT_RANGE);
        let fixed = headers.contains_key(header::CONTENT_ENCODING)
            || has_no_transform(headers)
            || DIGESTS.iter().any(|name| headers.contains_key(name));
        if !whole || fixed || !self.types.contain(headers.get(header::CONTENT_TYPE)?) {
            return None;
        }
        let said = headers.get(header::CONTENT_LENGTH).and_then(|size| size.to_str().ok());
        let said = said.and_then(|size| size.parse().ok());
        Some(said.or_else(|| response.body().size_hint().exact()))
    }
}

impl MediaTypes {
    fn contain(&self, content_type: &HeaderValue) -> bool {
        let Ok(text) = content_type.to_str() else { return false };
        let name = text.split(';').next().unwrap_or_default().trim();
        let starts = |with: &str| {
            name.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
        };
        let ends = |with: &str| {
            let start = name.len().checked_sub(with.len()).and_then(|at| name.get(at..));
            start.is_some_and(|end| end.eq_ignore_ascii_case(with))
        };
        // Events must not wait for each other in an encoder, and proxies behind us must not
        // gather them.
        !name.eq_ignore_ascii_case("text/event-stream")
            && (self.exact.iter().any(|one| name.eq_ignore_ascii_case(one))
                || self.kinds.iter().any(|kind| starts(kind))
                || self.suffixes.iter().any(|suffix| ends(suffix)))
    }
}

fn has_no_transform(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CACHE_CONTROL)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

fn encoded_as(algorithm: CompressionAlgorithm, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, content_coding(algorithm));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    weaken_tag(headers);
}

fn contains(value: &HeaderValue, part: &[u8]) -> bool {
    value.as_bytes().windows(part.len()).any(|window| window == part)
}

fn weaken_tag(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else { return };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    let weak = [b"W/", tag.as_bytes()].concat();
    match HeaderValue::from_bytes(&weak) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    };
}

/// A client that has a compressed body knows it by the weak tag. A confirmation with the
/// strong one would be about a body that it does not have (RFC 9111, section 4.3.4).
fn weaken_known_tag(known: &[HeaderValue], headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else { return };
    let weak = [b"W/", tag.as_bytes()].concat();
    if known.iter().any(|line| contains(line, &weak)) {
        weaken_tag(headers);
    }
}

#[cfg(test)]
mod tests;
