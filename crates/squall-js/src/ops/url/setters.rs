//! The setters of URL (<https://url.spec.whatwg.org/#urlutils-members>). One that refuses its
//! text leaves the URL as it was; `Option` is only for leaving early.

use super::parser::{
    authority_end, encode_userinfo, parse_host, push_path, set_file_host, set_fragment,
    set_port_digits, set_query, split_port, split_scheme, strip_slash, without_tabs_and_newlines,
};
use super::record::{Path, Url, default_port, is_special};

pub(super) fn set_protocol(url: &mut Url, text: &str) {
    let text = format!("{}:", without_tabs_and_newlines(text));
    let Some((scheme, _)) = split_scheme(&text) else { return };
    let fits = is_special(&scheme) == url.is_special()
        && !(scheme == "file" && (url.has_credentials() || url.port.is_some()))
        && !(url.scheme == "file" && url.host.as_deref() == Some(""));
    if !fits {
        return;
    }
    url.scheme = scheme;
    if url.port == default_port(&url.scheme) {
        url.port = None;
    }
}

pub(super) fn set_username(url: &mut Url, text: &str) {
    if url.has_place_for_credentials_and_port() {
        url.username = encode_userinfo(text);
    }
}

pub(super) fn set_password(url: &mut Url, text: &str) {
    if url.has_place_for_credentials_and_port() {
        url.password = encode_userinfo(text);
    }
}

pub(super) fn set_host(url: &mut Url, text: &str) {
    change_host(url, text, true);
}

pub(super) fn set_hostname(url: &mut Url, text: &str) {
    change_host(url, text, false);
}

fn change_host(url: &mut Url, text: &str, with_port: bool) -> Option<()> {
    if url.path.is_opaque() {
        return None;
    }
    let text = without_tabs_and_newlines(text);
    let text = &text[..authority_end(&text, url.is_special())];
    if url.scheme == "file" {
        return set_file_host(url, text);
    }
    let (host, port) = split_port(text);
    let is_refused = match port {
        Some(_) => host.is_empty() || !with_port,
        None => {
            host.is_empty() && (url.is_special() || url.has_credentials() || url.port.is_some())
        }
    };
    if is_refused {
        return None;
    }
    url.host = Some(parse_host(host, url.is_special())?);
    set_port_digits(url, leading_digits(port?))
}

pub(super) fn set_port(url: &mut Url, text: &str) {
    if !url.has_place_for_credentials_and_port() {
        return;
    }
    if text.is_empty() {
        url.port = None;
        return;
    }
    // A port that is too large leaves the one that is there.
    set_port_digits(url, leading_digits(&without_tabs_and_newlines(text)));
}

fn leading_digits(text: &str) -> &str {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

pub(super) fn set_pathname(url: &mut Url, text: &str) {
    if url.path.is_opaque() {
        return;
    }
    url.path = Path::default();
    let text = without_tabs_and_newlines(text);
    let rest = strip_slash(&text, url.is_special()).unwrap_or(&text);
    // Without a host there is a path always.
    if !text.is_empty() || url.is_special() || url.host.is_none() {
        push_path(url, rest);
    }
}

pub(super) fn set_search(url: &mut Url, text: &str) {
    if text.is_empty() {
        url.query = None;
        return;
    }
    let text = text.strip_prefix('?').unwrap_or(text);
    set_query(url, &without_tabs_and_newlines(text));
}

pub(super) fn set_hash(url: &mut Url, text: &str) {
    if text.is_empty() {
        url.fragment = None;
        return;
    }
    let text = text.strip_prefix('#').unwrap_or(text);
    set_fragment(url, &without_tabs_and_newlines(text));
}
