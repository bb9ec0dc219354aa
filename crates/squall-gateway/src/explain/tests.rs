use squall_types::ErrorCode;
use squall_types::gateway::{ExplainQuery, Explanation, PolicyOrigin};
use squall_types::manifest::Manifest;

const SHOP: &str = r#"
name = "shop"
hosts = ["*.example.com"]
[gateway.policy]
cors = { origins = ["https://app.example.com"] }
[functions.api]
source = "a.ts"
routes = ["/*"]
[[routes]]
name = "user"
paths = ["/users/{id}"]
methods = ["GET"]
function = "api"
rewrite = { path = "/v2/{id}" }
policy = { compression = {} }
[[routes]]
name = "beta"
paths = ["/users/*"]
headers = { x-beta = "*" }
response = { status = 204 }
policy = { addresses = { deny = ["192.0.2.0/24"] } }
[[routes]]
name = "old"
paths = ["/old/*"]
redirect = { prefix = "/new" }
"#;

fn asked(method: &str, url: &str, headers: &[(&str, &str)]) -> Explanation {
    asked_from(None, method, url, headers)
}

fn asked_from(
    client: Option<&str>,
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
) -> Explanation {
    let query = ExplainQuery {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        client: client.map(|client| client.parse().unwrap()),
        https: false,
        app: None,
    };
    super::explain_manifest(&Manifest::parse(SHOP).unwrap(), &query)
}

#[test]
fn the_winner_is_named_with_what_it_won_by_and_the_others_with_what_they_lost_by() {
    let found = asked("GET", "http://a.example.com/users/7?x=1", &[]);
    assert_eq!(found.route.as_deref(), Some("user"));
    assert_eq!(found.host.as_deref(), Some("*.example.com"));
    assert_eq!(found.matched_by.as_deref(), Some("/users/{id}, method GET"));
    assert_eq!(found.target.as_deref(), Some("function api"));
    assert_eq!(found.rewritten.as_deref(), Some("GET a.example.com/v2/7?x=1"));
    let lost: Vec<(&str, &str)> =
        found.considered.iter().map(|one| (&*one.route, &*one.why_not)).collect();
    assert_eq!(
        lost,
        [
            ("beta", "the header x-beta is missing or not as it asks"),
            ("function-api", "/* matches too, and ranks lower"),
            ("old", "its path or host is another"),
        ]
    );
    let policies: Vec<(&str, PolicyOrigin)> =
        found.policies.iter().map(|step| (&*step.name, step.from)).collect();
    assert_eq!(policies, [("cors", PolicyOrigin::App), ("compression", PolicyOrigin::Route)]);
}

#[test]
fn another_method_goes_to_the_next_route() {
    let found = asked("POST", "http://a.example.com/users/7", &[]);
    assert_eq!(found.route.as_deref(), Some("function-api"));
    assert_eq!(found.considered[0].why_not, "POST is not among its methods, GET");
}

#[test]
fn redirects_and_preflights_are_followed() {
    let found = asked("GET", "http://a.example.com/old/x?y", &[]);
    assert_eq!(found.target.as_deref(), Some("redirect 302 to http://a.example.com/new/x?y"));
    let headers = [("origin", "https://app.example.com"), ("access-control-request-method", "GET")];
    let found = asked("OPTIONS", "http://a.example.com/users/7", &headers);
    assert_eq!(found.route.as_deref(), Some("user"));
    assert_eq!(found.target.as_deref(), Some("response 204 to the preflight, by cors"));
    assert_eq!(found.rewritten, None);
    // For a method that there is not, the path's route says so.
    let headers = [("origin", "https://app.example.com"), ("access-control-request-method", "PUT")];
    let found = asked("OPTIONS", "http://a.example.com/users/7", &headers);
    assert_eq!(found.target.as_deref(), Some("response 204 to the preflight, by cors"));
}

const EDGE: &str = r#"
name = "edge"
hosts = ["edge.example.com"]
[upstreams.people]
targets = ["http://10.1.2.3:8080/base", "http://10.1.2.4:8080/base"]
[upstreams.own]
targets = ["https://people.internal"]
pass_host = true
[[routes]]
paths = ["/people/*"]
upstream = "people"
rewrite = { prefix = "/v2" }
[[routes]]
paths = ["/own/*"]
upstream = "own"
[[routes]]
paths = ["/only"]
response = { status = 200 }
policy = { https = "redirect" }
[[routes]]
paths = ["/never"]
response = { status = 200 }
policy = { https = "required" }
[[routes]]
paths = ["/short/*"]
response = { status = 200 }
policy = { limits = { uri_bytes = 10 } }
"#;

