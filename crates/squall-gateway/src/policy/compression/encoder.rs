//! The encoders: their levels, their memory, and where they wait for their next body.
//!
//! Levels are those of servers that compress while they answer. Beyond them a byte costs
//! several times as much for a few percent: brotli at 5 takes twice as long as at 4, and at
//! 5 with a small window fifty times as long.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brotli::CompressorWriter;
use flate2::{Compress, FlushCompress, Status};
use http::HeaderValue;
use squall_types::gateway::CompressionAlgorithm;
use squall_types::metrics::{write_head, write_metric};
use squall_types::shard::{Padded, SHARDS, own_shard};
use tokio::sync::Semaphore;
use zstd::stream::raw::{self, CParameter, InBuffer, Operation as _, OutBuffer};

const ZSTD_LEVEL: i32 = 3;
/// What a client must keep, and a good part of what an encoder needs: 256 and 128 KiB.
const ZSTD_WINDOW_BITS: u32 = 18;
const BROTLI_WINDOW_BITS: i32 = 17;
const BROTLI_QUALITY: i32 = 4;
const GZIP_LEVEL: u32 = 6;
const GZIP_WINDOW_BITS: u8 = 15;
/// Output is made in steps of this size at least.
const OUTPUT_STEP_BYTES: usize = 8 << 10;

/// What all encoders that are in use may take.
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// Encoders of a kind that wait on a core.
const IDLE_MAX: usize = 2;

const ALGORITHMS: [CompressionAlgorithm; 3] =
    [CompressionAlgorithm::Zstd, CompressionAlgorithm::Br, CompressionAlgorithm::Gzip];

pub(crate) fn content_coding(algorithm: CompressionAlgorithm) -> HeaderValue {
    HeaderValue::from_static(name(algorithm))
}

fn name(algorithm: CompressionAlgorithm) -> &'static str {
    match algorithm {
        CompressionAlgorithm::Zstd => "zstd",
        CompressionAlgorithm::Br => "br",
        CompressionAlgorithm::Gzip => "gzip",
    }
}

/// What is compressed in about 100 µs: as much as a request core does by itself.
pub(super) fn inline_bytes_max(algorithm: CompressionAlgorithm) -> usize {
    match algorithm {
        CompressionAlgorithm::Zstd => 64 << 10,
        CompressionAlgorithm::Br => 8 << 10,
        CompressionAlgorithm::Gzip => 16 << 10,
    }
}

/// What an encoder held at most when it was measured, with the batches that it is given.
fn memory_bytes(algorithm: CompressionAlgorithm) -> usize {
    match algorithm {
        CompressionAlgorithm::Zstd => 1_900 << 10,
        CompressionAlgorithm::Br => 2_400 << 10,
        CompressionAlgorithm::Gzip => 400 << 10,
    }
}

/// How a piece of a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// More follows: the encoder may keep what it likes.
    More,
    /// The client shall have everything so far.
    Flush,
    Finish,
}

enum Encoder {
    Zstd(raw::Encoder<'static>),
    /// `None` at the end: only taking it apart ends a stream of brotli.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
    Gzip(Compress),
}

impl Encoder {
    fn new(algorithm: CompressionAlgorithm) -> io::Result<Self> {
        Ok(match algorithm {
            CompressionAlgorithm::Zstd => {
                let mut encoder = raw::Encoder::new(ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(ZSTD_WINDOW_BITS))?;
                Encoder::Zstd(encoder)
            }
            CompressionAlgorithm::Br => {
                let parameters = brotli::enc::BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: BROTLI_WINDOW_BITS,
                    ..Default::default()
                };
                let writer =
                    CompressorWriter::with_params(Vec::new(), OUTPUT_STEP_BYTES, &parameters);
                Encoder::Brotli(Some(Box::new(writer)))
            }
            CompressionAlgorithm::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Encoder::Gzip(Compress::new_gzip(level, GZIP_WINDOW_BITS))
            }
        })
    }

    /// Ready for another body; `None` for a kind that can not be used again.
    fn renewed(self) -> Option<Self> {
        match self {
            Encoder::Zstd(mut encoder) => {
                encoder.reinit().ok()?;
                Some(Encoder::Zstd(encoder))
            }
            Encoder::Brotli(_) => None,
            Encoder::Gzip(mut deflate) => {
                deflate.reset();
                Some(Encoder::Gzip(deflate))
            }
        }
    }

    /// Says how large the whole body is, before its first byte.
    fn announce(&mut self, bytes: usize) {
        if let Encoder::Zstd(encoder) = self {
            // It chooses smaller tables then; without it the result is only slower.
            let _ = encoder.set_pledged_src_size(Some(bytes as u64));
        }
    }

    fn write(&mut self, input: &[u8], ending: Ending, output: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Encoder::Zstd(encoder) => write_zstd(encoder, input, ending, output),
            Encoder::Brotli(place) => {
                let mut writer =
                    place.take().ok_or_else(|| io::Error::other("the stream has ended"))?;
                std::mem::swap(writer.get_mut(), output);
                writer.write_all(input)?;
                match ending {
                    Ending::Finish => {
                        *output = writer.into_inner();
                        return Ok(());
                    }
                    Ending::Flush => writer.flush()?,
                    Ending::More => {}
                }
                std::mem::swap(writer.get_mut(), output);
                *place = Some(writer);
                Ok(())
            }
            Encoder::Gzip(deflate) => write_gzip(deflate, input, ending, output),
        }
    }
}

