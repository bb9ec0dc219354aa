//! The basic URL parser (<https://url.spec.whatwg.org/#concept-basic-url-parser>). Where the
//! standard walks from state to state, character by character, each state is a function
//! here that takes all of its text at once. The setters begin in the middle.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::record::{Path, Url, default_port};

// <https://url.spec.whatwg.org/#percent-encoded-bytes>
const FRAGMENT: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'`');
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');
const SPECIAL_QUERY: &AsciiSet = &QUERY.add(b'\'');
const PATH: &AsciiSet = &QUERY.add(b'?').add(b'^').add(b'`').add(b'{').add(b'}');
const USERINFO: &AsciiSet = &PATH
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'=')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'|');

/// `None` when the text is no URL.
pub(super) fn parse(text: &str, base: Option<&Url>) -> Option<Url> {
    let text = text.trim_matches(|character| character <= ' ');
    let text = &*without_tabs_and_newlines(text);
    let mut url = Url::default();
    if let Some((scheme, rest)) = split_scheme(text) {
        url.scheme = scheme;
        parse_after_scheme(&mut url, rest, base)?;
        return Some(url);
    }
    let base = base?;
    if base.path.is_opaque() {
        let fragment = text.strip_prefix('#')?;
        url.clone_from(base);
        url.fragment = Some(encode(fragment, FRAGMENT));
        return Some(url);
    }
    url.scheme.clone_from(&base.scheme);
    if base.scheme == "file" {
        parse_file(&mut url, text, Some(base))?;
    } else {
        parse_relative(&mut url, text, base)?;
    }
    Some(url)
}

pub(super) fn without_tabs_and_newlines(text: &str) -> Cow<'_, str> {
    let is_skipped = |character| matches!(character, '\t' | '\n' | '\r');
    if text.contains(is_skipped) { text.replace(is_skipped, "").into() } else { text.into() }
}

/// The scheme in lower case and what is behind its colon.
pub(super) fn split_scheme(text: &str) -> Option<(String, &str)> {
    if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    let end = text.find(|character: char| {
        !character.is_ascii_alphanumeric() && !matches!(character, '+' | '-' | '.')
    })?;
    let rest = text[end..].strip_prefix(':')?;
    Some((text[..end].to_ascii_lowercase(), rest))
}

fn parse_after_scheme(url: &mut Url, text: &str, base: Option<&Url>) -> Option<()> {
    if url.scheme == "file" {
        return parse_file(url, text, base.filter(|base| base.scheme == "file"));
    }
    if url.is_special() {
        return match base.filter(|base| base.scheme == url.scheme) {
            Some(base) if !text.starts_with("//") => parse_relative(url, text, base),
            _ => parse_authority(url, text.trim_start_matches(['/', '\\'])),
        };
    }
    if let Some(rest) = text.strip_prefix("//") {
        return parse_authority(url, rest);
    }
    if let Some(rest) = text.strip_prefix('/') {
        parse_path_and_on(url, rest);
        return Some(());
    }
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let mut path = encode(&text[..end], CONTROLS);
    // A space at the end would not survive when the rest is taken away.
    if end < text.len() && path.ends_with(' ') {
        path.truncate(path.len() - 1);
        path.push_str("%20");
    }
    url.path = Path::Opaque(path);
    parse_query_and_on(url, &text[end..]);
    Some(())
}

/// Of the same scheme as the base, which is not that of files.
fn parse_relative(url: &mut Url, text: &str, base: &Url) -> Option<()> {
    let special = url.is_special();
    let strip_slash = |text| strip_slash(text, special);
    if let Some(rest) = strip_slash(text) {
        if let Some(rest) = strip_slash(rest) {
            let slashes: &[char] = if special { &['/', '\\'] } else { &[] };
            return parse_authority(url, rest.trim_start_matches(slashes));
        }
        copy_authority(url, base);
        parse_path_and_on(url, rest);
        return Some(());
    }
    copy_authority(url, base);
    parse_beside(url, text, base);
    Some(())
}

fn copy_authority(url: &mut Url, base: &Url) {
    url.username.clone_from(&base.username);
    url.password.clone_from(&base.password);
    url.host.clone_from(&base.host);
    url.port = base.port;
}

