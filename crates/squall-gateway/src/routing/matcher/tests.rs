//! Precedence, method by method and path by path.

use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use squall_types::ErrorCode;

use crate::routing::Asked;
use crate::testing::{deployed, door};

const ROUTES: &str = r#"
[[routes]]
name = "all"
response = { status = 200 }
[[routes]]
name = "api"
paths = ["/api/*"]
response = { status = 200 }
[[routes]]
name = "users"
paths = ["/api/users"]
methods = ["GET"]
response = { status = 200 }
[[routes]]
name = "create"
paths = ["/api/users"]
methods = ["POST"]
response = { status = 200 }
[[routes]]
name = "beta"
paths = ["/api/users"]
methods = ["GET"]
headers = { x-beta = "1" }
response = { status = 200 }
[[routes]]
name = "beta-v2"
paths = ["/api/users"]
methods = ["GET"]
headers = { x-beta = "1" }
query = { v = { regex = "2|3" } }
response = { status = 200 }
[[routes]]
name = "user"
paths = ["/api/users/{id}"]
response = { status = 200 }
[[routes]]
name = "me"
paths = ["/api/users/me"]
response = { status = 200 }
[[routes]]
name = "posts"
paths = ["/api/users/{id}/posts/*"]
response = { status = 200 }
[[routes]]
name = "image"
path_regex = "/img/[a-z]+\\.png"
response = { status = 200 }
[[routes]]
name = "only-delete"
paths = ["/strict"]
methods = ["DELETE"]
hosts = ["own.example.com"]
response = { status = 200 }
[[routes]]
name = "own"
paths = ["/api/*"]
hosts = ["own.example.com"]
response = { status = 200 }
[[routes]]
name = "below"
paths = ["/api/*"]
hosts = ["*.example.com"]
response = { status = 200 }
"#;

#[track_caller]
fn check(method: &str, url: &str, headers: &[(&str, &str)], expected: &str) {
    let door = door(&[deployed("one", ROUTES)]);
    let uri: http::Uri = url.parse().unwrap();
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    let method = Method::try_from(method).unwrap();
    let asked = Asked { method: &method, path: uri.path(), query: uri.query(), headers: &map };
    let host = uri.host().unwrap();
    let found = door.routes.load().choose(host, &map).unwrap().find(host, &asked);
    let name = found.map(|found| found.route.name.to_string());
    assert_eq!(name.as_deref().map_err(|rejection| rejection.code), Ok(expected), "{method} {url}");
}

#[test]
fn the_best_match_wins() {
    check("GET", "http://a/", &[], "all");
    check("GET", "http://a/apiary", &[], "all");
    check("GET", "http://a/api", &[], "api");
    check("GET", "http://a/api/", &[], "api");
    check("GET", "http://a/api/x/y", &[], "api");
    check("GET", "http://a/api/users", &[], "users");
    check("HEAD", "http://a/api/users", &[], "users");
    check("POST", "http://a/api/users", &[], "create");
    // No exact route takes it: the prefix behind them does.
    check("PUT", "http://a/api/users", &[], "api");
    check("GET", "http://a/api/users", &[("x-beta", "1")], "beta");
    check("GET", "http://a/api/users?v=3", &[("x-beta", "1")], "beta-v2");
    check("GET", "http://a/api/users?v=4", &[("x-beta", "1")], "beta");
    check("GET", "http://a/api/users/42", &[], "user");
    check("GET", "http://a/api/users/me", &[], "me");
    check("GET", "http://a/api/users/", &[], "api");
    check("GET", "http://a/api/users/42/", &[], "api");
    check("GET", "http://a/api/users/42/posts", &[], "posts");
    check("GET", "http://a/api/users/me/posts/7", &[], "posts");
    check("GET", "http://a/img/cat.png", &[], "image");
    check("GET", "http://a/img/cat.png2", &[], "all");
}

