//! Files served as they are: entity tags, ranges, precompressed variants, and a page for
//! every path of an app that routes in the browser.
//!
//! Sources: RFC 9110 sections 13 (conditions), 14 (ranges) and 12.5.3 (encodings).

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use squall_types::gateway::CompressionAlgorithm;
use squall_types::manifest::Assets;
use squall_types::state::{Asset, BlobId, RevisionState};
use squall_types::{Body, BodyError, ErrorCode};
use tokio::task::JoinHandle;

use crate::policy::compression::{content_coding, negotiation};
use crate::rejection::Rejection;
use crate::{BlobPath, Door, vary};

/// Files up to this size are kept in memory, up to the total below.
const CACHED_FILE_MAX_BYTES: u64 = 256 << 10;
const CACHE_MAX_BYTES: usize = 64 << 20;
const CHUNK_BYTES: usize = 64 << 10;
const MUST_REVALIDATE: &str = "public, max-age=0, must-revalidate";

/// In the order that we prefer them.
const ENCODINGS: [(CompressionAlgorithm, &str); 3] = [
    (CompressionAlgorithm::Zstd, ".zst"),
    (CompressionAlgorithm::Br, ".br"),
    (CompressionAlgorithm::Gzip, ".gz"),
];

/// Reads blobs, the small ones once.
pub(crate) struct Files {
    path: BlobPath,
    cache: Mutex<(HashMap<BlobId, Bytes>, usize)>,
}

impl Files {
    pub(crate) fn new(path: BlobPath) -> Self {
        Self { path, cache: Mutex::default() }
    }

    fn cached(&self, blob: &BlobId) -> Option<Bytes> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).0.get(blob).cloned()
    }

    fn keep(&self, blob: BlobId, bytes: &Bytes) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.1 + bytes.len() > CACHE_MAX_BYTES {
            // Rare enough that starting over is good enough.
            cache.0.clear();
            cache.1 = 0;
        }
        if cache.0.insert(blob, bytes.clone()).is_none() {
            cache.1 += bytes.len();
        }
    }
}

/// A file that answers a request.
pub(crate) struct Found {
    asset: Asset,
    encoding: Option<HeaderValue>,
    /// Other representations exist: caches must look at Accept-Encoding.
    varies: bool,
    /// Where the app routes in the browser, what stands for no file depends on Accept.
    by_accept: bool,
    content_type: HeaderValue,
    cache_control: HeaderValue,
    /// It stands for a file that does not exist: the answer is a 404.
    missing: bool,
}

/// The file for a path: the path itself, its `index.html`, the path with `.html`, or for
/// navigations of an app that routes in the browser `/index.html`.
pub(crate) fn find(
    revision: &RevisionState,
    settings: &Assets,
    request: &Parts,
    path: &str,
) -> Option<Found> {
    if let Some(name) = name_of(revision, path) {
        return represent(revision, settings, request, &name);
    }
    if !settings.spa || !is_navigation(request) {
        return None;
    }
    let page = represent(revision, settings, request, "/index.html")?;
    Some(Found { by_accept: true, ..page })
}

/// Whether a path is that of a file.
pub(crate) fn is_file(revision: &RevisionState, path: &str) -> bool {
    name_of(revision, path).is_some()
}

fn name_of(revision: &RevisionState, path: &str) -> Option<String> {
    let path = percent_encoding::percent_decode_str(path).decode_utf8().ok()?;
    let candidates = match path.strip_suffix('/') {
        Some(folder) => vec![format!("{folder}/index.html")],
        None => vec![path.to_string(), format!("{path}.html"), format!("{path}/index.html")],
    };
    candidates.into_iter().find(|name| revision.assets.contains_key(name))
}

/// The app's own page for what does not exist, `/404.html`, where it has one.
pub(crate) fn find_missing(
    revision: &RevisionState,
    settings: &Assets,
    request: &Parts,
) -> Option<Found> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return None;
    }
    let page = represent(revision, settings, request, "/404.html")?;
    Some(Found { missing: true, by_accept: settings.spa, ..page })
}

/// A file in the encoding that the client likes best.
fn represent(
    revision: &RevisionState,
    settings: &Assets,
    request: &Parts,
    name: &str,
) -> Option<Found> {
    let mut found = Found {
        asset: revision.assets.get(name)?.clone(),
        encoding: None,
        varies: false,
        by_accept: false,
        content_type: content_type(name),
        cache_control: cache_control(settings, name),
        missing: false,
    };
    let variant =
        |(algorithm, suffix)| Some((algorithm, revision.assets.get(&format!("{name}{suffix}"))?));
    let variants: Vec<_> = ENCODINGS.into_iter().filter_map(variant).collect();
    found.varies = !variants.is_empty();
    let there: Vec<_> = variants.iter().map(|(algorithm, _)| *algorithm).collect();
    let choice = negotiation::choose(&request.headers, &there);
    if let Some(chosen) = variants.iter().find(|(one, _)| Some(*one) == choice.algorithm) {
        found.encoding = Some(content_coding(chosen.0));
        found.asset = chosen.1.clone();
    }
    Some(found)
}

