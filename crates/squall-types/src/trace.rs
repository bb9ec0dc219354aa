//! Trace context (W3C Trace Context, level 1) and request ids.

use std::cell::RefCell;
use std::fmt;

/// A position in a distributed trace: sixteen bytes of trace, eight of span.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// The `sampled` bit of the trace flags.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace from 24 random bytes. All-zero ids are invalid in the
    /// specification; a random source gives one once in 2^64 traces, mended here.
    pub fn from_random(random: [u8; 24]) -> Self {
        let mut trace_id: [u8; 16] = random[..16].try_into().expect("sixteen bytes");
        let mut span_id: [u8; 8] = random[16..].try_into().expect("eight bytes");
        trace_id[15] |= u8::from(trace_id == [0; 16]);
        span_id[7] |= u8::from(span_id == [0; 8]);
        Self { trace_id, span_id, sampled: true }
    }

    /// Reads a `traceparent` header (section 3.2 of the recommendation).
    /// `None` when it is malformed, so that the caller starts a new trace.
    pub fn parse(header: &[u8]) -> Option<Self> {
        if header.len() < 55 || header[2] != b'-' || header[35] != b'-' || header[52] != b'-' {
            return None;
        }
        let mut version = [0u8; 1];
        let mut trace_id = [0u8; 16];
        let mut span_id = [0u8; 8];
        let mut flags = [0u8; 1];
        read_hex(&header[..2], &mut version)?;
        read_hex(&header[3..35], &mut trace_id)?;
        read_hex(&header[36..52], &mut span_id)?;
        read_hex(&header[53..55], &mut flags)?;
        let longer = header.len() > 55;
        let bad_length = longer && (version[0] == 0 || header[55] != b'-');
        if version[0] == 0xff || bad_length || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags[0] & 1 == 1 })
    }

    /// The same trace with another span: what is sent onwards.
    #[must_use]
    pub fn child(&self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..*self }
    }

    /// The `traceparent` value, 55 ASCII bytes.
    pub fn header(&self) -> [u8; 55] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        out[3..35].copy_from_slice(hex(self.trace_id).as_flattened());
        out[36..52].copy_from_slice(hex(self.span_id).as_flattened());
        out[54] = b'0' + u8::from(self.sampled);
        out
    }

    /// The trace id as 32 lowercase hex digits.
    pub fn trace_id_hex(&self) -> HexId {
        HexId(hex(self.trace_id))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.header()).expect("hex digits are ASCII"))
    }
}

/// 32 lowercase hex digits, kept inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexId([[u8; 2]; 16]);

impl HexId {
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_flattened()
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("hex digits are ASCII")
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Random bytes for ids. The operating system is asked for a page at a time: ids must be
/// unique and hard to guess, and there are two of them in every request.
pub fn random<const N: usize>() -> [u8; N] {
    const PAGE: usize = 4096;
    thread_local! {
        static RANDOM: RefCell<(Box<[u8; PAGE]>, usize)> =
            RefCell::new((Box::new([0; PAGE]), PAGE));
    }
    RANDOM.with_borrow_mut(|(page, used)| {
        if *used + N > PAGE {
            // The kernel's generator can not fail once the machine has booted.
            getrandom::fill(&mut page[..]).expect("the operating system gives random bytes");
            *used = 0;
        }
        let taken = &mut page[*used..*used + N];
        let out = taken.try_into().expect("N bytes were taken");
        taken.fill(0);
        *used += N;
        out
    })
}

fn read_hex(text: &[u8], out: &mut [u8]) -> Option<()> {
    // Upper case is malformed here: the recommendation allows only 0-9 and a-f.
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (pair, byte) in text.chunks_exact(2).zip(out) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// Two digits for each byte, by arithmetic that compilers do for many bytes at once.
fn hex<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    let digit = |nibble: u8| {
        let letters = if nibble > 9 { b'a' - b'9' - 1 } else { 0 };
        b'0' + nibble + letters
    };
    bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_example_of_the_recommendation() {
        let text = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = TraceContext::parse(text).unwrap();
        assert!(context.sampled);
        assert_eq!(&context.header(), text);
    }

    #[test]
    fn malformed_headers_are_refused() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
        let future = b"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more";
        assert!(TraceContext::parse(future).is_some());
    }
}
