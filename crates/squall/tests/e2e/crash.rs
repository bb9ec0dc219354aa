//! kill -9 at random moments: what was acknowledged is there, nothing is half-there.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::harness::{App, Load, TestNode, wait_for};

/// `SQUALL_CRASH_ROUNDS` raises the count; `make soak` asks for 50.
fn rounds() -> u32 {
    std::env::var("SQUALL_CRASH_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_kill_9() {
    let mut node = TestNode::start();
    let version = |n: u32| App::probe("live").with(&format!("env = {{ VERSION = \"v{n}\" }}"));
    node.deploy(&version(0));
    let mut acknowledged = 0;
    for round in 1..=rounds() {
        // Deploy and set a secret again and again in the background until the kill.
        let folder = node.write_app(&version(round));
        let data_dir = node.data_dir();
        let secret = node.dir.path().join(format!("secret-{round}"));
        std::fs::write(&secret, format!("s{round}")).unwrap();
        let writer = std::thread::spawn(move || {
            let run = |arguments: &[&str]| {
                std::process::Command::new(crate::harness::SQUALL)
                    .args(arguments)
                    .env("SQUALL_DATA_DIR", &data_dir)
                    .output()
                    .unwrap()
                    .status
                    .success()
            };
            let deployed = run(&["deploy", folder.to_str().unwrap()]);
            let set = deployed
                && run(&[
                    "secrets",
                    "set",
                    "live",
                    "ROUND",
                    "--from-file",
                    secret.to_str().unwrap(),
                ]);
            (deployed, set)
        });
        // Anywhere from the start of the upload to after the secret.
        let moment = Duration::from_millis(u64::from(round * 7919 % 160));
        tokio::time::sleep(moment).await;
        node.kill();
        let (deployed, set) = writer.join().unwrap();
        let started = Instant::now();
        node.restart();
        let start_up = started.elapsed();
        let now = node.get("live", "/env").await;
        assert_eq!(now.status, 200, "round {round}: {now:?}");
        let now = now.json();
        let live: u32 = now["VERSION"].as_str().unwrap()[1..].parse().unwrap();
        if deployed {
            assert_eq!(live, round, "an acknowledged deploy is gone");
        } else {
            // Not acknowledged: it may be there whole or not at all.
            assert!(live == round || live == acknowledged, "round {round}: v{live} is live");
        }
        if set {
            assert_eq!(now["ROUND"], format!("s{round}"), "an acknowledged secret is gone");
        }
        acknowledged = live;
        eprintln!(
            "round {round}: killed after {moment:?}, deployed {deployed}, up in {start_up:?}"
        );
        let staging = node.data_dir().join("staging");
        assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0, "half an upload is left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_by_a_signal_is_back_and_leaves_a_report() {
    let node = TestNode::start();
    node.deploy(&App::new("hello", squall_testkit::HELLO));
    let before = node.server_pid();
    node.signal(before, libc::SIGSEGV);
    wait_for("another server process", || {
        node.facts().is_some_and(|facts| facts["pid"].as_u64() != Some(before.into()))
    });
    // A connection made while there was no server waits in the supervisor's socket.
    assert_eq!(node.get("hello", "/").await.status, 200);
    wait_for("the crash report", || {
        std::fs::read_dir(node.data_dir().join("crashes")).is_ok_and(|found| found.count() == 1)
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_runs_and_exits_with_zero() {
    let node = TestNode::start();
    node.deploy(&App::probe("slow"));
    let address = node.gateway();
    let running = tokio::spawn(async move {
        let none = bytes::Bytes::new();
        crate::harness::request(address, "slow.localhost", "GET", "/sleep?ms=600", &[], none).await
    });
    let load = Load::start(address, "slow.localhost", "/count", 1, |_, _| Ok(()));
    wait_for("some requests", || load.completed.load(Ordering::Relaxed) > 10);
    let exit = tokio::task::spawn_blocking(move || node.terminate()).await.unwrap();
    assert_eq!(exit, Some(0));
    assert_eq!(running.await.unwrap().unwrap().status, 200);
    drop(load);
}
