//! `fetch` to the network, by way of the guard that every function has.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use super::exchange::Exchange;
use crate::harness::{App, TestNode};

/// A server that hands each connection, with the head of its request, to `answer`.
fn origin(answer: impl Fn(&str, TcpStream) + Send + Sync + Clone + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                answer(&String::from_utf8_lossy(&head), stream);
            });
        }
    });
    port
}

const CLOSE: &str = "Connection: close\r\n\r\n";

fn reaching(port: u16, name: &str, source: &str) -> App {
    App::typescript(name, source).with(&format!(
        "allowed_hosts = [\"127.0.0.1:{port}\"]\nallow_private = true\nenv = {{ ORIGIN = \"http://127.0.0.1:{port}\" }}"
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_go_out_with_their_trace_and_follow_redirects() {
    let port = origin(|head, mut stream| {
        let path = head.split(' ').nth(1).unwrap();
        let answer = match path {
            "/from" => {
                format!("HTTP/1.1 302 Found\r\nLocation: /to\r\nContent-Length: 0\r\n{CLOSE}")
            }
            _ => format!(
                "HTTP/1.1 203 Fine Enough\r\nContent-Length: {}\r\n{CLOSE}{head}",
                head.len()
            ),
        };
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let source = "
        export default {
          async fetch(request: Request, env: any) {
            const response = await fetch(`${env.ORIGIN}/from`, { method: 'POST', body: 'text', headers: { 'x-own': 'yes' } });
            const { status, statusText, redirected, url } = response;
            return Response.json({ status, statusText, redirected, url, head: await response.text() });
          },
        };";
    let node = TestNode::start();
    node.deploy(&reaching(port, "out", source));
    let answer = node.get("out", "/").await;
    let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    let answer = answer.json();
    assert_eq!((&answer["status"], &answer["statusText"]), (&203.into(), &"Fine Enough".into()));
    assert_eq!(
        (&answer["redirected"], &answer["url"]),
        (&true.into(), &format!("http://127.0.0.1:{port}/to").into())
    );
    let head = answer["head"].as_str().unwrap();
    assert!(head.starts_with("GET /to HTTP/1.1\r\n") && head.contains("x-own: yes"), "{head}");
    assert!(head.contains(&format!("traceparent: 00-{id}-")), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_reached_is_an_exception_with_a_code_in_the_log() {
    let source = "
        export default {
          async fetch(request: Request, env: any) {
            try {
              const signal = AbortSignal.timeout(300);
              await fetch(new URL(request.url).searchParams.get('url')!, { signal });
              return new Response('reached');
            } catch (error) {
              return new Response(`${(error as Error).name}: ${(error as Error).message}`);
            }
          },
        };";
    let port = origin(|_, stream| {
        // It never answers.
        std::thread::sleep(Duration::from_secs(20));
        drop(stream);
    });
    let node = TestNode::start();
    node.deploy(&reaching(port, "out", source));
    let denied = node.get("out", "/?url=http://example.com/").await;
    assert!(denied.text().starts_with("TypeError: "), "{}", denied.text());
    assert!(denied.text().contains("allowed_hosts"), "{}", denied.text());
    node.expect_log_code("out", "SQ0211");
    let late = node.get("out", &format!("/?url=http://127.0.0.1:{port}/")).await;
    assert!(late.text().starts_with("TimeoutError: "), "{}", late.text());
}

/// A response of another server flows through as it comes, and as fast as it is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_streams_through_and_ends_with_its_client() {
    let port = origin(|_, mut stream| {
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{CLOSE}").as_bytes());
        for n in 0.. {
            // Fails when the function does not read any more.
            if stream.write_all(format!("part {n}\n").as_bytes()).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let source = "
        export default {
          async fetch(request: Request, env: any) {
            const response = await fetch(env.ORIGIN, { signal: request.signal });
            if (request.url.endsWith('/as-it-is')) return response;
            const text = response.body!.pipeThrough(new TextDecoderStream());
            const upper = new TransformStream<string, string>({
              transform: (part, controller) => controller.enqueue(part.toUpperCase()),
            });
            return new Response(text.pipeThrough(upper).pipeThrough(new TextEncoderStream()));
          },
        };";
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(&reaching(port, mode, source).with(&format!("instances = {mode:?}")));
        let mut exchange = Exchange::get(&node, mode, "/as-it-is").await;
        exchange.expect("part 0\n").await;
        exchange.expect("part 1\n").await;
        drop(exchange);
        let mut exchange = Exchange::get(&node, mode, "/upper").await;
        exchange.expect("PART 0\n").await;
        exchange.expect("PART 1\n").await;
        drop(exchange);
        crate::harness::wait_for("the records", || node.usage(mode)["total"]["aborted"] == 2);
    }
}
