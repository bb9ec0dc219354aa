//! The server dies at any moment, and what its disk says afterwards is true or nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::{Origin, Reply, Seen, deploy};
use crate::harness::{TestNode, request};

/// A body that says which URL it belongs to, from its first byte to its last.
fn body_of(path: &str) -> String {
    let number: usize = path[1..].parse().unwrap();
    let length = 1_000 + number * 7_919 % 60_000;
    path.chars().cycle().take(length).collect()
}

fn respond(seen: &Seen) -> Reply {
    Reply::new(200, body_of(&seen.path)).with("cache-control", "max-age=86400")
}

/// A hundred rounds with `SQUALL_CRASH_ROUNDS=100`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_is_wrong_after_kill_9() {
    let rounds = std::env::var("SQUALL_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u64 = rounds.unwrap_or(4);
    let origin = Origin::start(respond).await;
    // A small memory: most of what is read comes from the disk.
    let mut node = TestNode::start_with("[cache]\nmemory_bytes = 1000000\ndisk_bytes = 20000000\n");
    deploy(&node, &origin, "");
    let hits = Arc::new(AtomicU64::new(0));
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let (stop, hits, gateway) = (stop.clone(), hits.clone(), node.gateway());
                tokio::spawn(async move {
                    let mut number = client * 131 + round as usize * 17;
                    while !stop.load(Ordering::Relaxed) {
                        number = (number * 31 + 7) % 1_500;
                        let path = format!("/{number}");
                        let host = "front.localhost";
                        let Ok(answer) =
                            request(gateway, host, "GET", &path, &[], bytes::Bytes::new()).await
                        else {
                            continue;
                        };
                        if answer.status != 200 || answer.broken {
                            continue;
                        }
                        assert!(answer.text() == body_of(&path), "{path} has another's bytes");
                        let status = answer.headers["cache-status"].to_str().unwrap().to_owned();
                        if status.contains("hit") {
                            hits.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300 + round * 37 % 400)).await;
        node.kill();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        node.restart();
    }
    assert!(hits.load(Ordering::Relaxed) > 0);
}
