//! Outbound requests reach what the manifest allows and nothing else.

use std::io::{Read, Write};

use crate::harness::{App, TestNode};

/// A server that answers every connection with `answer`.
fn origin(answer: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 2048];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn private_addresses_are_refused_unless_allowed_and_unlisted_hosts_always() {
    let node = TestNode::start();
    let port = origin("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfound");
    let hosts =
        format!("allowed_hosts = [\"localhost:{port}\", \"127.0.0.1:{port}\", \"[::1]:{port}\"]");
    node.deploy(&App::probe("strict").with(&hosts));
    node.deploy(&App::probe("local").with(&hosts).with("allow_private = true"));

    let forms = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://[64:ff9b::7f00:1]/".to_owned(),
        "http://example.com/".to_owned(),
    ];
    for url in &forms {
        let answer = node.get("strict", &format!("/fetch?url={url}")).await;
        assert!(!answer.text().contains("found"), "{url} was reached: {}", answer.text());
    }
    let allowed = node.get("local", &format!("/fetch?url=http://127.0.0.1:{port}/")).await;
    assert!(allowed.text().contains("found"), "{}", allowed.text());
    node.expect_log_code("strict", "SQ0211");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let node = TestNode::start();
    let secret = origin("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfound");
    let location = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{secret}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let door = origin(Box::leak(location.into_boxed_str()));
    let settings = format!("allowed_hosts = [\"127.0.0.1:{door}\"]\nallow_private = true");
    node.deploy(&App::probe("hops").with(&settings));
    let answer = node.get("hops", &format!("/fetch?url=http://127.0.0.1:{door}/")).await;
    assert!(!answer.text().contains("found"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbound_requests_are_counted_and_limited() {
    let node = TestNode::start();
    let port = origin("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nfound");
    let settings = format!(
        "allowed_hosts = [\"127.0.0.1:{port}\"]\nallow_private = true\nlimits = {{ outbound_requests = 3 }}"
    );
    node.deploy(&App::probe("chatty").with(&settings));
    node.get("chatty", &format!("/fetchmany?n=10&url=http://127.0.0.1:{port}/")).await;
    node.expect_log_code("chatty", "SQ0210");
}
