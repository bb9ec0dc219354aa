use super::*;

fn store() -> Store {
    Store::open(Settings { memory_bytes: 1 << 20, ..Settings::default() }).unwrap()
}

#[test]
fn what_is_put_is_found_and_replaced() {
    let store = store();
    assert!(hit(&store, "/a").is_none());
    store.put(entry("/a", 1, store.sequence()));
    store.put(entry("/b", 1, store.sequence()));
    assert_eq!(body(&hit(&store, "/a").unwrap()), "/a 1");
    store.put(entry("/a", 2, store.sequence()));
    assert_eq!(body(&hit(&store, "/a").unwrap()), "/a 2");
    assert_eq!(body(&hit(&store, "/b").unwrap()), "/b 1");
    assert_eq!(store.stats().memory_entries, 2);
    assert_eq!(store.stats().index_entries, 2);
}

#[test]
fn a_request_finds_the_most_recent_variant_that_it_selects() {
    let store = store();
    let asks = |language: u64, encoding: u64| {
        let found = store.find(&key("/v").hash(), |names| match names {
            [] => 0,
            [name] if name == "accept-encoding" => encoding,
            [name] if name == "accept-language" => language,
            names => panic!("{names:?}"),
        });
        match found {
            Found::Memory(hit) => Some(body(&hit)),
            _ => None,
        }
    };
    store.put(varying(&["accept-language"], 7, entry("/v", 1, store.sequence())));
    store.put(varying(&["accept-language"], 8, entry("/v", 2, store.sequence())));
    assert_eq!(asks(7, 0).as_deref(), Some("/v 1"));
    assert_eq!(asks(8, 0).as_deref(), Some("/v 2"));
    assert_eq!(asks(9, 0), None);
    // Another header now: both match some requests, and the younger one wins.
    store.put(varying(&["accept-encoding"], 3, entry("/v", 3, store.sequence())));
    assert_eq!(asks(7, 3).as_deref(), Some("/v 3"));
    assert_eq!(asks(7, 4).as_deref(), Some("/v 1"));
    // Late, but older.
    store.put(varying(&["accept-language"], 7, entry("/v", 0, store.sequence())));
    assert_eq!(asks(7, 3).as_deref(), Some("/v 3"));
    assert_eq!(asks(7, 4).as_deref(), Some("/v 0"));
}

#[test]
fn the_oldest_of_too_many_variants_goes() {
    let store = store();
    for variant in 0..200 {
        let response = entry("/v", 1000 + variant, store.sequence());
        store.put(varying(&["accept"], variant, response));
    }
    assert_eq!(store.inspect(&key("/v").hash()).len(), 64);
    assert!(matches!(store.find(&key("/v").hash(), |_| 135), Found::Nothing));
    assert!(matches!(store.find(&key("/v").hash(), |_| 136), Found::Memory(_)));
}

#[test]
fn removal_takes_all_variants_and_what_was_asked_for_before() {
    let store = store();
    let before = store.sequence();
    store.put(varying(&["accept"], 1, entry("/a", 1, before)));
    store.put(varying(&["accept"], 2, entry("/a", 1, before)));
    store.remove(&key("/a").hash());
    assert_eq!(store.stats().memory_entries, 0);
    store.put(entry("/a", 1, before));
    assert!(hit(&store, "/a").is_none());
    store.put(entry("/a", 2, store.sequence()));
    assert_eq!(body(&hit(&store, "/a").unwrap()), "/a 2");
    // Also when so many were removed since that it is forgotten which.
    for number in 0..100_000 {
        store.remove(&key(&format!("/{number}")).hash());
    }
    store.put(entry("/b", 1, before));
    assert!(hit(&store, "/b").is_none());
}

