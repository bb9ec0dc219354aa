//! How long a request lives: beyond its response by `waitUntil`, no longer than its limits,
//! and what it learns when its client goes.

use std::time::{Duration, Instant};

use super::exchange::Exchange;
use crate::harness::{App, TestNode, wait_for};

const MODES: [&str; 2] = ["per-request", "shared"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_until_keeps_a_request_open_and_its_meter_running() {
    let source = "
        const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));
        function burn(ms: number): void {
          const end = performance.now() + ms;
          while (performance.now() < end);
        }
        export default {
          fetch(request: Request, env: unknown, ctx: any) {
            ctx.waitUntil(sleep(300).then(() => burn(150)).then(() => console.log('done at last')));
            ctx.waitUntil(sleep(1).then(() => { throw new Error('in the background'); }));
            return new Response('at once');
          },
        };";
    let node = TestNode::start();
    for mode in MODES {
        node.deploy(&App::typescript(mode, source).with(&format!("instances = {mode:?}")));
        node.get(mode, "/").await;
        node.expect_log_text(mode, "done at last");
        let asked = Instant::now();
        let answer = node.get(mode, "/").await;
        let answered = asked.elapsed();
        assert_eq!(answer.text(), "at once");
        let id = answer.headers["x-request-id"].to_str().unwrap();
        wait_for("the work after the response", || {
            node.logs(mode)
                .iter()
                .any(|entry| entry["message"] == "done at last" && entry["trace_id"] == id)
        });
        assert!(asked.elapsed() > Duration::from_millis(300));
        assert!(answered < asked.elapsed(), "{answered:?}");
        node.expect_log_text(mode, "in the background");
        wait_for("the records", || node.usage(mode)["total"]["invocations"] == 2);
        let total = node.usage(mode)["total"].clone();
        let cpu_ms = total["cpu_ns"].as_u64().unwrap() / 1_000_000;
        // Burnt by the wall clock: on a busy machine it is less.
        assert!(cpu_ms >= 60, "{cpu_ms} ms of CPU time for twice 150 ms of work");
        assert_eq!((&total["failed"], &total["aborted"]), (&0.into(), &0.into()), "{total}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_at_the_end_is_cancelled_and_said() {
    let source = "
        export default {
          fetch(request: Request, env: unknown, ctx: any) {
            if (new URL(request.url).pathname === '/forgotten') {
              setTimeout(() => console.log('never'), 20);
              setInterval(() => console.log('never'), 20);
            } else {
              ctx.waitUntil(new Promise(() => setInterval(() => {}, 50)));
            }
            return new Response('at once');
          },
        };";
    let node = TestNode::start();
    for mode in MODES {
        let settings = format!("instances = {mode:?}\nlimits = {{ wall_time_ms = 700 }}");
        node.deploy(&App::typescript(mode, source).with(&settings));
        assert_eq!(node.get(mode, "/forgotten").await.text(), "at once");
        node.expect_log_text(mode, "2 operations were under way");
        // waitUntil has a limit, too: the record is written when it has passed.
        assert_eq!(node.get(mode, "/waits").await.text(), "at once");
        wait_for("the record", || node.usage(mode)["total"]["invocations"] == 2);
        assert_eq!(node.get(mode, "/forgotten").await.text(), "at once");
        let never = node.logs(mode).iter().filter(|entry| entry["message"] == "never").count();
        assert_eq!(never, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_throws_may_leave_the_answer_to_the_assets() {
    let source = "
        export default {
          async fetch(request: Request, env: unknown, ctx: any) {
            if (request.method === 'GET') ctx.passThroughOnException();
            throw new Error('not today');
          },
        };";
    let node = TestNode::start();
    node.deploy(
        &App::typescript("site", source)
            .and("[assets]\ndir = \"public\"")
            .file("public/page.html", "<p>static</p>"),
    );
    let page = node.get("site", "/page.html").await;
    assert_eq!((page.status, page.text()), (200, "<p>static</p>"));
    assert_eq!(node.get("site", "/no-such-file").await.status, 500);
    assert_eq!(node.request("POST", "site", "/page.html", &[], "").await.status, 500);
    node.expect_log_text("site", "Error: not today");
    wait_for("the records", || node.usage("site")["total"]["failed"] == 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signal_of_a_request_tells_that_its_client_has_gone() {
    let source = "
        export default {
          async fetch(request: Request, env: unknown, ctx: any) {
            request.signal.addEventListener('abort', () => {
              console.log(`${request.signal.reason.name} while ${new URL(request.url).pathname.slice(1)}`);
            });
            if (new URL(request.url).pathname === '/waiting') {
              const gone = new Promise((done) => request.signal.addEventListener('abort', done));
              await Promise.race([gone, new Promise((done) => setTimeout(done, 20_000))]);
            }
            let timer: number;
            return new Response(new ReadableStream({
              start(controller) {
                timer = setInterval(() => controller.enqueue(new TextEncoder().encode('tick\\n')), 20);
              },
              cancel(reason) {
                clearInterval(timer);
                console.log(`cancelled: ${reason.name}`);
              },
            }));
          },
        };";
    let node = TestNode::start();
    for mode in MODES {
        node.deploy(&App::typescript(mode, source).with(&format!("instances = {mode:?}")));
        let request = node.get(mode, "/waiting");
        assert!(tokio::time::timeout(Duration::from_millis(200), request).await.is_err());
        node.expect_log_text(mode, "AbortError while waiting");

        let mut streaming = Exchange::get(&node, mode, "/streaming").await;
        assert_eq!(streaming.next().await.unwrap(), "tick\n");
        drop(streaming);
        node.expect_log_text(mode, "AbortError while streaming");
        node.expect_log_text(mode, "cancelled: AbortError");
        wait_for("the records", || node.usage(mode)["total"]["aborted"] == 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_was_promised_goes_on_without_the_client() {
    let source = "
        const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));
        export default {
          async fetch(request: Request, env: unknown, ctx: any) {
            ctx.waitUntil(sleep(600).then(() => console.log('kept the promise')));
            request.signal.addEventListener('abort', () => {
              ctx.waitUntil(sleep(100).then(() => console.log('cleaned up')));
            });
            await sleep(20_000);
            return new Response('too late');
          },
        };";
    let node = TestNode::start();
    for mode in MODES {
        let limits = "limits = { wall_time_ms = 2000 }";
        let settings = format!("instances = {mode:?}\n{limits}");
        node.deploy(&App::typescript(mode, source).with(&settings));
        let request = node.get(mode, "/");
        assert!(tokio::time::timeout(Duration::from_millis(200), request).await.is_err());
        node.expect_log_text(mode, "kept the promise");
        node.expect_log_text(mode, "cleaned up");
        // The handler itself is ended by its wall time.
        wait_for("the record", || node.usage(mode)["total"]["aborted"] == 1);
    }
}
