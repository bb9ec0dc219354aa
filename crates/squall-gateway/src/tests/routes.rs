//! Routes over real sockets: what reaches a function, and what is answered before it.

use std::collections::HashMap;

use super::{Door, status};

const ROUTES: &str = r#"
[gateway]
revision_header = "x-revision"
[gateway.policy]
limits = { uri_bytes = 100, header_bytes = 400 }
[[routes]]
name = "user"
paths = ["/users/{id}/{what}"]
function = "api"
rewrite = { path = "/v2/{what}", host = "inner.example" }
request_headers = { set = { x-from = "gateway" }, remove = ["x-secret"] }
request_query = { set = { key = "a b" }, remove = ["token"] }
response_headers = { set = { x-served-by = "squall" } }
[[routes]]
name = "moved"
paths = ["/moved/*"]
redirect = { prefix = "/here", status = 308 }
[[routes]]
name = "gone"
paths = ["/gone"]
response = { status = 410, body = "gone\n", headers = { x-why = "old" } }
[[routes]]
name = "small"
paths = ["/small"]
methods = ["POST"]
function = "api"
policy = { limits = { body_bytes = 5 } }
[[routes]]
name = "either"
paths = ["/either"]
split = [{ function = "api", weight = 1 }, { function = "other", weight = 1 }]
sticky = { cookie = "side" }
[functions.other]
component = "b.wasm"
[functions.other.limits]
request_body_bytes = 0
"#;

fn door() -> Door {
    Door::of("one", ROUTES)
}

#[test]
fn a_function_sees_what_the_route_makes_of_a_request() {
    let answer =
        door().get("/users/42/posts?token=t&a=1", "X-Secret: s\r\nX-Squall-Params: forged=1\r\n");
    assert!(answer.contains("GET http://inner.example/v2/posts?a=1&key=a%20b\n"), "{answer}");
    assert!(answer.contains("\nhost: inner.example\n"), "{answer}");
    assert!(answer.contains("\nx-forwarded-host: one.localhost\n"), "{answer}");
    assert!(answer.contains("\nx-from: gateway\n"), "{answer}");
    assert!(answer.contains("\nx-squall-params: id=42&what=posts\n"), "{answer}");
    assert!(answer.contains("x-served-by: squall\r\n"), "{answer}");
    assert!(!answer.contains("x-secret"), "{answer}");
}

#[test]
fn a_parameter_s_value_is_no_further_parameter() {
    let answer = door().get("/users/7&what=admin;a+b/posts", "");
    let expected = "\nx-squall-params: id=7%26what%3Dadmin%3Ba%2Bb&what=posts\n";
    assert!(answer.contains(expected), "{answer}");
}

#[test]
fn redirects_and_fixed_responses_need_nobody_behind_them() {
    let door = door();
    let moved = door.get("/moved/a?b=c", "");
    assert_eq!(status(&moved), 308);
    assert!(moved.contains("location: http://one.localhost/here/a?b=c\r\n"), "{moved}");
    let gone = door.get("/gone", "");
    assert_eq!(status(&gone), 410);
    assert!(gone.contains("x-why: old\r\n") && gone.ends_with("gone\n"), "{gone}");
    assert!(gone.contains("content-type: text/plain; charset=utf-8\r\n"), "{gone}");
}

#[test]
fn what_is_too_large_for_a_route_is_refused() {
    let door = door();
    assert_eq!(status(&door.get(&format!("/gone?{}", "a".repeat(100)), "")), 414);
    assert_eq!(status(&door.get("/gone", &format!("X-A: {}\r\n", "a".repeat(500)))), 431);
    let post = |body: &str| {
        door.raw(
            format!("POST /small HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\n{body}")
                .as_bytes(),
        )
    };
    assert_eq!(status(&post("Content-Length: 5\r\n\r\n12345")), 200);
    assert_eq!(status(&post("Content-Length: 6\r\n\r\n123456")), 413);
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n3\r\n456\r\n0\r\n\r\n";
    assert_eq!(status(&post(chunked)), 413);
}

#[test]
fn a_split_keeps_a_caller_on_its_side() {
    let door = door();
    let side = |headers: &str| {
        let answer = door.raw(
            format!(
                "POST /either HTTP/1.1\r\nHost: one.localhost\r\nConnection: close\r\nContent-Length: 1\r\n{headers}\r\nx"
            )
            .as_bytes(),
        );
        let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        assert_eq!(cookie.is_some(), answer.contains("cache-control: private\r\n"), "{answer}");
        (status(&answer), cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned()))
    };
    // The second function takes no body, so its side answers 413.
    let mut sides: HashMap<u16, String> = HashMap::new();
    for _ in 0..64 {
        let (status, cookie) = side("");
        sides.insert(status, cookie.unwrap());
    }
    assert_eq!(sides.len(), 2, "{sides:?}");
    for (status, cookie) in &sides {
        for _ in 0..8 {
            assert_eq!(side(&format!("Cookie: {cookie}\r\n")), (*status, None));
        }
    }
}

#[test]
fn a_revision_is_asked_for_by_header() {
    let door = door();
    assert_eq!(status(&door.get("/gone", "X-Revision: abcdefghij\r\n")), 410);
    assert_eq!(status(&door.get("/gone", "X-Revision: zzzzzzzzzz\r\n")), 404);
}
