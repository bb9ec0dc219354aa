//! Caches that functions fill by themselves: `caches.default` and `caches.open` of
//! JavaScript. They lie in the same store as everything else, apart from what routes keep.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use http::{Method, Response, Uri};
use http_body_util::BodyExt as _;
use squall_cache::rfc::{self, AnswerBody, Asked, KeyPlan, Verdict};
use squall_cache::store::{Found, Store};
use squall_cache::{Entry, Key, Space, StoredBody};
use squall_types::cache::{CacheError, CacheFuture, CacheRequest, FunctionCaches};
use squall_types::gateway::{Cache, CacheKey};
use squall_types::state::FunctionSpec;
use squall_types::{Body, ErrorCode};

use super::answer::respond;
use super::{now_ms, pieces};
use crate::Gateway;

/// What a program stores it says itself, and a request does not make it ask its origin.
fn rules() -> Cache {
    Cache { request_directives: false, heuristic: true, ..Cache::default() }
}

impl FunctionCaches for Gateway {
    fn find(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<Option<Response<Body>>> {
        let store = self.0.cache.store();
        let key = key_of(from, name, request.uri());
        Box::pin(async move { Ok(find(&store, &key?, &request).await) })
    }

    fn put(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
        response: Response<Body>,
    ) -> CacheFuture<bool> {
        let store = self.0.cache.store();
        let most = self.0.cache.object_max_bytes;
        let gathered = self.0.cache.gathered_of_functions.clone();
        let key = key_of(from, name, request.uri());
        Box::pin(async move {
            let share =
                Share { of: gathered, bytes: 0, most: most.saturating_mul(GATHERED_AT_ONCE) };
            put(&store, most, share, key?, &request, response).await
        })
    }

    fn delete(
        &self,
        from: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<bool> {
        let store = self.0.cache.store();
        let key = key_of(from, name, request.uri());
        Box::pin(async move {
            let key = key?;
            let there = find(&store, &key, &request).await.is_some();
            store.remove(&key.hash());
            Ok(there)
        })
    }
}

fn key_of(from: &FunctionSpec, name: &str, uri: &Uri) -> Result<Key, CacheError> {
    let https = uri.scheme_str() == Some("https");
    let (Some(authority), Some(path)) = (uri.authority(), uri.path_and_query()) else {
        let message = format!("{uri} has no host; a cache takes whole URLs");
        return Err(CacheError { code: ErrorCode::InvalidRequest, message });
    };
    let url = KeyPlan::compile(&CacheKey::default()).url(https, authority.as_str(), path);
    Ok(Key {
        space: Space { app: from.key.app.clone(), part: format!("functions {name}").into() },
        url: url.into(),
        extra: "".into(),
    })
}

async fn find(store: &Store, key: &Key, request: &CacheRequest) -> Option<Response<Body>> {
    let headers = request.headers();
    let asked = Asked::read(&Method::GET, headers, &rules(), false);
    let hit = match store.find(&key.hash(), |names| rfc::variant(names, headers)) {
        Found::Memory(hit) => hit,
        Found::OnDisk(ticket) => store.load(ticket).await?,
        Found::Nothing => return None,
    };
    let now_ms = now_ms();
    // Nobody could fetch it anew behind the program's back: what is stale is not there.
    match rfc::judge(&hit.entry.head, &asked, hit.soft_purged, now_ms) {
        Verdict::Serve { ttl_s, .. } if ttl_s >= 0 => {}
        _ => return None,
    }
    let answer = rfc::answer(&hit.entry, &asked, now_ms)?;
    let body = match answer.body {
        AnswerBody::Empty => Body::empty(),
        AnswerBody::Bytes(bytes) => Body::full(bytes),
        AnswerBody::Pieces(all) => pieces::body(all),
    };
    Some(respond(answer.status, answer.headers, body))
}

/// So many of the largest bodies fit into the memory for those that are still coming.
const GATHERED_AT_ONCE: u64 = 4;

/// What a body that is still coming takes of the memory that there is for all of them: a
/// program writes it as slowly as it likes, and it is none of the program's own memory.
struct Share {
    of: Arc<AtomicU64>,
    bytes: u64,
    most: u64,
}

impl Share {
    /// Whether there was room for so much more.
    fn grow(&mut self, more: u64) -> bool {
        self.bytes += more;
        self.of.fetch_add(more, Ordering::Relaxed) + more <= self.most
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

async fn put(
    store: &Store,
    most: u64,
    mut share: Share,
    key: Key,
    request: &CacheRequest,
    response: Response<Body>,
) -> Result<bool, CacheError> {
    let sequence = store.sequence();
    let headers = request.headers();
    let asked = Asked::read(&Method::GET, headers, &rules(), false);
    let (parts, mut body) = response.into_parts();
    let now_ms = now_ms();
    let head =
        rfc::storable(&asked, headers, parts.status, &parts.headers, now_ms, now_ms, &rules());
    let Ok(head) = head else { return Ok(false) };
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| CacheError { code: error.code, message: error.message })?;
        if let Ok(data) = frame.into_data() {
            if share.bytes + data.len() as u64 > most || !share.grow(data.len() as u64) {
                return Ok(false);
            }
            whole.extend_from_slice(&data);
        }
    }
    store.put(Entry { key, head, body: StoredBody::Whole(whole.freeze()), sequence });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        let app = squall_types::AppName::parse("app").unwrap();
        let space = Space { app, part: "functions ".into() };
        Key { space, url: "https://example.com/".into(), extra: "".into() }
    }

    async fn check(gathered: &Arc<AtomicU64>, body: &'static str, stored: bool) {
        let store = Store::in_memory(1 << 20);
        let request = http::Request::new(());
        let response = Response::builder().header("cache-control", "max-age=60");
        let share = Share { of: gathered.clone(), bytes: 0, most: 20 };
        let response = response.body(Body::full(body)).unwrap();
        let put = put(&store, 10, share, key(), &request, response).await.unwrap();
        assert_eq!(put, stored, "{body}");
        assert_eq!(find(&store, &key(), &request).await.is_some(), stored, "{body}");
    }

    #[tokio::test]
    async fn bodies_that_are_coming_share_what_memory_there_is() {
        let gathered = Arc::new(AtomicU64::new(0));
        check(&gathered, "0123456789", true).await;
        check(&gathered, "0123456789a", false).await;
        gathered.fetch_add(15, Ordering::Relaxed);
        check(&gathered, "012345", false).await;
        check(&gathered, "01234", true).await;
        assert_eq!(gathered.load(Ordering::Relaxed), 15, "all of it is given back");
    }
}
