//! Headers that belong to one connection and not to the message (RFC 9110, section 7.6.1).

use http::Request;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http_body::Body as _;
use squall_types::Body;
use squall_types::outbound::{OutboundError, OutboundErrorKind};

/// Removes them, those that `Connection` names included.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in
        [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION]
    {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Makes the headers of a request fit its body and its connection.
pub(crate) fn prepare_request(request: &mut Request<Body>) -> Result<(), OutboundError> {
    let length_is_known = request.body().size_hint().exact().is_some();
    let headers = request.headers_mut();
    let wants_trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("trailers")));
    strip_hop_by_hop(headers);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(HOST);
    // The body is sent at once: there is nothing to wait for.
    headers.remove(EXPECT);
    if length_is_known {
        // The length is known; what the sender says about it could only be wrong.
        headers.remove(CONTENT_LENGTH);
        return Ok(());
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(()) };
    let digits = length.as_bytes().iter().all(u8::is_ascii_digit);
    let number = length.to_str().ok().and_then(|length| length.parse::<u64>().ok());
    if !digits || number.is_none() || lengths.next().is_some() {
        return Err(OutboundError::new(
            OutboundErrorKind::InvalidRequest,
            "the request's Content-Length is not one decimal number",
        ));
    }
    Ok(())
}
