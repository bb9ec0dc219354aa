//! Parts of the lines of a head of HTTP/1.

use std::ops::Range;

/// `range` without the spaces and tabs around it.
pub(crate) fn trim(head: &[u8], mut range: Range<usize>) -> Range<usize> {
    let is_space = |place: usize| matches!(head[place], b' ' | b'\t');
    while !range.is_empty() && is_space(range.start) {
        range.start += 1;
    }
    while !range.is_empty() && is_space(range.end - 1) {
        range.end -= 1;
    }
    range
}

/// What a Content-Length says: digits only, since `parse` would take a sign.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}
