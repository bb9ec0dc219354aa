//! What a program did not want, and where its owner reads of it.

use crate::harness::{App, TestNode};

const FAILING: &str = "import { deep } from './lib/deep';

type Path = '/throw' | '/reject' | '/text' | '/nothing' | '/callback' | '/unhandled' | '/absent';

export default {
  async fetch(request: Request): Promise<Response> {
    const path = new URL(request.url).pathname as Path;
    switch (path) {
      case '/throw':
        return deep(3);
      case '/reject':
        await new Promise((done) => setTimeout(done, 1));
        throw new TypeError('after a while');
      case '/text':
        throw 'just text';
      case '/nothing':
        return undefined as unknown as Response;
      case '/callback':
        setTimeout(() => {
          throw new Error('in a callback');
        }, 1);
        await new Promise((done) => setTimeout(done, 20));
        return new Response('went on');
      case '/unhandled':
        Promise.reject(new Error('nobody waits for this'));
        return new Response('went on');
      case '/absent':
        new (globalThis as any).WebSocketPair();
    }
    return new Response('well');
  },
};
";

const DEEP: &str = "export function deep(levels: number): never {
  // The line of the source is another than that of the bundle.
  const next: number = levels - 1;
  if (next < 0) throw new RangeError('too deep');
  return deep(next);
}
";

fn failing(name: &str, mode: &str) -> App {
    App::typescript(name, FAILING)
        .file("src/lib/deep.ts", DEEP)
        .with(&format!("instances = {mode:?}"))
}

#[track_caller]
fn check_log(node: &TestNode, app: &str, says: &[&str]) {
    let entry = node.expect_log_text(app, says[0]);
    let message = entry["message"].as_str().unwrap();
    for part in says {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
    assert!(!message.contains("bundle.js"), "{message}");
    assert_eq!(entry["level"], "error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_is_a_500_and_its_stack_is_that_of_the_source() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(&failing(mode, mode));
        for (path, says) in [
            (
                "/throw",
                &[
                    "RangeError: too deep",
                    "deep (src/lib/deep.ts:4:",
                    "src/lib/deep.ts:5:",
                    "fetch (src/index.ts:10:",
                ][..],
            ),
            ("/reject", &["TypeError: after a while", "src/index.ts:13:"]),
            ("/text", &["just text"]),
            ("/nothing", &["did not return a Response"]),
            ("/absent", &["WebSocketPair is not offered by this runtime", "src/index.ts:28:"]),
        ] {
            let json = [("accept", "application/json")];
            let answer = node.request("GET", mode, path, &json, "").await;
            assert_eq!((answer.status, answer.code().as_str()), (500, "SQ0219"), "{path}");
            assert!(
                !answer.text().contains(says[0]),
                "the caller learns little: {}",
                answer.text()
            );
            check_log(&node, mode, says);
            assert_eq!(node.get(mode, "/well").await.text(), "well");
        }
        let with_code = node
            .logs(mode)
            .iter()
            .filter(|entry| entry["code"] == "SQ0219" && entry["source"] == "platform")
            .count();
        assert_eq!(with_code, 5, "each is logged once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_reach_nobody_are_logged() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(&failing(mode, mode));
        let answer = node.get(mode, "/unhandled").await;
        assert_eq!((answer.status, answer.text()), (200, "went on"));
        check_log(
            &node,
            mode,
            &["Error: nobody waits for this", "unhandled rejection", "src/index.ts:25:"],
        );
        let answer = node.get(mode, "/callback").await;
        assert_eq!((answer.status, answer.text()), (200, "went on"));
        check_log(&node, mode, &["Error: in a callback", "uncaught", "src/index.ts:20:"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_console_writes_with_level_and_request_id() {
    let source = "export default {
      fetch(request: Request) {
        const id = request.headers.get('x-request-id');
        console.debug('debug', id);
        console.log('log', { a: [1, 'two', null], b: new Map([['k', 1n]]) });
        console.info('%s is %d', 'six', 6);
        console.warn('warn');
        console.error(new TypeError('shown'));
        console.assert(1 > 2, 'wrong');
        console.trace('here');
        return new Response(id);
      },
    };";
    let node = TestNode::start();
    node.deploy(&App::typescript("talk", source));
    let answer = node.get("talk", "/").await;
    let id = answer.headers["x-request-id"].to_str().unwrap();
    assert_eq!(answer.text(), id);
    node.expect_log_text("talk", "Trace: here");
    let entries: Vec<_> =
        node.logs("talk").into_iter().filter(|entry| entry["source"] != "access").collect();
    let said: Vec<(&str, &str)> = entries
        .iter()
        .map(|entry| {
            assert_eq!(entry["trace_id"], id);
            let message = entry["message"].as_str().unwrap();
            (entry["level"].as_str().unwrap(), message.lines().next().unwrap())
        })
        .collect();
    let debug = format!("debug {id}");
    assert_eq!(
        said,
        [
            ("debug", debug.as_str()),
            ("info", "log { a: [ 1, 'two', null ], b: Map(1) { 'k' => 1n } }"),
            ("info", "six is 6"),
            ("warn", "warn"),
            ("error", "TypeError: shown"),
            ("error", "Assertion failed: wrong"),
            ("info", "Trace: here"),
        ]
    );
    let stacks: Vec<&str> =
        entries.iter().map(|entry| entry["message"].as_str().unwrap()).collect();
    assert!(stacks[4].contains("src/index.ts:8:"), "{}", stacks[4]);
    // `--trace` finds all of it.
    let of_trace = node.cli(&["logs", "--trace", id, "--json"]);
    assert_eq!(String::from_utf8_lossy(&of_trace.stdout).lines().count(), 8);
}
