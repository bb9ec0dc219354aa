//! Functions that call each other in process.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::exchange::{Exchange, body};
use crate::harness::{App, TestNode, wait_for};

const CALLER: &str = "
    export default {
      async fetch(request: Request, env: Record<string, { fetch: typeof fetch }>) {
        const name = new URL(request.url).pathname.split('/')[1]!;
        console.log(`calls ${name}`);
        try {
          return await env[name].fetch(request);
        } catch (error) {
          return new Response(`${error}`, { status: 502 });
        }
      },
    };";

const CALLEE: &str = "
    export default {
      async fetch(request: Request, env: { NAME: string }) {
        console.log(`is called as ${env.NAME}`);
        const url = new URL(request.url);
        if (url.pathname.endsWith('/throw')) throw new Error('the callee is unwell');
        if (url.pathname.endsWith('/upper')) {
          const upper = new TransformStream<string, string>({
            transform: (text, controller) => controller.enqueue(text.toUpperCase()),
          });
          const body = request.body!.pipeThrough(new TextDecoderStream()).pipeThrough(upper);
          return new Response(body.pipeThrough(new TextEncoderStream()));
        }
        const headers = { 'x-name': env.NAME, 'x-method': request.method, 'x-asked': request.headers.get('x-asked') ?? '' };
        return new Response(`${url.pathname}${url.search} ${await request.text()}`, { status: 201, headers });
      },
    };";

/// `front` calls `back`, which lies beside it, and `other`, which is an app of its own.
fn deploy_both(node: &TestNode, mode: &str) {
    node.deploy(
        &App::typescript("other", CALLEE)
            .with(&format!("env = {{ NAME = \"other\" }}\ninstances = {mode:?}")),
    );
    let services = "[functions.api.services]\nBACK = \"back\"\nOTHER = \"other/api\"\nLOST = \"nobody/api\"\nWRONG = \"other/nothing\"";
    let back = "[functions.back]\nsource = \"src/back.ts\"\nroutes = []\nenv = { NAME = \"back\" }";
    node.deploy(
        &App::typescript("front", CALLER)
            .with(&format!("instances = {mode:?}"))
            .and(services)
            .and(&format!("{back}\ninstances = {mode:?}"))
            .file("src/back.ts", CALLEE),
    );
}

