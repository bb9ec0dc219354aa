//! What a function may export or register, and the files that it may be made of.

use crate::harness::{App, TestNode, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_handler_answers() {
    let forms = [
        (
            "object",
            "export default {
               greeting: 'hello',
               async fetch(request: Request, env: { WHO: string }, ctx: { waitUntil(p: Promise<unknown>): void }) {
                 ctx.waitUntil(Promise.resolve());
                 return new Response(`${this.greeting} ${env.WHO} ${new URL(request.url).pathname}`);
               },
             };",
        ),
        (
            "class",
            "export default class {
               #greeting = 'hello';
               constructor(readonly ctx: unknown, readonly env: { WHO: string }) {}
               fetch(request: Request) {
                 return new Response(`${this.#greeting} ${this.env.WHO} ${new URL(request.url).pathname}`);
               }
             }",
        ),
        (
            "entrypoint",
            "import { WorkerEntrypoint } from 'cloudflare:workers';
             export default class Greeter extends WorkerEntrypoint<{ WHO: string }> {
               async fetch(request: Request) {
                 return new Response(`hello ${this.env.WHO} ${new URL(request.url).pathname}`);
               }
             }",
        ),
        (
            "listener",
            "addEventListener('fetch', (event: any) => {
               const { pathname } = new URL(event.request.url);
               event.waitUntil(Promise.resolve());
               event.respondWith(Promise.resolve(new Response(`hello ${process.env.WHO} ${pathname}`)));
             });",
        ),
    ];
    let node = TestNode::start();
    for (name, source) in forms {
        let app = App::typescript(name, source).with("env = { WHO = \"world\" }");
        for mode in ["per-request", "shared"] {
            node.deploy(&app.clone().with(&format!("instances = {mode:?}")));
            for _ in 0..3 {
                let answer = node.get(name, "/a/b?c").await;
                assert_eq!(
                    (answer.status, answer.text()),
                    (200, "hello world /a/b"),
                    "{name} {mode}"
                );
            }
        }
    }
}