fn asked_of_edge(path: &str, https: bool) -> Explanation {
    let query = ExplainQuery {
        method: "GET".to_owned(),
        url: format!("http://edge.example.com{path}"),
        headers: Vec::new(),
        client: None,
        https,
        app: None,
    };
    super::explain_manifest(&Manifest::parse(EDGE).unwrap(), &query)
}

#[test]
fn what_an_upstream_is_sent_is_told_with_its_host_and_path() {
    let sent = |path| asked_of_edge(path, false).rewritten;
    let people = "GET 10.1.2.3:8080/base/v2/7?x, or GET 10.1.2.4:8080/base/v2/7?x";
    assert_eq!(sent("/people/7?x").as_deref(), Some(people));
    assert_eq!(sent("/own/7").as_deref(), Some("GET edge.example.com/own/7"));
    assert_eq!(sent("/only"), None);
}

#[test]
fn a_request_that_has_to_come_by_https_is_told_so() {
    let redirect = asked_of_edge("/only", false).target.unwrap();
    assert_eq!(redirect, "redirect 308 to https://edge.example.com/only, by https");
    assert_eq!(asked_of_edge("/only", true).target.as_deref(), Some("response 200"));
    let refused = asked_of_edge("/never", false).rejection.map(|rejection| rejection.code);
    assert_eq!(refused, Some(ErrorCode::HttpsRequired));
}

#[test]
fn what_the_door_refuses_is_refused_here() {
    let found = asked("GET", "http://a.example.com/a/%2e%2e/%2e%2e/", &[]);
    assert_eq!(found.rejection.unwrap().code, ErrorCode::BadPath);
    let found = asked("GET", "http://a.example.com/", &[("host", "a b")]);
    assert_eq!(found.rejection.unwrap().code, ErrorCode::BadHost);
}

#[test]
fn address_rules_are_decided_for_an_address() {
    let of = |client| {
        let found = asked_from(client, "POST", "http://a.example.com/users/7", &[("x-beta", "1")]);
        assert_eq!(found.route.as_deref(), Some("beta"));
        found.rejection.map(|rejection| rejection.code)
    };
    assert_eq!(of(None), None);
    assert_eq!(of(Some("198.51.100.1")), None);
    assert_eq!(of(Some("192.0.2.1")), Some(ErrorCode::AddressDenied));
}

#[test]
fn a_key_in_the_query_is_not_told_to_be_sent() {
    let app = "name = \"edge\"\n[identity.keys.api_key]\nquery = \"api_key\"\n[upstreams.u]\ntargets = [\"http://10.1.2.3\"]\n[[routes]]\nupstream = \"u\"\npolicy = { auth = [\"keys\"] }\n";
    let query = ExplainQuery {
        method: "GET".to_owned(),
        url: "http://edge.localhost/x?api_key=sqk_a_b&a=1".to_owned(),
        headers: Vec::new(),
        client: None,
        https: false,
        app: None,
    };
    let found = super::explain_manifest(&Manifest::parse(app).unwrap(), &query);
    assert_eq!(found.rewritten.as_deref(), Some("GET 10.1.2.3/x?a=1"));
}

#[test]
fn what_is_too_large_is_told() {
    let target = asked_of_edge("/short/a", false).target;
    assert_eq!(target.as_deref(), Some("response 200"));
    let refused = asked_of_edge("/short/abcdef", false).rejection.expect("it is too long");
    assert_eq!(refused.code, ErrorCode::UriTooLong);
}

#[test]
fn what_the_door_refuses_is_refused_here_too() {
    let refused = |url: &str, headers: &[(&str, &str)]| {
        let found = asked("GET", url, headers);
        let rejection = found.rejection.unwrap_or_else(|| panic!("{url} is served"));
        (rejection.code, rejection.message)
    };
    let url = "http://a.example.com/users/7";
    let (code, message) = refused(url, &[("x_forwarded_for", "1.2.3.4")]);
    assert_eq!((code, message.contains("x-forwarded-for")), (ErrorCode::MalformedRequest, true));
    let (code, message) = refused("ftp://a.example.com/users/7", &[]);
    assert_eq!((code, message.contains("http://")), (ErrorCode::MalformedRequest, true));
    assert!(asked("GET", url, &[("x_own", "1")]).rejection.is_none());
}
