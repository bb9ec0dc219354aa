//! `caches`: responses that a program keeps by itself, in the store of the edge cache.
//! What it asks of them counts among its outbound requests, as what it asks of bindings does.

use http::{HeaderMap, StatusCode, Uri, header};
use squall_js::{Item, Reader, Value};
use squall_types::cache::{CacheError, CacheRequest};
use squall_types::shard::Local;

use super::fetch::{Allowance, Fetched};
use super::host::{Denied, Host, Refusal, World};
use super::operations::{OperationFuture, Outcome};
use super::respond::{read_body, read_headers};

/// What all of them begin with: `(cache, url, headers)`.
struct Asked {
    world: Local<World>,
    allowance: Allowance,
    /// Empty for the default cache.
    name: String,
    request: CacheRequest,
}

impl Asked {
    fn read(host: &Host, arguments: &mut Reader<'_>) -> Result<Self, Denied> {
        let name = match arguments.item()? {
            Item::Str(name) => name.to_owned(),
            _ => String::new(),
        };
        let request = cache_request(arguments.str()?, read_headers(arguments)?)?;
        let Some(world) = host.world.clone() else {
            return Err(Refusal::type_error("caches can not be used at top level").into());
        };
        let Some(asking) = host.requests.get(&host.current) else {
            return Err(
                Refusal::type_error("a cache needs a request that its use belongs to").into()
            );
        };
        let allowance = Allowance::of(&world, asking);
        Ok(Self { world, allowance, name, request })
    }
}

fn cache_request(url: &str, headers: HeaderMap) -> Result<CacheRequest, Refusal> {
    let without_fragment = url.split('#').next().unwrap_or_default();
    let uri: Uri = without_fragment.parse().map_err(|_| {
        Refusal::type_error(format!("{without_fragment} is no URL that a cache can take"))
    })?;
    let mut request = http::Request::new(());
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn refusal(error: CacheError) -> Refusal {
    Refusal::type_error(format!("the cache failed: {}", error.message))
}

/// `(cache, url, headers)`
pub(crate) fn find(host: &mut Host, arguments: &mut Reader<'_>) -> Result<OperationFuture, Denied> {
    let Asked { world, allowance, name, request } = Asked::read(host, arguments)?;
    Ok(Box::pin(async move {
        if let Err(refusal) = allowance.take_one() {
            return Outcome::Value(Err(refusal));
        }
        match world.caches.find(&world.function, &name, request).await {
            Ok(Some(response)) => {
                let url = String::new();
                Outcome::Fetched(Box::new(Fetched { response, url, redirected: false }))
            }
            Ok(None) => Outcome::Value(Ok(Value::Null)),
            Err(error) => Outcome::Value(Err(refusal(error))),
        }
    }))
}

/// `(cache, url, headers, status, response headers, body)`
pub(crate) fn put(
    host: &mut Host,
    number: u32,
    arguments: &mut Reader<'_>,
) -> Result<OperationFuture, Denied> {
    let Asked { world, allowance, name, request } = Asked::read(host, arguments)?;
    let status = u16::try_from(arguments.int()?).ok();
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let status = status.ok_or_else(|| Refusal::new("RangeError", "no status of HTTP"))?;
    let mut headers = read_headers(arguments)?;
    // The body is counted, not believed.
    headers.remove(header::CONTENT_LENGTH);
    let (body, writer) = read_body(host, arguments)?;
    if let Some(writer) = writer {
        host.sending.insert(number, (host.current, writer));
    }
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Box::pin(async move {
        if let Err(refusal) = allowance.take_one() {
            return Outcome::Value(Err(refusal));
        }
        let stored = world.caches.put(&world.function, &name, request, response).await;
        Outcome::Value(stored.map(Value::Bool).map_err(refusal))
    }))
}

/// `(cache, url, headers)`
pub(crate) fn delete(
    host: &mut Host,
    arguments: &mut Reader<'_>,
) -> Result<OperationFuture, Denied> {
    let Asked { world, allowance, name, request } = Asked::read(host, arguments)?;
    Ok(Box::pin(async move {
        if let Err(refusal) = allowance.take_one() {
            return Outcome::Value(Err(refusal));
        }
        let removed = world.caches.delete(&world.function, &name, request).await;
        Outcome::Value(removed.map(Value::Bool).map_err(refusal))
    }))
}
