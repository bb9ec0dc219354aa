//! The JSON of a log line, in and out.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use squall_types::log::{
    AccessFields, AccessRecord, AppLine, Level, LogEntry, LogFilter, LogLine, Source,
};
use squall_types::trace::HexId;

use crate::rfc3339::Clock;

/// What callers leave in the shards.
pub(super) enum Item {
    Line(LogLine),
    App(AppLine),
    Access(AccessRecord),
    /// The log speaks about itself.
    Notice {
        at: SystemTime,
        message: String,
    },
}

impl Item {
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

    /// App, function and revision, as far as they are known.
    fn origin(&self) -> [Option<&str>; 3] {
        let spec = match self {
            Item::Line(line) => Some(&*line.function),
            Item::Access(record) => record.function.as_deref(),
            Item::App(_) | Item::Notice { .. } => None,
        };
        if let Some(spec) = spec {
            let key = &spec.key;
            return [
                Some(key.app.as_str()),
                Some(key.function.as_str()),
                Some(key.revision.as_str()),
            ];
        }
        let app = match self {
            Item::Access(record) => record.app.as_deref(),
            Item::App(line) => Some(&line.app),
            _ => None,
        };
        [app.map(|app| app.as_str()), None, None]
    }

    fn status(&self) -> Option<u16> {
        match self {
            Item::Access(record) => Some(record.status),
            _ => None,
        }
    }

    fn trace_id(&self) -> Option<HexId> {
        match self {
            Item::Line(line) => Some(line.trace.trace_id_hex()),
            Item::Access(record) => Some(record.trace.trace_id_hex()),
            Item::App(_) | Item::Notice { .. } => None,
        }
    }

    /// Whether a filter wants it. A notice concerns everybody who looks at log lines.
    pub(super) fn matches(&self, filter: &LogFilter) -> bool {
        if matches!(self, Item::Notice { .. }) {
            return filter.status.is_none() && filter.trace_id.is_none();
        }
        let [app, function, _] = self.origin();
        let trace_id = self.trace_id();
        matches(
            filter,
            app,
            function,
            self.level(),
            self.status(),
            trace_id.as_ref().map_or("", HexId::as_str),
        )
    }
}

fn matches(
    filter: &LogFilter,
    app: Option<&str>,
    function: Option<&str>,
    level: Level,
    status: Option<u16>,
    trace_id: &str,
) -> bool {
    filter.app.as_deref().is_none_or(|wanted| app == Some(wanted))
        && filter.function.as_deref().is_none_or(|wanted| function == Some(wanted))
        && filter.level.is_none_or(|wanted| level >= wanted)
        && filter
            .status
            .as_deref()
            .is_none_or(|wanted| status.is_some_and(|status| status_matches(wanted, status)))
        && filter.trace_id.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(trace_id))
}

/// `404`, or a class such as `5xx`.
fn status_matches(wanted: &str, status: u16) -> bool {
    match wanted.as_bytes() {
        [class @ b'1'..=b'9', b'x' | b'X', b'x' | b'X'] => u16::from(class - b'0') == status / 100,
        _ => wanted.parse() == Ok(status),
    }
}

/// A stored line. An access record has other fields instead of a message.
#[derive(Deserialize)]
struct Stored {
    at: String,
    level: Level,
    source: Source,
    app: Option<String>,
    function: Option<String>,
    revision: Option<String>,
    message: Option<String>,
    code: Option<String>,
    #[serde(default)]
    trace_id: String,
    status: Option<u16>,
    duration_us: Option<u64>,
}

