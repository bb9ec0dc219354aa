//! Legacy encodings and UTF-8, by `encoding_rs`, which browsers use.

use encoding_rs::{CoderResult, Decoder, DecoderResult, Encoding};

use super::{Arguments, Refusal, wrong};
use crate::Value;

/// `(encoding, fatal, keepBom, bytes)`
pub(super) fn decode(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let (mut decoder, fatal) = decoder(arguments)?;
    let bytes = arguments.bytes()?;
    Ok(run(&mut decoder, fatal, &bytes, true).map_or(Value::Null, Value::String))
}

/// `(encoding, fatal, keepBom)`
pub(super) fn decoder(arguments: &mut Arguments) -> Result<(Decoder, bool), Refusal> {
    let name = arguments.str()?;
    let (fatal, keep_bom) = (arguments.bool()?, arguments.bool()?);
    let encoding = Encoding::for_label(name.as_bytes()).ok_or_else(wrong)?;
    let decoder = if keep_bom {
        encoding.new_decoder_without_bom_handling()
    } else {
        encoding.new_decoder_with_bom_removal()
    };
    Ok((decoder, fatal))
}

/// `None` for malformed input where that is fatal.
pub(super) fn run(decoder: &mut Decoder, fatal: bool, bytes: &[u8], last: bool) -> Option<String> {
    let mut text = String::new();
    let needed = if fatal {
        decoder.max_utf8_buffer_length_without_replacement(bytes.len())
    } else {
        decoder.max_utf8_buffer_length(bytes.len())
    };
    text.reserve(needed.unwrap_or(bytes.len()));
    let mut rest = bytes;
    loop {
        let read = if fatal {
            let (result, read) =
                decoder.decode_to_string_without_replacement(rest, &mut text, last);
            match result {
                DecoderResult::InputEmpty => return Some(text),
                DecoderResult::Malformed(..) => return None,
                DecoderResult::OutputFull => read,
            }
        } else {
            let (result, read, _) = decoder.decode_to_string(rest, &mut text, last);
            match result {
                CoderResult::InputEmpty => return Some(text),
                CoderResult::OutputFull => read,
            }
        };
        rest = &rest[read..];
        text.reserve(text.capacity().max(64));
    }
}
