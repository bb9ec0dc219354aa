//! The JSON of a log line, in and out.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use squall_types::address::AddressText;
use squall_types::log::{
    AccessFields, AccessRecord, AppLine, Level, LogEntry, LogFilter, LogLine, Source,
};

use crate::rfc3339::Clock;

/// What callers say.
pub(super) enum Item<'a> {
    Line(&'a LogLine),
    App(&'a AppLine),
    Access(&'a AccessRecord<'a>),
    /// The log speaks about itself.
    Notice {
        at: SystemTime,
        message: &'a str,
    },
}

impl Item<'_> {
    pub(super) fn at(&self) -> SystemTime {
        match self {
            Item::Line(line) => line.at,
            Item::App(line) => line.at,
            Item::Access(record) => record.at,
            Item::Notice { at, .. } => *at,
        }
    }

    pub(super) fn is_access(&self) -> bool {
        matches!(self, Item::Access(_))
    }

    /// Bytes of what may be long, before they are escaped.
    pub(super) fn length(&self) -> usize {
        match self {
            Item::Line(line) => line.message.len(),
            Item::App(line) => line.message.len(),
            Item::Access(record) => record.host.len() + record.path.len(),
            Item::Notice { message, .. } => message.len(),
        }
    }

    fn level(&self) -> Level {
        match self {
            Item::Line(line) => line.level,
            Item::App(line) => line.level,
            // What a client does wrong is not an event for the owner; what fails is.
            Item::Access(record) if record.status >= 500 => Level::Error,
            Item::Access(_) => Level::Info,
            Item::Notice { .. } => Level::Warn,
        }
    }

    fn source(&self) -> Source {
        match self {
            Item::Line(line) => line.source,
            Item::Access(_) => Source::Access,
            Item::App(_) | Item::Notice { .. } => Source::Platform,
        }
    }

    /// App, function and revision, as far as they are known.
    fn origin(&self) -> [Option<&str>; 3] {
        let function = match self {
            Item::Line(line) => Some(&*line.function),
            Item::Access(record) => record.function,
            Item::App(_) | Item::Notice { .. } => None,
        };
        if let Some(function) = function {
            let key = &function.key;
            return [
                Some(key.app.as_str()),
                Some(key.function.as_str()),
                Some(key.revision.as_str()),
            ];
        }
        let app = match self {
            Item::Access(record) => record.app,
            Item::App(line) => Some(&line.app),
            _ => None,
        };
        [app.map(|app| app.as_str()), None, None]
    }
}

/// A line as it was written, as far as filters look at it. An access record has other fields
/// instead of a message.
#[derive(Deserialize)]
pub(super) struct Stored<'a> {
    at: &'a str,
    level: Level,
    source: Source,
    app: Option<&'a str>,
    function: Option<&'a str>,
    revision: Option<&'a str>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
    code: Option<&'a str>,
    #[serde(default)]
    trace_id: &'a str,
    #[serde(default)]
    span_id: &'a str,
    status: Option<u16>,
    duration_us: Option<u64>,
}

impl<'a> Stored<'a> {
    /// `None` when it is not a line that this version wrote.
    pub(super) fn read(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whether a filter wants it. A notice concerns everybody who looks at log lines.
    pub(super) fn matches(&self, filter: &LogFilter) -> bool {
        let is_status = |wanted| self.status.is_some_and(|status| status_matches(wanted, status));
        let is_notice = self.source == Source::Platform && self.app.is_none();
        if is_notice {
            return filter.status.is_none() && filter.trace_id.is_none();
        }
        filter.app.as_deref().is_none_or(|wanted| self.app == Some(wanted))
            && filter.function.as_deref().is_none_or(|wanted| self.function == Some(wanted))
            && filter.level.is_none_or(|wanted| self.level >= wanted)
            && filter.status.as_deref().is_none_or(is_status)
            && filter
                .trace_id
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(self.trace_id))
    }

