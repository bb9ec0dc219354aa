//! Which app and revision answer on a host.

use http::header::{HeaderMap, HeaderValue};

use crate::testing::{deployed, door};

#[test]
fn names_win_over_wildcards_and_near_wildcards_over_far_ones() {
    let door = door(&[
        deployed("one", "hosts = [\"a.example.com\"]"),
        deployed("two", "hosts = [\"*.example.com\"]"),
        deployed("three", "hosts = [\"*.deep.example.com\"]"),
    ]);
    let table = door.routes.load();
    for (host, app) in [
        ("a.example.com", Some("one")),
        ("b.example.com", Some("two")),
        ("x.y.example.com", Some("two")),
        ("x.deep.example.com", Some("three")),
        ("deep.example.com", Some("two")),
        ("example.com", None),
        ("one.localhost", Some("one")),
    ] {
        let chosen = table.choose(host, &HeaderMap::new()).ok();
        let found = chosen.as_ref().map(|chosen| chosen.site.app.name.as_str());
        assert_eq!(found, app, "{host}");
    }
}

#[test]
fn no_domain_of_an_app_takes_another_s_preview() {
    let door = door(&[
        deployed("evil", "hosts = [\"abcdefghij--site.localhost\", \"*.localhost\"]"),
        deployed("site", ""),
    ]);
    let table = door.routes.load();
    for (host, app) in [("abcdefghij--site.localhost", "site"), ("other.localhost", "evil")] {
        let chosen = table.choose(host, &HeaderMap::new()).unwrap();
        assert_eq!(chosen.site.app.name.as_str(), app, "{host}");
    }
}

#[test]
fn a_header_forces_a_revision_where_the_app_allows_it() {
    let door = door(&[deployed("one", "[gateway]\nrevision_header = \"x-revision\"")]);
    let table = door.routes.load();
    let asked = |revision: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("x-revision", HeaderValue::from_static(revision));
        table.choose("anything", &headers).map(|chosen| chosen.compiled.revision.id.to_string())
    };
    assert_eq!(asked("abcdefghij").unwrap(), "abcdefghij");
    for wrong in ["zzzzzzzzzz", "no revision"] {
        assert_eq!(asked(wrong).unwrap_err().code, squall_types::ErrorCode::RevisionNotServed);
    }
}