fn is_navigation(request: &Parts) -> bool {
    let accepts_html = request
        .headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    matches!(request.method, Method::GET | Method::HEAD) && accepts_html
}

fn content_type(name: &str) -> HeaderValue {
    let guess = mime_guess::from_path(name).first_or_octet_stream();
    let text = guess.type_() == "text"
        || matches!(guess.subtype().as_str(), "javascript" | "json" | "xml")
        || guess.suffix().is_some_and(|suffix| suffix == "xml" || suffix == "json");
    let value = if text { format!("{guess}; charset=utf-8") } else { guess.to_string() };
    HeaderValue::try_from(value)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// The longest pattern that matches.
fn cache_control(settings: &Assets, name: &str) -> HeaderValue {
    let matching =
        settings.cache_control.iter().filter(|(pattern, _)| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *pattern,
        });
    matching
        .max_by_key(|(pattern, _)| pattern.len())
        .and_then(|(_, value)| HeaderValue::from_str(value).ok())
        .unwrap_or(HeaderValue::from_static(MUST_REVALIDATE))
}

/// Answers with a file.
pub(crate) async fn serve(
    door: &Door,
    found: Found,
    request: &Parts,
) -> Result<Response<Body>, Rejection> {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let refused = Rejection::new(ErrorCode::MethodNotAllowed, "a file can only be read");
        return Err(refused.with_header(header::ALLOW, "GET, HEAD"));
    }
    let etag = format!("\"{}\"", &found.asset.blob.to_string()[..32]);
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    let etag_value = HeaderValue::try_from(&etag).expect("hex digits make a header value");
    headers.insert(header::ETAG, etag_value);
    headers.insert(header::CACHE_CONTROL, found.cache_control);
    if found.by_accept {
        vary::add(headers, "accept");
    }
    if found.varies {
        vary::add(headers, "accept-encoding");
    }
    if !found.missing && fails_if_match(&request.headers, &etag) {
        *response.status_mut() = StatusCode::PRECONDITION_FAILED;
        return Ok(response);
    }
    if !found.missing && matches_etag(&request.headers, header::IF_NONE_MATCH, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    headers.insert(header::CONTENT_TYPE, found.content_type);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Some(encoding) = found.encoding {
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    let length = found.asset.bytes;
    // Ranges are for GET alone (RFC 9110, section 14.2).
    let range = match request.method == Method::GET && !found.missing {
        true => wanted_range(&request.headers, &etag, length),
        false => Range::Whole,
    };
    if found.missing {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    let (start, end) = match range {
        Range::Whole => (0, length),
        Range::Part(start, end) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {start}-{}/{length}", end - 1);
            let range = HeaderValue::try_from(range).expect("digits make a header value");
            response.headers_mut().insert(header::CONTENT_RANGE, range);
            (start, end)
        }
        Range::Unsatisfiable => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            let range = HeaderValue::try_from(format!("bytes */{length}"))
                .expect("digits make a header value");
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_RANGE, range);
            headers.remove(header::CONTENT_ENCODING);
            headers.remove(header::CONTENT_TYPE);
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, (end - start).into());
    if request.method == Method::GET && end > start {
        *response.body_mut() = read(door, &found.asset, start, end).await?;
    }
    Ok(response)
}

fn matches_etag(headers: &HeaderMap, name: header::HeaderName, etag: &str) -> bool {
    headers.get_all(name).iter().filter_map(|line| line.to_str().ok()).any(|line| {
        line.split(',').map(str::trim).any(|one| one == "*" || one.trim_start_matches("W/") == etag)
    })
}

/// The client wants this version or nothing. Weak tags never match (RFC 9110, section 13.1.1).
fn fails_if_match(headers: &HeaderMap, etag: &str) -> bool {
    let mut lines = headers.get_all(header::IF_MATCH).iter().peekable();
    let wanted = |one: &str| one == "*" || one == etag;
    lines.peek().is_some()
        && !lines
            .any(|line| line.to_str().is_ok_and(|line| line.split(',').map(str::trim).any(wanted)))
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    /// Start and end, the end excluded.
    Part(u64, u64),
    Unsatisfiable,
}