    /// The whole of it; `line` is what it was read from.
    pub(super) fn entry(&self, line: &[u8]) -> Option<LogEntry> {
        let mut access = AccessFields::default();
        let message = match &self.message {
            Some(message) => message.clone().into_owned(),
            None => {
                access = serde_json::from_slice(line).ok()?;
                let (method, path) = (access.method.as_deref()?, access.path.as_deref()?);
                access_message(method, path, self.status?, self.duration_us?)
            }
        };
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(LogEntry {
            at: self.at.to_owned(),
            level: self.level,
            source: self.source,
            app: owned(self.app),
            function: owned(self.function),
            revision: owned(self.revision),
            message,
            code: owned(self.code),
            trace_id: self.trace_id.to_owned(),
            span_id: self.span_id.to_owned(),
            status: self.status,
            duration_us: self.duration_us,
            access,
        })
    }
}

/// Reads one line of a log file; `None` when it is not one that this version wrote or
/// the filter does not want it.
pub(super) fn parse(line: &[u8], filter: &LogFilter) -> Option<LogEntry> {
    let stored = Stored::read(line)?;
    if stored.matches(filter) { stored.entry(line) } else { None }
}

/// `404`, or a class such as `5xx`.
fn status_matches(wanted: &str, status: u16) -> bool {
    match wanted.as_bytes() {
        [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => u16::from(class - b'0') == status / 100,
        _ => wanted.parse() == Ok(status),
    }
}

/// `GET /path 200 1.2ms`
fn access_message(method: &str, path: &str, status: u16, duration_us: u64) -> String {
    let duration = match duration_us {
        0..1_000 => format!("{duration_us}µs"),
        1_000..1_000_000 => format!("{}.{}ms", duration_us / 1_000, duration_us / 100 % 10),
        _ => format!("{}.{:02}s", duration_us / 1_000_000, duration_us / 10_000 % 100),
    };
    format!("{method} {path} {status} {duration}")
}

/// Writes items as JSON lines and as entries.
#[derive(Default)]
pub(super) struct Formatter {
    clock: Clock,
    integer: itoa::Buffer,
}

impl Formatter {
    /// Appends one line with its newline. By hand, since a line is written for every
    /// request; only strings that come from outside go through the JSON escaper.
    pub(super) fn write(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"at\":\"");
        out.extend_from_slice(self.clock.rfc3339(item.at()).as_bytes());
        out.extend_from_slice(match item.level() {
            Level::Debug => b"\",\"level\":\"debug\",\"source\":\"",
            Level::Info => b"\",\"level\":\"info\",\"source\":\"",
            Level::Warn => b"\",\"level\":\"warn\",\"source\":\"",
            Level::Error => b"\",\"level\":\"error\",\"source\":\"",
        });
        out.extend_from_slice(match item.source() {
            Source::Stdout => b"stdout\"",
            Source::Stderr => b"stderr\"",
            Source::Platform => b"platform\"",
            Source::Access => b"access\"",
        });
        for (key, name) in
            [",\"app\":\"", ",\"function\":\"", ",\"revision\":\""].into_iter().zip(item.origin())
        {
            // Names have no characters that JSON escapes.
            if let Some(name) = name {
                raw(out, key, name);
            }
        }
        match item {
            Item::Line(line) => {
                string(out, ",\"message\":", &line.message);
                if let Some(code) = line.code {
                    raw(out, ",\"code\":\"", &code.to_string());
                }
                trace(out, &line.trace);
            }
            Item::App(line) => {
                string(out, ",\"message\":", &line.message);
                if let Some(code) = line.code {
                    raw(out, ",\"code\":\"", &code.to_string());
                }
                out.extend_from_slice(b",\"trace_id\":\"\"");
            }
            Item::Access(record) => self.access(record, out),
            Item::Notice { message, .. } => {
                string(out, ",\"message\":", message);
                out.extend_from_slice(b",\"trace_id\":\"\"");
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn access(&mut self, record: &AccessRecord<'_>, out: &mut Vec<u8>) {
        if let Some(route) = record.route {
            string(out, ",\"route\":", route);
        }
        raw(out, ",\"method\":\"", record.method.as_str());
        if !record.host.is_empty() {
            string(out, ",\"host\":", record.host);
        }
        string(out, ",\"path\":", record.path);
        self.number(out, ",\"status\":", record.status.into());
        if let Some(code) = record.code {
            raw(out, ",\"code\":\"", &code.to_string());
        }
        self.number(out, ",\"duration_us\":", record.duration_us);
        self.number(out, ",\"bytes_in\":", record.bytes_in);
        self.number(out, ",\"bytes_out\":", record.bytes_out);
        out.extend_from_slice(b",\"client\":\"");
        out.extend_from_slice(AddressText::new(record.client).as_bytes());
        raw(out, "\",\"version\":\"", version(record.version));
        if let Some(tls) = record.tls {
            raw(out, ",\"tls\":\"", tls.as_str());
        }
        if let Some(caller) = &record.caller {
            string(out, ",\"identity\":", caller.source);
            string(out, ",\"caller\":", caller.name);
            if let Some(prefix) = caller.key_prefix {
                string(out, ",\"key_prefix\":", prefix);
            }
        }
        if let Some(upstream) = record.upstream {
            string(out, ",\"upstream\":", &upstream.name);
            if let Some(address) = upstream.address {
                out.extend_from_slice(b",\"upstream_address\":\"");
                self.socket_address(out, address);
                out.push(b'"');
            }
            self.number(out, ",\"upstream_us\":", upstream.duration_us);
            self.number(out, ",\"upstream_tries\":", upstream.tries.into());
        }
        if let Some(cache) = record.cache {
            raw(out, ",\"cache\":\"", cache);
        }
        if let Some(user_agent) = record.user_agent {
            string(out, ",\"user_agent\":", &String::from_utf8_lossy(user_agent.as_bytes()));
        }
        trace(out, &record.trace);
    }

    fn number(&mut self, out: &mut Vec<u8>, key: &str, number: u64) {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(self.integer.format(number).as_bytes());
    }

    fn socket_address(&mut self, out: &mut Vec<u8>, address: SocketAddr) {
        match address {
            SocketAddr::V4(address) => {
                out.extend_from_slice(AddressText::new((*address.ip()).into()).as_bytes());
                self.number(out, ":", address.port().into());
            }
            SocketAddr::V6(address) => {
                std::io::Write::write_fmt(out, format_args!("{address}"))
                    .expect("a vector takes everything");
            }
        }
    }
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// A string that needs no escaping, behind a key that ends in its opening quote.
fn raw(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// A string that may need escaping, which few do. `key` ends in a colon.
fn string(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    // Looks at all bytes whatever they are: compilers do many of them at once.
    let is_special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    if !text.as_bytes().iter().fold(false, |any, byte| any | is_special(byte)) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        return out.push(b'"');
    }
    text.serialize(&mut serde_json::Serializer::new(out)).expect("a vector takes every string");
}

fn trace(out: &mut Vec<u8>, trace: &squall_types::trace::TraceContext) {
    let header = trace.header();
    out.extend_from_slice(b",\"trace_id\":\"");
    out.extend_from_slice(&header[3..35]);
    out.extend_from_slice(b"\",\"span_id\":\"");
    out.extend_from_slice(&header[36..52]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_json_has_them() {
        let every: Vec<String> = (0..=0x7f_u8).map(|byte| format!("a{}b", byte as char)).collect();
        for text in every.iter().map(String::as_str).chain(["", "ü\u{2028}", "\"", "\\\\"]) {
            let mut out = Vec::new();
            string(&mut out, "", text);
            assert_eq!(out, serde_json::to_vec(text).unwrap());
        }
    }

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        let mut formatter = Formatter::default();
        for text in ["0.0.0.0:0", "192.0.2.10:65535", "[::1]:8080", "[::ffff:192.0.2.1]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            let mut out = Vec::new();
            formatter.socket_address(&mut out, address);
            assert_eq!(String::from_utf8(out).unwrap(), address.to_string());
        }
    }
}