/// A request comes and a response goes as they are: method, headers that repeat, bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_and_responses_cross_unchanged() {
    let source = "
        export default {
          async fetch(request: Request) {
            const headers = new Headers({ 'content-type': 'application/octet-stream', 'x-method': request.method });
            headers.append('set-cookie', 'a=1; Path=/');
            headers.append('set-cookie', 'b=2');
            headers.set('x-seen', request.headers.get('x-twice') ?? '');
            headers.set('x-url', request.url);
            return new Response(await request.arrayBuffer(), { status: 207, headers });
          },
        };";
    let node = TestNode::start();
    node.deploy(&App::typescript("mirror", source));
    let body: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let headers = [("x-twice", "one"), ("x-twice", "two")];
    let answer = node.request("PUT", "mirror", "/p%20q?x=%C3%A9&y", &headers, body.clone()).await;
    assert_eq!(answer.status, 207);
    assert!(answer.body == body, "{} bytes came back", answer.body.len());
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2"]);
    assert_eq!(answer.headers["x-method"], "PUT");
    assert_eq!(answer.headers["x-seen"], "one, two");
    assert_eq!(answer.headers["x-url"], "http://mirror.localhost/p%20q?x=%C3%A9&y");
    let empty = node.request("HEAD", "mirror", "/", &[], "").await;
    assert_eq!((empty.status, empty.body.len()), (207, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_is_made_of_many_kinds_of_files() {
    let entry = "
        /** @jsxRuntime classic @jsx element */
        import { element } from './element.js';
        import data from './data.json';
        import text from './greeting.txt';
        import { twice } from 'twice';
        enum Kind { A = 'a', B = 'b' }
        export default {
          async fetch(): Promise<Response> {
            const { late } = await import('./late');
            const page = <p class={Kind.B} count={twice(data.number)}>{text.trim()}{late satisfies string}</p>;
            return new Response(page);
          },
        };";
    let element = "
        export function element(name, attributes, ...children) {
          const written = Object.entries(attributes ?? {}).map(([key, value]) => ` ${key}=\"${value}\"`);
          return `<${name}${written.join('')}>${children.join('')}</${name}>`;
        }";
    let package = "{ \"name\": \"twice\", \"exports\": { \"import\": \"./dist/index.mjs\", \"require\": \"./absent.cjs\" } }";
    let node = TestNode::start();
    node.deploy(
        &App::source("page", "src/index.tsx", entry)
            .file("src/element.js", element)
            .file("src/data.json", "{ \"number\": 21 }")
            .file("src/greeting.txt", "hello \n")
            .file("src/late.ts", "export const late: string = '!';")
            .file("node_modules/twice/package.json", package)
            .file("node_modules/twice/dist/index.mjs", "export const twice = (n) => n * 2;"),
    );
    assert_eq!(node.get("page", "/").await.text(), "<p class=\"b\" count=\"42\">hello!</p>");
}

/// `squall invoke --scheduled` runs each form of the handler and waits for all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scheduled_handlers_run_when_they_are_invoked() {
    let forms = [
        (
            "object",
            "export default {
               async scheduled(controller: any, env: { WHO: string }, ctx: any) {
                 ctx.waitUntil(new Promise((done) => setTimeout(done, 20)).then(() => console.log('later')));
                 console.log(`${controller.cron} for ${env.WHO} at ${controller.scheduledTime}`);
               },
             };",
        ),
        (
            "class",
            "export default class {
               constructor(readonly ctx: any, readonly env: { WHO: string }) {}
               async scheduled(controller: any) {
                 await new Promise((done) => setTimeout(done, 20));
                 console.log(`${controller.cron} for ${this.env.WHO} at ${controller.scheduledTime}`);
                 console.log('later');
               }
             }",
        ),
        (
            "listener",
            "addEventListener('scheduled', (event: any) => {
               console.log(`${event.cron} for ${process.env.WHO} at ${event.scheduledTime}`);
               event.waitUntil(new Promise((done) => setTimeout(done, 20)).then(() => console.log('later')));
             });",
        ),
    ];
    let node = TestNode::start();
    for (name, source) in forms {
        node.deploy(&App::typescript(name, source).with("env = { WHO = \"me\" }"));
        let answer = node.cli_json(&["invoke", name, "--scheduled", "--cron", "*/5 * * * *"]);
        assert_eq!(answer["status"], 204, "{name}: {answer}");
        node.expect_log_text(name, "*/5 * * * * for me at 1");
        let later = node.expect_log_text(name, "later");
        assert_eq!(later["trace_id"], answer["trace_id"], "{name}");
        wait_for("the usage record", || node.usage(name)["total"]["invocations"] == 1);
        assert_eq!(node.usage(name)["rows"][0]["trigger"], "manual");
    }
    let (status, answer) =
        invoke(&node, "object", r#"{"scheduled":{"cron":"* * * * *","time_ms":1700000000000}}"#)
            .await;
    assert_eq!((status, &answer["status"]), (200, &204.into()), "{answer}");
    node.expect_log_text("object", "* * * * * for me at 1700000000000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_without_a_handler_or_with_one_that_throws_fails() {
    let node = TestNode::start();
    let source = "export default { fetch: () => new Response('only requests') };";
    node.deploy(&App::typescript("deaf", source));
    let deaf = node.cli(&["invoke", "deaf", "--scheduled"]);
    let said = String::from_utf8_lossy(&deaf.stderr).into_owned();
    assert!(!deaf.status.success() && said.contains("SQ0219"), "{said}");
    node.expect_log_text("deaf", "no handler for scheduled events");

    let source = "export default {
  async scheduled() {
    throw new RangeError('out of time');
  },
};";
    node.deploy(&App::typescript("late", source));
    let late = node.cli(&["invoke", "late", "--scheduled"]);
    assert!(!late.status.success());
    let entry = node.expect_log_code("late", "SQ0219");
    let message = entry["message"].as_str().unwrap();
    assert!(message.contains("RangeError: out of time"), "{message}");
    assert!(message.contains("src/index.ts:3:"), "{message}");

    node.deploy(&App::new("component", squall_testkit::HELLO));
    let component = node.cli(&["invoke", "component", "--scheduled"]);
    let said = String::from_utf8_lossy(&component.stderr).into_owned();
    assert!(!component.status.success() && said.contains("SQ0312"), "{said}");
}

/// The admin API's own answer.
async fn invoke(node: &TestNode, app: &str, request: &str) -> (u16, serde_json::Value) {
    let (host, path) = (node.admin().to_string(), format!("/v1/apps/{app}/invoke"));
    let token = format!("Bearer {}", node.token());
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let body = request.to_owned().into();
    let answer = crate::harness::request(node.admin(), &host, "POST", &path, &headers, body);
    let answer = answer.await.unwrap();
    (answer.status, answer.json())
}