/// One range is served as a part; several, and what is malformed, as the whole.
fn wanted_range(headers: &HeaderMap, etag: &str, length: u64) -> Range {
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else {
        return Range::Whole;
    };
    // A range of another version of the file would not fit to what the client has.
    if headers.get(header::IF_RANGE).is_some_and(|known| known.as_bytes() != etag.as_bytes()) {
        return Range::Whole;
    }
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Range::Whole;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return Range::Whole;
    }
    let (start, end) = match (first.parse::<u64>().ok(), last.parse::<u64>().ok()) {
        (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(length)),
        (Some(start), None) if last.is_empty() => (start, length),
        (None, Some(suffix)) if first.is_empty() => (length.saturating_sub(suffix), length),
        _ => return Range::Whole,
    };
    if start < end { Range::Part(start, end) } else { Range::Unsatisfiable }
}

async fn read(door: &Door, asset: &Asset, start: u64, end: u64) -> Result<Body, Rejection> {
    if let Some(bytes) = door.files.cached(&asset.blob) {
        return Ok(Body::full(slice(&bytes, start, end)));
    }
    let path = (door.files.path)(&asset.blob);
    if asset.bytes <= CACHED_FILE_MAX_BYTES {
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let bytes = Bytes::from(unwrap_read(read)?);
        door.files.keep(asset.blob, &bytes);
        return Ok(Body::full(slice(&bytes, start, end)));
    }
    let opened = tokio::task::spawn_blocking(move || open_at(path, start)).await;
    let file = unwrap_read(opened)?;
    Ok(Body::stream(FileBody { state: FileState::Idle(Some(file)), left_bytes: end - start }))
}

fn unwrap_read<T>(
    read: Result<std::io::Result<T>, tokio::task::JoinError>,
) -> Result<T, Rejection> {
    let failed = |why: String| {
        tracing::error!("a stored file can not be read: {why}");
        Rejection::new(ErrorCode::Internal, "a stored file can not be read")
    };
    read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}

fn slice(bytes: &Bytes, start: u64, end: u64) -> Bytes {
    // A file whose size is not what was recorded is cut, not a reason to panic.
    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(at(start)..at(end))
}

fn open_at(path: PathBuf, start: u64) -> std::io::Result<std::fs::File> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}

/// A large file, read a chunk at a time off the request core.
struct FileBody {
    state: FileState,
    left_bytes: u64,
}

type Chunk = std::io::Result<(std::fs::File, Vec<u8>)>;

enum FileState {
    Idle(Option<std::fs::File>),
    Reading(JoinHandle<Chunk>),
}

impl HttpBody for FileBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                FileState::Idle(file) => {
                    let Some(mut file) = file.take().filter(|_| this.left_bytes > 0) else {
                        return Poll::Ready(None);
                    };
                    let bytes = this.left_bytes.min(CHUNK_BYTES as u64) as usize;
                    this.state = FileState::Reading(tokio::task::spawn_blocking(move || {
                        let mut chunk = vec![0; bytes];
                        file.read_exact(&mut chunk)?;
                        Ok((file, chunk))
                    }));
                }
                FileState::Reading(reading) => {
                    let read = ready!(Pin::new(reading).poll(cx));
                    let read = read.map_err(std::io::Error::other).and_then(|read| read);
                    return match read {
                        Ok((file, chunk)) => {
                            this.left_bytes -= chunk.len() as u64;
                            this.state = FileState::Idle(Some(file));
                            Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
                        }
                        Err(error) => {
                            this.state = FileState::Idle(None);
                            Poll::Ready(Some(Err(BodyError::new(
                                ErrorCode::Internal,
                                format!("a stored file can not be read: {error}"),
                            ))))
                        }
                    };
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_range(range: &str, expected: Range) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        assert_eq!(wanted_range(&headers, "\"e\"", 100), expected, "{range}");
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"other\""));
        assert_eq!(wanted_range(&headers, "\"e\"", 100), Range::Whole);
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        check_range("bytes=0-3", Range::Part(0, 4));
        check_range("bytes=90-", Range::Part(90, 100));
        check_range("bytes=90-1000", Range::Part(90, 100));
        check_range("bytes=-10", Range::Part(90, 100));
        check_range("bytes=-1000", Range::Part(0, 100));
        check_range("bytes=100-", Range::Unsatisfiable);
        check_range("bytes=-0", Range::Unsatisfiable);
        check_range("bytes=3-1", Range::Whole);
        check_range("bytes=0-1,5-6", Range::Whole);
        check_range("lines=0-1", Range::Whole);
        check_range("bytes=a-b", Range::Whole);
    }
}