fn write_zstd(
    encoder: &mut raw::Encoder<'static>,
    input: &[u8],
    ending: Ending,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    let mut input = InBuffer::around(input);
    loop {
        output.reserve(OUTPUT_STEP_BYTES);
        let end = output.len();
        let mut rest = OutBuffer::around_pos(output, end);
        let left = if input.pos() < input.src.len() {
            encoder.run(&mut input, &mut rest)?;
            1
        } else {
            match ending {
                Ending::More => 0,
                Ending::Flush => encoder.flush(&mut rest)?,
                Ending::Finish => encoder.finish(&mut rest, true)?,
            }
        };
        if left == 0 {
            return Ok(());
        }
    }
}

fn write_gzip(
    deflate: &mut Compress,
    mut input: &[u8],
    ending: Ending,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    let flush = match ending {
        Ending::More => FlushCompress::None,
        Ending::Flush => FlushCompress::Sync,
        Ending::Finish => FlushCompress::Finish,
    };
    loop {
        output.reserve(OUTPUT_STEP_BYTES);
        let before = deflate.total_in();
        let status = deflate.compress_vec(input, output, flush).map_err(io::Error::other)?;
        input = &input[(deflate.total_in() - before) as usize..];
        // Space that is left in the output means that there is nothing more to say.
        let done = match ending {
            Ending::Finish => status == Status::StreamEnd,
            _ => input.is_empty() && output.len() < output.capacity(),
        };
        if done {
            return Ok(());
        }
    }
}

/// Encoders of a core that wait for their next body.
type Idle = Vec<(CompressionAlgorithm, Encoder)>;

/// The encoders of a node, and what is counted about them.
pub(crate) struct Encoders {
    idle: [Padded<Mutex<Idle>>; SHARDS],
    used_bytes: AtomicUsize,
    memory_bytes_max: usize,
    /// Pieces that may be compressed off the request cores at once: as many as there are
    /// cores, since more would only take turns with the requests.
    pub(super) workers: Arc<Semaphore>,
    counts: [Padded<[Counts; ALGORITHMS.len()]>; SHARDS],
    refused: AtomicU64,
}

#[derive(Default)]
struct Counts {
    responses: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Default for Encoders {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            idle: Default::default(),
            used_bytes: AtomicUsize::new(0),
            memory_bytes_max: MEMORY_BYTES_MAX,
            workers: Arc::new(Semaphore::new(cores)),
            counts: Default::default(),
            refused: AtomicU64::new(0),
        }
    }
}

