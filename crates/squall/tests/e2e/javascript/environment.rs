//! `env`: variables, secrets and the static assets.

use super::set_secret;
use crate::harness::{App, TestNode, wait_for};

const SHOW: &str = "
    import { env as imported } from 'cloudflare:workers';
    const atTopLevel = imported.PLAN;
    export default {
      fetch(_: Request, env: Record<string, string>) {
        return Response.json({
          atTopLevel,
          plan: env.PLAN,
          own: env.OWN,
          key: env.API_KEY ?? null,
          process: process.env.API_KEY ?? null,
          imported: (imported as any).API_KEY ?? null,
          names: Object.keys(env).sort(),
        });
      },
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_change_without_a_deploy() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(
            &App::typescript(mode, SHOW)
                .with(&format!(
                    "instances = {mode:?}\nenv = {{ OWN = \"mine\", PLAN = \"small\" }}"
                ))
                .and("[env]\nPLAN = \"large\""),
        );
        let before = node.get(mode, "/").await.json();
        assert_eq!(
            (&before["plan"], &before["own"]),
            (&"small".into(), &"mine".into()),
            "{before}"
        );
        assert_eq!(before["atTopLevel"], "small");
        assert_eq!(
            (&before["key"], &before["names"]),
            (&().into(), &serde_json::json!(["OWN", "PLAN"]))
        );
        for value in ["wind-and-rain-1", "wind-and-rain-2"] {
            set_secret(&node, mode, "API_KEY", value);
            // A shared instance finishes what it serves; the next request finds another.
            wait_for("the secret to be seen", || {
                let answer = std::thread::scope(|threads| {
                    let asking = threads.spawn(|| {
                        let runtime = tokio::runtime::Runtime::new().unwrap();
                        runtime.block_on(node.get(mode, "/")).json()
                    });
                    asking.join().unwrap()
                });
                ["key", "process", "imported"].iter().all(|way| answer[*way] == value)
            });
        }
        let names = node.get(mode, "/").await.json()["names"].clone();
        assert_eq!(names, serde_json::json!(["API_KEY", "OWN", "PLAN"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_assets_answer_to_their_binding_as_they_do_to_clients() {
    let source = "
        export default {
          async fetch(request: Request, env: any) {
            const url = new URL(request.url);
            if (url.pathname === '/count') {
              const response = await env.ASSETS.fetch(new URL('/style.css', url));
              return Response.json({ type: response.headers.get('content-type'), text: await response.text() });
            }
            const response = await env.ASSETS.fetch(request);
            const copy = new Response(response.body, response);
            copy.headers.set('x-by', 'function');
            return copy;
          },
        };";
    let large = "0123456789".repeat(50_000);
    let node = TestNode::start();
    node.deploy(
        &App::typescript("site", source)
            .and("[assets]\ndir = \"public\"\nbinding = \"ASSETS\"")
            .file("public/index.html", "<h1>home</h1>")
            .file("public/style.css", "body{}")
            .file("public/large.txt", &large),
    );
    let style = node.get("site", "/style.css").await;
    assert_eq!((style.status, style.text()), (200, "body{}"));
    assert_eq!(style.headers["x-by"], "function");
    assert!(style.headers["content-type"].to_str().unwrap().starts_with("text/css"));
    let home = node.get("site", "/").await;
    assert_eq!((home.status, home.text()), (200, "<h1>home</h1>"));
    assert_eq!(node.get("site", "/nowhere").await.status, 404);

    let etag = style.headers["etag"].to_str().unwrap();
    let ask = async |headers: &[(&str, &str)], path: &str| {
        let answer = node.request("GET", "site", path, headers, "").await;
        assert_eq!(answer.headers["x-by"], "function");
        answer
    };
    assert_eq!(ask(&[("if-none-match", etag)], "/style.css").await.status, 304);
    assert_eq!(ask(&[("if-none-match", "\"other\"")], "/style.css").await.status, 200);
    let part = ask(&[("range", "bytes=10-14")], "/large.txt").await;
    assert_eq!((part.status, part.text()), (206, "01234"));
    assert_eq!(part.headers["content-range"], "bytes 10-14/500000");
    assert_eq!(ask(&[("range", "bytes=600000-")], "/large.txt").await.status, 416);
    assert_eq!(ask(&[], "/large.txt").await.text(), large);
    let head = node.request("HEAD", "site", "/large.txt", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let read = node.get("site", "/count").await.json();
    assert_eq!(read["text"], "body{}");
    assert!(read["type"].as_str().unwrap().starts_with("text/css"));
}
