//! Requests to other hosts.

use serde::Serialize;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, Fields, OutgoingRequest, Scheme};

use crate::http::{Exchange, for_each_chunk};

/// GET `url`, and what came back.
fn get(url: &str) -> Result<(u16, Vec<u8>), ErrorCode> {
    let invalid = || ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url.split_once("://").ok_or_else(invalid)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(end) if rest[end..].starts_with('/') => (&rest[..end], rest[end..].to_owned()),
        Some(end) => (&rest[..end], format!("/{}", &rest[end..])),
        None => (rest, "/".to_owned()),
    };
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).map_err(|()| invalid())?;
    request.set_authority(Some(authority)).map_err(|()| invalid())?;
    request.set_path_with_query(Some(&path)).map_err(|()| invalid())?;

    let pending = outgoing_handler::handle(request, None)?;
    pending.subscribe().block();
    let response =
        pending.get().expect("the future is ready").expect("the result is taken once")?;
    let status = response.status();
    let mut body = Vec::new();
    if let Ok(incoming) = response.consume() {
        for_each_chunk(&incoming, |chunk| {
            body.extend_from_slice(&chunk);
            Ok(())
        });
    }
    Ok((status, body))
}

pub(crate) fn fetch(exchange: Exchange) {
    match get(exchange.url()) {
        Ok((status, body)) => {
            let body = String::from_utf8_lossy(&body);
            exchange.text(200, &format!("status: {status}\n{body}"));
        }
        Err(error) => exchange.text(502, &format!("{error:?}\n")),
    }
}

#[derive(Serialize)]
struct Fetched {
    asked: u64,
    succeeded: u64,
    first_error: Option<String>,
}

/// One after the other, and on after a failure.
pub(crate) fn fetch_many(exchange: Exchange) {
    let mut fetched = Fetched { asked: exchange.number("n", 1), succeeded: 0, first_error: None };
    for _ in 0..fetched.asked {
        match get(exchange.url()) {
            Ok(_) => fetched.succeeded += 1,
            Err(error) => {
                fetched.first_error.get_or_insert_with(|| format!("{error:?}"));
            }
        }
    }
    exchange.json(200, &fetched);
}