/// A path that begins with no slash, or a query or fragment alone.
fn parse_beside(url: &mut Url, text: &str, base: &Url) {
    url.path.clone_from(&base.path);
    if text.is_empty() || text.starts_with('#') {
        url.query.clone_from(&base.query);
    }
    if text.is_empty() || text.starts_with(['?', '#']) {
        return parse_query_and_on(url, text);
    }
    if url.scheme == "file" && starts_with_drive_letter(text) {
        url.path = Path::default();
    } else {
        shorten(url);
    }
    parse_path_and_on(url, text);
}

/// The base, if there is one, is a file too.
fn parse_file(url: &mut Url, text: &str, base: Option<&Url>) -> Option<()> {
    url.host = Some(String::new());
    let Some(rest) = strip_slash(text, true) else {
        match base {
            Some(base) => {
                url.host.clone_from(&base.host);
                parse_beside(url, text, base);
            }
            None => parse_path_and_on(url, text),
        }
        return Some(());
    };
    if let Some(rest) = strip_slash(rest, true) {
        return parse_file_host(url, rest);
    }
    if let Some(base) = base {
        url.host.clone_from(&base.host);
        // The drive stays.
        let first = first_segment(base.path.as_str());
        if !starts_with_drive_letter(rest) && is_normalized_drive_letter(first) {
            url.path = Path::Segments(format!("/{first}"));
        }
    }
    parse_path_and_on(url, rest);
    Some(())
}

fn parse_file_host(url: &mut Url, text: &str) -> Option<()> {
    let end = text.find(['/', '\\', '?', '#']).unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    if is_drive_letter(host) {
        parse_path_and_on(url, text);
        return Some(());
    }
    set_file_host(url, host)?;
    parse_path_start(url, rest);
    Some(())
}

pub(super) fn set_file_host(url: &mut Url, text: &str) -> Option<()> {
    let host = if text.is_empty() { String::new() } else { parse_host(text, true)? };
    url.host = Some(if host == "localhost" { String::new() } else { host });
    Some(())
}

/// Everything behind the two slashes.
fn parse_authority(url: &mut Url, text: &str) -> Option<()> {
    let end = authority_end(text, url.is_special());
    let (authority, rest) = text.split_at(end);
    let host_and_port = match authority.rsplit_once('@') {
        Some((_, "")) => return None,
        Some((credentials, host_and_port)) => {
            let (username, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            url.username = encode(username, USERINFO);
            url.password = encode(password, USERINFO);
            host_and_port
        }
        None => authority,
    };
    let (host, port) = split_port(host_and_port);
    if host.is_empty() && (port.is_some() || url.is_special()) {
        return None;
    }
    url.host = Some(parse_host(host, url.is_special())?);
    if let Some(port) = port {
        set_port_digits(url, port)?;
    }
    parse_path_start(url, rest);
    Some(())
}

pub(super) fn authority_end(text: &str, special: bool) -> usize {
    let is_end = |character| matches!(character, '/' | '?' | '#') || special && character == '\\';
    text.find(is_end).unwrap_or(text.len())
}

/// A host, and what is behind a colon that is not in brackets.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    let mut in_brackets = false;
    let colon = text.bytes().position(|byte| {
        match byte {
            b'[' => in_brackets = true,
            b']' => in_brackets = false,
            _ => {}
        }
        byte == b':' && !in_brackets
    });
    match colon {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    }
}

/// <https://url.spec.whatwg.org/#concept-host-parser>
pub(super) fn parse_host(text: &str, special: bool) -> Option<String> {
    if !special && text.is_empty() {
        return Some(String::new());
    }
    let host = if special { ::url::Host::parse(text) } else { ::url::Host::parse_opaque(text) };
    host.ok().map(|host| host.to_string())
}

/// Digits; none leave the port as it is.
pub(super) fn set_port_digits(url: &mut Url, digits: &str) -> Option<()> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if digits.is_empty() {
        return Some(());
    }
    let port = match digits.trim_start_matches('0') {
        "" => 0,
        digits => digits.parse().ok()?,
    };
    url.port = Some(port).filter(|port| default_port(&url.scheme) != Some(*port));
    Some(())
}

