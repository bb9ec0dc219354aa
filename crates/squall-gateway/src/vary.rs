//! The `Vary` header of responses (RFC 9110, section 12.5.5).

use http::header::{self, HeaderMap, HeaderValue};

/// Adds a name, given in lower case, unless the response varies by it already.
pub(crate) fn add(headers: &mut HeaderMap, name: &'static str) {
    let names = headers.get_all(header::VARY).iter().filter_map(|line| line.to_str().ok());
    let known = names
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.eq_ignore_ascii_case(name));
    if !known {
        headers.append(header::VARY, HeaderValue::from_static(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[&'static str], expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in before {
            headers.append(header::VARY, HeaderValue::from_static(line));
        }
        add(&mut headers, "origin");
        let lines: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_name_is_there_once() {
        check(&[], &["origin"]);
        check(&["accept-encoding"], &["accept-encoding", "origin"]);
        check(&["Accept-Encoding, Origin"], &["Accept-Encoding, Origin"]);
        check(&["*"], &["*"]);
        check(&["x-origin"], &["x-origin", "origin"]);
    }
}
