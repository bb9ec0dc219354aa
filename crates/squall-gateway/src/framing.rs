//! Reads along with the HTTP/1 parser and flags heads that two parsers could read
//! differently (RFC 9112, sections 2.2, 6.1 and 6.3).
//!
//! hyper settles such heads before anybody sees them: it drops a Content-Length beside
//! a Transfer-Encoding, folds equal duplicates, and takes lines that end without CR.
//! Whoever stands before or behind may settle them the other way, which is how requests
//! are smuggled. This scanner only looks; the request is refused where it is handled.

/// Enough of a line for the two headers that frame a body.
const LINE_KEPT_BYTES: usize = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body {
        left: u64,
    },
    ChunkSize,
    ChunkData {
        left: u64,
    },
    ChunkEnd,
    Trailers,
    /// Nothing more is looked at: the connection will be closed.
    Done,
}

#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    line: [u8; LINE_KEPT_BYTES],
    line_bytes: usize,
    line_too_long: bool,
    first_line: bool,
    content_length: Option<u64>,
    chunked: bool,
    bad: bool,
    /// Of the head that is being read.
    head_bytes: u64,
    /// Heads that were seen whole.
    heads: u64,
    /// The number of the head that was refused, from 1.
    refused: Option<u64>,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            state: State::Head,
            line: [0; LINE_KEPT_BYTES],
            line_bytes: 0,
            line_too_long: false,
            first_line: true,
            content_length: None,
            chunked: false,
            bad: false,
            head_bytes: 0,
            heads: 0,
            refused: None,
        }
    }
}

impl Scanner {
    /// The number of the refused head, from 1. Later ones are not looked at.
    pub(crate) fn refused(&self) -> Option<u64> {
        self.refused
    }

    /// The connection has no future: where its next request begins is not sure.
    pub(crate) fn has_lost_track(&self) -> bool {
        self.refused == Some(self.heads + 1)
    }

    /// How much there is of the head that is read or awaited.
    pub(crate) fn head_bytes(&self) -> Option<u64> {
        Some(self.head_bytes).filter(|_| self.state == State::Head)
    }

    /// How much there is of a head that has begun and is not whole.
    pub(crate) fn unfinished_head_bytes(&self) -> Option<u64> {
        // Empty lines before a request begin none (RFC 9112, section 2.2).
        let has_begun = !self.first_line || self.line_bytes > 0;
        Some(self.head_bytes).filter(|bytes| *bytes > 0 && has_begun)
    }

    /// How many requests have come whole, when nothing of another one has.
    pub(crate) fn requests_when_idle(&self) -> Option<u64> {
        Some(self.heads).filter(|_| self.state == State::Head && self.head_bytes == 0)
    }

    /// A whole request came, and was read elsewhere.
    pub(crate) fn skip_request(&mut self) {
        self.heads += 1;
    }

