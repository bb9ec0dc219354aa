//! The streams of one instance: text decoders and compressions, whose state stays with the
//! host while their data comes by pieces.

use std::collections::HashMap;

use encoding_rs::Decoder;

use super::compression::Codec;
use super::{Arguments, Refusal, text, wrong};
use crate::{Value, op};

/// Streams that an instance may have at a time.
const STREAMS_MAX: usize = 1_024;
/// Memory of a text decoder with its place in the table; those of legacy encodings keep some
/// bytes only.
const DECODER_BYTES: usize = 256;

/// Whether `Streams` performs this operation, and not `perform`.
pub fn is_of_streams(operation: u32) -> bool {
    matches!(
        operation,
        op::DECODER_NEW | op::DECODER_WRITE | op::COMPRESSION_NEW | op::COMPRESSION_WRITE
    )
}

/// Every stream belongs to a request, and is gone when that ends. The guest names a stream by
/// its handle.
#[derive(Debug)]
pub struct Streams {
    slots: HashMap<i32, Slot>,
    last_handle: i32,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Slot {
    request: u32,
    /// Memory that the stream may take.
    bytes: usize,
    /// `None` while a write is under way.
    stream: Option<Stream>,
}

#[derive(Debug)]
enum Stream {
    Decoder { decoder: Box<Decoder>, fatal: bool },
    Compression(Codec),
}

/// A write that has begun, with the stream it goes to. It can be sent to another thread.
#[derive(Debug)]
pub struct Write {
    handle: i32,
    stream: Stream,
    bytes: Vec<u8>,
    last: bool,
}

/// What came of a write, for `Streams::end_write`.
#[derive(Debug)]
pub struct Written {
    handle: i32,
    result: Result<Value, Refusal>,
    /// `None` when this write was the stream's last.
    stream: Option<Stream>,
}

impl Streams {
    /// `bytes_max` bounds the memory that all streams of the instance may take together. A
    /// brotli decompression takes what the sender chose, up to 20 MiB, a brotli compression
    /// 5 MiB, all others less than half a MiB.
    pub fn new(bytes_max: usize) -> Self {
        Self { slots: HashMap::new(), last_handle: 0, bytes: 0, bytes_max }
    }

    /// Performs an operation of streams at once. `request` is the one that the guest works for:
    /// a new stream belongs to it.
    ///
    /// # Errors
    /// What `ops.ts` says; RangeError for too many streams.
    pub fn perform(
        &mut self,
        request: u32,
        operation: u32,
        values: Vec<Value>,
    ) -> Result<Value, Refusal> {
        let arguments = &mut Arguments(values.into_iter());
        match operation {
            op::DECODER_NEW => {
                let (decoder, fatal) = text::decoder(arguments)?;
                let stream = Stream::Decoder { decoder: Box::new(decoder), fatal };
                self.add(request, stream, DECODER_BYTES)
            }
            op::COMPRESSION_NEW => {
                let codec = Codec::new(&arguments.str()?, arguments.bool()?)?;
                let bytes = codec.memory_bytes_with(&[]);
                self.add(request, Stream::Compression(codec), bytes)
            }
            _ => {
                let write = self.begin(operation, arguments)?;
                self.end_write(write.run())
            }
        }
    }

    /// Takes the stream of a DECODER_WRITE or COMPRESSION_WRITE out of the table, for
    /// `Write::run` on any thread. What that gives goes to `end_write`; until then the stream
    /// takes no other write. A write that is dropped costs the request its stream.
    ///
    /// # Errors
    /// As `perform`.
    pub fn begin_write(&mut self, operation: u32, values: Vec<Value>) -> Result<Write, Refusal> {
        self.begin(operation, &mut Arguments(values.into_iter()))
    }

