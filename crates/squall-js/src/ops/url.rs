//! URLs, as the URL standard parses and changes them (<https://url.spec.whatwg.org/>).
//!
//! The `url` crate reads hosts here, and nothing else: for the rest it keeps to older rules
//! that its users depend on, so that 74 of the 1,154 URLs and setters of the Web Platform
//! Tests come out different (files on hosts with drive letters, empty first segments of
//! paths, relative references with more than two slashes).

mod parser;
mod record;
mod setters;

use self::record::Url;
use super::{Arguments, Refusal, wrong};
use crate::Value;

/// `(text, base or null)`
pub(super) fn parse(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let text = arguments.str()?;
    let base = match arguments.str_or_null()?.map(|base| parser::parse(&base, None)) {
        Some(None) => return Ok(Value::Null),
        Some(base) => base,
        None => None,
    };
    let url = parser::parse(&text, base.as_ref());
    Ok(url.map_or(Value::Null, |url| value(&url)))
}

/// `(href, property, text)`
pub(super) fn set(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let mut url = parser::parse(&arguments.str()?, None).ok_or_else(wrong)?;
    let (property, text) = (arguments.str()?, arguments.str()?);
    let set = match property.as_str() {
        "protocol" => setters::set_protocol,
        "username" => setters::set_username,
        "password" => setters::set_password,
        "host" => setters::set_host,
        "hostname" => setters::set_hostname,
        "port" => setters::set_port,
        "pathname" => setters::set_pathname,
        "search" => setters::set_search,
        "hash" => setters::set_hash,
        _ => return Err(wrong()),
    };
    set(&mut url, &text);
    Ok(value(&url))
}

/// The serialization and where its parts are.
fn value(url: &Url) -> Value {
    let (href, places) = url.serialize();
    let at = |place: usize| Value::Int(place as i32);
    let optional = |place: Option<usize>| place.map_or(Value::Int(-1), at);
    Value::Array(vec![
        Value::String(href),
        at(places.protocol_end),
        at(places.username_end),
        at(places.host_start),
        at(places.host_end),
        optional(url.port.map(usize::from)),
        at(places.path_start),
        optional(places.search_start),
        optional(places.hash_start),
    ])
}
