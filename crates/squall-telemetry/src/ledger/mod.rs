//! The usage ledger: every invocation's record, durable within the flush interval.
//!
//! `record` moves the record into a buffer of the calling thread. The flusher thread
//! encodes what it finds in all buffers into one frame, appends it to this process's own
//! segment and syncs it, at most one interval later. While nothing is recorded the thread
//! sleeps. Two server processes may share the folder during an upgrade: each has a segment
//! of its own.
//!
//! A record is never counted twice and never lost while the process lives: when the disk
//! takes no more, records wait in memory, and beyond a bound they are kept as sums.
//! A kill -9 loses at most what one flush interval holds.

mod batch;
mod folder;
mod segment;
mod totals;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use squall_types::calendar::{Day, unix_micros};
use squall_types::metrics::write_metric;
use squall_types::usage::{UsageFilter, UsageRecord, UsageRow, UsageSink, UsageStore};
use ulid::Ulid;

use self::batch::Batch;
use self::folder::Folder;
use self::totals::Totals;
use crate::courtesy::{Courtesy, Pace};
use crate::lock;
use crate::shards::{Alarm, Shards};

/// A crash may cost this much and no more; the documented flush window.
const LONGEST_FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Records that a thread may buffer before it sums them itself (the flusher hangs in
/// a sync that takes seconds).
const SHARD_RECORDS: usize = 64 << 10;
/// They are summed and encoded, which is 20 to 40 µs of work.
const RECORDS_OF_PIECE: usize = 64;
/// Buffers are emptied more often than written to the disk, before they outgrow the caches of
/// the threads that fill them.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How long raw records are kept beside the sums, which are kept for ever.
#[derive(Debug, Clone)]
pub struct Retain {
    pub days: u64,
    /// All raw segments together; the oldest go first.
    pub bytes: u64,
}

impl Default for Retain {
    fn default() -> Self {
        Self { days: 35, bytes: 4 << 30 }
    }
}

#[derive(Debug, Clone)]
pub struct LedgerOptions {
    /// The usage folder itself, such as `<data>/usage`; created when it is missing.
    pub dir: PathBuf,
    /// Lowered to one second where it is longer.
    pub flush_interval: Duration,
    pub retain: Retain,
    /// A segment that has grown to this size is rolled up into the sums of its days.
    pub segment_bytes: u64,
    /// Encoded records that wait in memory while the disk takes none. What comes beyond
    /// is kept as sums.
    pub waiting_bytes: usize,
    /// Runs first on the flusher's thread.
    pub on_thread_start: fn(),
}

impl LedgerOptions {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            flush_interval: Duration::from_millis(200),
            retain: Retain::default(),
            segment_bytes: 64 << 20,
            waiting_bytes: 64 << 20,
            on_thread_start: || {},
        }
    }
}

/// What `Ledger::recompute` found. Days are `YYYY-MM-DD`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recomputed {
    /// Days whose sums were made again from raw records.
    pub recomputed: Vec<String>,
    /// Of these: days whose stored sums were different, and are right now.
    pub mended: Vec<String>,
    /// Days whose raw records are not all kept any more; their sums were left alone.
    pub kept: Vec<String>,
}

/// Writes and reads the usage of this node.
pub struct Ledger {
    inner: Arc<Inner>,
    flusher: Mutex<Option<JoinHandle<()>>>,
}

struct Inner {
    options: LedgerOptions,
    folder: Folder,
    shards: Shards<Vec<UsageRecord>>,
    alarm: Alarm,
    /// Lock order: writer, folder (a file lock), state.
    writer: Mutex<Writer>,
    state: Mutex<State>,
    counters: Counters,
}

/// The open segment, if anything was written to it.
struct Writer {
    segment: Option<segment::Writer>,
    created: Day,
    last_warning: Option<Instant>,
}

