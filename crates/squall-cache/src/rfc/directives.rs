//! Cache-Control (RFC 9111, section 5.2) and its targeted form for caches like this one
//! (RFC 9213).

use http::HeaderName;
use http::header::{CACHE_CONTROL, HeaderMap};

use super::list;

pub(super) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// As long as a cache need remember (RFC 9111, section 1.2.2).
const SECONDS_MAX: u32 = 1 << 31;

/// What a message says of caching.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: Option<Fields>,
    pub(super) private: Option<Fields>,
    pub(super) public: bool,
    pub(super) max_age: Option<u32>,
    pub(super) s_maxage: Option<u32>,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) stale_while_revalidate: Option<u32>,
    pub(super) stale_if_error: Option<u32>,
    /// Of requests: without a number for any staleness.
    pub(super) max_stale: Option<Option<u32>>,
    pub(super) min_fresh: Option<u32>,
    pub(super) only_if_cached: bool,
}

/// Which fields a directive is about; without names, the whole message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(pub(super) Vec<HeaderName>);

impl Directives {
    /// Of a request, or of a response in general.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        // Nobody knows what a line says that is no text: it may be the strictest thing.
        let unreadable = headers.get_all(CACHE_CONTROL).iter().any(|line| line.to_str().is_err());
        let mut found = Self { no_store: unreadable, ..Self::default() };
        for member in list::members(headers, CACHE_CONTROL) {
            let (name, argument) = match member.split_once('=') {
                Some((name, argument)) => (name.trim(), Some(argument.trim())),
                None => (member, None),
            };
            found.note(name, argument);
        }
        found
    }

    /// Of a response, for a cache in front of its origin: the targeted field, where it is
    /// valid and not empty, in place of Cache-Control and Expires.
    pub(super) fn targeted(headers: &HeaderMap) -> Option<Self> {
        let lines: Vec<&str> = headers
            .get_all(CDN_CACHE_CONTROL)
            .iter()
            .map(|line| line.to_str())
            .collect::<Result<_, _>>()
            .ok()?;
        let line = lines.join(",");
        let members = dictionary(&line)?;
        if members.is_empty() {
            return None;
        }
        let mut found = Self::default();
        // Of members with one name the last counts (RFC 9651, section 4.2.2).
        let last = members
            .iter()
            .enumerate()
            .filter(|(at, (name, _))| !members[at + 1..].iter().any(|(later, _)| later == name));
        for (_, (name, value)) in last {
            match value {
                Member::True => found.note(name, None),
                Member::Number(seconds) => found.note(name, Some(&seconds.to_string())),
                Member::Text(fields) if name == "private" || name == "no-cache" => {
                    found.note(name, Some(fields));
                }
                Member::Text(_) | Member::Other => {}
            }
        }
        Some(found)
    }

    /// All of it is for one caller.
    pub(super) fn is_private(&self) -> bool {
        self.private.as_ref().is_some_and(|fields| fields.0.is_empty())
    }

    /// Also when its request was authorized (section 3.5).
    pub(super) fn is_for_others(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage.is_some()
    }

    fn note(&mut self, name: &str, argument: Option<&str>) {
        // What can not be read is stale (section 4.2.1). Of several the first counts.
        let seconds = || argument.and_then(seconds).unwrap_or(0);
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            merge(&mut self.no_cache, argument);
        } else if is("private") {
            merge(&mut self.private, argument);
        } else if is("public") {
            self.public = true;
        } else if is("max-age") {
            self.max_age.get_or_insert_with(seconds);
        } else if is("s-maxage") {
            self.s_maxage.get_or_insert_with(seconds);
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate.get_or_insert_with(seconds);
        } else if is("stale-if-error") {
            self.stale_if_error.get_or_insert_with(seconds);
        } else if is("max-stale") {
            self.max_stale
                .get_or_insert_with(|| argument.map(|text| self::seconds(text).unwrap_or(0)));
        } else if is("min-fresh") {
            self.min_fresh.get_or_insert_with(seconds);
        } else if is("only-if-cached") {
            self.only_if_cached = true;
        }
    }
}

