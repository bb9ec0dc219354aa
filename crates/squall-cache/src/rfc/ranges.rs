//! Byte ranges (RFC 9110, section 14).

use http::header::{self, HeaderMap};

/// More of them in one request are not served as ranges: they cost more than they save
/// (section 17.15).
const RANGES_MAX: usize = 16;

/// A range as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeSpec {
    /// First and last byte; to the end without a last one.
    From(u64, Option<u64>),
    /// So many of the last bytes.
    Last(u64),
}

/// The ranges of a `Range` field. None when it is no valid set of byte ranges: it is
/// ignored then.
pub(super) fn parse(text: &str) -> Option<Vec<RangeSpec>> {
    let (unit, set) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        let (first, last) = spec.split_once('-')?;
        specs.push(match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => RangeSpec::From(first, Some(last)),
            (Some(first), None) if last.is_empty() => RangeSpec::From(first, None),
            (None, Some(count)) if first.is_empty() => RangeSpec::Last(count),
            _ => return None,
        });
        if specs.len() > RANGES_MAX {
            return None;
        }
    }
    (!specs.is_empty()).then_some(specs)
}

fn number(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

impl RangeSpec {
    /// First byte and length of it in a body; none when nothing of it is there.
    pub(super) fn within(self, length: u64) -> Option<(u64, u64)> {
        match self {
            Self::From(first, _) if first >= length => None,
            Self::From(first, last) => {
                let last = last.map_or(length - 1, |last| last.min(length - 1));
                Some((first, last - first + 1))
            }
            Self::Last(0) => None,
            Self::Last(_) if length == 0 => None,
            Self::Last(count) => {
                let count = count.min(length);
                Some((length - count, count))
            }
        }
    }
}

/// The ranges that are there, in the order of the request, those that touch or overlap as
/// one. Empty when none is.
pub(super) fn resolve(specs: &[RangeSpec], length: u64) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = specs.iter().filter_map(|spec| spec.within(length)).collect();
    if found.len() > 1 {
        let mut sorted = found.clone();
        sorted.sort_unstable();
        let touch = sorted.windows(2).any(|pair| pair[0].0 + pair[0].1 >= pair[1].0);
        if touch {
            let mut merged: Vec<(u64, u64)> = Vec::new();
            for (first, count) in sorted {
                match merged.last_mut() {
                    Some(before) if before.0 + before.1 >= first => {
                        before.1 = before.1.max(first + count - before.0);
                    }
                    _ => merged.push((first, count)),
                }
            }
            found = merged;
        }
    }
    found
}

/// First byte, last byte and length of the whole, as a 206 says. None when it does not say
/// all three, or what can not be.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let mut lines = headers.get_all(header::CONTENT_RANGE).iter();
    let text = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let (unit, rest) = text.split_once(' ')?;
    let (range, length) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, length) = (number(first)?, number(last)?, number(length)?);
    let good = unit.eq_ignore_ascii_case("bytes") && first <= last && last < length;
    good.then_some((first, last, length))
}

#[cfg(test)]
mod tests {
    use super::RangeSpec::{From, Last};
    use super::*;

    #[test]
    fn sets_of_ranges_are_read() {
        for (text, expected) in [
            ("bytes=0-4", Some(vec![From(0, Some(4))])),
            ("Bytes = 0-4", Some(vec![From(0, Some(4))])),
            ("bytes=2-", Some(vec![From(2, None)])),
            ("bytes=-3", Some(vec![Last(3)])),
            ("bytes=0-0, -1", Some(vec![From(0, Some(0)), Last(1)])),
            ("bytes=4-2", None),
            ("bytes=", None),
            ("bytes=a-b", None),
            ("bytes=--1", None),
            ("items=0-4", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse(&format!("bytes={}", "0-0,".repeat(RANGES_MAX + 1))), None);
    }

    #[test]
    fn ranges_end_with_the_body() {
        assert_eq!(resolve(&[From(0, Some(4))], 10), [(0, 5)]);
        assert_eq!(resolve(&[From(8, Some(40))], 10), [(8, 2)]);
        assert_eq!(resolve(&[From(10, None)], 10), []);
        assert_eq!(resolve(&[Last(40)], 10), [(0, 10)]);
        assert_eq!(resolve(&[Last(0)], 10), []);
        assert_eq!(resolve(&[Last(1)], 0), []);
        assert_eq!(resolve(&[From(6, None), From(0, Some(1))], 10), [(6, 4), (0, 2)]);
        assert_eq!(resolve(&[From(2, Some(5)), From(0, Some(2))], 10), [(0, 6)]);
        assert_eq!(resolve(&[From(3, Some(5)), From(0, Some(2))], 10), [(0, 6)]);
    }

    #[test]
    fn content_ranges_are_whole_or_nothing() {
        let read = |text: &'static str| {
            content_range(&[(header::CONTENT_RANGE, text.parse().unwrap())].into_iter().collect())
        };
        assert_eq!(read("bytes 0-4/10"), Some((0, 4, 10)));
        for text in ["bytes 0-4/*", "bytes */10", "bytes 4-0/10", "bytes 0-10/10", "0-4/10", ""] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
