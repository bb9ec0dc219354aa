//! Many requests: what each of them took is given back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::harness::{App, Load, TestNode};

const BUSY: &str = "
    import { AsyncLocalStorage } from 'node:async_hooks';
    const storage = new AsyncLocalStorage<string>();
    const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
    let served = 0;
    async function afterwards(): Promise<void> {
      await sleep(1);
      if (storage.getStore() !== 'mine') console.error('the storage was lost');
    }
    export default {
      fetch(request: Request, env: unknown, ctx: any): Promise<Response> {
        served++;
        return storage.run('mine', async () => {
          const forgotten = setTimeout(() => console.error('never'), 1000);
          ctx.waitUntil(afterwards());
          const text = JSON.stringify({ served, headers: [...request.headers] });
          await sleep(0);
          clearTimeout(forgotten);
          return new Response(text);
        });
      },
    };";

/// `SQUALL_LARGE` asks for the two million.
fn requests() -> u64 {
    if std::env::var_os("SQUALL_LARGE").is_some() { 2_000_000 } else { 12_000 }
}

async fn serve(node: &TestNode, app: &str, requests: u64) {
    let load = Load::start(node.gateway(), &format!("{app}.localhost"), "/", 8, |status, _| {
        if status == 200 { Ok(()) } else { Err(format!("status {status}")) }
    });
    while load.completed.load(Ordering::Relaxed) < requests {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(load.stop().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_and_files_are_flat_over_many_requests() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        let shared = "shared = { max_requests = 4000000000 }";
        node.deploy(&App::typescript(mode, BUSY).with(&format!("instances = {mode:?}\n{shared}")));
        serve(&node, mode, requests() / 2).await;
        let (memory, files) = (node.resident_bytes(), node.open_files());
        serve(&node, mode, requests()).await;
        // What logs and the ledger hold is a part of it.
        let most = memory + memory / 10 + (8 << 20);
        let now = node.resident_bytes();
        assert!(now < most, "{mode}: {now} bytes after {memory}");
        assert!(
            node.open_files() <= files + 8,
            "{mode}: {} files after {files}",
            node.open_files()
        );
        let complaints: Vec<_> =
            node.logs(mode).into_iter().filter(|entry| entry["source"] != "access").collect();
        assert_eq!(complaints, Vec::<serde_json::Value>::new());
    }
}