#[test]
fn purges_cover_what_they_name() {
    let check = |what: Covered, gone: &[&str]| {
        for soft in [false, true] {
            let store = store();
            let all = ["/a", "/a?q", "/ab", "/b"];
            let put = |sequence| {
                store.put(tagged(&["red", "blue"], entry("/a", 1, sequence)));
                store.put(tagged(&["red"], entry("/a?q", 1, sequence)));
                store.put(entry("/ab", 1, sequence));
                store.put(entry("/b", 1, sequence));
            };
            let before = store.sequence();
            put(before);
            store.purge(&Purge { app: app("other"), what: Covered::All, soft }).unwrap();
            assert!(all.iter().all(|url| hit(&store, url).is_some_and(|hit| !hit.soft_purged)));
            store.purge(&purge(what.clone(), soft)).unwrap();
            let covered = |url: &str| match hit(&store, url) {
                Some(hit) => soft && hit.soft_purged,
                None => !soft,
            };
            // Twice: the second time an earlier judgement answers.
            for _ in 0..2 {
                for url in all {
                    assert_eq!(covered(url), gone.contains(&url), "{what:?} {url}");
                }
            }
            // What was asked for before and comes late.
            put(before);
            for url in all {
                assert_eq!(covered(url), gone.contains(&url), "{what:?} {url}");
            }
            put(store.sequence());
            assert!(all.iter().all(|url| hit(&store, url).is_some_and(|hit| !hit.soft_purged)));
        }
    };
    check(Covered::All, &["/a", "/a?q", "/ab", "/b"]);
    check(Covered::Url("https://example.com/a".into()), &["/a"]);
    check(Covered::Prefix("https://example.com/a".into()), &["/a", "/a?q", "/ab"]);
    check(Covered::Tag("red".into()), &["/a", "/a?q"]);
    check(Covered::Tag("blue".into()), &["/a"]);
    check(Covered::Tag("green".into()), &[]);
}

#[test]
fn more_purges_than_are_told_apart_purge_too_much_and_never_too_little() {
    let store = Store::open(Settings { marks_max: 16, ..Settings::default() }).unwrap();
    store.put(entry("/old", 1, store.sequence()));
    let before = store.sequence();
    for number in 0..40 {
        store.purge(&purge(Covered::Tag(format!("{number}").into()), false)).unwrap();
    }
    for number in 0..40 {
        let tag = number.to_string();
        store.put(tagged(&[&tag], entry("/late", 1, before)));
        assert!(hit(&store, "/late").is_none(), "{number}");
    }
    assert!(hit(&store, "/old").is_none());
    store.put(tagged(&["0"], entry("/new", 1, store.sequence())));
    assert!(hit(&store, "/new").is_some());
}

#[test]
fn marks_without_older_responses_cost_nothing() {
    let store = Store::open(Settings { marks_max: 16, ..Settings::default() }).unwrap();
    for number in 0..40 {
        store.purge(&purge(Covered::Tag(format!("{number}").into()), false)).unwrap();
        store.put(entry("/kept", number, store.sequence()));
    }
    assert_eq!(body(&hit(&store, "/kept").unwrap()), "/kept 39");
}

#[test]
fn memory_keeps_its_budget() {
    let store = store();
    for number in 0..3000 {
        let response = entry(&format!("/{number}"), 1, store.sequence());
        store.put(Entry { body: StoredBody::Whole(Bytes::from(vec![0; 2000])), ..response });
    }
    let stats = store.stats();
    assert!(stats.memory_bytes <= 1 << 20 && stats.memory_bytes > 900 << 10, "{stats:?}");
    assert_eq!(stats.memory_evictions, 3000 - stats.memory_entries);
    assert_eq!(stats.index_entries, stats.memory_entries);
    // More than a quarter of the budget is not taken, and displaces nothing.
    let response = entry("/large", 1, store.sequence());
    store.put(Entry { body: StoredBody::Whole(Bytes::from(vec![0; 260 << 10])), ..response });
    assert!(hit(&store, "/large").is_none());
    assert_eq!(store.stats().index_entries, stats.index_entries);
}

#[test]
fn all_keys_of_a_url_are_removed_together() {
    let store = Store::open(Settings::default()).unwrap();
    let with = |url: &str, extra: u64| {
        let mut entry = entry(url, extra, store.sequence());
        entry.key.extra = format!("cookie:{extra}").into();
        entry.key.space.part = format!("part {}", extra % 3).into();
        entry
    };
    let before = with("/many", 7);
    let found = |entry: &Entry| !matches!(store.find(&entry.key.hash(), |_| 0), Found::Nothing);
    for round in 0..2 {
        for extra in 0..20_000 {
            store.put(with("/many", extra));
            store.put(varying(&["accept"], extra % 2, with("/few", extra % 5)));
        }
        // Some go by themselves: first, last and in between.
        for extra in [0, 19_999, 10_000] {
            store.remove(&with("/many", extra).key.hash());
        }
        assert!(found(&with("/many", 77)) && found(&with("/few", 3)), "{round}");
        store.remove_url(&app("other"), "https://example.com/many");
        assert_eq!(store.stats().index_entries, 20_000 - 3 + 10);
        store.remove_url(&app("shop"), "https://example.com/many");
        assert_eq!(store.stats().index_entries, 10);
        store.put(before.clone());
        assert!(!found(&before) && found(&with("/few", 3)));
    }
    store.remove_url(&app("shop"), "https://example.com/few");
    assert_eq!((store.stats().index_entries, store.stats().memory_entries), (0, 0));
}
