//! Calls a function through the admin API, past the public listener.

use std::io::Read;

use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::connect;
use crate::base64;
use crate::cli::{Global, InvokeOptions};
use crate::failure::Failure;
use crate::output;

#[derive(Deserialize)]
struct Answer {
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body_base64: Option<String>,
    #[serde(default)]
    duration_us: u64,
    #[serde(default)]
    trace_id: String,
}

pub(super) async fn run(global: &Global, options: &InvokeOptions) -> Result<(), Failure> {
    let what = match options.scheduled {
        true => format!("invoking the schedule of {}", options.app),
        false => format!("invoking {}{}", options.app, options.path),
    };
    let body = read_body(&what, options.data.as_deref())?;
    let client = connect(global)?;
    let path = format!("/v1/apps/{}/invoke", options.app);
    let request = request(options, body.as_deref());
    let raw: Value = client.call_patiently(&what, Method::POST, &path, &request).await?;
    let answer = Answer::deserialize(&raw)
        .map_err(|error| Failure::failed(&what, format!("the node's answer is odd: {error}")))?;
    if global.json {
        output::json(&raw);
    } else {
        show(&what, &answer, options.include)?;
    }
    if options.fail && answer.status >= 400 {
        return Err(Failure::failed(what, format!("the status is {}", answer.status))
            .next(format!("squall logs --trace {}", answer.trace_id)));
    }
    Ok(())
}

fn request(options: &InvokeOptions, body: Option<&[u8]>) -> Value {
    let default_method = if body.is_some() { "POST" } else { "GET" };
    let mut headers = Map::new();
    for (name, value) in &options.headers {
        match headers.get_mut(name) {
            // RFC 9110, section 5.3: a list in one field means the same as several fields.
            Some(Value::String(before)) => {
                before.push_str(", ");
                before.push_str(value);
            }
            _ => {
                headers.insert(name.clone(), value.as_str().into());
            }
        }
    }
    let mut request = match options.scheduled {
        true => json!({ "scheduled": { "cron": options.cron.as_deref().unwrap_or_default() } }),
        false => json!({
            "method": options.method.as_deref().unwrap_or(default_method).to_ascii_uppercase(),
            "path": options.path,
            "headers": headers,
        }),
    };
    if let Some(function) = &options.function {
        request["function"] = function.as_str().into();
    }
    if let Some(revision) = &options.revision {
        request["revision"] = revision.as_str().into();
    }
    if let Some(body) = body {
        request["body_base64"] = base64::encode(body).into();
    }
    request
}

fn show(what: &str, answer: &Answer, include: bool) -> Result<(), Failure> {
    let status = http::StatusCode::from_u16(answer.status).ok();
    let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default();
    output::note(&format!(
        "{} {reason} in {}, trace {}",
        answer.status,
        output::duration_us(answer.duration_us),
        answer.trace_id
    ));
    if include {
        for (name, value) in &answer.headers {
            output::note(&format!("{name}: {value}"));
        }
        output::note("");
    }
    let body = base64::decode(answer.body_base64.as_deref().unwrap_or_default())
        .ok_or_else(|| Failure::failed(what, "the body in the node's answer is not base 64"))?;
    output::bytes(&body);
    Ok(())
}

fn read_body(what: &str, data: Option<&str>) -> Result<Option<Vec<u8>>, Failure> {
    let Some(data) = data else { return Ok(None) };
    if data == "-" {
        let mut body = Vec::new();
        std::io::stdin()
            .read_to_end(&mut body)
            .map_err(|error| Failure::failed(what, format!("reading standard input: {error}")))?;
        return Ok(Some(body));
    }
    if let Some(file) = data.strip_prefix('@') {
        let body = std::fs::read(file)
            .map_err(|error| Failure::invalid(what, format!("reading {file}: {error}")))?;
        return Ok(Some(body));
    }
    Ok(Some(data.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn options(line: &[&str]) -> InvokeOptions {
        let cli = Cli::try_parse_from([&["squall", "invoke", "shop"], line].concat()).unwrap();
        match cli.command {
            Command::Invoke(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_holds_what_the_command_line_says() {
        let plain = request(&options(&[]), None);
        assert_eq!(plain, json!({ "method": "GET", "path": "/", "headers": {} }));
        let line =
            ["/x?y=1", "-H", "accept: a", "-H", "Accept: b", "--function", "api", "-d", "hi"];
        let full = request(&options(&line), Some(b"hi"));
        assert_eq!(
            full,
            json!({
                "method": "POST", "path": "/x?y=1", "headers": { "accept": "a, b" },
                "function": "api", "body_base64": "aGk=",
            })
        );
    }

    #[test]
    fn a_schedule_is_no_request() {
        let line = ["--scheduled", "--cron", "0 * * * *", "--function", "api"];
        assert_eq!(
            request(&options(&line), None),
            json!({ "scheduled": { "cron": "0 * * * *" }, "function": "api" })
        );
        let without_time = request(&options(&["--scheduled"]), None);
        assert_eq!(without_time, json!({ "scheduled": { "cron": "" } }));
        for wrong in [&["--cron", "0 * * * *"][..], &["/x", "--scheduled"]] {
            let line = [&["squall", "invoke", "shop"], wrong].concat();
            assert!(Cli::try_parse_from(line).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn bodies_come_from_text_or_a_file() {
        assert_eq!(read_body("x", None).unwrap(), None);
        assert_eq!(read_body("x", Some("text")).unwrap().unwrap(), b"text");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from file").unwrap();
        let named = format!("@{}", file.path().display());
        assert_eq!(read_body("x", Some(&named)).unwrap().unwrap(), b"from file");
        assert!(read_body("x", Some("@/nowhere/at/all")).is_err());
    }
}
