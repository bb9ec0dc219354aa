//! What a guest writes to stdout and stderr becomes log lines of its function.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use squall_types::ErrorCode;
use squall_types::log::{Level, LogLine, LogSink, Source};
use squall_types::shard::Local;
use squall_types::state::FunctionSpec;
use squall_types::trace::TraceContext;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// A longer line is cut into several.
const LINE_MAX_BYTES: usize = 16 << 10;

/// Puts a text's positions in compiled code at their places in the sources. May read from disk.
pub(crate) type Mapping = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// The log of one instance. Where an instance serves requests in turn, `begin` says
/// whose lines come next.
pub(crate) struct GuestLog {
    owner: Local<LogOwner>,
    state: Mutex<State>,
}

/// Whose lines they are, and where they go.
pub(crate) struct LogOwner {
    pub(crate) function: Arc<FunctionSpec>,
    pub(crate) sink: Arc<dyn LogSink>,
}

struct State {
    trace: TraceContext,
    left_bytes: u64,
    cut: bool,
    out: Vec<u8>,
    err: Vec<u8>,
    /// Lines that are to be mapped, and those behind them.
    waiting: VecDeque<(LogLine, Option<Mapping>)>,
    is_mapping: bool,
}

impl GuestLog {
    pub(crate) fn new(owner: Local<LogOwner>, trace: TraceContext) -> Arc<Self> {
        let left_bytes = owner.function.limits.log_bytes;
        let state = State {
            trace,
            left_bytes,
            cut: false,
            out: Vec::new(),
            err: Vec::new(),
            waiting: VecDeque::new(),
            is_mapping: false,
        };
        Arc::new(Self { owner, state: Mutex::new(state) })
    }

    /// The next request of a shared instance begins, with the whole allowance.
    pub(crate) fn begin(&self, trace: TraceContext) {
        let mut state = self.lock();
        self.flush_all(&mut state);
        state.trace = trace;
        state.left_bytes = self.owner.function.limits.log_bytes;
        state.cut = false;
    }

    /// Sends what has no newline yet.
    pub(crate) fn flush(&self) {
        self.flush_all(&mut self.lock());
    }

    /// What a program wrote to its console, in one piece.
    pub(crate) fn console(self: &Arc<Self>, level: Level, text: &str, mapping: Option<Mapping>) {
        let source = if level >= Level::Warn { Source::Stderr } else { Source::Stdout };
        let mut state = self.lock();
        self.entry(&mut state, source, level, text.as_bytes(), mapping.as_ref());
        self.map_elsewhere(state);
    }

    /// A line of Squall's about the function.
    pub(crate) fn platform(&self, level: Level, code: Option<ErrorCode>, message: String) {
        let mut state = self.lock();
        self.send(&mut state, Source::Platform, level, code, message, None);
    }

    /// As `platform`, with what a program threw in it.
    pub(crate) fn exception(self: &Arc<Self>, code: ErrorCode, message: String, mapping: &Mapping) {
        let mut state = self.lock();
        let mapping = Some(mapping);
        self.send(&mut state, Source::Platform, Level::Error, Some(code), message, mapping);
        self.map_elsewhere(state);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_all(&self, state: &mut State) {
        for source in [Source::Stdout, Source::Stderr] {
            let rest = match source {
                Source::Stdout => std::mem::take(&mut state.out),
                _ => std::mem::take(&mut state.err),
            };
            if !rest.is_empty() {
                self.line(state, source, &rest);
            }
        }
    }

    fn write(&self, source: Source, mut bytes: &[u8]) {
        let mut state = self.lock();
        while let Some(newline) = bytes.iter().position(|byte| *byte == b'\n') {
            let buffer = match source {
                Source::Stdout => &mut state.out,
                _ => &mut state.err,
            };
            if buffer.is_empty() {
                self.line(&mut state, source, &bytes[..newline]);
            } else {
                buffer.extend_from_slice(&bytes[..newline]);
                let whole = std::mem::take(buffer);
                self.line(&mut state, source, &whole);
            }
            bytes = &bytes[newline + 1..];
        }
        if bytes.is_empty() || state.left_bytes == 0 {
            return;
        }
        let buffer = match source {
            Source::Stdout => &mut state.out,
            _ => &mut state.err,
        };
        buffer.extend_from_slice(bytes);
        if buffer.len() >= LINE_MAX_BYTES {
            let whole = std::mem::take(buffer);
            self.line(&mut state, source, &whole);
        }
    }

    fn line(&self, state: &mut State, source: Source, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let level = if source == Source::Stderr { Level::Error } else { Level::Info };
        self.entry(state, source, level, line, None);
    }

    fn entry(
        &self,
        state: &mut State,
        source: Source,
        level: Level,
        line: &[u8],
        mapping: Option<&Mapping>,
    ) {
        for piece in line.chunks(LINE_MAX_BYTES).chain(line.is_empty().then_some(&[][..])) {
            // An empty line counts as one byte: it is an entry like any other.
            let cost = piece.len().max(1) as u64;
            if cost > state.left_bytes {
                state.left_bytes = 0;
                if !std::mem::replace(&mut state.cut, true) {
                    let limit = self.owner.function.limits.log_bytes;
                    self.send(
                        state,
                        Source::Platform,
                        Level::Warn,
                        Some(ErrorCode::LogLimitReached),
                        format!(
                            "this request wrote more than {limit} bytes of log (limits.log_bytes); the rest is dropped"
                        ),
                        None,
                    );
                }
                return;
            }
            state.left_bytes -= cost;
            let text = String::from_utf8_lossy(piece).into_owned();
            self.send(state, source, level, None, text, mapping);
        }
    }

    fn send(
        &self,
        state: &mut State,
        source: Source,
        level: Level,
        code: Option<ErrorCode>,
        message: String,
        mapping: Option<&Mapping>,
    ) {
        let line = LogLine {
            at: SystemTime::now(),
            function: self.owner.function.clone(),
            source,
            level,
            message,
            code,
            trace: state.trace,
        };
        if mapping.is_none() && !state.is_mapping {
            return self.owner.sink.line(line);
        }
        state.waiting.push_back((line, mapping.cloned()));
    }

    /// Reading a source map takes longer than a request should wait for its core.
    fn map_elsewhere(self: &Arc<Self>, mut state: std::sync::MutexGuard<'_, State>) {
        if !state.waiting.is_empty() && !std::mem::replace(&mut state.is_mapping, true) {
            let log = self.clone();
            tokio::task::spawn_blocking(move || log.map_waiting());
        }
    }

    fn map_waiting(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let next = state.waiting.pop_front();
                state.is_mapping = next.is_some();
                next
            };
            let Some((mut line, mapping)) = next else { return };
            if let Some(mapping) = mapping {
                line.message = mapping(&line.message);
            }
            self.owner.sink.line(line);
        }
    }
}

/// One of the two streams. Writing never waits: the log sink drops and counts.
#[derive(Clone)]
pub(crate) struct GuestStream {
    pub(crate) log: Arc<GuestLog>,
    pub(crate) source: Source,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.log.write(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.log.write(self.source, &bytes);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }
    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(64 << 10)
    }
}
