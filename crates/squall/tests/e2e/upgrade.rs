//! Handing over to a new server process without a dropped request.

use crate::harness::{App, Load, TestNode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_upgrades_under_load_fail_no_request() {
    let node = TestNode::start();
    node.deploy(&App::new("hello", squall_testkit::HELLO));
    let load = Load::start(node.gateway(), "hello.localhost", "/", 8, |status, _| {
        if status == 200 { Ok(()) } else { Err(format!("status {status}")) }
    });
    let mut pids = std::collections::HashSet::from([node.server_pid()]);
    for round in 1..=20 {
        let upgraded = node.cli(&["upgrade"]);
        assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
        assert!(pids.insert(node.server_pid()), "upgrade {round} left the old process in place");
    }
    assert_eq!(load.stop().await, Vec::<String>::new());
    // The new process has the state of the old, and changes still work.
    node.deploy(&App::probe("after"));
    assert_eq!(node.get("after", "/count").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_runs_during_an_upgrade_is_finished_by_the_old_process() {
    let node = TestNode::start();
    node.deploy(&App::probe("slow"));
    let address = node.gateway();
    let running = tokio::spawn(async move {
        let none = bytes::Bytes::new();
        crate::harness::request(address, "slow.localhost", "GET", "/sleep?ms=1500", &[], none).await
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let upgraded = node.cli(&["upgrade"]);
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    assert_eq!(running.await.unwrap().unwrap().status, 200);
}

/// The disk of its log may be full, and the terminal that it was started in closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_hears_goes_on() {
    let node = TestNode::start_unheard();
    node.deploy(&App::probe("quiet"));
    let upgraded = node.cli(&["upgrade"]);
    assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    let server = node.server_pid();
    node.signal(server, libc::SIGSEGV);
    crate::harness::wait_for("another server", || node.server_pid() != server);
    node.wait_until_serving();
    assert_eq!(node.get("quiet", "/count").await.status, 200);
}
