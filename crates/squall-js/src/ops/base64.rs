//! Base64, strict as `atob` and lenient as node's Buffer.

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::{Arguments, Refusal};
use crate::Value;

/// Bits of the last character that fill no byte may be anything.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// `(bytes, urlSafe)`
pub(super) fn encode(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let bytes = arguments.bytes()?;
    let text =
        if arguments.bool()? { URL_SAFE_NO_PAD.encode(bytes) } else { STANDARD.encode(bytes) };
    Ok(Value::String(text))
}

/// `(text, lenient)`
pub(super) fn decode(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let text = arguments.str()?;
    let decoded = if arguments.bool()? { Some(lenient(&text)) } else { forgiving(text) };
    Ok(decoded.map_or(Value::Null, Value::Bytes))
}

/// <https://infra.spec.whatwg.org/#forgiving-base64-decode>
fn forgiving(mut text: String) -> Option<Vec<u8>> {
    text.retain(|character| !matches!(character, '\t' | '\n' | '\x0c' | '\r' | ' '));
    let padded = text.len().is_multiple_of(4);
    let mut digits = text.as_str();
    if padded {
        digits = digits.strip_suffix('=').unwrap_or(digits);
        digits = digits.strip_suffix('=').unwrap_or(digits);
    }
    FORGIVING.decode(digits).ok()
}

fn lenient(text: &str) -> Vec<u8> {
    let mut digits = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'=' => break,
            b'-' => digits.push(b'+'),
            b'_' => digits.push(b'/'),
            b'+' | b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => digits.push(byte),
            _ => {}
        }
    }
    // One digit alone fills no byte.
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    FORGIVING.decode(&digits).unwrap_or_default()
}
