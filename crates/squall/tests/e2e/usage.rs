//! The ledger counts what the clients saw.

use crate::harness::{App, TestNode, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn completed_failed_and_aborted_requests_are_all_counted() {
    let node = TestNode::start();
    node.deploy(&App::probe("metered"));
    for _ in 0..50 {
        node.get("metered", "/count").await;
    }
    for _ in 0..5 {
        node.get("metered", "/trap").await;
    }
    for _ in 0..5 {
        // The client leaves while the guest sleeps.
        let request = node.get("metered", "/sleep?ms=30000");
        let gone = tokio::time::timeout(std::time::Duration::from_millis(100), request).await;
        assert!(gone.is_err());
    }
    wait_for("all records", || node.usage("metered")["total"]["invocations"] == 60);
    let total = node.usage("metered")["total"].clone();
    assert_eq!((&total["failed"], &total["aborted"]), (&5.into(), &5.into()), "{total}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_survive_kill_9_but_for_the_flush_window() {
    let mut node = TestNode::start();
    node.deploy(&App::probe("metered"));
    for _ in 0..200 {
        node.get("metered", "/count").await;
    }
    // Beyond the documented window of one second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    node.kill();
    node.restart();
    assert_eq!(node.usage("metered")["total"]["invocations"], 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cpu_time_of_a_busy_function_is_what_it_burnt() {
    let node = TestNode::start();
    node.deploy(&App::probe("busy"));
    for _ in 0..20 {
        assert_eq!(node.get("busy", "/spin?ms=30").await.status, 200);
    }
    wait_for("all records", || node.usage("busy")["total"]["invocations"] == 20);
    let cpu_ms = node.usage("busy")["total"]["cpu_ns"].as_u64().unwrap() as f64 / 20e6;
    // The guest burns by the wall clock, so CPU can only be less; a machine that steals
    // time makes it less still. The exact comparison is `make bench`'s.
    assert!((3.0..33.0).contains(&cpu_ms), "{cpu_ms} ms for a spin of 30 ms");
}
