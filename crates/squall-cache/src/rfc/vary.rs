//! `Vary` (RFC 9110, section 12.5.5; RFC 9111, section 4.1): which requests a response is
//! for.

use http::HeaderName;
use http::header::{self, HeaderMap};

use super::list;

/// The names of `Vary`, sorted, each once. None when it varies by everything, or by what is
/// no name.
pub(super) fn names_of_vary(headers: &HeaderMap) -> Option<Box<[HeaderName]>> {
    if headers.get_all(header::VARY).iter().any(|line| line.to_str().is_err()) {
        return None;
    }
    let names = list::members(headers, header::VARY);
    let mut names = names
        .map(|name| if name == "*" { None } else { HeaderName::try_from(name).ok() })
        .collect::<Option<Vec<_>>>()?;
    if names.iter().any(is_said_anew) {
        return None;
    }
    names.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    Some(names.into())
}

/// Fields that a gateway writes itself for each request or each client, whatever the caller had
/// in them: nothing that is known before the target is asked could select by them. Scheme and host
/// are in every key, so what is said of them may be varied by.
fn is_said_anew(name: &HeaderName) -> bool {
    matches!(name.as_str(), "forwarded" | "x-forwarded-for" | "x-request-id" | "traceparent")
}

/// What a request has for these names: the same number for requests that mean the same.
/// It is kept on disk, and does not change between versions.
pub fn variant(names: &[HeaderName], request_headers: &HeaderMap) -> u64 {
    if names.is_empty() {
        return 0;
    }
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hash_part(&mut hasher, name.as_str());
        // An absent field and an empty one are told apart.
        hasher.update(&[u8::from(request_headers.contains_key(name))]);
        if is_list_of_choices(name) {
            let members = list::members(request_headers, name).map(choice);
            let mut members: Vec<String> = members.collect();
            // Languages of one weight may be served in their order (section 12.5.4).
            if *name != header::ACCEPT_LANGUAGE {
                members.sort();
                members.dedup();
            }
            members.iter().for_each(|member| hash_part(&mut hasher, member));
        } else {
            for line in request_headers.get_all(name) {
                // Lines of one field are one list (RFC 9110, section 5.3).
                match line.to_str() {
                    Ok(text) => {
                        list::split(text).for_each(|member| hash_part(&mut hasher, member));
                    }
                    Err(_) => drop(hasher.update(line.as_bytes())),
                }
            }
        }
        hasher.update(&[0xff; 8]);
    }
    let mut hash = [0; 8];
    hasher.finalize_xof().fill(&mut hash);
    u64::from_le_bytes(hash)
}

fn hash_part(hasher: &mut blake3::Hasher, part: &str) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part.as_bytes());
}

/// Fields whose members have weights, and are the same in any case (RFC 9110, section 12.5).
fn is_list_of_choices(name: &HeaderName) -> bool {
    [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT_CHARSET].contains(name)
}

/// A member without its spaces, and without a weight that is the usual one.
fn choice(member: &str) -> String {
    let mut plain: String = member
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .map(|character| character.to_ascii_lowercase())
        .collect();
    let weight = plain.rfind(";q=").map(|at| (at, plain[at + 3..].parse::<f32>()));
    if let Some((at, Ok(1.0))) = weight {
        plain.truncate(at);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        lines.iter().map(pair).collect()
    }

    fn of(name: &'static str, lines: &[&'static str]) -> u64 {
        let lines: Vec<_> = lines.iter().map(|line| (name, *line)).collect();
        variant(&[HeaderName::from_static(name)], &headers(&lines))
    }

    #[test]
    fn requests_that_mean_the_same_are_one_variant() {
        let encoding = |lines: &[&'static str]| of("accept-encoding", lines);
        assert_eq!(encoding(&["gzip, br"]), encoding(&["BR;q=1.0 ,gzip"]));
        assert_eq!(encoding(&["gzip, br"]), encoding(&["br", "gzip"]));
        assert_ne!(encoding(&["gzip, br"]), encoding(&["gzip, br;q=0"]));
        assert_ne!(encoding(&["gzip"]), encoding(&[]));
        assert_ne!(encoding(&[""]), encoding(&[]));
        let language = |line: &'static str| of("accept-language", &[line]);
        assert_eq!(language("en-GB, de"), language("en-gb;q=1,de"));
        assert_ne!(language("en, de"), language("de, en"));
    }

    #[test]
    fn of_unknown_fields_only_space_and_lines_are_ignored() {
        assert_eq!(of("x-a", &["1, 2"]), of("x-a", &["1,2"]));
        assert_eq!(of("x-a", &["1, 2"]), of("x-a", &["1", "2"]));
        assert_ne!(of("x-a", &["1, 2"]), of("x-a", &["2, 1"]));
        assert_ne!(of("x-a", &["a"]), of("x-a", &["A"]));
        assert_ne!(of("x-a", &["12"]), of("x-a", &["1", "2"]));
    }

    #[test]
    fn fields_are_not_taken_for_each_other() {
        let names = ["x-a", "x-b"].map(HeaderName::from_static);
        let one = variant(&names, &headers(&[("x-a", "1")]));
        let other = variant(&names, &headers(&[("x-b", "1")]));
        assert_ne!(one, other);
    }

    #[test]
    fn everything_is_more_than_any_name() {
        let names = |lines: &[&'static str]| {
            names_of_vary(&headers(&lines.iter().map(|line| ("vary", *line)).collect::<Vec<_>>()))
        };
        assert_eq!(names(&[]).unwrap().len(), 0);
        assert_eq!(*names(&["B, a", "A"]).unwrap(), ["a", "b"].map(HeaderName::from_static));
        for everything in [&["X-Forwarded-For"][..], &["a, traceparent"]] {
            assert!(names(everything).is_none(), "{everything:?}");
        }
        for everything in [&["*"][..], &["a, *"], &[", *"], &["a", "*"], &["a b"]] {
            assert!(names(everything).is_none(), "{everything:?}");
        }
    }
}
