//! What one request leaves behind is not there for the next.

use crate::harness::{App, TestNode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_in_globals_and_freed_heap_never_reaches_another_request() {
    let node = TestNode::start();
    node.deploy(&App::probe("one"));
    node.deploy(&App::probe("two"));
    let node = std::sync::Arc::new(node);
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let node = node.clone();
            tokio::spawn(async move {
                for round in 0..50 {
                    let app = if (client + round) % 2 == 0 { "one" } else { "two" };
                    let secret = format!("TOPSECRET{client:03}{round:05}");
                    let kept = node.get(app, &format!("/leak?set={secret}")).await;
                    assert_eq!(kept.status, 200);
                    for app in ["one", "two"] {
                        let found = node.get(app, "/leak").await;
                        assert_eq!(found.status, 200);
                        assert!(!found.text().contains("TOPSECRET"), "{}", found.text());
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(node.get("one", "/count").await.text(), node.get("one", "/count").await.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_instance_shows_what_the_check_would_find() {
    let node = TestNode::start();
    node.deploy(&App::probe("open").with("instances = \"shared\""));
    node.get("open", "/leak?set=TOPSECRET00000001").await;
    // There is an instance for each core; one of them has it.
    let mut found = false;
    for _ in 0..50 {
        found |= node.get("open", "/leak").await.text().contains("TOPSECRET");
    }
    assert!(found, "the probe must be able to find a secret, or the other test proves nothing");
}