    /// Takes bytes as they come from the socket.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Done => return,
                State::Body { left } | State::ChunkData { left } => {
                    let skipped = (bytes.len() as u64).min(*left);
                    *left -= skipped;
                    bytes = &bytes[skipped as usize..];
                    if *left == 0 {
                        self.state = match self.state {
                            State::Body { .. } => State::Head,
                            _ => State::ChunkEnd,
                        };
                    }
                }
                State::Head | State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    let newline = bytes.iter().position(|byte| *byte == b'\n');
                    if self.state == State::Head {
                        let part = &bytes[..newline.map_or(bytes.len(), |at| at + 1)];
                        self.head_bytes += part.len() as u64;
                        // hyper drops a fragment silently; a target has none (RFC 9112,
                        // section 3.2).
                        self.bad |= self.first_line && part.contains(&b'#');
                    }
                    let Some(newline) = newline else {
                        self.keep(bytes);
                        return;
                    };
                    let (line, rest) = (&bytes[..newline], &bytes[newline + 1..]);
                    if self.line_bytes == 0 && line.len() <= LINE_KEPT_BYTES {
                        // The whole line is here, as nearly always: no copy.
                        self.take_line(line, false);
                    } else {
                        self.keep(line);
                        let kept = self.line;
                        self.take_line(&kept[..self.line_bytes], self.line_too_long);
                    }
                    self.line_bytes = 0;
                    self.line_too_long = false;
                    bytes = rest;
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_KEPT_BYTES - self.line_bytes;
        if bytes.len() > room {
            // The end of the line tells whether CR came before LF: keep the last byte.
            self.line_too_long = true;
            self.line[self.line_bytes..].copy_from_slice(&bytes[..room]);
            self.line_bytes = LINE_KEPT_BYTES;
            self.line[LINE_KEPT_BYTES - 1] = bytes[bytes.len() - 1];
            return;
        }
        self.line[self.line_bytes..self.line_bytes + bytes.len()].copy_from_slice(bytes);
        self.line_bytes += bytes.len();
    }

    fn take_line(&mut self, line: &[u8], cut: bool) {
        let (line, crlf) = match line.strip_suffix(b"\r") {
            Some(line) => (line, true),
            None => (line, false),
        };
        match self.state {
            State::Head => self.take_head_line(line, crlf, cut),
            State::ChunkSize => {
                let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
                let size = std::str::from_utf8(digits.trim_ascii())
                    .ok()
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok());
                match size.filter(|_| crlf && !cut) {
                    Some(0) => self.state = State::Trailers,
                    Some(left) => self.state = State::ChunkData { left },
                    None => self.lose_track(),
                }
            }
            State::ChunkEnd if crlf && line.is_empty() => self.state = State::ChunkSize,
            State::Trailers if crlf && line.is_empty() => self.state = State::Head,
            State::Trailers if crlf => {}
            State::ChunkEnd | State::Trailers => self.lose_track(),
            _ => {}
        }
    }

    /// A body is framed as nobody does it. Where hyper reads on, it may see another request behind
    /// it than somebody else would: none is served.
    fn lose_track(&mut self) {
        self.refused = Some(self.heads + 1);
        self.state = State::Done;
    }

    fn take_head_line(&mut self, line: &[u8], crlf: bool, cut: bool) {
        self.bad |= !crlf;
        if self.first_line {
            // Empty lines before a request are allowed (RFC 9112, section 2.2).
            self.first_line = line.is_empty();
            return;
        }
        if !line.is_empty() {
            if matches!(line[0], b'c' | b'C' | b't' | b'T') {
                self.take_framing_header(line, cut);
            }
            return;
        }
        self.heads += 1;
        self.head_bytes = 0;
        self.bad |= self.chunked && self.content_length.is_some();
        if self.bad {
            self.refused = Some(self.heads);
            self.state = State::Done;
            return;
        }
        self.state = match self.content_length.take() {
            _ if self.chunked => State::ChunkSize,
            Some(left) if left > 0 => State::Body { left },
            _ => State::Head,
        };
        self.chunked = false;
        self.first_line = true;
    }

    fn take_framing_header(&mut self, line: &[u8], cut: bool) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let leading_zero = value.len() > 1 && value[0] == b'0';
            let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            let duplicate = self.content_length.is_some();
            self.bad |= cut || !digits || leading_zero || duplicate || length.is_none();
            self.content_length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.bad |= cut || self.chunked || !value.eq_ignore_ascii_case(b"chunked");
            self.chunked = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which head is refused, whole and in every division into two reads.
    #[track_caller]
    fn check(text: &str, refused: Option<u64>) {
        for cut in 0..=text.len() {
            let mut scanner = Scanner::default();
            scanner.scan(&text.as_bytes()[..cut]);
            scanner.scan(&text.as_bytes()[cut..]);
            assert_eq!(scanner.refused(), refused, "cut at {cut}: {text:?}");
        }
    }

    #[test]
    fn requests_that_can_be_read_in_one_way_only_pass() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None);
        check(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
            None,
        );
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            None,
        );
        let long =
            format!("GET /{} HTTP/1.1\r\nCookie: {}\r\n\r\n", "a".repeat(300), "b".repeat(300));
        check(&long, None);
        // What looks like a head inside a body is not one.
        let inner = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        check(&format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{inner}", inner.len()), None);
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        check(
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(1),
        );
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 5\r\n\r\n",
            Some(1),
        );
        for value in ["005", "5, 5", "+5", "", "5 5", "0x5", "99999999999999999999"] {
            check(&format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n"), Some(1));
        }
        check("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Some(1));
        for value in ["gzip, chunked", "chunked, chunked", "identity", "xchunked", ""] {
            check(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: {value}\r\n\r\n"), Some(1));
        }
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(1));
        check("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Some(1));
        check(&format!("GET /{}#b HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(300)), Some(1));
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(1));
        let long = format!("GET / HTTP/1.1\r\nCookie: {}\n\r\n", "b".repeat(300));
        check(&long, Some(1));
    }

    #[test]
    fn nothing_is_read_behind_a_body_that_is_framed_as_nobody_does_it() {
        let post = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let next = "GET / HTTP/1.1\r\n\r\n";
        let long = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "x".repeat(200));
        for body in [
            &*long,
            "5\nhello\r\n0\r\n\r\n",
            "x\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhellooo\r\n0\r\n\r\n",
            "0\r\nA: b\n\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
        ] {
            check(&format!("{post}{body}{next}"), Some(2));
        }
        let trailer = format!("0\r\nA: {}\r\n\r\n", "b".repeat(200));
        check(&format!("{post}{trailer}{next}"), None);
        check(&format!("{post}5 ; a=b\r\nhello\r\n0\r\n\r\n{next}"), None);
    }

    #[test]
    fn a_head_that_has_begun_is_told_from_one_that_is_awaited() {
        let check = |text: &str, expected: Option<u64>| {
            for cut in 0..=text.len() {
                let mut scanner = Scanner::default();
                scanner.scan(&text.as_bytes()[..cut]);
                scanner.scan(&text.as_bytes()[cut..]);
                assert_eq!(scanner.unfinished_head_bytes(), expected, "cut at {cut}: {text:?}");
            }
        };
        let post = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n";
        check("", None);
        check("GET / HT", Some(8));
        check("GET / HTTP/1.1\r\nA", Some(17));
        check(post, None);
        check(&format!("{post}hel"), None);
        check(&format!("{post}hello"), None);
        check(&format!("{post}helloG"), Some(1));
        check(&format!("{post}hello\r\n"), None);
        check(&format!("{post}hello\r\nG"), Some(3));
    }

    #[test]
    fn the_second_request_of_a_connection_is_looked_at_too() {
        let good = "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        check(&format!("{good}POST / HTTP/1.1\r\nContent-Length: 02\r\n\r\nab"), Some(2));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, cut in 0usize..64) {
            let mut scanner = Scanner::default();
            let cut = cut.min(bytes.len());
            scanner.scan(&bytes[..cut]);
            scanner.scan(&bytes[cut..]);
        }
    }
}
