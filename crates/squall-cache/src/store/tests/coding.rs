//! Bytes from outside: what was written is read again, and nothing else is taken for it.

use proptest::prelude::*;

use super::*;
use crate::Parts;
use crate::store::coding::{decode, encode};

fn text() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,20}".prop_map(Box::from)
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let key = (text(), text(), text());
    let numbers = (any::<[u64; 4]>(), any::<[u32; 4]>(), any::<[bool; 2]>(), 100..1000u16);
    let name = prop_oneof![Just("etag"), Just("x-own"), Just("set-cookie")];
    let value = prop::collection::vec(32..=255u8, 0..20)
        .prop_filter_map("no value", |value| HeaderValue::from_bytes(&value).ok());
    let fields = prop::collection::vec((name, value), 0..6);
    let tags = prop::collection::vec(text(), 0..4);
    let vary = prop::sample::subsequence(vec!["accept", "accept-language", "x-own"], 0..=3);
    let parts =
        prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..9)), 0..4);
    let body = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|body| StoredBody::Whole(body.into())),
        (any::<u64>(), parts).prop_map(|(length, ranges)| {
            let ranges = ranges.into_iter().map(|(first, part)| (first, part.into())).collect();
            StoredBody::Parts(Parts { length, ranges })
        }),
    ];
    (key, numbers, fields, tags, vary, body).prop_map(
        |((part, url, extra), (long, short, flags, status), fields, tags, vary, body)| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name, value);
            }
            let head = Head {
                status: StatusCode::from_u16(status).unwrap(),
                headers,
                requested_at_ms: long[0],
                received_at_ms: long[1],
                freshness: Freshness {
                    lifetime_s: short[0],
                    initial_age_s: short[1],
                    stale_while_revalidate_s: short[2],
                    stale_if_error_s: short[3],
                    must_revalidate: flags[0],
                    no_cache: flags[1],
                },
                vary: vary.into_iter().map(HeaderName::from_static).collect(),
                variant: long[2],
                tags: tags.into(),
            };
            let space = Space { app: app("shop"), part };
            Entry { key: Key { space, url, extra }, head, body, sequence: Sequence(long[3]) }
        },
    )
}

fn body_bytes(body: &StoredBody) -> Bytes {
    match body {
        StoredBody::Whole(body) => body.clone(),
        StoredBody::Parts(parts) => {
            let parts: Vec<&[u8]> = parts.ranges.iter().map(|(_, part)| &part[..]).collect();
            parts.concat().into()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(entry in any_entry()) {
        let meta = Bytes::from(encode(&entry));
        let read = decode(meta.clone(), Some(body_bytes(&entry.body))).unwrap();
        prop_assert_eq!(&read.key, &entry.key);
        prop_assert_eq!(&read.head, &entry.head);
        prop_assert_eq!(read.sequence, entry.sequence);
        prop_assert_eq!(body_bytes(&read.body), body_bytes(&entry.body));
        prop_assert_eq!(format!("{:?}", read.body), format!("{:?}", entry.body));
        prop_assert!(decode(meta, None).is_some());
    }

    #[test]
    fn what_was_cut_off_is_nothing(entry in any_entry(), at in any::<prop::sample::Index>()) {
        let meta = encode(&entry);
        let cut = at.index(meta.len());
        prop_assert!(decode(Bytes::copy_from_slice(&meta[..cut]), None).is_none());
    }

    #[test]
    fn no_bytes_are_a_failure(
        entry in any_entry(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut meta = encode(&entry);
        for (at, byte) in changes {
            let at = at.index(meta.len());
            meta[at] = byte;
        }
        // Something or nothing, but it ends.
        let _ = decode(meta.into(), Some(body_bytes(&entry.body)));
        let _ = decode(noise.into(), None);
    }
}
