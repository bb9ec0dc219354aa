//! Field values that are lists (RFC 9110, section 5.6.1).

use http::header::{AsHeaderName, HeaderMap};

/// The members of a list field, over all of its lines, without the space around them.
/// Commas in quoted strings are not between members. Lines that are no text are left out.
pub(super) fn members(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(split)
}

/// The members of one line that are not empty.
pub(super) fn split(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = end_of_member(text);
        rest = text.get(end + 1..);
        Some(text[..end].trim_matches([' ', '\t']))
    })
    .filter(|member| !member.is_empty())
}

fn end_of_member(text: &str) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(split(line).collect::<Vec<_>>(), expected, "{line:?}");
    }

    #[test]
    fn commas_in_quotes_are_part_of_a_member() {
        check("", &[]);
        check("a", &["a"]);
        check(" a ,, b\t,", &["a", "b"]);
        check("private=\"a, b\", c", &["private=\"a, b\"", "c"]);
        check("a=\"\\\",\", b", &["a=\"\\\",\"", "b"]);
        check("a=\"open, b", &["a=\"open, b"]);
    }
}
