//! URLs: parsed and changed by the `url` crate, which follows the URL standard.

use url::{Position, Url, quirks};

use super::{Arguments, Refusal, wrong};
use crate::Value;

/// `(text, base or null)`
pub(super) fn parse(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let text = arguments.str()?;
    let parsed = match arguments.str_or_null()? {
        Some(base) => Url::parse(&base).and_then(|base| base.join(&text)),
        None => Url::parse(&text),
    };
    Ok(parsed.map_or(Value::Null, |url| value(&url)))
}

/// `(href, property, text)`
pub(super) fn set(arguments: &mut Arguments) -> Result<Value, Refusal> {
    let mut url = Url::parse(&arguments.str()?).map_err(|_| wrong())?;
    let (property, text) = (arguments.str()?, arguments.str()?);
    // A setter that refuses leaves the URL as it was: that is no error.
    let _ = match property.as_str() {
        "protocol" => quirks::set_protocol(&mut url, &text),
        "username" => quirks::set_username(&mut url, &text),
        "password" => quirks::set_password(&mut url, &text),
        "host" => quirks::set_host(&mut url, &text),
        "hostname" => quirks::set_hostname(&mut url, &text),
        "port" => quirks::set_port(&mut url, &text),
        "pathname" => {
            quirks::set_pathname(&mut url, &text);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, &text);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(&mut url, &text);
            Ok(())
        }
        _ => return Err(wrong()),
    };
    Ok(value(&url))
}

/// The serialization and where its parts are.
fn value(url: &Url) -> Value {
    let at = |position: Position| url[..position].len() as i32;
    let query = match url.query() {
        Some(_) => at(Position::BeforeQuery) - 1,
        None => -1,
    };
    let fragment = match url.fragment() {
        Some(_) => at(Position::BeforeFragment) - 1,
        None => -1,
    };
    Value::Array(vec![
        Value::String(url.as_str().to_owned()),
        Value::Int(at(Position::AfterScheme) + 1),
        Value::Int(at(Position::AfterUsername)),
        Value::Int(at(Position::BeforeHost)),
        Value::Int(at(Position::AfterHost)),
        Value::Int(url.port().map_or(-1, i32::from)),
        Value::Int(at(Position::BeforePath)),
        Value::Int(query),
        Value::Int(fragment),
    ])
}
