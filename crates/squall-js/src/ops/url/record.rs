//! What a parsed URL is, and how it is written.

/// <https://url.spec.whatwg.org/#concept-url>. All strings are ASCII and percent-encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: String,
    pub(super) username: String,
    pub(super) password: String,
    /// As it is written; empty is a host too.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) path: Path,
    pub(super) query: Option<String>,
    pub(super) fragment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    Opaque(String),
    /// Every segment with a "/" before it: no segment is "", one that is empty is "/".
    Segments(String),
}

impl Default for Path {
    fn default() -> Self {
        Path::Segments(String::new())
    }
}

impl Path {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Path::Opaque(text) | Path::Segments(text) => text,
        }
    }

    pub(super) fn is_opaque(&self) -> bool {
        matches!(self, Path::Opaque(_))
    }
}

/// Offsets into a serialization, with the names of `ops.ts`.
pub(super) struct Places {
    pub(super) protocol_end: usize,
    pub(super) username_end: usize,
    pub(super) host_start: usize,
    pub(super) host_end: usize,
    pub(super) path_start: usize,
    pub(super) search_start: Option<usize>,
    pub(super) hash_start: Option<usize>,
}

impl Url {
    pub(super) fn is_special(&self) -> bool {
        is_special(&self.scheme)
    }

    pub(super) fn has_credentials(&self) -> bool {
        !self.username.is_empty() || !self.password.is_empty()
    }

    /// <https://url.spec.whatwg.org/#cannot-have-a-username-password-port>
    pub(super) fn has_place_for_credentials_and_port(&self) -> bool {
        self.host.as_deref().is_some_and(|host| !host.is_empty()) && self.scheme != "file"
    }

    /// <https://url.spec.whatwg.org/#concept-url-serializer>
    pub(super) fn serialize(&self) -> (String, Places) {
        let mut href = String::with_capacity(self.path.as_str().len() + 64);
        href.push_str(&self.scheme);
        href.push(':');
        let protocol_end = href.len();
        let (mut username_end, mut host_start) = (protocol_end, protocol_end);
        if let Some(host) = &self.host {
            href.push_str("//");
            href.push_str(&self.username);
            username_end = href.len();
            if !self.password.is_empty() {
                href.push(':');
                href.push_str(&self.password);
            }
            if self.has_credentials() {
                href.push('@');
            }
            host_start = href.len();
            href.push_str(host);
        }
        let host_end = href.len();
        if let Some(port) = self.port {
            href.push(':');
            href.push_str(&port.to_string());
        }
        let path = self.path.as_str();
        // What would look like a host otherwise.
        if self.host.is_none() && !self.path.is_opaque() && path.starts_with("//") {
            href.push_str("/.");
        }
        let path_start = href.len();
        href.push_str(path);
        let mut push_after = |mark, text: &Option<String>| {
            let text = text.as_ref()?;
            let start = href.len();
            href.push(mark);
            href.push_str(text);
            Some(start)
        };
        let search_start = push_after('?', &self.query);
        let hash_start = push_after('#', &self.fragment);
        let places = Places {
            protocol_end,
            username_end,
            host_start,
            host_end,
            path_start,
            search_start,
            hash_start,
        };
        (href, places)
    }
}

/// <https://url.spec.whatwg.org/#special-scheme>
pub(super) fn is_special(scheme: &str) -> bool {
    matches!(scheme, "ftp" | "file" | "http" | "https" | "ws" | "wss")
}

pub(super) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "ftp" => Some(21),
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}
