//! A sandbox for each request, or one for many: what is kept, and what is kept apart.

use std::time::Duration;

use crate::harness::{App, TestNode, wait_for};

const COUNTER: &str = "
    let count = 0;
    const born = { random: Math.random(), uuid: '' };
    export default {
      fetch() {
        born.uuid ||= crypto.randomUUID();
        (globalThis as any).left = ((globalThis as any).left ?? 0) + 1;
        return Response.json({ count: ++count, left: (globalThis as any).left, ...born, now: Date.now(), next: Math.random() });
      },
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_for_each_request_keeps_nothing() {
    let node = TestNode::start();
    node.deploy(&App::typescript("fresh", COUNTER));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..50 {
        let answer = node.get("fresh", "/").await.json();
        assert_eq!((&answer["count"], &answer["left"]), (&1.into(), &1.into()), "{answer}");
        let fresh =
            seen.insert(answer["uuid"].to_string()) && seen.insert(answer["next"].to_string());
        assert!(fresh, "{answer} was seen before");
    }
}

/// `Math.random` and `Date` work at top level, with a warning; what they give is fresh in
/// each instance only after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chance_and_time_at_top_level_come_with_a_warning_that_has_a_position() {
    let source = "const started = Date.now();
const seed =
  Math.random();
export default {
  fetch: () => Response.json({ started, seed, now: Date.now(), random: Math.random() }),
};
";
    let node = TestNode::start();
    let folder = node.write_app(&App::typescript("early", source));
    let deployed = node.cli(&["deploy", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&deployed.stderr).into_owned();
    assert!(deployed.status.success(), "{said}");
    for part in ["random number", "src/index.ts:3:", "The time", "src/index.ts:1:"] {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
    let first = node.get("early", "/").await.json();
    let second = node.get("early", "/").await.json();
    assert_eq!((&first["started"], &first["seed"]), (&second["started"], &second["seed"]));
    assert_ne!(first["random"], second["random"]);
    assert!(first["now"].as_f64() > first["started"].as_f64());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_instance_keeps_its_globals_until_it_retires() {
    let node = TestNode::start();
    node.deploy(&App::typescript("kept", COUNTER).with("instances = \"shared\""));
    let mut highest = std::collections::HashMap::<String, u64>::new();
    for _ in 0..60 {
        let answer = node.get("kept", "/").await.json();
        let count = answer["count"].as_u64().unwrap();
        let last = highest.insert(answer["uuid"].to_string(), count);
        assert_eq!(count, last.unwrap_or(0) + 1, "{answer}");
    }
    // There is one for each core.
    assert!(highest.len() <= 8 && highest.values().any(|count| *count >= 8), "{highest:?}");

    node.deploy(
        &App::typescript("short", COUNTER)
            .with("instances = \"shared\"\nshared = { max_requests = 3 }"),
    );
    for _ in 0..30 {
        let count = node.get("short", "/").await.json()["count"].as_u64().unwrap();
        assert!(count <= 3, "the instance served its {count}th request");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_interleaved_requests_store_is_kept_apart() {
    let source = "
        import { AsyncLocalStorage } from 'node:async_hooks';
        const storage = new AsyncLocalStorage<string>();
        let inside = 0;
        let most = 0;
        const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
        async function work(): Promise<string[]> {
          const seen: string[] = [];
          for (let round = 0; round < 5; round++) {
            await sleep(Math.random() * 4);
            seen.push(storage.getStore()!);
            await Promise.all([sleep(1), null].map(async (one) => { await one; seen.push(storage.getStore()!); }));
          }
          return seen;
        }
        export default {
          async fetch(request: Request) {
            most = Math.max(most, ++inside);
            const id = new URL(request.url).pathname;
            const seen = await storage.run(id, work);
            inside--;
            return Response.json({ id, seen, most, outside: storage.getStore() ?? null });
          },
        };";
    let node = std::sync::Arc::new(TestNode::start());
    node.deploy(&App::typescript("als", source).with("instances = \"shared\""));
    let mut most = 0;
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..200 {
        let node = node.clone();
        asking.spawn(async move {
            let id = format!("/{n}");
            let answer = node.get("als", &id).await.json();
            assert_eq!(answer["seen"], serde_json::json!(vec![&id; 15]), "{answer}");
            assert!(answer["outside"].is_null(), "{answer}");
            answer["most"].as_u64().unwrap()
        });
        if n % 20 == 19 {
            while let Some(answer) = asking.join_next().await {
                most = most.max(answer.unwrap());
            }
        }
    }
    assert!(most > 1, "no two requests were in one instance at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_of_a_request_end_with_it_and_others_go_on() {
    let source = "
        let ticks = 0;
        const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
        export default {
          async fetch(request: Request) {
            const path = new URL(request.url).pathname;
            if (path === '/leave') {
              setInterval(() => ticks++, 1);
              await sleep(30);
              return new Response(`${ticks}`);
            }
            const before = ticks;
            await sleep(150);
            return Response.json({ ticked: ticks - before });
          },
        };";
    let node = TestNode::start();
    // One at a time in an instance, so that both requests come to the same one.
    node.deploy(&App::typescript("timers", source).with("instances = \"shared\""));
    for _ in 0..3 {
        assert!(node.get("timers", "/leave").await.text().parse::<u32>().unwrap() > 0);
        assert_eq!(node.get("timers", "/rest").await.json()["ticked"], 0);
    }
    node.expect_log_text("timers", "1 operation was under way");
}

/// What a program goes on with after its response was sent is as little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_starts_for_a_request_that_has_ended() {
    let source = "
        let ticks = 0;
        async function later() {
          for (let turn = 0; turn < 5; turn++) await null;
          console.log('goes on');
          setInterval(() => ticks++, 1);
        }
        export default {
          async fetch(request: Request) {
            if (new URL(request.url).pathname === '/leave') {
              later();
              return new Response('left');
            }
            const before = ticks;
            await new Promise((done) => setTimeout(done, 150));
            return Response.json({ ticked: ticks - before });
          },
        };";
    let node = TestNode::start();
    node.deploy(&App::typescript("later", source).with("instances = \"shared\""));
    for _ in 0..4 {
        assert_eq!(node.get("later", "/leave").await.text(), "left");
    }
    node.expect_log_text("later", "goes on");
    for _ in 0..4 {
        assert_eq!(node.get("later", "/rest").await.json()["ticked"], 0);
    }
}

const GREEDY: &str = "
    const kept: unknown[] = [];
    const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
    export default {
      async fetch(request: Request) {
        const path = new URL(request.url).pathname;
        if (path === '/loop') for (;;);
        if (path === '/catch') {
          for (;;) try { for (;;); } catch {}
        }
        if (path === '/grow') for (;;) kept.push(new Array(10_000).fill(path));
        if (path === '/slow') await sleep(1500);
        return new Response('well');
      },
    };";

/// Sends slow requests, then one that misbehaves while they wait, and returns how the
/// misbehaving one and the slow ones ended.
async fn among_slow_ones(
    node: &std::sync::Arc<TestNode>,
    app: &'static str,
    path: &'static str,
) -> ((u16, String), Vec<(u16, String)>) {
    let ask = |path: &'static str| {
        let node = node.clone();
        tokio::spawn(async move {
            let json = [("accept", "application/json")];
            let answer = node.request("GET", app, path, &json, "").await;
            let code = if answer.status == 200 { String::new() } else { answer.code() };
            (answer.status, code)
        })
    };
    let slow: Vec<_> = (0..6).map(|_| ask("/slow")).collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let greedy = ask(path).await.unwrap();
    let mut others = Vec::new();
    for one in slow {
        others.push(one.await.unwrap());
    }
    (greedy, others)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_end_is_ended_alone() {
    let node = std::sync::Arc::new(TestNode::start());
    let limits = "instances = \"shared\"\nlimits = { cpu_time_ms = 100 }";
    node.deploy(&App::typescript("busy", GREEDY).with(limits));
    for path in ["/loop", "/catch"] {
        let (greedy, others) = among_slow_ones(&node, "busy", path).await;
        assert_eq!(greedy, (503, "SQ0202".to_owned()), "{path}");
        assert_eq!(others, vec![(200, String::new()); 6], "{path}");
        assert_eq!(node.get("busy", "/").await.text(), "well");
    }
    assert_eq!(node.expect_log_text("busy", "limits.cpu_time_ms")["code"], "SQ0202");
    wait_for("the records", || node.usage("busy")["total"]["failed"] == 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_out_takes_the_instance_and_the_others_are_told() {
    let node = std::sync::Arc::new(TestNode::start());
    let limits = "instances = \"shared\"\nlimits = { memory_bytes = 33554432 }";
    node.deploy(&App::typescript("large", GREEDY).with(limits));
    let (greedy, others) = among_slow_ones(&node, "large", "/grow").await;
    assert_eq!(greedy.0, 503, "{greedy:?}");
    // Those that were in another core's instance are well.
    let lost = others.iter().filter(|(_, code)| code == "SQ0208").count();
    let well = others.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(lost + well, 6, "{others:?}");
    node.expect_log_code("large", "SQ0203");
    assert_eq!(node.get("large", "/").await.text(), "well");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_fit_into_memory_is_an_exception() {
    let source = "
        export default {
          async fetch(request: Request) {
            try {
              return new Response(`${(await request.arrayBuffer()).byteLength}`);
            } catch (error) {
              return new Response(`${error}`, { status: 413 });
            }
          },
        };";
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        let limits = "limits = { memory_bytes = 33554432 }";
        let settings = format!("instances = {mode:?}\n{limits}");
        node.deploy(&App::typescript(mode, source).with(&settings));
        // What is beyond the limit is left unread: little, or its sender would notice.
        let large = vec![b'x'; (32 << 20) + 1];
        let answer = node.request("POST", mode, "/", &[], large).await;
        assert_eq!(answer.status, 413, "{mode}: {}", answer.text());
        assert!(answer.text().contains("limits.memory_bytes"), "{}", answer.text());
        let small = node.request("POST", mode, "/", &[], vec![b'x'; 4 << 20]).await;
        assert_eq!((small.status, small.text()), (200, "4194304"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_end_a_request_that_has_its_own_instance() {
    let node = TestNode::start();
    // One limit each: on a busy machine any other may be reached first.
    for (app, limit) in [
        ("hasty", "cpu_time_ms = 100, wall_time_ms = 600000"),
        ("small", "memory_bytes = 33554432, cpu_time_ms = 60000, wall_time_ms = 600000"),
        ("brief", "wall_time_ms = 1000"),
    ] {
        let limits = format!("limits = {{ {limit} }}");
        node.deploy(&App::typescript(app, GREEDY).with(&limits));
    }
    for (app, path, status, code) in [
        ("hasty", "/loop", 503, "SQ0202"),
        ("hasty", "/catch", 503, "SQ0202"),
        ("small", "/grow", 503, "SQ0203"),
        ("brief", "/slow", 504, "SQ0201"),
    ] {
        let answer = node.request("GET", app, path, &[("accept", "application/json")], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path}");
        node.expect_log_code(app, code);
        assert_eq!(node.get(app, "/").await.text(), "well");
    }
}
