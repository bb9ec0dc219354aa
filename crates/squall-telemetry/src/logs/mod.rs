//! The logs: what functions write, and one access record per request.
//!
//! `line` and `access` write a JSON line into a buffer of the calling thread, which has what
//! it is about in its caches. The writer thread brings the lines of all threads into order,
//! appends them to `functions.log` and `access.log`, keeps the newest in memory and passes
//! them to followers. Files rotate by size and are never synced: a log may lose its last
//! moment in a power cut. When the writer can not keep up, lines are dropped, counted, and
//! the log says so itself.

mod entry;
mod file;
mod followers;
mod lines;
mod ring;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use squall_types::log::{
    AccessRecord, AppLine, LogEntry, LogEvent, LogFilter, LogLine, LogSink, LogStore,
};
use squall_types::metrics::write_metric;
use tokio::sync::mpsc;

use self::entry::Item;
use self::file::RotatingFile;
use self::followers::Followers;
use self::lines::Lines;
use self::ring::Ring;
use crate::courtesy::{Courtesy, Pace};
use crate::lock;
use crate::shards::{Alarm, Buffer as _, Shards};

/// How long an entry waits for the writer while there is traffic: at most half of what
/// a person notices at a live tail, and less when there is much to write, because a large
/// batch keeps the CPU from requests.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
/// They are copied, which is 20 to 40 µs of work.
const LINES_OF_PIECE: usize = 512;
const WARN_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct LogsOptions {
    /// The folder of the log files, such as `<data>/logs`; created when it is missing.
    pub dir: PathBuf,
    /// Write access records to `access.log`. Without it they still reach followers.
    pub access_log: bool,
    /// A file that would grow beyond this is renamed to `<name>.1`, and so on.
    pub max_bytes: u64,
    /// Files of each log, the current one included; at least 1.
    pub files: usize,
    /// Newest entries of each log that are kept in memory.
    pub ring_bytes: usize,
    /// Runs first on the writer's thread.
    pub on_thread_start: fn(),
}

impl LogsOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            access_log: true,
            max_bytes: 64 << 20,
            files: 5,
            ring_bytes: 4 << 20,
            on_thread_start: || {},
        }
    }
}

/// Writes and reads the logs of this node.
pub struct Logs {
    inner: Arc<Inner>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    access_log: bool,
    shards: Shards<Lines>,
    alarm: Alarm,
    /// Lock order: writer, followers, rings.
    writer: Mutex<Writer>,
    followers: Followers,
    functions_ring: Mutex<Ring>,
    access_ring: Mutex<Ring>,
    counters: Counters,
}

struct Writer {
    functions: Output,
    access: Output,
    batch: Lines,
    order: Vec<u32>,
    spare: Lines,
    last_warning: Option<Instant>,
}

struct Output {
    file: RotatingFile,
    text: Vec<u8>,
}

#[derive(Default)]
struct Counters {
    lines: AtomicU64,
    access: AtomicU64,
    dropped: AtomicU64,
    written_bytes: AtomicU64,
    write_failures: AtomicU64,
}

impl Logs {
    /// Opens the folder, loads the newest entries and starts the writer thread.
    ///
    /// # Errors
    /// Fails when the folder or its files can not be opened.
    pub fn open(options: LogsOptions) -> io::Result<Arc<Self>> {
        let folder = &options.dir;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            let message = format!("can not create log folder {}: {error}", folder.display());
            io::Error::new(error.kind(), message)
        })?;
        let open = |name: &str| -> io::Result<(Output, Mutex<Ring>)> {
            let file = RotatingFile::open(folder, name, options.max_bytes, options.files)?;
            let mut ring = Ring::new(options.ring_bytes);
            ring.push(&file.tail(options.ring_bytes as u64)?);
            Ok((Output { file, text: Vec::new() }, Mutex::new(ring)))
        };
        let (functions, functions_ring) = open("functions.log")?;
        let (access, access_ring) = open("access.log")?;
        let inner = Arc::new(Inner {
            access_log: options.access_log,
            shards: Shards::default(),
            alarm: Alarm::default(),
            writer: Mutex::new(Writer {
                functions,
                access,
                batch: Lines::default(),
                order: Vec::new(),
                spare: Lines::default(),
                last_warning: None,
            }),
            followers: Followers::default(),
            functions_ring,
            access_ring,
            counters: Counters::default(),
        });
        let writer = std::thread::Builder::new().name("squall-logs".into()).spawn({
            let inner = inner.clone();
            move || {
                (options.on_thread_start)();
                inner.run();
            }
        })?;
        Ok(Arc::new(Self { inner, writer: Mutex::new(Some(writer)) }))
    }

    /// Writes everything that was logged before the call.
    pub fn flush(&self) {
        self.inner.write();
        if self.inner.followers.owe() {
            // The writer thread tells them. The followers' lock orders what they are owed and
            // its last look before it sleeps.
            self.inner.alarm.wake();
        }
    }

    /// Stops the writer thread and writes everything. What is logged later is written
    /// when the logs are dropped.
    pub fn close(&self) {
        self.inner.alarm.stop();
        if let Some(writer) = lock(&self.writer).take() {
            let _ = writer.join();
        }
        self.inner.write();
    }

    /// Appends the logs' metrics in the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        let counters = &self.inner.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write_metric(
            out,
            "squall_log_lines_total",
            "counter",
            "Log lines of functions.",
            load(&counters.lines),
        );
        write_metric(
            out,
            "squall_log_access_records_total",
            "counter",
            "Access records.",
            load(&counters.access),
        );
        write_metric(
            out,
            "squall_log_dropped_total",
            "counter",
            "Log lines and access records dropped because the writer could not keep up.",
            load(&counters.dropped),
        );
        write_metric(
            out,
            "squall_log_follower_dropped_total",
            "counter",
            "Entries not delivered to followers that were too slow.",
            self.inner.followers.dropped_total(),
        );
        write_metric(
            out,
            "squall_log_followers",
            "gauge",
            "Open live tails.",
            self.inner.followers.count(),
        );
        write_metric(
            out,
            "squall_log_written_bytes_total",
            "counter",
            "Bytes appended to log files.",
            load(&counters.written_bytes),
        );
        write_metric(
            out,
            "squall_log_write_failures_total",
            "counter",
            "Batches of log entries that reached no file.",
            load(&counters.write_failures),
        );
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.close();
    }
}