/// Reads one line of a log file; `None` when it is not one that this version wrote or
/// the filter does not want it.
pub(super) fn parse(line: &[u8], filter: &LogFilter) -> Option<LogEntry> {
    let stored: Stored = serde_json::from_slice(line).ok()?;
    let notice = stored.source == Source::Platform && stored.app.is_none();
    let wanted = if notice {
        filter.status.is_none() && filter.trace_id.is_none()
    } else {
        matches(
            filter,
            stored.app.as_deref(),
            stored.function.as_deref(),
            stored.level,
            stored.status,
            &stored.trace_id,
        )
    };
    if !wanted {
        return None;
    }
    let mut access = AccessFields::default();
    let message = match stored.message {
        Some(message) => message,
        None => {
            // Only what is wanted is read whole.
            access = serde_json::from_slice(line).ok()?;
            let (method, path) = (access.method.as_deref()?, access.path.as_deref()?);
            access_message(method, path, stored.status?, stored.duration_us?)
        }
    };
    Some(LogEntry {
        at: stored.at,
        level: stored.level,
        source: stored.source,
        app: stored.app,
        function: stored.function,
        revision: stored.revision,
        message,
        code: stored.code,
        trace_id: stored.trace_id,
        status: stored.status,
        duration_us: stored.duration_us,
        access,
    })
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
    pub(super) fn write(&mut self, item: &Item, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"at\":\"");
        out.extend_from_slice(self.clock.rfc3339(item.at()).as_bytes());
        out.extend_from_slice(match item.level() {
            Level::Debug => b"\",\"level\":\"debug\",\"source\":\"",
            Level::Info => b"\",\"level\":\"info\",\"source\":\"",
            Level::Warn => b"\",\"level\":\"warn\",\"source\":\"",
            Level::Error => b"\",\"level\":\"error\",\"source\":\"",
        });
        out.extend_from_slice(match source(item) {
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

    fn access(&mut self, record: &AccessRecord, out: &mut Vec<u8>) {
        if let Some(route) = &record.route {
            string(out, ",\"route\":", route);
        }
        raw(out, ",\"method\":\"", record.method.as_str());
        string(out, ",\"host\":", &record.host);
        string(out, ",\"path\":", &record.path);
        self.number(out, ",\"status\":", record.status.into());
        if let Some(code) = record.code {
            raw(out, ",\"code\":\"", &code.to_string());
        }
        self.number(out, ",\"duration_us\":", record.duration_us);
        self.number(out, ",\"bytes_in\":", record.bytes_in);
        self.number(out, ",\"bytes_out\":", record.bytes_out);
        out.extend_from_slice(b",\"client\":\"");
        let _ = std::io::Write::write_fmt(out, format_args!("{}", record.client));
        raw(out, "\",\"version\":\"", version(record.version));
        if let Some(tls) = record.tls {
            raw(out, ",\"tls\":\"", tls.as_str());
        }
        if let Some(caller) = &record.caller {
            string(out, ",\"identity\":", &caller.source);
            string(out, ",\"caller\":", &caller.name);
            if let Some(prefix) = &caller.key_prefix {
                string(out, ",\"key_prefix\":", prefix);
            }
        }
        if let Some(upstream) = &record.upstream {
            string(out, ",\"upstream\":", &upstream.name);
            if let Some(address) = upstream.address {
                raw(out, ",\"upstream_address\":\"", &address.to_string());
            }
            self.number(out, ",\"upstream_us\":", upstream.duration_us);
            self.number(out, ",\"upstream_tries\":", upstream.tries.into());
        }
        if let Some(cache) = record.cache {
            raw(out, ",\"cache\":\"", cache);
        }
        if let Some(user_agent) = &record.user_agent {
            string(out, ",\"user_agent\":", &String::from_utf8_lossy(user_agent.as_bytes()));
        }
        trace(out, &record.trace);
    }

    fn number(&mut self, out: &mut Vec<u8>, key: &str, number: u64) {
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(self.integer.format(number).as_bytes());
    }

    /// The entry that followers receive: what `parse` makes of the written line.
    pub(super) fn entry(&mut self, item: &Item) -> LogEntry {
        let [app, function, revision] = item.origin().map(|name| name.map(str::to_owned));
        let (message, code, duration_us) = match item {
            Item::Line(line) => (line.message.clone(), line.code, None),
            Item::App(line) => (line.message.clone(), line.code, None),
            Item::Access(record) => {
                let message = access_message(
                    record.method.as_str(),
                    &record.path,
                    record.status,
                    record.duration_us,
                );
                (message, record.code, Some(record.duration_us))
            }
            Item::Notice { message, .. } => (message.clone(), None, None),
        };
        LogEntry {
            at: self.clock.rfc3339(item.at()).to_owned(),
            level: item.level(),
            source: source(item),
            app,
            function,
            revision,
            message,
            code: code.map(|code| code.to_string()),
            trace_id: item.trace_id().map_or_else(String::new, |id| id.as_str().to_owned()),
            status: item.status(),
            duration_us,
            access: match item {
                Item::Access(record) => access_fields(record),
                _ => AccessFields::default(),
            },
        }
    }
}

fn access_fields(record: &AccessRecord) -> AccessFields {
    let (caller, upstream) = (record.caller.as_ref(), record.upstream.as_ref());
    let user_agent = record.user_agent.as_ref();
    AccessFields {
        route: record.route.as_ref().map(|route| route.to_string()),
        method: Some(record.method.to_string()),
        host: Some(record.host.clone()),
        path: Some(record.path.clone()),
        bytes_in: Some(record.bytes_in),
        bytes_out: Some(record.bytes_out),
        client: Some(record.client.to_string()),
        version: Some(version(record.version).to_owned()),
        tls: record.tls.map(|tls| tls.as_str().to_owned()),
        identity: caller.map(|caller| caller.source.clone()),
        caller: caller.map(|caller| caller.name.clone()),
        key_prefix: caller.and_then(|caller| caller.key_prefix.clone()),
        upstream: upstream.map(|upstream| upstream.name.to_string()),
        upstream_address: upstream
            .and_then(|upstream| upstream.address)
            .map(|address| address.to_string()),
        upstream_us: upstream.map(|upstream| upstream.duration_us),
        upstream_tries: upstream.map(|upstream| upstream.tries),
        cache: record.cache.map(str::to_owned),
        user_agent: user_agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
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

fn source(item: &Item) -> Source {
    match item {
        Item::Line(line) => line.source,
        Item::Access(_) => Source::Access,
        Item::App(_) | Item::Notice { .. } => Source::Platform,
    }
}

/// A string that needs no escaping, behind a key that ends in its opening quote.
fn raw(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

fn string(out: &mut Vec<u8>, key: &str, text: &str) {
    out.extend_from_slice(key.as_bytes());
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
