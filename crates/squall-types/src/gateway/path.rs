//! Path patterns: `/users`, `/users/*`, `/users/{id}`, `/users/{id}/*`.

/// One part of a pattern between two slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathSegment {
    Literal(Box<str>),
    /// Any one segment that is not empty; its value has this name.
    Parameter(Box<str>),
}

/// A path pattern, read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    /// An empty last one stands for a final slash.
    pub segments: Vec<PathSegment>,
    /// Ends in `/*`: whatever follows, and nothing, matches too.
    pub is_prefix: bool,
}

impl PathPattern {
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (body, is_prefix) = match text.strip_suffix("/*") {
            Some(body) => (body, true),
            None => (text, false),
        };
        let written = text.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        if !text.starts_with('/') || !written || text.contains(['?', '#']) {
            return Err("is not a path; write \"/api/me\", a prefix \"/api/*\" or a template \"/users/{id}\", percent-encoded where needed".to_owned());
        }
        if body.contains('*') {
            return Err(
                "has a * elsewhere than at its end; name a segment: \"/a/{b}/c\"".to_owned()
            );
        }
        let mut segments = Vec::new();
        let mut names = Vec::new();
        // The pattern "/*" has no segment before its star.
        let parts = body.strip_prefix('/').map(|body| body.split('/').collect::<Vec<_>>());
        let parts = parts.unwrap_or_default();
        let last = parts.len().saturating_sub(1);
        for (index, part) in parts.iter().enumerate() {
            if matches!(*part, "." | "..") || part.is_empty() && (is_prefix || index != last) {
                return Err("has empty or dot segments, which no request's path has".to_owned());
            }
            let inner = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            match inner {
                Some(name) => {
                    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                    if name.is_empty() || !name.bytes().all(good) {
                        return Err(format!(
                            "has a parameter {part:?}, whose name must be of letters, digits and _"
                        ));
                    }
                    if names.contains(&name) {
                        return Err(format!("names the parameter {name} twice"));
                    }
                    names.push(name);
                    segments.push(PathSegment::Parameter(name.into()));
                }
                None if part.contains(['{', '}']) => {
                    return Err(format!(
                        "has braces inside the segment {part:?}; a parameter is a whole segment"
                    ));
                }
                None => segments.push(PathSegment::Literal((*part).into())),
            }
        }
        Ok(Self { segments, is_prefix })
    }

    /// Names of its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            PathSegment::Parameter(name) => Some(&**name),
            PathSegment::Literal(_) => None,
        })
    }
}

/// Whether paths of requests can have what is written here: they are compared with
/// unreserved characters decoded and other escapes in capital letters, without dot segments.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the path.
pub(crate) fn check_escapes(path: &str) -> Result<(), String> {
    if path.contains('\\') {
        return Err("holds a backslash, which no request's path has".to_owned());
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("has dot segments, which no request's path has".to_owned());
    }
    for (at, _) in path.match_indices('%') {
        let escape = path.get(at..at + 3).unwrap_or(&path[at..]);
        let digits = escape.get(1..).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.filter(|digits| digits.len() == 2);
        let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err(format!("holds {escape:?}, which is no percent-encoding"));
        };
        let normal = match byte {
            b'/' | b'\\' | 0 => {
                return Err(format!("holds {escape}, which is refused in every request's path"));
            }
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        };
        if normal != escape {
            return Err(format!(
                "holds {escape}, which never matches: in a request's path it becomes {normal}; write that"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, parameters: &[&str], is_prefix: bool) {
        let pattern = PathPattern::parse(text).unwrap();
        assert_eq!(pattern.parameters().collect::<Vec<_>>(), parameters, "{text}");
        assert_eq!(pattern.is_prefix, is_prefix, "{text}");
    }

    #[test]
    fn patterns_are_read() {
        check("/", &[], false);
        check("/*", &[], true);
        check("/a/b/", &[], false);
        check("/a/*", &[], true);
        check("/users/{id}", &["id"], false);
        check("/users/{id}/posts/{post_id}/*", &["id", "post_id"], true);
        assert!(PathPattern::parse("/*").unwrap().segments.is_empty());
    }

    #[test]
    fn escapes_are_written_as_requests_have_them() {
        for good in ["/caf%C3%A9", "/a%20b/{id}/*", "/a:b@c;d=e", "/*", "/50%25"] {
            assert_eq!(check_escapes(good), Ok(()), "{good}");
        }
        for (wrong, says) in [
            ("/caf%c3%A9", "it becomes %C3"),
            ("/%61", "it becomes a"),
            ("/a%7Eb/*", "it becomes ~"),
            ("/q%2Fz", "is refused in"),
            ("/q%00", "is refused in"),
            ("/x\\y", "backslash"),
            ("/%zz", "no percent-encoding"),
            ("/%+1", "no percent-encoding"),
            ("/a%", "no percent-encoding"),
            ("/a/../b", "dot segments"),
        ] {
            let said = check_escapes(wrong).unwrap_err();
            assert!(said.contains(says), "{wrong}: {said}");
        }
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for wrong in [
            "", "a", "*", "/a*", "/a/*/b", "/a//b", "/a/../b", "/a?b", "/a#b", "/é", "/a b", "/{}",
            "/{a-b}", "/x{a}", "/{a}/{a}", "/./*", "//*",
        ] {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
