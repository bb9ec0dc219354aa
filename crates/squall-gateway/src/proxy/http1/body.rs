//! Where a body ends (RFC 9112, sections 6 and 7).

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::Malformed;

/// Longest line with the size of a chunk, extensions included.
const SIZE_LINE_MAX_BYTES: usize = 4 << 10;
const TRAILERS_MAX_BYTES: usize = 16 << 10;
const TRAILERS_MAX: usize = 64;

/// How the end of a response's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(u64),
    Chunked,
    UntilClose,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    /// More has to be read.
    Unfinished,
    End,
}

/// Takes a body out of what was read. It never takes a byte beyond the end.
#[derive(Debug)]
pub(crate) struct Decoder(State);

#[derive(Debug)]
enum State {
    Length(u64),
    UntilClose,
    /// At the start of a chunk, of its data, or at the line end behind them.
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    Done,
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(bytes) => State::Length(bytes),
            Framing::Chunked => State::ChunkSize,
            Framing::UntilClose => State::UntilClose,
        })
    }

    /// How many bytes are still to come, where that was said.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Length(bytes) => Some(bytes),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// `at_end`: nothing more will be read.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut, at_end: bool) -> Result<Piece, Malformed> {
        let cut_off = Err(Malformed("the connection ended before the body did"));
        loop {
            let unfinished = match &mut self.0 {
                State::Done => return Ok(Piece::End),
                State::UntilClose if buffer.is_empty() => {
                    if !at_end {
                        return Ok(Piece::Unfinished);
                    }
                    self.0 = State::Done;
                    return Ok(Piece::End);
                }
                State::UntilClose => return Ok(Piece::Data(buffer.split().freeze())),
                State::Length(bytes) | State::ChunkData(bytes) => {
                    let here = buffer.len().min(usize::try_from(*bytes).unwrap_or(usize::MAX));
                    *bytes -= here as u64;
                    if *bytes == 0 {
                        let chunked = matches!(self.0, State::ChunkData(_));
                        self.0 = if chunked { State::ChunkEnd } else { State::Done };
                    }
                    if here > 0 {
                        return Ok(Piece::Data(buffer.split_to(here).freeze()));
                    }
                    true
                }
                State::ChunkSize => match take_size(buffer)? {
                    None => true,
                    Some(0) => {
                        self.0 = State::Trailers;
                        false
                    }
                    Some(bytes) => {
                        self.0 = State::ChunkData(bytes);
                        false
                    }
                },
                State::ChunkEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.0 = State::ChunkSize;
                        false
                    }
                    [] | [b'\r'] => true,
                    _ => return Err(Malformed("a chunk is longer than it says")),
                },
                State::Trailers => match take_trailers(buffer)? {
                    None => true,
                    Some(trailers) => {
                        self.0 = State::Done;
                        if trailers.is_empty() {
                            return Ok(Piece::End);
                        }
                        return Ok(Piece::Trailers(trailers));
                    }
                },
            };
            if unfinished {
                return if at_end { cut_off } else { Ok(Piece::Unfinished) };
            }
        }
    }
}

/// The size of the next chunk. Extensions are skipped (RFC 9112, section 7.1.1).
fn take_size(buffer: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    let mut size: u64 = 0;
    let mut place = 0;
    while let Some(digit) = buffer.get(place).and_then(|byte| char::from(*byte).to_digit(16)) {
        if place == 15 {
            return Err(Malformed("the size of a chunk is too large"));
        }
        size = size << 4 | u64::from(digit);
        place += 1;
    }
    let extended = match buffer.get(place) {
        None => return Ok(None),
        Some(_) if place == 0 => return Err(Malformed("the size of a chunk is no hex number")),
        Some(b'\r') => false,
        Some(b';' | b' ' | b'\t') => true,
        Some(_) => return Err(Malformed("the size of a chunk is no hex number")),
    };
    if extended {
        let rest = &buffer[place..];
        let end = rest.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t');
        match end {
            Some(end) if rest[end] == b'\r' => place += end,
            Some(_) => return Err(Malformed("the extension of a chunk holds a control byte")),
            None if rest.len() > SIZE_LINE_MAX_BYTES => {
                return Err(Malformed("the extensions of a chunk are too long"));
            }
            None => return Ok(None),
        }
    }
    match buffer.get(place + 1) {
        None => Ok(None),
        Some(b'\n') => {
            buffer.advance(place + 2);
            Ok(Some(size))
        }
        Some(_) => Err(Malformed("the size of a chunk does not end with CR LF")),
    }
}

fn take_trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    let mut line = 0;
    let end = loop {
        let Some(length) = buffer[line..].iter().position(|byte| *byte == b'\n') else {
            if buffer.len() > TRAILERS_MAX_BYTES {
                return Err(Malformed("the trailers are too long"));
            }
            return Ok(None);
        };
        if length == 0 || buffer[line + length - 1] != b'\r' {
            return Err(Malformed("a trailer does not end with CR LF"));
        }
        line += length + 1;
        if length == 1 {
            break line;
        }
    };
    let lines = buffer.split_to(end).freeze();
    let mut trailers = HeaderMap::new();
    if end == 2 {
        return Ok(Some(trailers));
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let malformed = Malformed("the trailers are no header fields");
    let parsed = httparse::parse_headers(&lines, &mut fields).map_err(|_| malformed)?;
    let httparse::Status::Complete((_, fields)) = parsed else { return Err(malformed) };
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed)?;
        let value = HeaderValue::from_maybe_shared(lines.slice_ref(field.value));
        if is_forbidden_trailer(&name) {
            return Err(Malformed("a trailer speaks about framing, routing or identity"));
        }
        trailers.append(name, value.map_err(|_| malformed)?);
    }
    Ok(Some(trailers))
}

/// What must not come after the body that it is about (RFC 9110, section 6.5.1).
pub(super) fn is_forbidden_trailer(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 20] = [
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_TYPE,
        header::CONTENT_RANGE,
        header::HOST,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::CACHE_CONTROL,
        header::EXPIRES,
        header::VARY,
        header::LOCATION,
        header::SET_COOKIE,
        header::AUTHORIZATION,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
        header::WWW_AUTHENTICATE,
        header::RETRY_AFTER,
    ];
    FORBIDDEN.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
