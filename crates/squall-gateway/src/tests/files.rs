//! Files of an app over real sockets, and the routes beside them.

use super::{Door, app_with_files, status};
use crate::Options;

const ROUTES: &str = r#"
[gateway.policy]
cors = { origins = ["https://app.example.com"], methods = ["PUT", "DELETE"] }
cache = {}
[[routes]]
name = "read"
paths = ["/read"]
methods = ["GET"]
function = "api"
[[routes]]
name = "write"
paths = ["/write", "/a.txt"]
methods = ["POST"]
function = "api"
"#;

/// An app that routes in the browser.
fn door() -> Door {
    let files = "spa = true\ncache_control = { \"/*\" = \"public, max-age=300\" }";
    Door::serving(Options::default(), |blob| vec![app_with_files("one", ROUTES, files, blob)])
}

impl Door {
    fn ask(&self, method: &str, path: &str, headers: &str) -> String {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: one.localhost\r\n");
        self.raw(format!("{head}Connection: close\r\n{headers}\r\n").as_bytes())
    }
}

/// A cache that gave the one to who asks for the other would take the app away.
#[test]
fn what_stands_for_no_file_varies_by_what_is_accepted() {
    let door = door();
    for _ in 0..2 {
        let missing = door.get("/dashboard", "Accept: */*\r\n");
        assert_eq!(status(&missing), 404);
        assert!(missing.contains("vary: accept\r\n"), "{missing}");
        let page = door.get("/dashboard", "Accept: text/html,*/*\r\n");
        assert_eq!(status(&page), 200, "{page}");
        assert!(page.contains("vary: accept\r\n"), "{page}");
        let etag = page.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let known = format!("Accept: text/html\r\nIf-None-Match: {etag}\r\n");
        let unchanged = door.get("/dashboard", &known);
        assert_eq!(status(&unchanged), 304);
        assert!(unchanged.contains("vary: accept\r\n"), "{unchanged}");
        // What there is, is there for everybody.
        assert!(!door.get("/a.txt", "Accept: */*\r\n").contains("vary: accept\r\n"));
    }
}

#[test]
fn a_path_of_routes_for_other_methods_is_no_page() {
    let door = door();
    let refused = door.ask("DELETE", "/read", "");
    assert_eq!(status(&refused), 405, "{refused}");
    assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    let refused = door.get("/write", "Accept: text/html\r\n");
    assert_eq!(status(&refused), 405, "{refused}");
    assert!(refused.contains("allow: POST\r\n"), "{refused}");
    // A file of that name is one, all the same.
    let file = door.get("/a.txt", "");
    assert!(status(&file) == 200 && file.ends_with("0123456789"), "{file}");
    assert_eq!(status(&door.ask("POST", "/nowhere", "Content-Length: 0\r\n")), 404);
}

/// As one that is refused by its origin.
#[test]
fn a_preflight_for_a_method_that_there_is_not_is_answered_without_permission() {
    let door = door();
    let preflight = |path: &str, method: &str| {
        let origin = "Origin: https://app.example.com\r\n";
        let asks = format!("{origin}Access-Control-Request-Method: {method}\r\n");
        let answer = door.ask("OPTIONS", path, &asks);
        assert_eq!(status(&answer), 204, "{method} {path}: {answer}");
        answer.contains("access-control-allow-origin")
    };
    assert!(preflight("/read", "GET"));
    assert!(!preflight("/read", "PATCH"));
    assert!(!preflight("/write", "PATCH"));
}

#[test]
fn files_are_chosen_and_told_as_the_standard_says() {
    let door = door();
    let css = |headers: &str| door.get("/b.css", headers);
    for accepts in ["gzip", "x-gzip", "*", "identity;q=0.5, gzip;q=0.6"] {
        let answer = css(&format!("Accept-Encoding: {accepts}\r\n"));
        assert!(answer.contains("content-encoding: gzip\r\n"), "{accepts}: {answer}");
        assert!(answer.contains("vary: accept-encoding\r\n"), "{answer}");
    }
    for refuses in ["gzip;q=0", "gzip;Q=0", "br;q=1", "identity;q=1, gzip;q=0.1"] {
        let answer = css(&format!("Accept-Encoding: {refuses}\r\n"));
        assert!(!answer.contains("content-encoding"), "{refuses}: {answer}");
        assert!(answer.contains("vary: accept-encoding\r\n"), "{answer}");
    }
    let beyond = css("Accept-Encoding: gzip\r\nRange: bytes=50-\r\n");
    assert_eq!(status(&beyond), 416, "{beyond}");
    let has = |name: &str| beyond.contains(&format!("\r\n{name}: "));
    assert!(!has("content-encoding") && !has("content-type"), "{beyond}");
    // Ranges are for GET.
    let head = door.ask("HEAD", "/b.css", "Range: bytes=2-4\r\n");
    assert!(status(&head) == 200 && head.contains("content-length: 10\r\n"), "{head}");

    let etag = css("").lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    for (wanted, expected) in
        [(&*etag, 200), ("*", 200), ("\"x\"", 412), (&format!("W/{etag}"), 412)]
    {
        assert_eq!(status(&css(&format!("If-Match: {wanted}\r\n"))), expected, "{wanted}");
    }
}