    fn begin(&mut self, operation: u32, arguments: &mut Arguments) -> Result<Write, Refusal> {
        let handle = arguments.handle()?;
        let (bytes, last) = (arguments.bytes()?, arguments.bool()?);
        let slot = self.slots.get_mut(&handle).ok_or_else(gone)?;
        let needed = match (&slot.stream, operation) {
            (None, _) => {
                return Err(Refusal::new("TypeError", "the stream is busy with another write"));
            }
            (Some(Stream::Decoder { .. }), op::DECODER_WRITE) => slot.bytes,
            (Some(Stream::Compression(codec)), op::COMPRESSION_WRITE) => {
                codec.memory_bytes_with(&bytes)
            }
            _ => return Err(wrong()),
        };
        let total = self.bytes - slot.bytes + needed;
        let stream = slot.stream.take().ok_or_else(gone)?;
        if total > self.bytes_max {
            self.remove(handle);
            return Err(self.too_much_memory());
        }
        slot.bytes = needed;
        self.bytes = total;
        Ok(Write { handle, stream, bytes, last })
    }

    /// Puts back what `begin_write` took, unless the write was the last of its stream or the
    /// request has ended meanwhile.
    ///
    /// # Errors
    /// What the write was refused with. The stream is gone then.
    pub fn end_write(&mut self, written: Written) -> Result<Value, Refusal> {
        match (self.slots.get_mut(&written.handle), written.stream) {
            (Some(slot), Some(stream)) => slot.stream = Some(stream),
            (Some(_), None) => self.remove(written.handle),
            (None, _) => {}
        }
        written.result
    }

    /// Frees what a request has left.
    pub fn end_request(&mut self, request: u32) {
        let bytes = &mut self.bytes;
        self.slots.retain(|_, slot| {
            let stays = slot.request != request;
            if !stays {
                *bytes -= slot.bytes;
            }
            stays
        });
    }

    /// How many streams there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// The memory that they may take together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn add(&mut self, request: u32, stream: Stream, bytes: usize) -> Result<Value, Refusal> {
        if self.slots.len() == STREAMS_MAX {
            return Err(Refusal::new(
                "RangeError",
                format!(
                    "an instance can have {STREAMS_MAX} compressions and text decoders at a time: use those that are open to their end first"
                ),
            ));
        }
        if self.bytes + bytes > self.bytes_max {
            return Err(self.too_much_memory());
        }
        // A write may still be under way for a handle whose request has ended, so handles are
        // used again as late as possible.
        loop {
            self.last_handle = self.last_handle.checked_add(1).unwrap_or(1);
            if !self.slots.contains_key(&self.last_handle) {
                break;
            }
        }
        self.bytes += bytes;
        self.slots.insert(self.last_handle, Slot { request, bytes, stream: Some(stream) });
        Ok(Value::Int(self.last_handle))
    }

    fn remove(&mut self, handle: i32) {
        if let Some(slot) = self.slots.remove(&handle) {
            self.bytes -= slot.bytes;
        }
    }

    fn too_much_memory(&self) -> Refusal {
        Refusal::new(
            "RangeError",
            format!(
                "the compressions of an instance can take {} bytes of memory at a time: use those that are open to their end first",
                self.bytes_max
            ),
        )
    }
}

impl Write {
    pub fn run(self) -> Written {
        let Write { handle, stream, bytes, last } = self;
        match stream {
            Stream::Decoder { mut decoder, fatal } => {
                let text = text::run(&mut decoder, fatal, &bytes, last);
                let goes_on = !last && text.is_some();
                Written {
                    handle,
                    result: Ok(text.map_or(Value::Null, Value::String)),
                    stream: goes_on.then_some(Stream::Decoder { decoder, fatal }),
                }
            }
            Stream::Compression(codec) => {
                let (result, codec) = codec.write(&bytes, last);
                Written { handle, result, stream: codec.map(Stream::Compression) }
            }
        }
    }
}

fn gone() -> Refusal {
    Refusal::new("TypeError", "the stream was used to its end, or ended with its request")
}
