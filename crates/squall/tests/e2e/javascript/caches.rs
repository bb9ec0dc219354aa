//! `caches`: responses that functions keep by themselves.

use serde_json::{Value, json};

use super::exchange::Exchange;
use crate::harness::{App, TestNode};

/// Does what its request's body lists, and answers with what came of each step.
const STEPS: &str = "
    type Step = {
      do: 'put' | 'match' | 'delete';
      cache?: string;
      url: string;
      method?: string;
      headers?: Record<string, string>;
      ignoreMethod?: boolean;
      response?: { status?: number; headers?: Record<string, string>; body?: string };
    };
    export default {
      async fetch(request: Request): Promise<Response> {
        const came: unknown[] = [];
        for (const step of await request.json() as Step[]) {
          came.push(await take(step).catch((error) => `${error.name}: ${error.message}`));
        }
        return Response.json(came);
      },
    };
    async function take({ do: what, cache: name, url, method, headers, response, ignoreMethod }: Step) {
      const cache = name === undefined ? caches.default : await caches.open(name);
      const request = new Request(url, { method, headers });
      if (what === 'delete') return cache.delete(request, { ignoreMethod });
      if (what === 'match') {
        const found = await cache.match(request, { ignoreMethod });
        if (found === undefined) return null;
        return { status: found.status, headers: Object.fromEntries(found.headers), body: await found.text() };
      }
      const { status, headers: own, body } = response!;
      await cache.put(request, new Response(body ?? 'kept', { status, headers: { 'cache-control': 'max-age=60', ...own } }));
      return 'resolved';
    }";

