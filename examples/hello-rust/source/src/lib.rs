//! `/api/hello` answers with a greeting and the time; `?name=` greets somebody.

use wasip2::clocks::wall_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Api;

wasip2::http::proxy::export!(Api);

impl Guest for Api {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, body) = match (path, request.method()) {
            ("/api/hello", Method::Get | Method::Head) => (200, greeting(query)),
            ("/api/hello", _) => (405, r#"{"error":"only GET is answered here"}"#.to_owned()),
            _ => (404, r#"{"error":"try /api/hello"}"#.to_owned()),
        };
        respond(answer, status, &body);
    }
}

fn greeting(query: &str) -> String {
    let name: String = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("name="))
        .map(|name| name.chars().filter(|c| c.is_ascii_alphanumeric()).take(40).collect())
        .filter(|name: &String| !name.is_empty())
        .unwrap_or_else(|| "world".to_owned());
    let now = wall_clock::now();
    let time = iso_8601(now.seconds, now.nanoseconds / 1_000_000);
    format!(r#"{{"greeting":"Hello, {name}!","time":"{time}"}}"#)
}

fn respond(answer: ResponseOutparam, status: u16, body: &str) {
    let headers = Fields::from_list(&[
        ("content-type".to_owned(), b"application/json".to_vec()),
        ("cache-control".to_owned(), b"no-store".to_vec()),
    ])
    .expect("the headers are valid");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the status is valid");
    let outgoing = response.body().expect("the body is taken once");
    ResponseOutparam::set(answer, Ok(response));
    let stream = outgoing.write().expect("the stream is taken once");
    // A caller that went away is no failure of the function.
    let _ = stream.blocking_write_and_flush(body.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(outgoing, None);
}

/// The date by Howard Hinnant's "days to civil", which counts years from March so that
/// the leap day is the last of a year.
fn iso_8601(seconds: u64, millisecond: u32) -> String {
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}
