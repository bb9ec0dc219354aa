//! The formats of CompressionStream and DecompressionStream, piece by piece: DEFLATE in its
//! wrappings (RFC 1950, 1951, 1952) by `flate2`, brotli (RFC 7932) by `brotli`.

use std::fmt;
use std::io::Write as _;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, CompressorWriter};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Refusal, operation_error, wrong};
use crate::Value;

const GZIP_WINDOW_BITS: u8 = 15;
/// As zlib's default.
const DEFLATE_LEVEL: u32 = 6;
/// As servers that compress while they answer: beyond this quality each byte costs several
/// times more.
const BROTLI_QUALITY: u32 = 5;
const BROTLI_WINDOW_BITS: u32 = 18;

/// What one write may decompress to; a guest's own memory is not much larger.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// The same for the short input that a call may bring. DEFLATE makes 1,032 bytes of one at
/// most (<https://zlib.net/zlib_tech.html>), so only brotli can want more.
const OUTPUT_OF_SHORT_BYTES_MAX: usize = 17 << 20;
const SHORT_BYTES_MAX: usize = 16 << 10;
/// Output is collected in steps of this size at least.
const OUTPUT_STEP_BYTES: usize = 16 << 10;

/// The state of one stream.
pub(super) enum Codec {
    Compressor(Compressor),
    Decompressor(Decompressor),
}

pub(super) enum Compressor {
    Deflate(Compress),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
}

pub(super) struct Decompressor {
    format: Format,
    /// Whether the end of the compressed data was seen.
    ended: bool,
}

enum Format {
    Deflate(Decompress),
    Brotli { decoder: Box<BrotliDecoder>, window_bits: Option<u32> },
}

type BrotliDecoder = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

impl Codec {
    pub(super) fn new(format: &str, compresses: bool) -> Result<Self, Refusal> {
        if compresses {
            let level = Compression::new(DEFLATE_LEVEL);
            Ok(Codec::Compressor(match format {
                "deflate" => Compressor::Deflate(Compress::new(level, true)),
                "deflate-raw" => Compressor::Deflate(Compress::new(level, false)),
                "gzip" => Compressor::Deflate(Compress::new_gzip(level, GZIP_WINDOW_BITS)),
                "brotli" => Compressor::Brotli(Box::new(CompressorWriter::new(
                    Vec::new(),
                    OUTPUT_STEP_BYTES,
                    BROTLI_QUALITY,
                    BROTLI_WINDOW_BITS,
                ))),
                _ => return Err(wrong()),
            }))
        } else {
            let format = match format {
                "deflate" => Format::Deflate(Decompress::new(true)),
                "deflate-raw" => Format::Deflate(Decompress::new(false)),
                "gzip" => Format::Deflate(Decompress::new_gzip(GZIP_WINDOW_BITS)),
                "brotli" => {
                    let alloc = StandardAlloc::default;
                    // Strict: without windows of up to 1 GiB, which the standard has not.
                    let decoder = BrotliState::new_strict(alloc(), alloc(), alloc());
                    Format::Brotli { decoder: Box::new(decoder), window_bits: None }
                }
                _ => return Err(wrong()),
            };
            Ok(Codec::Decompressor(Decompressor { format, ended: false }))
        }
    }

    /// Memory that the state takes at most when this input comes next.
    pub(super) fn memory_bytes_with(&self, input: &[u8]) -> usize {
        match self {
            Codec::Compressor(Compressor::Deflate(_)) => 400 << 10,
            Codec::Compressor(Compressor::Brotli(_)) => 5 << 20,
            Codec::Decompressor(decompressor) => match &decompressor.format {
                Format::Deflate(_) => 64 << 10,
                Format::Brotli { window_bits, .. } => {
                    match window_bits.or_else(|| brotli_window_bits(input)) {
                        None => 16 << 10,
                        // Besides the window up to 256 Huffman tables of each of three kinds.
                        Some(bits) => (1 << bits) + (4 << 20),
                    }
                }
            },
        }
    }

    /// Takes a piece of the input. Gives the output as bytes, or as [bytes] when input is left
    /// behind the end of the compressed data; and the state, unless the stream has ended.
    pub(super) fn write(self, input: &[u8], last: bool) -> (Result<Value, Refusal>, Option<Self>) {
        let written = match self {
            Codec::Compressor(compressor) => compressor
                .write(input, last)
                .map(|(output, state)| (Value::Bytes(output), state.map(Codec::Compressor))),
            Codec::Decompressor(decompressor) => decompressor
                .write(input, last)
                .map(|(output, state)| (output, state.map(Codec::Decompressor))),
        };
        match written {
            Ok((value, state)) => (Ok(value), state),
            Err(refusal) => (Err(refusal), None),
        }
    }
}

impl Compressor {
    fn write(self, input: &[u8], last: bool) -> Result<(Vec<u8>, Option<Self>), Refusal> {
        match self {
            Compressor::Deflate(mut deflate) => {
                let output = deflate_piece(&mut deflate, input, last)?;
                Ok((output, (!last).then_some(Compressor::Deflate(deflate))))
            }
            Compressor::Brotli(mut writer) => {
                writer.write_all(input).map_err(|_| operation_error("the compression failed"))?;
                if last {
                    return Ok((writer.into_inner(), None));
                }
                Ok((std::mem::take(writer.get_mut()), Some(Compressor::Brotli(writer))))
            }
        }
    }
}