impl LogSink for Logs {
    fn line(&self, line: LogLine) {
        self.inner.push(&Item::Line(&line));
    }

    fn app_line(&self, line: AppLine) {
        self.inner.push(&Item::App(&line));
    }

    fn access(&self, record: &AccessRecord<'_>) {
        if !self.inner.access_log && self.inner.followers.count() == 0 {
            return;
        }
        self.inner.push(&Item::Access(record));
    }
}

impl LogStore for Logs {
    fn recent(&self, filter: &LogFilter, limit: usize) -> Vec<Arc<LogEntry>> {
        let mut newest_first = Vec::new();
        for ring in [&self.inner.functions_ring, &self.inner.access_ring] {
            let chunks = lock(ring).chunks();
            newest_first.extend(ring::newest(&chunks, filter, limit));
        }
        // RFC 3339 times of one zone and precision sort like the times they name.
        newest_first.sort_by(|a, b| b.at.cmp(&a.at));
        newest_first.truncate(limit);
        newest_first.into_iter().rev().map(Arc::new).collect()
    }

    fn follow(&self, filter: LogFilter) -> mpsc::Receiver<LogEvent> {
        self.inner.followers.add(filter)
    }
}

impl Inner {
    fn push(&self, item: &Item<'_>) {
        self.shards.own().push(item);
        self.alarm.wake();
    }

    fn run(&self) {
        self.alarm.attach();
        let mut pace = Pace::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        while !self.alarm.stopped() {
            pace.follow(self.write());
            self.alarm.sleep(|| self.shards.is_empty() && !self.followers.owe());
            // The first entry after a silence is written at once.
            self.write();
            self.alarm.pause(pace.pause());
        }
    }

    /// Writes everything that is in the shards. Returns how many lines.
    fn write(&self) -> usize {
        let mut writer = lock(&self.writer);
        let Writer { functions, access, batch, order, spare, last_warning } = &mut *writer;
        self.shards.drain(spare, |lines| batch.append(lines));
        let dropped = batch.take_refused();
        if dropped > 0 {
            self.counters.dropped.fetch_add(dropped, Ordering::Relaxed);
            let message = format!("dropped {dropped} lines: the log writer could not keep up");
            batch.push_notice(&message);
        }
        // Shards are emptied one after the other; readers want the order of time.
        order.clear();
        order.extend(0..batch.len() as u32);
        order.sort_by_key(|index| batch.get(*index as usize).0.at);
        let mut access_count = 0;
        let mut courtesy = Courtesy::every(LINES_OF_PIECE);
        for index in &*order {
            courtesy.step();
            let (line, text) = batch.get(*index as usize);
            if !line.is_access {
                functions.text.extend_from_slice(text);
                continue;
            }
            access_count += 1;
            if self.access_log {
                access.text.extend_from_slice(text);
            }
        }
        self.followers.send(order.iter().map(|index| batch.get(*index as usize).1));
        let count = batch.len();
        self.counters.access.fetch_add(access_count, Ordering::Relaxed);
        self.counters.lines.fetch_add(count as u64 - access_count, Ordering::Relaxed);
        batch.clear();
        for (output, ring) in [(functions, &self.functions_ring), (access, &self.access_ring)] {
            if output.text.is_empty() {
                continue;
            }
            lock(ring).push(&output.text);
            match output.file.append(&output.text) {
                Ok(()) => {
                    let bytes = output.text.len() as u64;
                    self.counters.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                }
                Err(error) => {
                    self.counters.write_failures.fetch_add(1, Ordering::Relaxed);
                    if last_warning.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
                        *last_warning = Some(Instant::now());
                        tracing::warn!(
                            file = %output.file.path().display(),
                            %error,
                            "log entries reach memory only; free space or mend the disk"
                        );
                    }
                }
            }
            output.text.clear();
            output.text.shrink_to(1 << 20);
        }
        count
    }
}

#[cfg(test)]
mod tests;