/// What came of these steps, in one request.
async fn take(node: &TestNode, app: &str, steps: Value) -> Vec<Value> {
    let answer = node.request("POST", app, "/", &[], steps.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json().as_array().unwrap().clone()
}

fn bodies(came: &[Value]) -> Vec<Option<&str>> {
    came.iter().map(|one| one["body"].as_str()).collect()
}

fn find(url: &str) -> Value {
    json!({ "do": "match", "url": url })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_is_found_by_other_requests_until_it_is_deleted() {
    let node = TestNode::start();
    node.deploy(&App::typescript("stranger", STEPS));
    for mode in ["per-request", "shared"] {
        node.deploy(&App::typescript(mode, STEPS).with(&format!("instances = {mode:?}")));
        let url = format!("https://{mode}.example/a?b=c");
        let put = take(
            &node,
            mode,
            json!([
                { "do": "put", "url": url, "response": { "status": 203, "headers": { "x-own": "yes" } } },
                { "do": "put", "url": url, "cache": "named", "response": { "body": "of the named" } },
            ]),
        )
        .await;
        assert_eq!(put, ["resolved", "resolved"]);

        let came = take(
            &node,
            mode,
            json!([
                find(&format!("{url}#part")),
                { "do": "match", "url": url, "cache": "named" },
                { "do": "match", "url": url, "cache": "another" },
                find(&url.replace("b=c", "b=d")),
                find(&url.replace("https", "http")),
                { "do": "match", "url": url, "method": "HEAD" },
                { "do": "match", "url": url, "method": "POST", "ignoreMethod": true },
            ]),
        )
        .await;
        let kept = Some("kept");
        assert_eq!(bodies(&came), [kept, Some("of the named"), None, None, None, None, kept]);
        assert_eq!(
            (&came[0]["status"], &came[0]["headers"]["x-own"]),
            (&203.into(), &"yes".into())
        );
        assert!(came[0]["headers"]["age"].is_string(), "{}", came[0]);

        let seen = take(&node, "stranger", json!([find(&url)])).await;
        assert_eq!(bodies(&seen), [None], "another app has caches of its own");

        let came = take(
            &node,
            mode,
            json!([
                { "do": "delete", "url": url, "method": "POST" },
                { "do": "delete", "url": url },
                find(&url),
                { "do": "delete", "url": url },
                { "do": "delete", "url": url, "cache": "named", "method": "PUT", "ignoreMethod": true },
                { "do": "match", "url": url, "cache": "named" },
            ]),
        )
        .await;
        assert_eq!(
            came,
            [json!(false), json!(true), Value::Null, json!(false), json!(true), Value::Null]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_kept_is_refused_or_quietly_let_go() {
    let node = TestNode::start();
    node.deploy(&App::typescript("app", STEPS).with("limits = { outbound_requests = 100 }"));
    for (method, response, why) in [
        ("POST", json!({}), "not to POST"),
        ("GET", json!({ "status": 206 }), "206"),
        ("GET", json!({ "headers": { "vary": "*" } }), "Vary: *"),
    ] {
        let put =
            json!({ "do": "put", "url": "http://a/", "method": method, "response": response });
        let came = take(&node, "app", json!([put, find("http://a/")])).await;
        let said = came[0].as_str().unwrap();
        assert!(said.starts_with("TypeError: ") && said.contains(why), "{said}");
        assert_eq!(came[1], Value::Null);
    }
    for headers in [
        json!({ "cache-control": "no-store" }),
        json!({ "cache-control": "private, max-age=60" }),
        json!({ "cache-control": "max-age=0" }),
        json!({ "cache-control": "" }),
        json!({ "set-cookie": "a=b" }),
    ] {
        let put = json!({ "do": "put", "url": "http://b/", "response": { "headers": headers } });
        let came = take(&node, "app", json!([put, find("http://b/")])).await;
        assert_eq!(came, [json!("resolved"), Value::Null], "{headers}");
    }
    // Credentials of a caller do not make a response everybody's.
    let put = json!({ "do": "put", "url": "http://c/", "headers": { "authorization": "mine" }, "response": {} });
    let came = take(&node, "app", json!([put, find("http://c/")])).await;
    assert_eq!(came, [json!("resolved"), Value::Null]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_answered_by_what_they_ask_for() {
    let node = TestNode::start();
    node.deploy(&App::typescript("app", STEPS));
    let (url, several) = ("http://app.example/", "http://app.example/several");
    let in_language = |language: &str| {
        let headers = json!({ "accept-language": language });
        json!({ "do": "match", "url": several, "headers": headers })
    };
    let with =
        |name: &str, value: &str| json!({ "do": "match", "url": url, "headers": { name: value } });
    let own = json!({ "etag": "\"one\"", "content-length": "3" });
    let put_in = |language: &str| {
        let response = json!({ "headers": { "vary": "Accept-Language" }, "body": language });
        let headers = json!({ "accept-language": language });
        json!({ "do": "put", "url": several, "headers": headers, "response": response })
    };
    let came = take(
        &node,
        "app",
        json!([
            { "do": "put", "url": url, "response": { "headers": own, "body": "0123456789" } },
            put_in("de"),
            put_in("fr"),
            with("range", "bytes=2-4"),
            with("range", "bytes=50-"),
            with("if-none-match", "W/\"one\""),
            with("if-none-match", "\"other\""),
            // A cache of one's own does as one says: nobody makes it ask elsewhere.
            with("cache-control", "no-cache"),
            in_language("de"),
            in_language("fr"),
            in_language("en"),
        ]),
    )
    .await;
    let statuses: Vec<_> = came.iter().map(|one| one["status"].as_u64()).collect();
    let ok = Some(200);
    let expected = [None, None, None, Some(206), Some(416), Some(304), ok, ok, ok, ok, None];
    assert_eq!(statuses, expected);
    assert_eq!(came[3]["headers"]["content-range"], "bytes 2-4/10");
    let whole = Some("0123456789");
    let expected = [Some("234"), Some(""), Some(""), whole, whole, Some("de"), Some("fr"), None];
    assert_eq!(bodies(&came)[3..], expected);
}

/// Makes a response in pieces, and keeps it while its first caller reads it.
const KEEPING: &str = "
    export default {
      async fetch(request: Request, env: { VERSION: string }, ctx: any) {
        const known = await caches.default.match(request);
        if (known !== undefined) return new Response(known.body, { headers: { ...Object.fromEntries(known.headers), 'x-known': 'yes' } });
        let part = 0;
        const body = new ReadableStream({
          async pull(controller) {
            if (part === 3) return controller.close();
            await new Promise((done) => setTimeout(done, 5));
            controller.enqueue(new TextEncoder().encode(`part ${part++} of ${env.VERSION} `));
          },
        });
        const response = new Response(body, { headers: { 'cache-control': 'max-age=600', 'cache-tag': 'parts' } });
        ctx.waitUntil(caches.default.put(request, response.clone()));
        return response;
      },
    };";

async fn wait_until_known(node: &TestNode, app: &str, path: &str) -> String {
    for _ in 0..500 {
        let answer = node.get(app, path).await;
        if answer.headers.contains_key("x-known") {
            return answer.text().to_owned();
        }
    }
    panic!("{path} of {app} is never kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_kept_outlives_deployments_and_restarts_and_ends_by_a_purge() {
    let mut node = TestNode::start();
    let app = |mode: &str, version: &str| {
        let settings = format!("instances = {mode:?}\nenv = {{ VERSION = {version:?} }}");
        App::typescript(mode, KEEPING).with(&settings)
    };
    let modes = ["per-request", "shared"];
    let first = "part 0 of v1 part 1 of v1 part 2 of v1 ";
    for mode in modes {
        node.deploy(&app(mode, "v1"));
        let mut exchange = Exchange::get(&node, mode, "/").await;
        exchange.expect(first).await;
        assert!(!exchange.head.headers.contains_key("x-known"));
        assert_eq!(wait_until_known(&node, mode, "/").await, first);
        node.deploy(&app(mode, "v2"));
        assert_eq!(wait_until_known(&node, mode, "/").await, first);
    }
    node.stop();
    node.restart();
    for mode in modes {
        let answer = node.get(mode, "/").await;
        assert_eq!(answer.text(), first, "{mode} over a restart");
        let url = format!("http://{mode}.localhost/");
        node.cli_json(&["cache", "purge", "--app", mode, &url]);
        assert!(node.get(mode, "/").await.text().contains("v2"), "{mode} after a purge");
        assert!(wait_until_known(&node, mode, "/").await.contains("v2"));
        node.cli_json(&["cache", "purge", "--app", mode, "--tag", "parts"]);
        assert!(!node.get(mode, "/").await.headers.contains_key("x-known"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_caches_counts_as_outbound_requests() {
    let node = TestNode::start();
    node.deploy(&App::typescript("app", STEPS).with("limits = { outbound_requests = 2 }"));
    let url = "http://app.example/";
    let put = json!({ "do": "put", "url": url, "response": {} });
    let came = take(&node, "app", json!([put, find(url), find(url)])).await;
    assert_eq!(came[1]["body"], "kept");
    let said = came[2].as_str().unwrap();
    assert!(said.contains("limits.outbound_requests"), "{said}");
    node.expect_log_code("app", "SQ0210");
}
