use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use squall_types::AppName;

use super::{Covered, Found, Hit, Purge, Settings, Store};
use crate::{Entry, Freshness, Head, Key, Sequence, Space, StoredBody};

mod coding;
mod crash;
mod disk;
mod memory;
mod model;
mod races;

fn app(name: &str) -> AppName {
    AppName::parse(name).unwrap()
}

fn key(url: &str) -> Key {
    Key {
        space: Space { app: app("shop"), part: "".into() },
        url: format!("https://example.com{url}").into(),
        extra: "".into(),
    }
}

/// A response whose body says where it belongs.
fn entry(url: &str, version: u64, sequence: Sequence) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain"));
    Entry {
        key: key(url),
        head: Head {
            status: StatusCode::OK,
            headers,
            requested_at_ms: version,
            received_at_ms: version,
            freshness: Freshness::default(),
            vary: Box::default(),
            variant: 0,
            tags: Box::default(),
        },
        body: StoredBody::Whole(Bytes::from(format!("{url} {version}"))),
        sequence,
    }
}

fn tagged(tags: &[&str], entry: Entry) -> Entry {
    let tags = tags.iter().map(|tag| Box::from(*tag)).collect();
    Entry { head: Head { tags, ..entry.head }, ..entry }
}

fn varying(names: &[&'static str], variant: u64, entry: Entry) -> Entry {
    let vary = names.iter().map(|name| HeaderName::from_static(name)).collect();
    Entry { head: Head { vary, variant, ..entry.head }, ..entry }
}

fn purge(what: Covered, soft: bool) -> Purge {
    Purge { app: app("shop"), what, soft }
}

/// What a request without any of the headers finds in memory.
fn hit(store: &Store, url: &str) -> Option<Hit> {
    match store.find(&key(url).hash(), |_| 0) {
        Found::Memory(hit) => Some(hit),
        _ => None,
    }
}

fn body(hit: &Hit) -> String {
    match &hit.entry.body {
        StoredBody::Whole(body) => String::from_utf8(body.to_vec()).unwrap(),
        StoredBody::Parts(_) => panic!("a whole body"),
    }
}