struct State {
    /// Name of the segment that is written, or will be at the next flush.
    segment: String,
    /// Sums of everything that is in the segment or waits for it.
    own: Totals,
    /// Whole frames that are not on the disk yet, in order.
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: usize,
    /// Records that were too many to wait as records.
    sums: Totals,
    spare: Vec<UsageRecord>,
}

#[derive(Default)]
struct Counters {
    records: AtomicU64,
    coalesced: AtomicU64,
    flushes: AtomicU64,
    flush_ns: AtomicU64,
    written_bytes: AtomicU64,
    write_failures: AtomicU64,
    failing: AtomicBool,
}

impl Ledger {
    /// Opens the folder and starts the flusher thread, which first rolls up what earlier
    /// processes left.
    ///
    /// # Errors
    /// Fails when the folder can not be created or the thread not be started.
    pub fn open(mut options: LedgerOptions) -> io::Result<Arc<Self>> {
        options.flush_interval =
            options.flush_interval.clamp(Duration::from_millis(1), LONGEST_FLUSH_INTERVAL);
        let inner = Arc::new(Inner {
            folder: Folder::open(options.dir.clone())?,
            options,
            shards: Shards::default(),
            alarm: Alarm::default(),
            writer: Mutex::new(Writer { segment: None, created: Day(0), last_warning: None }),
            state: Mutex::new(State {
                segment: Ulid::new().to_string(),
                own: Totals::new(),
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                sums: Totals::new(),
                spare: Vec::new(),
            }),
            counters: Counters::default(),
        });
        let flusher = std::thread::Builder::new().name("squall-ledger".into()).spawn({
            let inner = inner.clone();
            move || {
                (inner.options.on_thread_start)();
                inner.run();
            }
        })?;
        Ok(Arc::new(Self { inner, flusher: Mutex::new(Some(flusher)) }))
    }

    /// Writes everything that was recorded before the call and waits for the disk.
    pub fn flush(&self) -> io::Result<()> {
        self.inner.write_waiting()
    }

    /// Stops the flusher, writes everything and rolls the segment up. What is recorded
    /// later is written when the ledger is dropped.
    pub fn close(&self) -> io::Result<()> {
        self.inner.alarm.stop();
        if let Some(flusher) = lock(&self.flusher).take() {
            let _ = flusher.join();
        }
        self.inner.write_waiting()?;
        if self.inner.rotate() {
            self.inner.roll_up()?;
        }
        Ok(())
    }

    /// Makes the sums of all days again from raw records, where those are still kept.
    ///
    /// # Errors
    /// Fails when a file can not be read; sums are then left as they are.
    pub fn recompute(&self) -> io::Result<Recomputed> {
        self.inner.write_waiting()?;
        self.inner.rotate();
        self.inner.roll_up()?;
        self.inner.folder.recompute()
    }

    /// Appends the ledger's metrics in the Prometheus text format.
    pub fn write_metrics(&self, out: &mut String) {
        let counters = &self.inner.counters;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let waiting = lock(&self.inner.state).waiting_bytes;
        write_metric(
            out,
            "squall_usage_records_total",
            "counter",
            "Usage records taken from the request path.",
            load(&counters.records),
        );
        write_metric(
            out,
            "squall_usage_coalesced_total",
            "counter",
            "Usage records kept only as sums because the disk took none for too long.",
            load(&counters.coalesced),
        );
        write_metric(
            out,
            "squall_usage_waiting_bytes",
            "gauge",
            "Encoded usage records that wait for the disk.",
            waiting,
        );
        write_metric(
            out,
            "squall_usage_written_bytes_total",
            "counter",
            "Bytes appended to usage segments.",
            load(&counters.written_bytes),
        );
        write_metric(
            out,
            "squall_usage_flushes_total",
            "counter",
            "Durable writes of usage records.",
            load(&counters.flushes),
        );
        write_metric(
            out,
            "squall_usage_flush_seconds_total",
            "counter",
            "Time spent in durable writes of usage records.",
            load(&counters.flush_ns) as f64 / 1e9,
        );
        write_metric(
            out,
            "squall_usage_write_failures_total",
            "counter",
            "Writes of usage records that failed and are tried again.",
            load(&counters.write_failures),
        );
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "usage records could not be written before the end");
        }
    }
}