impl Encoders {
    /// An encoder for one body; `None` when all memory for them is in use.
    pub(super) fn take(self: &Arc<Self>, algorithm: CompressionAlgorithm) -> Option<Lease> {
        let bytes = memory_bytes(algorithm);
        let used = self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        // From here on it is the lease that gives the bytes back.
        let (home, encoders) = (own_shard(), self.clone());
        let mut lease = Lease { encoder: None, algorithm, is_fresh: true, home, encoders };
        if used + bytes > self.memory_bytes_max {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let mut idle = self.idle_of(lease.home);
        let place = idle.iter().rposition(|(kind, _)| *kind == algorithm);
        lease.encoder = place.map(|place| idle.swap_remove(place).1);
        drop(idle);
        if lease.encoder.is_none() {
            match Encoder::new(algorithm) {
                Ok(encoder) => lease.encoder = Some(encoder),
                Err(error) => {
                    tracing::error!("an encoder can not be made: {error}");
                    return None;
                }
            }
        }
        lease.counts().responses.fetch_add(1, Ordering::Relaxed);
        Some(lease)
    }

    fn idle_of(&self, shard: usize) -> MutexGuard<'_, Idle> {
        self.idle[shard].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prometheus text.
    pub(crate) fn write_metrics(&self, out: &mut String) {
        use std::fmt::Write as _;
        type Of = fn(&Counts) -> &AtomicU64;
        let responses: Of = |counts| &counts.responses;
        let (bytes_in, bytes_out): (Of, Of) =
            (|counts| &counts.bytes_in, |counts| &counts.bytes_out);
        let families = [
            ("responses", "Responses that were compressed.", responses),
            ("input_bytes", "Bytes before compression.", bytes_in),
            ("output_bytes", "Bytes after compression.", bytes_out),
        ];
        for (family, help, of) in families {
            let metric = format!("squall_compression_{family}_total");
            write_head(out, &metric, "counter", help);
            for algorithm in ALGORITHMS {
                let own = self.counts.iter().map(|shard| &shard.0[algorithm as usize]);
                let sum: u64 = own.map(|counts| of(counts).load(Ordering::Relaxed)).sum();
                let coding = name(algorithm);
                let _ = writeln!(out, "{metric}{{coding=\"{coding}\"}} {sum}");
            }
        }
        write_metric(
            out,
            "squall_compression_refused_total",
            "counter",
            "Responses sent as they are because all memory for encoders was in use.",
            self.refused.load(Ordering::Relaxed),
        );
        write_metric(
            out,
            "squall_compression_memory_bytes",
            "gauge",
            "Memory of the encoders in use, at most.",
            self.used_bytes.load(Ordering::Relaxed),
        );
    }
}

/// An encoder while it works on one body.
pub(super) struct Lease {
    encoder: Option<Encoder>,
    algorithm: CompressionAlgorithm,
    /// Nothing was written yet.
    is_fresh: bool,
    /// The core whose requests it serves, also when it is let go elsewhere.
    home: usize,
    encoders: Arc<Encoders>,
}

impl Lease {
    pub(super) fn algorithm(&self) -> CompressionAlgorithm {
        self.algorithm
    }

    pub(super) fn workers(&self) -> Arc<Semaphore> {
        self.encoders.workers.clone()
    }

    /// Compresses pieces of a body, one after the other, and appends to `output`.
    pub(super) fn write<P: AsRef<[u8]>>(
        &mut self,
        pieces: &[P],
        ending: Ending,
        output: &mut Vec<u8>,
    ) -> io::Result<()> {
        let Some(encoder) = &mut self.encoder else {
            return Err(io::Error::other("the encoder failed before"));
        };
        let before = output.len();
        let bytes_in: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        if std::mem::take(&mut self.is_fresh) && ending == Ending::Finish {
            encoder.announce(bytes_in);
        }
        let (last, others) = match pieces.split_last() {
            Some((last, others)) => (last.as_ref(), others),
            None => (&[][..], pieces),
        };
        let written = others
            .iter()
            .try_for_each(|piece| encoder.write(piece.as_ref(), Ending::More, output))
            .and_then(|()| encoder.write(last, ending, output));
        if written.is_err() {
            self.encoder = None;
        }
        let counts = self.counts();
        counts.bytes_in.fetch_add(bytes_in as u64, Ordering::Relaxed);
        counts.bytes_out.fetch_add((output.len() - before) as u64, Ordering::Relaxed);
        written
    }

    /// Compresses a whole body.
    pub(super) fn finish(&mut self, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut output = Vec::with_capacity(body.len() / 3 + 64);
        self.write(&[body], Ending::Finish, &mut output)?;
        Ok(output)
    }

    fn counts(&self) -> &Counts {
        &self.encoders.counts[self.home].0[self.algorithm as usize]
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.encoders.used_bytes.fetch_sub(memory_bytes(self.algorithm), Ordering::Relaxed);
        let Some(encoder) = self.encoder.take().and_then(Encoder::renewed) else { return };
        let mut idle = self.encoders.idle_of(self.home);
        if idle.iter().filter(|(kind, _)| *kind == self.algorithm).count() < IDLE_MAX {
            idle.push((self.algorithm, encoder));
        }
    }
}

#[cfg(test)]
impl Encoders {
    pub(super) fn with_memory(memory_bytes_max: usize) -> Self {
        Self { memory_bytes_max, ..Self::default() }
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn idle(&self) -> usize {
        (0..SHARDS).map(|shard| self.idle_of(shard).len()).sum()
    }
}
