//! Which app and revision answer on a host.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderValue};
use squall_types::state::{AppState, RevisionState};
use squall_types::{ErrorCode, RevisionId};

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

/// An app whose second revision has all of the traffic.
fn with_an_earlier_one(rest: &str) -> Arc<AppState> {
    let mut app = AppState::clone(&deployed("one", rest));
    let live = &app.revisions[0];
    let earlier = RevisionState {
        id: RevisionId::parse("bcdefghijk").unwrap(),
        app: live.app.clone(),
        functions: live.functions.clone(),
        assets: live.assets.clone(),
        manifest: live.manifest.clone(),
    };
    app.revisions.push(Arc::new(earlier));
    Arc::new(app)
}

#[test]
fn previews_are_for_apps_that_want_them() {
    let header = "[gateway]\nrevision_header = \"x-revision\"";
    for (previews, earlier) in [("", true), ("previews = true", true), ("previews = false", false)]
    {
        let door = door(&[with_an_earlier_one(&format!("{header}\n{previews}"))]);
        let table = door.routes.load();
        for (revision, answers) in [("abcdefghij", true), ("bcdefghijk", earlier)] {
            let mut forced = HeaderMap::new();
            forced.insert("x-revision", HeaderValue::from_str(revision).unwrap());
            let by_name = table.choose(&format!("{revision}--one.localhost"), &HeaderMap::new());
            for chosen in [by_name, table.choose("anything", &forced)] {
                let found = chosen.map(|chosen| chosen.compiled.revision.id.to_string());
                match answers {
                    true => assert_eq!(found.unwrap(), revision, "{previews}"),
                    false => assert_eq!(found.unwrap_err().code, ErrorCode::RevisionNotServed),
                }
            }
        }
        // Work that is still its own.
        let name = &table.site("one.localhost").unwrap().app.name;
        let earlier = RevisionId::parse("bcdefghijk").unwrap();
        assert!(table.of_revision(name, &earlier).is_some(), "{previews}");
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
        assert_eq!(asked(wrong).unwrap_err().code, ErrorCode::RevisionNotServed);
    }
}
