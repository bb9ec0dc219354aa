use std::collections::HashSet;
use std::path::Path;

use squall_types::error::ErrorCode;

use super::*;

/// `\0asm`, version 13, layer 1: a component rather than a core module.
const COMPONENT_PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";

#[test]
fn guests_are_components() {
    for guest in [HELLO, PROBE, &distinct_component(35)] {
        assert!(guest.starts_with(COMPONENT_PREAMBLE));
    }
}

#[test]
fn the_mark_occurs_once() {
    assert_eq!(HELLO.windows(MARK.len()).filter(|bytes| *bytes == MARK).count(), 1);
}

#[test]
fn distinct_components_differ_only_in_their_mark() {
    let mut seen = HashSet::new();
    for n in 0..2_000 {
        let component = distinct_component(n);
        assert_eq!(component.len(), HELLO.len());
        let changed = component.iter().zip(HELLO).filter(|(a, b)| a != b).count();
        assert!(changed <= MARK_DIGITS);
        assert!(seen.insert(component), "{n} was there before");
    }
    assert_eq!(&mark_digits(36 + 11), b"001b");
}

/// A secret that the probe could find in itself would make every leak test fail.
#[test]
fn the_probe_does_not_hold_the_word_that_it_looks_for() {
    assert!(!PROBE.windows(9).any(|bytes| bytes == b"TOPSECRET"));
}

#[test]
fn every_error_code_has_its_page_and_no_page_is_without_a_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
    let index = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut pages: HashSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    for code in ErrorCode::ALL {
        let name = format!("{code}.md");
        assert!(pages.remove(&name), "docs/errors/{name} is missing");
        let page = std::fs::read_to_string(folder.join(&name)).unwrap();
        let heading = format!("# {code}: {}\n", code.title());
        assert!(page.starts_with(&heading), "{name} must begin with {heading:?}");
        let status = format!("| HTTP status | {} |", code.status());
        assert!(page.contains(&status), "{name} must contain {status:?}");
        assert!(index.contains(&format!("]({name})")), "README.md does not link {name}");
    }
    assert!(pages.is_empty(), "pages without a code: {pages:?}");
}

/// `make up` deploys the first; a manifest that went stale would be the first thing a
/// newcomer sees.
#[test]
fn the_examples_are_complete() {
    for example in ["hello", "hello-rust"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
        let text = std::fs::read_to_string(folder.join("squall.toml")).unwrap();
        let manifest = squall_types::manifest::Manifest::parse(&text).unwrap();
        assert_eq!(manifest.name.as_str(), example);
        for function in manifest.functions.values() {
            let code = std::fs::read(folder.join(function.code().path())).unwrap();
            assert_eq!(code.starts_with(COMPONENT_PREAMBLE), function.component.is_some());
        }
        let assets = manifest.assets.expect("the example has a page");
        assert!(folder.join(assets.dir).join("index.html").exists());
    }
}