/// What is behind an authority: a path with its slash, or none.
fn parse_path_start(url: &mut Url, text: &str) {
    match strip_slash(text, url.is_special()) {
        Some(rest) => parse_path_and_on(url, rest),
        None if url.is_special() => parse_path_and_on(url, text),
        None => parse_query_and_on(url, text),
    }
}

/// A path without its first slash, with what is behind it.
fn parse_path_and_on(url: &mut Url, text: &str) {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    push_path(url, &text[..end]);
    parse_query_and_on(url, &text[end..]);
}

/// Appends segments to the path.
pub(super) fn push_path(url: &mut Url, text: &str) {
    let special = url.is_special();
    let is_slash = |character| character == '/' || special && character == '\\';
    let mut segments = text.split(is_slash).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if is_double_dot(segment) {
            shorten(url);
            if is_last {
                push_segment(url, "");
            }
        } else if is_single_dot(segment) {
            if is_last {
                push_segment(url, "");
            }
        } else if url.scheme == "file" && url.path.as_str().is_empty() && is_drive_letter(segment) {
            push_segment(url, &format!("{}:", &segment[..1]));
        } else {
            push_segment(url, segment);
        }
    }
}

fn push_segment(url: &mut Url, segment: &str) {
    let Path::Segments(path) = &mut url.path else { return };
    path.push('/');
    path.extend(utf8_percent_encode(segment, PATH));
}

/// <https://url.spec.whatwg.org/#shorten-a-urls-path>
fn shorten(url: &mut Url) {
    let is_file = url.scheme == "file";
    let Path::Segments(path) = &mut url.path else { return };
    let Some(last) = path.rfind('/') else { return };
    if !(is_file && last == 0 && is_normalized_drive_letter(&path[1..])) {
        path.truncate(last);
    }
}

/// Nothing, or text that begins with a question mark or a hash.
fn parse_query_and_on(url: &mut Url, text: &str) {
    let (before, fragment) = match text.split_once('#') {
        Some((before, fragment)) => (before, Some(fragment)),
        None => (text, None),
    };
    if let Some(query) = before.strip_prefix('?') {
        set_query(url, query);
    }
    url.fragment = fragment.map(|fragment| encode(fragment, FRAGMENT));
}

pub(super) fn set_query(url: &mut Url, text: &str) {
    let set = if url.is_special() { SPECIAL_QUERY } else { QUERY };
    url.query = Some(encode(text, set));
}

pub(super) fn set_fragment(url: &mut Url, text: &str) {
    url.fragment = Some(encode(text, FRAGMENT));
}

pub(super) fn encode_userinfo(text: &str) -> String {
    encode(text, USERINFO)
}

fn encode(text: &str, set: &'static AsciiSet) -> String {
    utf8_percent_encode(text, set).to_string()
}

/// A backslash is a slash where the scheme is special.
pub(super) fn strip_slash(text: &str, special: bool) -> Option<&str> {
    text.strip_prefix(|first| first == '/' || special && first == '\\')
}

fn is_single_dot(segment: &str) -> bool {
    segment == "." || segment.eq_ignore_ascii_case("%2e")
}

fn is_double_dot(segment: &str) -> bool {
    let rest = |segment: &str| match segment.as_bytes() {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    };
    rest(segment).is_some_and(|length| is_single_dot(&segment[length..]))
}

/// As "C:" or "C|".
fn is_drive_letter(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':' | b'|'] if letter.is_ascii_alphabetic())
}

fn is_normalized_drive_letter(text: &str) -> bool {
    is_drive_letter(text) && text.ends_with(':')
}

/// <https://url.spec.whatwg.org/#start-with-a-windows-drive-letter>
fn starts_with_drive_letter(text: &str) -> bool {
    matches!(text.as_bytes(), [first, second, rest @ ..]
        if first.is_ascii_alphabetic()
            && matches!(second, b':' | b'|')
            && matches!(rest.first(), None | Some(b'/' | b'\\' | b'?' | b'#')))
}

fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or("")
}
