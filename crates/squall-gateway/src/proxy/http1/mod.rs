//! HTTP/1.1 (RFC 9112) as the client of an upstream.
//!
//! An exchange is driven by the task of the request that it belongs to: no task, channel
//! or lock stands between the request and the socket. What comes back is read strictly:
//! what two readers could understand differently is an error, and ends the connection.

mod exchange;

mod body;
mod head;
mod request;
mod stream;

pub(crate) use body::{Decoder, Framing, Piece};
pub(crate) use exchange::{Connection, Exchange, Failure, TimeLimits};
pub(crate) use head::ResponseHead;
pub(crate) use request::{RequestFraming, RequestHead, put};
pub(crate) use stream::Stream;

/// Why an answer can not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

#[cfg(test)]
mod tests;
