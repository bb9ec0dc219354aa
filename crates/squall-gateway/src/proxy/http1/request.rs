//! The head of a request as it goes out.

use bytes::{BufMut as _, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::proxy::forwarded::Forwarded;

/// How the upstream finds the end of the request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestFraming {
    /// There is none, and the method does not let one expect it.
    Empty,
    Length(u64),
    Chunked,
}

pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    /// The path of the target's base URL, without a slash at its end.
    pub(crate) prefix: &'a str,
    pub(crate) path_and_query: &'a str,
    pub(crate) host: &'a [u8],
    /// End-to-end fields.
    pub(crate) headers: &'a HeaderMap,
    /// `None` for the gateway's own questions.
    pub(crate) forwarded: Option<&'a Forwarded<'a>>,
    /// The protocol to switch to.
    pub(crate) upgrade: Option<&'a HeaderValue>,
}

impl RequestHead<'_> {
    pub(crate) fn write(&self, framing: RequestFraming, out: &mut BytesMut) {
        out.reserve(512);
        let (method, path) = (self.method.as_str().as_bytes(), self.path_and_query.as_bytes());
        put(out, &[method, b" ", self.prefix.as_bytes(), path]);
        put(out, &[b" HTTP/1.1\r\nhost: ", self.host, b"\r\n"]);
        for (name, value) in self.headers {
            if !is_ours(name) {
                put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
            }
        }
        if let Some(forwarded) = self.forwarded {
            forwarded.write(out);
        }
        match framing {
            RequestFraming::Empty => {}
            RequestFraming::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
            RequestFraming::Length(bytes) => {
                let mut digits = itoa::Buffer::new();
                let digits = digits.format(bytes).as_bytes();
                put(out, &[b"content-length: ", digits, b"\r\n"]);
            }
        }
        if let Some(protocol) = self.upgrade {
            let protocol = protocol.as_bytes();
            put(out, &[b"connection: upgrade\r\nupgrade: ", protocol, b"\r\n"]);
        }
        out.put_slice(b"\r\n");
    }
}

pub(crate) fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    for part in parts {
        out.put_slice(part);
    }
}

/// Fields that are written by what is true of this connection, whatever was there.
fn is_ours(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::HOST
            | header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::CONNECTION
            | header::UPGRADE
            | header::TE
            | header::EXPECT
            | header::FORWARDED
    ) || Forwarded::sets(name)
}
