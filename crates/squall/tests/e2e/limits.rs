//! Each limit is breached: the status, the stable code, the log line, the record.

use std::io::{Read, Write};
use std::time::Duration;

use crate::harness::{App, TestNode, wait_for};

/// Deploys the probe with `settings`, asks for `path`, and expects the breach to be
/// visible everywhere it should be.
#[track_caller]
fn check(settings: &str, path: &str, status: u16, code: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = TestNode::start();
    node.deploy(&App::probe("limited").with(settings));
    let answer = runtime.block_on(node.request(
        "GET",
        "limited",
        path,
        &[("accept", "application/json")],
        "",
    ));
    assert_eq!(answer.status, status, "{answer:?}");
    if status >= 400 {
        assert_eq!(answer.code(), code);
        // The caller learns the class of the error, not the owner's business.
        assert!(!answer.text().contains("limits."), "{}", answer.text());
    }
    node.expect_log_code("limited", code);
    wait_for("the usage record", || node.usage("limited")["total"]["failed"] == 1);
    // The node is well.
    assert_eq!(runtime.block_on(node.get("limited", "/count")).status, 200);
}

#[test]
fn an_infinite_loop_ends_at_the_cpu_limit() {
    check("limits = { cpu_time_ms = 50 }", "/loop", 503, "SQ0202");
}

#[test]
fn a_slow_guest_ends_at_the_wall_time_limit() {
    check("limits = { wall_time_ms = 100 }", "/sleep?ms=60000", 504, "SQ0201");
}

#[test]
fn a_memory_bomb_ends_at_the_memory_limit() {
    check("limits = { memory_bytes = 33554432 }", "/grow", 503, "SQ0203");
}

#[test]
fn an_endless_body_is_broken_off() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = TestNode::start();
    node.deploy(&App::probe("limited").with("limits = { response_body_bytes = 1000000 }"));
    let answer = runtime.block_on(node.get("limited", "/endless"));
    assert_eq!(answer.status, 200, "the head was sent before the limit was reached");
    assert!(answer.broken && answer.body.len() <= 1_000_000, "{} bytes", answer.body.len());
    node.expect_log_code("limited", "SQ0205");
    wait_for("the usage record", || node.usage("limited")["total"]["aborted"] == 1);
}

#[test]
fn a_log_flood_is_cut_and_says_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = TestNode::start();
    node.deploy(&App::probe("limited").with("limits = { log_bytes = 1000 }"));
    assert_eq!(runtime.block_on(node.get("limited", "/logs?n=10000")).status, 200);
    node.expect_log_code("limited", "SQ0209");
    let bytes: usize = node
        .logs("limited")
        .iter()
        .filter(|entry| entry["source"] == "stdout")
        .map(|entry| entry["message"].as_str().unwrap().len())
        .sum();
    assert!(bytes <= 1000, "{bytes} bytes of log");
}

#[test]
fn a_trap_and_an_exit_and_no_response_are_told_apart() {
    check("", "/trap", 500, "SQ0200");
    check("", "/noresponse", 500, "SQ0204");
    check("", "/exit", 500, "SQ0213");
}

#[test]
fn a_large_request_body_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = TestNode::start();
    node.deploy(&App::probe("limited").with("limits = { request_body_bytes = 1000 }"));
    let refused = runtime.block_on(node.request(
        "POST",
        "limited",
        "/echo",
        &[("accept", "application/json")],
        vec![b'x'; 1001],
    ));
    assert_eq!((refused.status, refused.code().as_str()), (413, "SQ0105"));
    let taken = runtime.block_on(node.request("POST", "limited", "/echo", &[], vec![b'x'; 1000]));
    assert_eq!((taken.status, taken.body.len()), (200, 1000));
}

#[test]
fn a_slow_client_is_cut_off() {
    let node = TestNode::start_with("[gateway]\nhead_timeout_ms = 300\n");
    node.deploy(&App::probe("limited"));
    let mut client = std::net::TcpStream::connect(node.gateway()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: limited.localhost\r\nX-Slow: ").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_queued_requests_are_served_or_refused_and_the_node_stays_well() {
    let node = TestNode::start();
    let limits = "limits = { concurrency = 4, queue = 50, queue_time_ms = 2000 }";
    node.deploy(&App::probe("busy").with(limits));
    node.deploy(&App::probe("calm"));
    let address = node.gateway();
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    for _ in 0..40 {
        let mut wave = tokio::task::JoinSet::new();
        for _ in 0..250 {
            let host = "busy.localhost";
            wave.spawn(async move {
                let none = bytes::Bytes::new();
                crate::harness::request(address, host, "GET", "/sleep?ms=5", &[], none).await
            });
        }
        while let Some(answer) = wave.join_next().await {
            *statuses.entry(answer.unwrap().unwrap().status).or_default() += 1;
        }
    }
    assert_eq!(statuses.values().sum::<u32>(), 10_000);
    assert!(statuses.keys().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses[&200] >= 40 * 50 && statuses[&503] > 0, "{statuses:?}");
    node.expect_log_code("busy", "SQ0206");
    assert_eq!(node.get("calm", "/count").await.status, 200);
    wait_for("a record for each of them", || node.usage("busy")["total"]["invocations"] == 10_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_instance_that_traps_takes_only_itself_down() {
    let node = TestNode::start();
    let shared = "instances = \"shared\"";
    node.deploy(&App::probe("shared").with(shared));
    let first = node.get("shared", "/count").await.text().to_owned();
    let second = node.get("shared", "/count").await.text().to_owned();
    assert_ne!(first, second, "a shared instance keeps its globals");
    assert_eq!(node.get("shared", "/trap").await.status, 500);
    assert_eq!(node.get("shared", "/count").await.status, 200);
}
