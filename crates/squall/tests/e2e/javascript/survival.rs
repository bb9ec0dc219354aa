//! What a node keeps of functions over kills, upgrades and a lost cache, and what it must
//! not keep: secrets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::exchange::Exchange;
use super::set_secret;
use crate::harness::{App, Load, TestNode, wait_for};

const ANSWER: &str = "
    import { format } from './format';
    const table = Array.from({ length: 1000 }, (_, n) => format(n));
    export default {
      async fetch(request: Request, env: any) {
        await new Promise((done) => setTimeout(done, 1));
        return Response.json({ entry: table[7], version: env.VERSION, key: env.API_KEY ?? null });
      },
    };";
const FORMAT: &str = "export const format = (n: number): string => `entry ${n}`;";

fn answering(name: &str, mode: &str) -> App {
    App::typescript(name, ANSWER)
        .file("src/format.ts", FORMAT)
        .with(&format!("instances = {mode:?}\nenv = {{ VERSION = \"v1\" }}"))
}

async fn check_answer(node: &TestNode, app: &str) {
    let answer = node.get(app, "/").await;
    assert_eq!(answer.status, 200, "{app}: {answer:?}");
    let answer = answer.json();
    assert_eq!((&answer["entry"], &answer["version"]), (&"entry 7".into(), &"v1".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_answer_after_a_kill_and_after_their_artifacts_are_gone() {
    let mut node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(&answering(mode, mode));
        check_answer(&node, mode).await;
    }
    node.kill();
    node.restart();
    for mode in ["per-request", "shared"] {
        check_answer(&node, mode).await;
    }

    // A revision is its bundle; what was made of it is a cache.
    node.kill();
    std::fs::remove_dir_all(node.data_dir().join("artifacts")).unwrap();
    node.restart();
    for mode in ["per-request", "shared"] {
        let answered = || {
            std::thread::scope(|threads| {
                let asking = threads.spawn(|| {
                    let runtime = tokio::runtime::Runtime::new().unwrap();
                    let answer = runtime.block_on(node.get(mode, "/"));
                    assert!([200, 503].contains(&answer.status), "{answer:?}");
                    answer.status == 200
                });
                asking.join().unwrap()
            })
        };
        wait_for("the function to be rebuilt", answered);
        check_answer(&node, mode).await;
    }
    node.deploy(&answering("another", "per-request"));
    check_answer(&node, "another").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_under_load_fail_no_request() {
    let node = TestNode::start();
    let loads: Vec<Load> = ["per-request", "shared"]
        .iter()
        .map(|mode| {
            node.deploy(&answering(mode, mode));
            Load::start(node.gateway(), &format!("{mode}.localhost"), "/", 4, |status, body| {
                let text = String::from_utf8_lossy(body);
                let right = status == 200 && text.contains("\"entry 7\"");
                if right { Ok(()) } else { Err(format!("{status} {text}")) }
            })
        })
        .collect();
    for _ in 0..5 {
        let upgraded = node.cli(&["upgrade"]);
        assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
    }
    for load in loads {
        let completed = load.completed.load(std::sync::atomic::Ordering::Relaxed);
        let failures = load.stop().await;
        assert_eq!(failures.first(), None, "one of {}", failures.len());
        assert!(completed > 50, "only {completed} requests were made");
    }
    node.deploy(&answering("after", "per-request"));
    check_answer(&node, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_streams_during_an_upgrade_comes_to_its_end() {
    let source = "
        export default {
          fetch: (request: Request, env: unknown, ctx: any) => {
            const { readable, writable } = new TransformStream<string, string>();
            ctx.waitUntil((async () => {
              const writer = writable.getWriter();
              for (let line = 0; line < 30; line++) {
                await writer.write(`line ${line}\n`);
                await new Promise((done) => setTimeout(done, 100));
              }
              await writer.close();
              console.log('wrote it all');
            })());
            return new Response(readable.pipeThrough(new TextEncoderStream()));
          },
        };";
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(&App::typescript(mode, source).with(&format!("instances = {mode:?}")));
        let mut exchange = Exchange::get(&node, mode, "/").await;
        exchange.expect("line 0\n").await;
        let upgraded = node.cli(&["upgrade"]);
        assert!(upgraded.status.success(), "{}", String::from_utf8_lossy(&upgraded.stderr));
        let rest: String = (1..30).map(|line| format!("line {line}\n")).collect();
        exchange.expect(&rest).await;
        assert_eq!(exchange.next().await, None);
        // What the old process still writes is in the file; the new one does not know of it.
        let log = node.data_dir().join("logs/functions.log");
        let wrote = || std::fs::read_to_string(&log).unwrap().matches("wrote it all").count();
        let expected = if mode == "shared" { 2 } else { 1 };
        wait_for("the last line of the old process", || wrote() == expected);
    }
}

/// Everything that a function may do with a secret short of sending it somewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_of_a_node_holds_a_secret() {
    const SECRET: &str = "sturm-und-regen-4711";
    let source = "
        import { env as imported } from 'cloudflare:workers';
        const seenAtLoad = Object.keys(process.env).length;
        let last = '';
        export default {
          async fetch(request: Request, env: any) {
            last = env.API_KEY;
            (globalThis as any).kept = { key: env.API_KEY, again: process.env.API_KEY, imported: (imported as any).API_KEY };
            const key = await crypto.subtle.importKey('raw', new TextEncoder().encode(last), { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
            const signed = new Uint8Array(await crypto.subtle.sign('HMAC', key, new TextEncoder().encode('text')));
            if (request.headers.get('x-key') === last) throw new Error('the key is right');
            return Response.json({ length: last.length, signed: [...signed.slice(0, 4)], seenAtLoad });
          },
        };";
    let mut node = TestNode::start();
    for mode in ["per-request", "shared"] {
        let app = App::typescript(mode, source).with(&format!("instances = {mode:?}"));
        node.deploy(&app);
        set_secret(&node, mode, "API_KEY", SECRET);
        // Again, so that a snapshot is made when the secret is known.
        node.deploy(&app.clone().file("src/unused.ts", "").with("env = { ROUND = \"2\" }"));
        assert_eq!(node.get(mode, "/").await.json()["length"], SECRET.len());
        let failed = node.request("GET", mode, "/", &[("x-key", SECRET)], "").await;
        assert_eq!(failed.status, 500);
        node.expect_log_text(mode, "the key is right");
        wait_for("the records", || node.usage(mode)["total"]["invocations"] == 2);
    }
    // The suite's own file.
    std::fs::remove_file(node.dir.path().join("secret")).unwrap();
    let stopped = tokio::task::spawn_blocking(move || (node.stop(), node));
    let (exit, node) = stopped.await.unwrap();
    assert_eq!(exit, Some(0));
    for folder in ["artifacts", "blobs", "logs", "usage"] {
        let searched = node.data_dir().join(folder);
        assert!(searched.read_dir().unwrap().count() > 0, "{folder} is empty");
    }
    assert_eq!(files_with(node.dir.path(), SECRET.as_bytes()), Vec::<String>::new());
}

/// A search would not find a secret that is compressed, as snapshots are: but then they
/// would differ from node to node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_the_same_whatever_the_secrets_are() {
    let source = "
        const names = Object.keys(process.env);
        const has = 'API_KEY' in process.env;
        export default { fetch: (request: Request, env: any) => Response.json({ names, has, key: env.API_KEY }) };";
    let mut snapshots = Vec::new();
    for secret in ["one-secret-value", "a-secret-value-of-another-length"] {
        let node = TestNode::start();
        node.deploy(&App::typescript("app", "export default { fetch: () => new Response('') };"));
        set_secret(&node, "app", "API_KEY", secret);
        node.deploy(&App::typescript("app", source));
        let answer = node.get("app", "/").await.json();
        assert_eq!((&answer["has"], &answer["key"]), (&true.into(), &secret.into()), "{answer}");
        snapshots.push(snapshots_of(&node));
    }
    assert_eq!(snapshots[0].len(), 2);
    assert!(snapshots[0] == snapshots[1], "the snapshots differ");
}

/// Their content by their name.
fn snapshots_of(node: &TestNode) -> BTreeMap<OsString, Vec<u8>> {
    let engines = std::fs::read_dir(node.data_dir().join("artifacts")).unwrap();
    let files = engines.flat_map(|engine| std::fs::read_dir(engine.unwrap().path()).unwrap());
    files
        .map(|file| file.unwrap())
        .filter(|file| file.path().extension().is_some_and(|kind| kind == "snapshot"))
        .map(|file| (file.file_name(), std::fs::read(file.path()).unwrap()))
        .collect()
}

/// Every file below a folder that holds these bytes, as they are or as UTF-16.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<String> {
    let wide: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read(&path).unwrap();
            let holds = |text: &[u8]| content.windows(text.len()).any(|window| window == text);
            if holds(bytes) || holds(&wide) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
