//! Answers of a program to its requests.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use squall_js::{Item, Reader};
use squall_types::log::Level;
use squall_types::{Body, ErrorCode};

use super::bodies::{BodyWriter, written_body};
use super::host::{Denied, Exception, Host, Refusal};

/// Belong to the connection, or follow from the body.
fn is_ours(name: &HeaderName) -> bool {
    matches!(*name, header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE | header::TE)
        || name == "keep-alive"
}

/// Reads `[name, value, ...]`, in which the engine has checked names and values already.
pub(crate) fn read_headers(arguments: &mut Reader<'_>) -> Result<http::HeaderMap, Denied> {
    let count = arguments.array()? / 2;
    let mut headers = http::HeaderMap::with_capacity(count);
    for _ in 0..count {
        let (name, value) = (arguments.str()?, arguments.str()?);
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Refusal::type_error(format!("{name:?} is no name of a header")))?;
        let value = header_value(value).ok_or_else(|| {
            Refusal::type_error(format!("the value of the header {name} can not be sent"))
        })?;
        if !is_ours(&name) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

/// Reads a body: null, a string, bytes, `[handle]`, or true where the program writes it to what
/// comes with it.
pub(crate) fn read_body(
    host: &mut Host,
    arguments: &mut Reader<'_>,
) -> Result<(Body, Option<BodyWriter>), Denied> {
    let body = match arguments.item()? {
        Item::Null => Body::empty(),
        Item::Str(text) => Body::full(Bytes::copy_from_slice(text.as_bytes())),
        Item::Bytes(bytes) => Body::full(Bytes::copy_from_slice(bytes)),
        Item::Array(1) => host.bodies.take(arguments.int()? as u32)?,
        Item::Bool(true) => {
            let (writer, body) = written_body();
            return Ok((body, Some(writer)));
        }
        _ => return Err(Refusal::type_error("a body of an unknown kind").into()),
    };
    Ok((body, None))
}

/// A string whose characters are bytes.
fn header_value(text: &str) -> Option<HeaderValue> {
    if text.is_ascii() {
        return HeaderValue::from_str(text).ok();
    }
    let bytes: Option<Vec<u8>> =
        text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

/// `(request, status, statusText, headers, body)`, and with `last` also `operationsLeft`:
/// the request has ended with it.
pub(crate) fn respond(
    host: &mut Host,
    arguments: &mut Reader<'_>,
    last: bool,
) -> Result<(), Denied> {
    let id = arguments.int()? as u32;
    let status = arguments.int()?;
    let reason = arguments.str()?;
    let mut headers = read_headers(arguments)?;
    let (body, writer) = read_body(host, arguments)?;
    if let Some(whole) = body.as_full()
        && !whole.is_empty()
    {
        headers.remove(header::CONTENT_LENGTH);
    }
    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| Refusal::new("RangeError", "no status of HTTP"))?;
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if !reason.is_empty()
        && Some(reason) != status.canonical_reason()
        && let Ok(reason) = hyper::ext::ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    let left = if last { arguments.int()? } else { 0 };
    let Some(request) = host.requests.get_mut(&id) else { return Ok(()) };
    request.body = writer;
    if let Some(answer) = request.answer.take() {
        // Nobody listens any more when the request was cancelled.
        let _ = answer.send(Ok(response));
    }
    if last {
        ended(host, id, left);
    }
    Ok(())
}

/// `(request, failed)`: the body that was being written is complete, or breaks off.
pub(crate) fn end_body(host: &mut Host, arguments: &mut Reader<'_>) -> Result<(), Denied> {
    let id = arguments.int()? as u32;
    let failed = arguments.item()?;
    let Some(request) = host.requests.get_mut(&id) else { return Ok(()) };
    let Some(writer) = request.body.take() else { return Ok(()) };
    if let Item::Str(message) = failed {
        writer.fail(message);
    }
    Ok(())
}

/// `(request, name, message, stack, passThrough)`
pub(crate) fn fail(host: &mut Host, arguments: &mut Reader<'_>) -> Result<(), Denied> {
    let id = arguments.int()? as u32;
    let exception = Exception {
        name: arguments.str()?.to_owned(),
        message: arguments.str()?.to_owned(),
        stack: arguments.str()?.to_owned(),
    };
    let pass_through = arguments.bool()?;
    // The engine turns memory that it did not get into an exception, which nobody caught.
    let wanted_memory = host.limiter.refused && exception.title().ends_with("out of memory");
    let code = match wanted_memory {
        true => ErrorCode::MemoryExceeded,
        false => ErrorCode::UncaughtException,
    };
    if let (Some(request), Some(world)) = (host.requests.get_mut(&id), &host.world) {
        request.fail(world, code, exception, pass_through);
    }
    Ok(())
}

/// `(request, operationsLeft)`: nothing more happens for this request.
pub(crate) fn end(host: &mut Host, arguments: &mut Reader<'_>) -> Result<(), Denied> {
    let id = arguments.int()? as u32;
    let left = arguments.int()?;
    ended(host, id, left);
    Ok(())
}

fn ended(host: &mut Host, id: u32, left: i32) {
    let Some(mut request) = host.requests.remove(&id) else { return };
    host.bodies.end_request(id);
    host.streams.end_request(id);
    host.sending.retain(|_, (owner, _)| *owner != id);
    if request.is_scheduled
        && let Some(answer) = request.answer.take()
    {
        let mut done = http::Response::new(Body::empty());
        *done.status_mut() = StatusCode::NO_CONTENT;
        // Nobody listens any more when whoever invoked it has left.
        let _ = answer.send(Ok(done));
    }
    if left > 0 && !request.client_left {
        let what = if left == 1 { "operation was" } else { "operations were" };
        request.log.platform(
            Level::Warn,
            None,
            format!(
                "the request ended while {left} {what} under way (timers, fetches, reads); they were cancelled. ctx.waitUntil keeps a request open for what it still has to do"
            ),
        );
    }
    host.ended = Some((id, request.log));
}