/// Without names a directive is about everything, whatever another line says.
fn merge(known: &mut Option<Fields>, argument: Option<&str>) {
    let names = argument.map(|text| list::split(text.trim_matches('"')));
    let names: Option<Vec<HeaderName>> =
        names.map(|names| names.filter_map(|name| HeaderName::try_from(name).ok()).collect());
    match (known.as_mut(), names) {
        (_, None) => *known = Some(Fields::default()),
        (None, Some(names)) => *known = Some(Fields(names)),
        (Some(fields), Some(names)) if !fields.0.is_empty() => fields.0.extend(names),
        (Some(_), Some(_)) => {}
    }
}

/// Delta seconds, also quoted (section 5.2).
fn seconds(text: &str) -> Option<u32> {
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let digits = unquoted.unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // What is too large is as large as can be.
    Some(digits.parse().unwrap_or(u64::MAX).min(SECONDS_MAX.into()) as u32)
}

enum Member<'t> {
    True,
    Number(u64),
    /// A string as it was sent; no name of a field has anything escaped.
    Text(&'t str),
    /// Another type: the directive does not know it and is ignored (RFC 9213, section 2.1).
    Other,
}

/// A dictionary of structured fields (RFC 9651, section 4.2.2), as far as directives need
/// it. None when it is not valid.
fn dictionary(text: &str) -> Option<Vec<(String, Member<'_>)>> {
    let mut rest = text.trim_matches(' ');
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (key, after) = key(rest)?;
        let member;
        (member, rest) = match after.strip_prefix('=') {
            Some(after) => item(after)?,
            None => (Member::True, after),
        };
        rest = parameters(rest)?;
        members.push((key.to_owned(), member));
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            break;
        }
        rest = rest.strip_prefix(',')?.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return None;
        }
    }
    Some(members)
}

fn key(text: &str) -> Option<(&str, &str)> {
    let good =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte);
    let end = text.bytes().position(|byte| !good(byte)).unwrap_or(text.len());
    let first = text.bytes().next()?;
    (first.is_ascii_lowercase() || first == b'*').then(|| text.split_at(end))
}

fn item(text: &str) -> Option<(Member<'_>, &str)> {
    let end_of =
        |good: fn(u8) -> bool| text.bytes().position(|byte| !good(byte)).unwrap_or(text.len());
    match text.bytes().next()? {
        b'0'..=b'9' | b'-' => {
            let end = end_of(|byte| byte.is_ascii_digit() || byte == b'-' || byte == b'.');
            let (number, rest) = text.split_at(end);
            if number.bytes().all(|byte| byte.is_ascii_digit()) {
                return (number.len() <= 15)
                    .then(|| Some((Member::Number(number.parse().ok()?), rest)))?;
            }
            number.parse::<f64>().ok().map(|_| (Member::Other, rest))
        }
        b'?' => match text.get(..2)? {
            "?1" => Some((Member::True, &text[2..])),
            "?0" => Some((Member::Other, &text[2..])),
            _ => None,
        },
        b'"' => {
            let mut escaped = false;
            for (at, byte) in text.bytes().enumerate().skip(1) {
                match byte {
                    b'"' | b'\\' if escaped => escaped = false,
                    _ if escaped => return None,
                    b'\\' => escaped = true,
                    b'"' => return Some((Member::Text(&text[1..at]), &text[at + 1..])),
                    0x20..0x7f => {}
                    _ => return None,
                }
            }
            None
        }
        b':' => {
            let end = text[1..].find(':')? + 1;
            Some((Member::Other, &text[end + 1..]))
        }
        byte if byte.is_ascii_alphabetic() || byte == b'*' => {
            let end =
                end_of(|byte| byte.is_ascii_graphic() && !b"(),;<=>?@[\\]{}\"".contains(&byte));
            Some((Member::Other, &text[end..]))
        }
        b'(' => {
            let end = text.find(')')?;
            Some((Member::Other, &text[end + 1..]))
        }
        _ => None,
    }
}

