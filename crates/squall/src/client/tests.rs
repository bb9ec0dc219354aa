use std::io::{Read, Write};

use super::*;

fn client(url: &str) -> Result<Client, Failure> {
    Client::new(Target { url: url.to_owned(), token: "sqt_x".to_owned(), data_dir: None })
}

#[test]
fn urls_are_taken_apart() {
    let plain = client("http://[::1]:8081/").unwrap();
    assert_eq!((plain.host.as_str(), plain.port, plain.prefix.as_str()), ("::1", 8081, ""));
    assert!(!plain.is_exposed());
    let behind = client("https://example.com/squall/").unwrap();
    assert_eq!((behind.port, behind.prefix.as_str()), (443, "/squall"));
    assert!(!behind.is_exposed() && client("http://10.0.0.1").unwrap().is_exposed());
    for wrong in ["", "example.com", "ftp://x", "http://user:pass@x"] {
        assert_eq!(client(wrong).unwrap_err().exit, Exit::Invalid, "{wrong}");
    }
}

#[test]
fn queries_hold_what_is_given() {
    let query = Query::new("/v1/logs").with("app", Some("a b&c")).with("level", None);
    assert_eq!(query.with("limit", Some("5")).as_str(), "/v1/logs?app=a%20b%26c&limit=5");
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// Answers one connection with `answer` and returns what it was asked.
fn serve_once(answer: String) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut piece = [0; 1024];
        while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut piece).unwrap();
            asked.extend_from_slice(&piece[..read]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (url, server)
}

#[tokio::test]
async fn a_call_carries_the_token_and_reads_the_answer() {
    let (url, server) = serve_once(answer("200 OK", "{\"items\":["));
    // Broken on purpose: a wrong answer is a failure and not a panic.
    let failure = client(&url).unwrap().list("listing", "/v1/apps").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    let asked = server.join().unwrap();
    assert!(asked.starts_with("GET /v1/apps?limit=500 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer sqt_x\r\n"), "{asked}");

    let (url, server) = serve_once(answer("200 OK", "{\"items\":[1]}"));
    assert_eq!(client(&url).unwrap().list("listing", "/v1/apps").await.unwrap(), [1]);
    server.join().unwrap();
}

#[tokio::test]
async fn problems_and_silence_are_told_apart() {
    let (url, server) =
        serve_once(answer("401 Unauthorized", r#"{"code":"SQ0310","title":"no token"}"#));
    let refused = client(&url).unwrap().get::<Value>("listing", "/v1/apps").await.unwrap_err();
    assert_eq!((refused.exit, refused.code.as_deref()), (Exit::Auth, Some("SQ0310")));
    server.join().unwrap();
    let nobody = client(&url).unwrap().get::<Value>("listing", "/v1/apps").await.unwrap_err();
    assert_eq!(nobody.exit, Exit::Unreachable);
    assert!(nobody.to_string().contains("squall up"), "{nobody}");
}
