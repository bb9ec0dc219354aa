//! Answers that arrive line by line: newline-delimited JSON and server-sent events.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::failure::Failure;

/// Longer lines come from no node; memory must not depend on the other side.
const LINE_MAX_BYTES: usize = 16 << 20;

/// The lines of a response body.
pub(crate) struct Lines {
    body: Incoming,
    pending: Splitter,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, pending: Splitter::default() }
    }

    /// The next line without its end; `None` at the end of the body. An end without a
    /// line break still is a line.
    pub(crate) async fn next(&mut self, what: &str) -> Result<Option<String>, Failure> {
        loop {
            if let Some(line) = self.pending.take_line() {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.pending.push(&data);
                    }
                    if self.pending.0.len() > LINE_MAX_BYTES {
                        return Err(Failure::failed(what, "the node sent a line without an end"));
                    }
                }
                Some(Err(error)) => return Err(super::broken(what, &error)),
                None => return Ok(self.pending.take_rest()),
            }
        }
    }
}

#[derive(Default)]
struct Splitter(BytesMut);

impl Splitter {
    fn push(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    fn take_line(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let line = self.0.split_to(end);
        self.0.advance(1);
        Some(to_text(&line))
    }

    fn take_rest(&mut self) -> Option<String> {
        let rest = self.0.split();
        (!rest.is_empty()).then(|| to_text(&rest))
    }
}

fn to_text(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    String::from_utf8_lossy(line).into_owned()
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// The events of a `text/event-stream` body (HTML Living Standard, 9.2.6). Ids and retry
/// times are not used by the admin API.
pub(crate) struct Events {
    lines: Lines,
    pending: Assembler,
}

impl Events {
    pub(crate) fn new(lines: Lines) -> Self {
        Self { lines, pending: Assembler::default() }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self, what: &str) -> Result<Option<ServerEvent>, Failure> {
        while let Some(line) = self.lines.next(what).await? {
            if let Some(event) = self.pending.take(&line) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

#[derive(Default)]
struct Assembler {
    name: String,
    data: Option<String>,
}

impl Assembler {
    fn take(&mut self, line: &str) -> Option<ServerEvent> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| ServerEvent { name, data });
        }
        // A line that begins with a colon is a comment: its field name is empty.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_wherever_the_chunks_end() {
        let text = "one\ntwo\r\n\nlast";
        for size in 1..=text.len() {
            let mut splitter = Splitter::default();
            let mut lines = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                splitter.push(chunk);
                lines.extend(std::iter::from_fn(|| splitter.take_line()));
            }
            lines.extend(splitter.take_rest());
            assert_eq!(lines, ["one", "two", "", "last"]);
        }
    }

    #[test]
    fn events_are_assembled_and_comments_ignored() {
        let text = ": hello\n\nevent: entry\ndata: {\"a\":1}\n\nevent:dropped\ndata: {\ndata: }\nid: 5\n\nevent: empty\n\n";
        let mut assembler = Assembler::default();
        let events: Vec<_> = text.lines().filter_map(|line| assembler.take(line)).collect();
        let event = |name: &str, data: &str| ServerEvent { name: name.into(), data: data.into() };
        assert_eq!(events, [event("entry", "{\"a\":1}"), event("dropped", "{\n}")]);
    }
}