#[test]
fn the_longest_prefix_wins_also_where_it_begins_with_a_parameter() {
    let routes = "[[routes]]\nname = \"short\"\npaths = [\"/a/b/*\"]\nresponse = { status = 200 }\n\
        [[routes]]\nname = \"long\"\npaths = [\"/{x}/b/c/*\"]\nresponse = { status = 200 }\n\
        [[routes]]\nname = \"equal\"\npaths = [\"/{x}/b/*\"]\nresponse = { status = 200 }";
    let door = door(&[deployed("one", routes)]);
    let headers = HeaderMap::new();
    for (path, expected) in [
        ("/a/b", "short"),
        ("/a/b/x", "short"),
        ("/a/b/c", "long"),
        ("/a/b/c/d", "long"),
        ("/z/b/d", "equal"),
        ("/z/b/c/d", "long"),
    ] {
        let asked = Asked { method: &Method::GET, path, query: None, headers: &headers };
        let table = door.routes.load();
        let found = table.choose("a", &headers).unwrap().find("a", &asked).unwrap();
        assert_eq!(&*found.route.name, expected, "{path}");
    }
}

#[test]
fn routes_of_a_host_win_over_routes_of_every_host() {
    check("GET", "http://own.example.com/api/users", &[], "own");
    check("GET", "http://other.example.com/api/users", &[], "below");
    check("GET", "http://own.example.com/img/cat.png", &[], "image");
}

#[test]
fn another_method_is_refused_with_those_that_there_are() {
    let routes = ROUTES.split_once("[[routes]]\nname = \"api\"").unwrap().1;
    let routes = format!("[[routes]]\nname = \"api\"{routes}").replace("/api/*", "/else/*");
    let door = door(&[deployed("one", &routes)]);
    let headers = HeaderMap::new();
    let method = Method::PUT;
    let asked = Asked { method: &method, path: "/api/users", query: None, headers: &headers };
    let chosen = door.routes.load().choose("a", &headers).unwrap();
    let refused = chosen.find("a", &asked).err().unwrap();
    assert_eq!(refused.code, ErrorCode::MethodNotAllowed);
    let response = refused.into_response(&headers);
    assert_eq!(response.headers()["allow"], "GET, HEAD, POST");
}

/// Ten thousand routes of all kinds, and requests for each. The time for one match is
/// printed, and judged by whoever reads it.
#[test]
fn ten_thousand_routes_cost_no_more_than_ten() {
    let mut routes = String::new();
    let mut asked = Vec::new();
    for number in 0..10_000 {
        let group = number / 10;
        let (path, url) = match number % 4 {
            0 => (format!("/v1/g{group}/exact{number}"), format!("/v1/g{group}/exact{number}")),
            1 => (format!("/v1/g{group}/t{number}/{{id}}"), format!("/v1/g{group}/t{number}/42")),
            2 => (format!("/v1/g{group}/p{number}/*"), format!("/v1/g{group}/p{number}/a/b")),
            _ => (
                format!("/v1/{{tenant}}/g{group}/x{number}/{{id}}/*"),
                format!("/v1/acme/g{group}/x{number}/42/a"),
            ),
        };
        routes.push_str(&format!(
            "[[routes]]\nname = \"r{number}\"\npaths = [{path:?}]\nmethods = [\"GET\"]\nresponse = {{ status = 204 }}\n"
        ));
        asked.push((format!("r{number}"), url));
    }
    let door = door(&[deployed("one", &routes)]);
    let headers = HeaderMap::new();
    let chosen = door.routes.load().choose("a", &headers).unwrap();
    let method = Method::GET;
    let find = |path: &str| {
        let asked = Asked { method: &method, path, query: None, headers: &headers };
        chosen.find("a", &asked).ok()
    };
    let began = std::time::Instant::now();
    for (name, url) in &asked {
        let found = find(url);
        assert_eq!(found.as_ref().map(|found| &*found.route.name), Some(&**name), "{url}");
    }
    println!("one match among 10,000 routes: {:?}", began.elapsed() / asked.len() as u32);
    assert!(find("/v1/g5/none").is_none());
}