impl UsageSink for Ledger {
    fn record(&self, record: UsageRecord) {
        let mut own = self.inner.shards.own();
        while own.len() >= SHARD_RECORDS {
            // The flusher hangs; sum up here rather than lose or grow without bound.
            drop(own);
            self.inner.collect(&mut lock(&self.inner.state));
            own = self.inner.shards.own();
        }
        own.push(record);
        drop(own);
        self.inner.alarm.wake();
    }
}

impl UsageStore for Ledger {
    /// # Errors
    /// `InvalidInput` for a malformed day; otherwise when a file can not be read.
    fn usage(&self, filter: &UsageFilter) -> io::Result<Vec<UsageRow>> {
        let from = parse_day(filter.from.as_deref())?;
        let to = parse_day(filter.to.as_deref())?;
        let _lock = self.inner.folder.lock_shared()?;
        // The list comes first: a segment that is created later is in `own`, and one that
        // was closed meanwhile is in the list.
        let mut segments = self.inner.folder.segments()?;
        let own = {
            let mut state = lock(&self.inner.state);
            self.inner.collect(&mut state);
            segments.retain(|name| *name != state.segment);
            state.own.clone()
        };
        let mut sums = self.inner.folder.read(&segments, from, to)?;
        totals::merge(&mut sums, &own);
        Ok(sums
            .iter()
            .filter(|(key, _)| {
                filter.app.as_ref().is_none_or(|app| key.origin.app == *app)
                    && (filter.client.is_none() || key.origin.client == filter.client)
                    && from.is_none_or(|from| from <= key.day)
                    && to.is_none_or(|to| key.day <= to)
            })
            .filter_map(|(key, sum)| totals::row_of(key, sum))
            .collect())
    }
}

fn parse_day(text: Option<&str>) -> io::Result<Option<Day>> {
    let Some(text) = text else { return Ok(None) };
    Day::parse(text).map(Some).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{text:?} is not a day; write it as YYYY-MM-DD, such as 2026-11-23"),
        )
    })
}