fn deflate_piece(deflate: &mut Compress, mut input: &[u8], last: bool) -> Result<Vec<u8>, Refusal> {
    let flush = if last { FlushCompress::Finish } else { FlushCompress::None };
    let mut output = Vec::new();
    loop {
        output.reserve(OUTPUT_STEP_BYTES);
        let before = deflate.total_in();
        let status = deflate
            .compress_vec(input, &mut output, flush)
            .map_err(|_| operation_error("the compression failed"))?;
        input = &input[(deflate.total_in() - before) as usize..];
        // Room that is left over says that there was no more to give.
        if status == Status::StreamEnd || (output.len() < output.capacity() && !last) {
            return Ok(output);
        }
    }
}

impl Decompressor {
    fn write(mut self, input: &[u8], last: bool) -> Result<(Value, Option<Self>), Refusal> {
        let mut output = Output::for_input(input);
        let mut rest = input;
        if !self.ended && !input.is_empty() {
            self.ended = match &mut self.format {
                Format::Deflate(inflate) => inflate_piece(inflate, &mut rest, &mut output)?,
                Format::Brotli { decoder, window_bits } => {
                    *window_bits = window_bits.or_else(|| brotli_window_bits(input));
                    brotli_piece(decoder, &mut rest, &mut output)?
                }
            };
        }
        if last && !self.ended {
            return Err(Refusal::new("TypeError", "the compressed data is cut short"));
        }
        let output = Value::Bytes(output.into_bytes()?);
        if !rest.is_empty() {
            return Ok((Value::Array(vec![output]), None));
        }
        Ok((output, (!last).then_some(self)))
    }
}

/// Whether the end was reached. `input` becomes what is left of it.
fn inflate_piece(
    inflate: &mut Decompress,
    input: &mut &[u8],
    output: &mut Output,
) -> Result<bool, Refusal> {
    loop {
        output.make_room()?;
        let before = inflate.total_in();
        let status = inflate
            .decompress_vec(input, &mut output.bytes, FlushDecompress::None)
            .map_err(|_| malformed())?;
        *input = &input[(inflate.total_in() - before) as usize..];
        if status == Status::StreamEnd {
            return Ok(true);
        }
        // Room that is left over says that there was no more to give.
        if output.bytes.len() < output.bytes.capacity() {
            return Ok(false);
        }
    }
}

/// As `inflate_piece`.
fn brotli_piece(
    decoder: &mut BrotliDecoder,
    input: &mut &[u8],
    output: &mut Output,
) -> Result<bool, Refusal> {
    loop {
        output.make_room()?;
        let begun = output.bytes.len();
        output.bytes.resize(output.bytes.capacity(), 0);
        let (mut available, mut read) = (input.len(), 0);
        let (mut room, mut written) = (output.bytes.len() - begun, 0);
        let result = BrotliDecompressStream(
            &mut available,
            &mut read,
            input,
            &mut room,
            &mut written,
            &mut output.bytes[begun..],
            &mut 0,
            decoder,
        );
        output.bytes.truncate(begun + written);
        *input = &input[read..];
        match result {
            BrotliResult::ResultSuccess => return Ok(true),
            BrotliResult::NeedsMoreInput => return Ok(false),
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultFailure => return Err(malformed()),
        }
    }
}

/// The window that a brotli stream declares in its first byte (RFC 7932, section 9.1).
fn brotli_window_bits(input: &[u8]) -> Option<u32> {
    let byte = u32::from(*input.first()?);
    let (low, high) = (byte >> 1 & 7, byte >> 4 & 7);
    Some(match (byte & 1, low, high) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        // 9 with high = 1 is refused by the decoder.
        (_, 0, high) => 8 + high,
        (_, low, _) => 17 + low,
    })
}

/// Decompressed bytes, which are never more than a write may give.
struct Output {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Output {
    fn for_input(input: &[u8]) -> Self {
        let is_short = input.len() <= SHORT_BYTES_MAX;
        let bytes_max = if is_short { OUTPUT_OF_SHORT_BYTES_MAX } else { OUTPUT_BYTES_MAX };
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Makes sure that a byte more has room: also one more than may be, which tells that
    /// there are too many.
    fn make_room(&mut self) -> Result<(), Refusal> {
        let length = self.bytes.len();
        if length < self.bytes.capacity() {
            return Ok(());
        }
        if length > self.bytes_max {
            return Err(self.too_many());
        }
        let room = self.bytes_max + 1 - length;
        self.bytes.reserve_exact(room.min(length.max(OUTPUT_STEP_BYTES)));
        Ok(())
    }

    fn into_bytes(self) -> Result<Vec<u8>, Refusal> {
        if self.bytes.len() > self.bytes_max { Err(self.too_many()) } else { Ok(self.bytes) }
    }

    fn too_many(&self) -> Refusal {
        let message = format!(
            "a chunk decompresses to more than {} bytes: write smaller chunks",
            self.bytes_max
        );
        Refusal::new("RangeError", message)
    }
}

fn malformed() -> Refusal {
    Refusal::new("TypeError", "the compressed data is malformed")
}

impl fmt::Debug for Codec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Codec::Compressor(Compressor::Deflate(_)) => "deflate compressor",
            Codec::Compressor(Compressor::Brotli(_)) => "brotli compressor",
            Codec::Decompressor(Decompressor { format: Format::Deflate(_), .. }) => {
                "deflate decompressor"
            }
            Codec::Decompressor(Decompressor { format: Format::Brotli { .. }, .. }) => {
                "brotli decompressor"
            }
        })
    }
}
