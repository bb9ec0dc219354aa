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
    fn what_could_never_match_is_refused() {
        for wrong in [
            "", "a", "*", "/a*", "/a/*/b", "/a//b", "/a/../b", "/a?b", "/a#b", "/é", "/a b", "/{}",
            "/{a-b}", "/x{a}", "/{a}/{a}", "/./*", "//*",
        ] {
            assert!(PathPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