impl Inner {
    fn run(&self) {
        self.alarm.attach();
        if let Err(error) = self.roll_up() {
            tracing::warn!(%error, "usage of earlier runs is not summed up yet");
        }
        let mut retry = self.options.flush_interval;
        let mut pace = Pace::new(SHORTEST_PAUSE, self.options.flush_interval);
        while !self.alarm.stopped() {
            let until = Instant::now() + retry;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() || self.alarm.stopped() {
                    break;
                }
                self.alarm.pause(left.min(pace.pause()));
                pace.follow(self.collect(&mut lock(&self.state)));
            }
            retry = match self.write_waiting() {
                Ok(()) => self.options.flush_interval,
                Err(_) => (retry * 2).min(LONGEST_RETRY),
            };
            if self.segment_is_complete()
                && self.rotate()
                && let Err(error) = self.roll_up()
            {
                tracing::warn!(%error, "a usage segment is not summed up yet");
            }
            // Whoever asks for usage empties the shards, too: what waits then is looked at last.
            self.alarm.sleep(|| self.shards.is_empty() && lock(&self.state).nothing_waits());
        }
    }

    /// Takes all records out of the shards, sums and encodes them. Returns how many.
    fn collect(&self, state: &mut State) -> usize {
        let mut batch = Batch::default();
        let mut courtesy = Courtesy::every(RECORDS_OF_PIECE);
        let mut spare = std::mem::take(&mut state.spare);
        self.shards.drain(&mut spare, |records| {
            for record in records.drain(..) {
                batch.push(record);
                courtesy.step();
            }
        });
        state.spare = spare;
        let count = batch.count() as usize;
        if count == 0 {
            return 0;
        }
        self.counters.records.fetch_add(batch.count(), Ordering::Relaxed);
        batch.merge_into(&mut state.own);
        if state.waiting_bytes >= self.options.waiting_bytes {
            batch.merge_into(&mut state.sums);
            self.counters.coalesced.fetch_add(batch.count(), Ordering::Relaxed);
            return count;
        }
        let mut frame = Vec::new();
        segment::put_frame(&mut frame, &batch.encode());
        state.waiting_bytes += frame.len();
        state.waiting.push_back(frame);
        count
    }

    /// Appends everything to the segment and syncs it; keeps it waiting on an error.
    fn write_waiting(&self) -> io::Result<()> {
        let mut writer = lock(&self.writer);
        let (frames, sums, name) = {
            let mut state = lock(&self.state);
            self.collect(&mut state);
            if state.nothing_waits() {
                return Ok(());
            }
            let frames = std::mem::take(&mut state.waiting);
            (frames, std::mem::take(&mut state.sums), state.segment.clone())
        };
        let started = Instant::now();
        let mut bytes: Vec<u8> = Vec::with_capacity(frames.iter().map(Vec::len).sum());
        frames.iter().for_each(|frame| bytes.extend_from_slice(frame));
        if !sums.is_empty() {
            segment::put_frame(&mut bytes, &batch::encode_sums(&sums));
        }
        let written = self.append(&mut writer, &name, &bytes);
        let mut state = lock(&self.state);
        if let Err(error) = written {
            // Back to the front: what came meanwhile is behind it.
            for frame in frames.into_iter().rev() {
                state.waiting.push_front(frame);
            }
            totals::merge(&mut state.sums, &sums);
            drop(state);
            self.report_failure(&mut writer, &error);
            return Err(error);
        }
        state.waiting_bytes = state.waiting.iter().map(Vec::len).sum();
        drop(state);
        if self.counters.failing.swap(false, Ordering::Relaxed) {
            writer.last_warning = None;
            tracing::info!("usage records are written again");
        }
        let elapsed_ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        self.counters.flush_ns.fetch_add(elapsed_ns, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn append(&self, writer: &mut Writer, name: &str, frames: &[u8]) -> io::Result<()> {
        let segment = match &mut writer.segment {
            Some(segment) => segment,
            none => {
                let segment = self.folder.create_segment(name)?;
                writer.created = today();
                none.insert(segment)
            }
        };
        segment.append(frames)
    }

    fn report_failure(&self, writer: &mut Writer, error: &io::Error) {
        self.counters.write_failures.fetch_add(1, Ordering::Relaxed);
        self.counters.failing.store(true, Ordering::Relaxed);
        if writer.last_warning.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
            writer.last_warning = Some(Instant::now());
            tracing::warn!(
                folder = %self.options.dir.display(),
                %error,
                "usage records can not be written; they are kept in memory and tried again, free space or mend the disk"
            );
        }
    }

    fn segment_is_complete(&self) -> bool {
        let writer = lock(&self.writer);
        writer.segment.as_ref().is_some_and(|segment| {
            segment.bytes() >= self.options.segment_bytes || writer.created != today()
        })
    }

    /// Closes the segment, when there is one and nothing waits for it: from then on it
    /// counts by what is in its file.
    fn rotate(&self) -> bool {
        let mut writer = lock(&self.writer);
        let mut state = lock(&self.state);
        if writer.segment.is_none() || !state.nothing_waits() {
            return false;
        }
        writer.segment = None;
        state.own.clear();
        state.segment = Ulid::new().to_string();
        true
    }

    fn roll_up(&self) -> io::Result<()> {
        self.folder.roll_up(&self.options.retain, &mut |_| Ok(())).map(|_| ())
    }
}

impl State {
    fn nothing_waits(&self) -> bool {
        self.waiting.is_empty() && self.sums.is_empty()
    }
}

fn today() -> Day {
    Day::of_micros(unix_micros(SystemTime::now()))
}

#[cfg(test)]
mod tests;