fn row<'a>(usage: &'a Value, function: &str) -> &'a Value {
    usage["rows"].as_array().unwrap().iter().find(|row| row["function"] == function).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_the_same_or_another_app_is_called_metered_and_traced() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        deploy_both(&node, mode);
        for (binding, name) in [("BACK", "back"), ("OTHER", "other")] {
            let path = format!("/{binding}/a?b=c");
            let answer =
                node.request("POST", "front", &path, &[("x-asked", mode)], "with a body").await;
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.text(), format!("{path} with a body"));
            let header = |name: &str| answer.headers[name].to_str().unwrap();
            assert_eq!(
                (header("x-name"), header("x-method"), header("x-asked")),
                (name, "POST", mode)
            );

            let id = header("x-request-id");
            wait_for("the log of both under one trace", || {
                let output = node.cli(&["logs", "--trace", id, "--json"]);
                let logged = String::from_utf8(output.stdout).unwrap();
                logged.contains(&format!("calls {binding}"))
                    && logged.contains(&format!("is called as {name}"))
            });
        }
        let routed = node.get("back", "/").await;
        assert_eq!(routed.status, 404, "a function without routes is reached by its binding alone");
    }
    wait_for("the records", || {
        let (front, other) = (node.usage("front"), node.usage("other"));
        front["total"]["invocations"] == 6 && other["total"]["invocations"] == 2
    });
    let front = node.usage("front");
    let of_api: u64 = front["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["trigger"] == "http")
        .map(|row| row["totals"]["invocations"].as_u64().unwrap())
        .sum();
    assert_eq!(of_api, 4);
    assert_eq!(row(&front, "back")["trigger"], "service");
    assert_eq!(row(&node.usage("other"), "api")["trigger"], "service");
    assert_eq!(row(&front, "back")["totals"]["failed"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_through_a_service_in_both_directions() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        deploy_both(&node, mode);
        for binding in ["BACK", "OTHER"] {
            let (pieces, body) = body();
            pieces.send(Bytes::from_static(b"first ")).await.unwrap();
            let path = format!("/{binding}/upper");
            let mut exchange = Exchange::begin(&node, "POST", "front", &path, body).await;
            assert_eq!(exchange.head.status, 200);
            // Each answer comes before the next piece is sent: nothing collects the body.
            exchange.expect("FIRST ").await;
            for piece in ["second ", "third "] {
                pieces.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
                exchange.expect(&piece.to_uppercase()).await;
            }
            drop(pieces);
            assert_eq!(exchange.next().await, None);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_in_a_service_is_told_to_the_caller_by_its_code() {
    let node = TestNode::start();
    deploy_both(&node, "per-request");
    for (path, code) in [
        ("/BACK/throw", "SQ0219"),
        ("/OTHER/throw", "SQ0219"),
        ("/LOST/", "SQ0309"),
        ("/WRONG/", "SQ0309"),
    ] {
        let answer = node.get("front", path).await;
        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        assert!(answer.text().contains(code), "{path}: {}", answer.text());
        assert!(!answer.text().contains("unwell"), "{}", answer.text());
    }
    // Each app's log has its own part of it.
    node.expect_log_text("other", "the callee is unwell");
    node.expect_log_text("front", "env.LOST");

    let unknown = App::typescript("broken", CALLER).with("services = { BACK = \"nowhere\" }");
    let folder = node.write_app(&unknown);
    let refused = node.cli(&["deploy", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no such function"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_call_each_other_in_a_circle_are_stopped() {
    let source = "
        export default {
          async fetch(request: Request, env: any) {
            try {
              return await env.NEXT.fetch(request);
            } catch (error) {
              return new Response(`${error}`, { status: 508 });
            }
          },
        };";
    let node = TestNode::start();
    node.deploy(&App::typescript("ping", source).with("services = { NEXT = \"pong/api\" }"));
    node.deploy(&App::typescript("pong", source).with("services = { NEXT = \"ping/api\" }"));
    let answer = node.get("ping", "/").await;
    assert_eq!(answer.status, 508);
    assert!(answer.text().contains("SQ0220"), "{}", answer.text());
    // 17 functions ran: the client's own and 16 calls.
    let ran = || {
        ["ping", "pong"]
            .map(|app| node.usage(app)["total"]["invocations"].as_u64().unwrap())
            .iter()
            .sum::<u64>()
    };
    wait_for("a record for each", || ran() == 17);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_is_noticed_through_all_services() {
    let callee = "
        export default {
          async fetch(request: Request) {
            request.signal.addEventListener('abort', () => console.log('told that nobody waits'));
            await new Promise((done) => setTimeout(done, 20_000));
            return new Response('too late');
          },
        };";
    let limits = "limits = { wall_time_ms = 3000 }";
    let node = TestNode::start();
    node.deploy(&App::typescript("last", callee).with(limits));
    let next = |app: &str| format!("services = {{ NEXT = \"{app}/api\" }}\n{limits}");
    let source =
        "export default { fetch: (request: Request, env: any) => env.NEXT.fetch(request) };";
    node.deploy(&App::typescript("middle", source).with(&next("last")));
    node.deploy(&App::typescript("first", source).with(&next("middle")));
    let request = node.get("first", "/");
    assert!(tokio::time::timeout(Duration::from_millis(300), request).await.is_err());
    node.expect_log_text("last", "told that nobody waits");
    for app in ["first", "middle", "last"] {
        wait_for("the record", || node.usage(app)["total"]["invocations"] == 1);
    }
}
