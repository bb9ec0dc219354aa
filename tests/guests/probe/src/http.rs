//! A request and the right to answer it, over the raw bindings.
//!
//! Nothing here panics when the caller goes away: a broken stream ends the answer.

use std::collections::BTreeMap;

use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// The most that one write may carry by the rules of `wasi:io`.
const CHUNK_BYTES: usize = 4096;
const READ_BYTES: u64 = 64 << 10;

pub(crate) struct Exchange {
    target: String,
    request: IncomingRequest,
    answer: ResponseOutparam,
}

impl Exchange {
    pub(crate) fn new(request: IncomingRequest, answer: ResponseOutparam) -> Self {
        let target = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        Self { target, request, answer }
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The value of a query parameter, as it was sent.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.query()
            .split('&')
            .find_map(|pair| pair.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.parameter(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// Everything after `url=`, query and all.
    pub(crate) fn url(&self) -> &str {
        self.query().split_once("url=").map_or("", |(_, url)| url)
    }

    pub(crate) fn headers(&self) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in self.request.headers().entries() {
            let value = String::from_utf8_lossy(&value);
            headers
                .entry(name)
                .and_modify(|all| {
                    all.push_str(", ");
                    all.push_str(&value);
                })
                .or_insert_with(|| value.into_owned());
        }
        headers
    }

    pub(crate) fn read_body(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        if let Ok(body) = self.request.consume() {
            for_each_chunk(&body, |chunk| {
                whole.extend_from_slice(&chunk);
                Ok(())
            });
        }
        whole
    }

    pub(crate) fn text(self, status: u16, body: &str) {
        self.whole(status, "text/plain; charset=utf-8", body.as_bytes());
    }

    pub(crate) fn json(self, status: u16, value: &impl serde::Serialize) {
        let body = serde_json::to_vec(value).expect("maps of strings are JSON");
        self.whole(status, "application/json", &body);
    }

    fn whole(self, status: u16, content_type: &str, body: &[u8]) {
        let length = body.len().to_string();
        let (outgoing, stream) =
            self.start(status, &[("content-type", content_type), ("content-length", &length)]);
        let written = write_all(&stream, body);
        drop(stream);
        if written.is_ok() {
            let _ = OutgoingBody::finish(outgoing, None);
        }
    }

    /// Sends the head.
    fn start(self, status: u16, headers: &[(&str, &str)]) -> (OutgoingBody, OutputStream) {
        let fields: Vec<(String, Vec<u8>)> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
            .collect();
        let fields = Fields::from_list(&fields).expect("the headers are valid");
        let response = OutgoingResponse::new(fields);
        response.set_status_code(status).expect("the status is valid");
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(self.answer, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        (body, stream)
    }
}

/// Writes what the other side takes, waits, and goes on: back-pressure reaches us here.
pub(crate) fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let permitted = stream.check_write()? as usize;
        if permitted == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(bytes.len().min(permitted));
        stream.write(now)?;
        bytes = later;
    }
    stream.blocking_flush()
}

/// Calls `each` with every piece until the body ends, breaks, or `each` fails.
pub(crate) fn for_each_chunk(
    body: &IncomingBody,
    mut each: impl FnMut(Vec<u8>) -> Result<(), StreamError>,
) {
    let Ok(stream): Result<InputStream, ()> = body.stream() else { return };
    while let Ok(chunk) = stream.blocking_read(READ_BYTES) {
        if each(chunk).is_err() {
            return;
        }
    }
}

/// Sends the request's body back as it arrives, never more than a piece in memory.
pub(crate) fn echo(exchange: Exchange) {
    let content_type = exchange
        .headers()
        .remove("content-type")
        .unwrap_or_else(|| "application/octet-stream".to_owned());
    let Ok(incoming) = exchange.request.consume() else {
        return exchange.text(400, "the body is gone\n");
    };
    let (outgoing, stream) = exchange.start(200, &[("content-type", &content_type)]);
    for_each_chunk(&incoming, |chunk| write_all(&stream, &chunk));
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}

/// A body without an end.
pub(crate) fn endless(exchange: Exchange) {
    let (_outgoing, stream) = exchange.start(200, &[("content-type", "text/plain")]);
    let chunk = [b'.'; CHUNK_BYTES];
    while write_all(&stream, &chunk).is_ok() {}
}

pub(crate) fn trailers(exchange: Exchange) {
    let (outgoing, stream) =
        exchange.start(200, &[("content-type", "text/plain"), ("trailer", "x-checksum")]);
    let written = write_all(&stream, b"a body and then a trailer\n");
    drop(stream);
    if written.is_ok() {
        let trailers = Fields::from_list(&[("x-checksum".to_owned(), b"123".to_vec())])
            .expect("the trailer is valid");
        let _ = OutgoingBody::finish(outgoing, Some(trailers));
    }
}

/// Five events, each flushed before the pause that follows it.
pub(crate) fn server_sent_events(exchange: Exchange) {
    let (outgoing, stream) = exchange
        .start(200, &[("content-type", "text/event-stream"), ("cache-control", "no-cache")]);
    for n in 1..=5 {
        if write_all(&stream, format!("id: {n}\ndata: event {n}\n\n").as_bytes()).is_err() {
            return;
        }
        if n < 5 {
            crate::work::sleep(50);
        }
    }
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}