fn parameters(mut rest: &str) -> Option<&str> {
    while let Some(after) = rest.strip_prefix(';') {
        let (_, after) = key(after.trim_start_matches(' '))?;
        rest = match after.strip_prefix('=') {
            Some(after) => item(after)?.1,
            None => after,
        };
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, lines: &[&'static str]) -> HeaderMap {
        let name = HeaderName::from_static(name);
        lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect()
    }

    fn read(lines: &[&'static str]) -> Directives {
        Directives::read(&headers("cache-control", lines))
    }

    #[test]
    fn a_line_that_is_no_text_forbids_storing() {
        let line = http::HeaderValue::from_bytes(b"no-store, x=\xff").unwrap();
        let headers: HeaderMap = [(CACHE_CONTROL, line)].into_iter().collect();
        assert!(Directives::read(&headers).no_store);
    }

    #[test]
    fn seconds_are_read_as_they_should_be() {
        for (line, expected) in [
            ("max-age=60", Some(60)),
            ("MaX-aGe=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age=0060", Some(60)),
            ("max-age = 60", Some(60)),
            ("max-age=99999999999999999999", Some(SECONDS_MAX)),
            ("max-age=60, max-age=5", Some(60)),
            ("max-age='60'", Some(0)),
            ("max-age=-60", Some(0)),
            ("max-age=6.5", Some(0)),
            ("max-age", Some(0)),
            ("x=\"max-age=60\"", None),
            ("x=\"a, max-age=60\", max-age=1", Some(1)),
        ] {
            assert_eq!(read(&[line]).max_age, expected, "{line}");
        }
    }

    #[test]
    fn fields_are_named_or_all_of_them() {
        let fields = |names: &[&'static str]| {
            Some(Fields(names.iter().map(|name| HeaderName::from_static(name)).collect()))
        };
        assert_eq!(read(&["private=\"set-cookie, x-a\""]).private, fields(&["set-cookie", "x-a"]));
        assert_eq!(read(&["no-cache=set-cookie"]).no_cache, fields(&["set-cookie"]));
        assert_eq!(read(&["private=\"a\"", "private"]).private, fields(&[]));
        assert_eq!(read(&["private", "private=\"a\""]).private, fields(&[]));
        assert_eq!(read(&["public"]).private, None);
    }

    #[test]
    fn requests_say_how_stale_is_too_stale() {
        assert_eq!(read(&["max-stale"]).max_stale, Some(None));
        assert_eq!(read(&["max-stale=7"]).max_stale, Some(Some(7)));
        assert_eq!(read(&["min-fresh=3, only-if-cached"]).min_fresh, Some(3));
    }

    fn targeted(line: &'static str) -> Option<Directives> {
        Directives::targeted(&headers("cdn-cache-control", &[line]))
    }

    #[test]
    fn the_targeted_field_is_a_dictionary() {
        assert_eq!(targeted("max-age=60").unwrap().max_age, Some(60));
        assert_eq!(targeted("max-age=60;ext=1, no-store").unwrap().max_age, Some(60));
        assert!(targeted("no-store=?1").unwrap().no_store);
        assert!(!targeted("max-age=1, no-store=?0").unwrap().no_store);
        assert_eq!(targeted("max-age=5, max-age=9").unwrap().max_age, Some(9));
        let private = targeted("private=\"set-cookie, x-a\"").unwrap().private.unwrap();
        assert_eq!(private.0, ["set-cookie", "x-a"].map(HeaderName::from_static));
        // Of another type: ignored, and the field is still there.
        assert_eq!(targeted("max-age=\"60\"").unwrap().max_age, None);
        assert_eq!(targeted("max-age=60.5").unwrap().max_age, None);
    }

    #[test]
    fn what_is_no_dictionary_is_not_there() {
        for line in
            ["", "max-age=", "MAX-AGE=60", "max-age=60,", "max-age=60 no-store", "&", "a=\"x"]
        {
            assert_eq!(targeted(line), None, "{line}");
        }
    }
}
