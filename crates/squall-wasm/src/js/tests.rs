//! JavaScript functions on the real engine, with a world of fakes around them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use squall_js::recording::{Entry, Recording};
use squall_runtime::cores::Ticket;
use squall_runtime::executor::{Admitted, Call, Executor as _};
use squall_types::bindings::{Bindings, BoundRequest};
use squall_types::cache::{CacheFuture, CacheRequest, FunctionCaches};
use squall_types::invoke::InvokeFuture;
use squall_types::limits::Limits;
use squall_types::log::{AccessRecord, AppLine, LogLine, LogSink};
use squall_types::manifest::InstanceMode;
use squall_types::outbound::{Outbound, OutboundFuture, OutboundPolicy, OutboundTimeouts};
use squall_types::shard::Local;
use squall_types::state::{BlobId, FunctionKey, FunctionSpec, HandlerWorld};
use squall_types::trace::{TraceContext, random};
use squall_types::usage::{Meter, UsageRecord, UsageSink};
use squall_types::{AppName, Body, ErrorCode, FunctionName, InvokeError, RevisionId, Trigger};

use super::build::{EngineFiles, LoadError, SnapshotJob, make_engine, make_snapshot};
use super::{RecordingSink, Stacks};
use crate::engine::{EngineOptions, Engines};
use crate::executor::{WasmExecutor, WasmOptions};

/// The engine is compiled once for all tests of this process.
static ENGINE: LazyLock<(tempfile::TempDir, EngineFiles)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let files = EngineFiles::in_folder(dir.path());
    make_engine(&files).unwrap();
    (dir, files)
});

/// Everything outside of the engine. Outbound requests are answered after a while that
/// differs, with the path that was asked for.
#[derive(Default)]
struct World {
    lines: Mutex<Vec<String>>,
    recordings: Mutex<Vec<Recording>>,
    usage: Mutex<Vec<UsageRecord>>,
    asked: AtomicU32,
    cached: Arc<Mutex<HashMap<String, Bytes>>>,
}

impl LogSink for World {
    fn app_line(&self, _: AppLine) {}
    fn line(&self, line: LogLine) {
        self.lines.lock().unwrap().push(line.message);
    }
    fn access(&self, _: &AccessRecord<'_>) {}
}
impl UsageSink for World {
    fn record(&self, record: UsageRecord) {
        self.usage.lock().unwrap().push(record);
    }
}
impl Stacks for World {
    fn map(&self, _: &FunctionSpec, stack: &str) -> String {
        stack.to_owned()
    }
}
impl Outbound for World {
    fn send(
        &self,
        request: http::Request<Body>,
        _: Arc<OutboundPolicy>,
        _: OutboundTimeouts,
    ) -> OutboundFuture {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_micros(u64::from(number * 7919 % 3000))).await;
            Ok(http::Response::new(Body::full(path)))
        })
    }
}
impl Bindings for World {
    fn fetch(&self, bound: BoundRequest) -> InvokeFuture {
        let path = bound.request.uri().path().to_owned();
        Box::pin(async move { Ok(http::Response::new(Body::full(path))) })
    }
}
impl World {
    fn cached(&self) -> std::sync::MutexGuard<'_, HashMap<String, Bytes>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.cached.lock().unwrap()
    }
}
/// By URL and name of the cache, for ever.
impl FunctionCaches for World {
    fn find(
        &self,
        _: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<Option<http::Response<Body>>> {
        let found = self.cached().get(&format!("{name} {}", request.uri())).cloned();
        Box::pin(async move { Ok(found.map(|bytes| http::Response::new(Body::full(bytes)))) })
    }

    fn put(
        &self,
        _: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
        response: http::Response<Body>,
    ) -> CacheFuture<bool> {
        let key = format!("{name} {}", request.uri());
        let cached = self.cached.clone();
        Box::pin(async move {
            let whole = response.into_body().collect().await.unwrap().to_bytes();
            cached.lock().unwrap().insert(key, whole);
            Ok(true)
        })
    }

    fn delete(
        &self,
        _: &Arc<FunctionSpec>,
        name: &str,
        request: CacheRequest,
    ) -> CacheFuture<bool> {
        let removed = self.cached().remove(&format!("{name} {}", request.uri())).is_some();
        Box::pin(async move { Ok(removed) })
    }
}
impl RecordingSink for World {
    fn recorded(&self, _: &Arc<FunctionSpec>, recording: Recording) {
        self.recordings.lock().unwrap().push(recording);
    }
}

struct Bench {
    world: Arc<World>,
    executor: Arc<WasmExecutor>,
    function: Arc<FunctionSpec>,
    _snapshots: tempfile::TempDir,
}

fn bench(source: &str, limits: Limits) -> Bench {
    bench_with(source, limits, InstanceMode::PerRequest)
}

fn bench_with(source: &str, limits: Limits, mode: InstanceMode) -> Bench {
    let snapshots = tempfile::tempdir().unwrap();
    let path = snapshots.path().join("function.snapshot");
    let job = SnapshotJob { source, variables: vec![], bindings: vec![], secret_names: vec![] };
    make_snapshot(&job, &ENGINE.1, &path).unwrap_or_else(|error| panic!("{error:?}"));
    let options = EngineOptions { instance_slots: 4, ..EngineOptions::default() };
    let engines = Engines::new(&options).unwrap();
    engines.js.open(&ENGINE.1.compiled, &ENGINE.1.base).unwrap();
    let world = Arc::new(World::default());
    let artifact: PathBuf = path;
    let executor = WasmExecutor::new(WasmOptions {
        engines,
        artifact_path: Arc::new(move |_| artifact.clone()),
        logs: world.clone(),
        outbound: world.clone(),
        stacks: world.clone(),
        bindings: world.clone(),
        caches: world.clone(),
        recordings: Some(world.clone()),
    });
    let function = Arc::new(FunctionSpec {
        key: FunctionKey {
            app: AppName::parse("app").unwrap(),
            revision: RevisionId::from_digest(&blake3::hash(b"a revision")),
            function: FunctionName::parse("api").unwrap(),
        },
        code: BlobId([0; 32]),
        world: HandlerWorld::JavaScript,
        mode,
        shared: Default::default(),
        limits,
        allowed_hosts: Vec::new(),
        allow_private: false,
        variables: Default::default(),
        fall_through: false,
        bindings: Default::default(),
    });
    Bench { world, executor: executor.unwrap(), function, _snapshots: snapshots }
}

impl Bench {
    async fn call(&self, path: &str, body: &str) -> Result<String, InvokeError> {
        let trace = TraceContext::from_random(random());
        let usage: Arc<dyn UsageSink> = self.world.clone();
        let function = Local::from(self.function.clone());
        let meter = Meter::start(
            usage.into(),
            function.clone(),
            Trigger::Http,
            &trace,
            SystemTime::now(),
            Instant::now(),
        );
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("http://app.localhost{path}"))
            .header("x-number", path)
            .body(Body::full(body.to_owned()))
            .unwrap();
        let call = Call {
            function,
            environment: Local::from(Arc::default()),
            request,
            trace,
            meter,
            deadline: Instant::now() + Duration::from_secs(60),
            ticket: Ticket::detached(),
            admitted: Admitted::detached(),
        };
        let response = self.executor.load(&self.function)?.call(call).await?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }
}

/// What programs do that depends on the world: time, chance, the order of what they wait
/// for, bodies in pieces, requests of their own.
const NONDETERMINISTIC: &str = r#"
let visits = 0;
export default {
  async fetch(request, env, ctx) {
    visits++;
    const { pathname } = new URL(request.url);
    const started = Date.now() + performance.now();
    const order = [];
    const nap = async (ms) => { await new Promise((done) => setTimeout(done, ms)); order.push(ms); };
    const ask = async (what) => { const text = await (await fetch(`https://example.com/${what}`)).text(); order.push(text); };
    const text = await request.text();
    await Promise.all([nap(Math.random() * 3), nap(1), ask("a"), ask("b"), ask("c")]);
    console.log(pathname, crypto.randomUUID());
    ctx.waitUntil(nap(1).then(() => console.log("later", Math.random())));
    const bytes = crypto.getRandomValues(new Uint8Array(8));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const cache = await caches.open("of the test");
    const known = await cache.match(request.url, { ignoreMethod: true });
    const [kept, shown] = new Response(`${digest}`).body.tee();
    await cache.put(request.url, new Response(kept));
    const found = await (await cache.match(request.url)).text();
    order.push(known === undefined, found === await new Response(shown).text(), await caches.default.delete(request.url));
    const pieces = [JSON.stringify({ pathname, text, visits, started, order }), `${bytes}`, `${digest}`];
    return new Response(new ReadableStream({
      async pull(controller) {
        if (pieces.length === 0) return controller.close();
        await nap(0);
        controller.enqueue(new TextEncoder().encode(pieces.shift()));
      },
    }), { headers: { "x-chance": `${Math.random()}` } });
  },
};
"#;

/// A runtime as a request core has it.
fn on_a_core<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

#[test]
fn a_thousand_recorded_requests_are_replayed_byte_for_byte() {
    const REQUESTS: usize = 1_000;
    let bench = bench(NONDETERMINISTIC, Limits::default());
    on_a_core(async {
        for batch in 0..REQUESTS / 20 {
            let calls = (0..20).map(|one| {
                let number = batch * 20 + one;
                let bench = &bench;
                async move { bench.call(&format!("/{number}"), &"x".repeat(number)).await }
            });
            for answer in futures_util::future::join_all(calls).await {
                assert!(answer.unwrap().contains("\"visits\":1"), "every request is the first");
            }
        }
        // What waitUntil keeps open ends after the response.
        let until = Instant::now() + Duration::from_secs(20);
        while bench.world.recordings.lock().unwrap().len() < REQUESTS && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let recordings = std::mem::take(&mut *bench.world.recordings.lock().unwrap());
        assert_eq!(recordings.len(), REQUESTS);
        let asked = bench.world.asked.load(Ordering::Relaxed);
        for recording in recordings {
            let stored = Recording::decode(&recording.encode()).unwrap();
            assert_eq!(stored, recording);
            bench.executor.replay(&bench.function, stored).await.unwrap();
        }
        assert_eq!(bench.world.asked.load(Ordering::Relaxed), asked, "a replay asks nobody");
    });
}

#[test]
fn a_replay_says_where_a_program_does_something_else() {
    let bench = bench(NONDETERMINISTIC, Limits::default());
    on_a_core(async {
        bench.call("/", "").await.unwrap();
        let recording = loop {
            if let Some(recording) = bench.world.recordings.lock().unwrap().pop() {
                break recording;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let replay = async |change: &dyn Fn(&mut Recording)| {
            let mut changed = recording.clone();
            change(&mut changed);
            bench.executor.replay(&bench.function, changed).await.map_err(|why| why.to_string())
        };
        assert_eq!(replay(&|_| {}).await, Ok(()));
        let other_time = replay(&|changed| {
            let clock = changed.entries.iter_mut().find_map(|entry| match entry {
                Entry::Call { op: squall_js::op::WALL_CLOCK, reply, .. } => Some(reply),
                _ => None,
            });
            *clock.unwrap().last_mut().unwrap() ^= 1;
        });
        let said = other_time.await.unwrap_err();
        assert!(said.contains("the program") && said.contains("recorded"), "{said}");
        let cut = replay(&|changed| drop(changed.entries.pop())).await.unwrap_err();
        assert!(cut.contains("behind the end"), "{cut}");
        let engine = replay(&|changed| changed.engine.push('x')).await.unwrap_err();
        assert!(engine.contains("another engine"), "{engine}");
        let code = replay(&|changed| changed.snapshot[0] ^= 1).await.unwrap_err();
        assert!(code.contains("other code"), "{code}");
    });
}

#[test]
fn recursion_in_every_form_is_a_range_error() {
    let source = r#"
const deep = (n) => "[".repeat(n) + "]".repeat(n);
const forms = {
  functions() { const f = () => f() + 1; return f(); },
  async() { const f = async () => { await f(); }; return f(); },
  parse: () => JSON.parse(deep(1e6)),
  reviver: () => JSON.parse(deep(5e5), (k, v) => v),
  stringify() { let o = []; for (let i = 0; i < 1e5; i++) o = [o]; return JSON.stringify(o); },
  getter() { const o = { get x() { return this.x; } }; return o.x; },
  toJSON() { const o = { toJSON() { return JSON.stringify(o); } }; return JSON.stringify(o); },
  toString() { const o = { toString() { return `${o}`; } }; return `${o}`; },
  proxy() { const p = new Proxy({}, { get: (t, k, r) => r[k] }); return p.x; },
  regexp: () => new RegExp("(".repeat(1e5) + ")".repeat(1e5)),
  sort() { const f = () => [2, 1].sort(f); return f(); },
  clone() { let o = []; for (let i = 0; i < 1e5; i++) o = [o]; return structuredClone(o); },
  replace() { const f = () => "x".replace(/x/, f); return f(); },
  constructor() { class A { constructor() { new A(); } } return new A(); },
  bound() { let f = () => 1; for (let i = 0; i < 3000; i++) f = f.bind(null); return f(); },
};
export default {
  async fetch(request) {
    const form = new URL(request.url).pathname.slice(1);
    if (form === "") return new Response(Object.keys(forms).join(" "));
    try {
      const result = await forms[form]();
      return new Response(`done: ${typeof result}`);
    } catch (error) {
      return new Response(error.name);
    }
  },
};"#;
    let bench = bench(source, Limits::default());
    on_a_core(async {
        let forms = bench.call("/", "").await.unwrap();
        let mut wrong = Vec::new();
        for form in forms.split(' ') {
            // A form that the engine does without recursion may succeed, too.
            match bench.call(&format!("/{form}"), "").await {
                Ok(said) if said == "RangeError" || said.starts_with("done") => {}
                // The pattern is what is wrong, the standard says.
                Ok(said) if said == "SyntaxError" && form == "regexp" => {}
                other => wrong.push(format!("{form}: {:.200}", format!("{other:?}"))),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

#[test]
fn limits_end_the_request_with_their_code() {
    let source = r#"
export default {
  async fetch(request) {
    switch (new URL(request.url).pathname) {
      case "/loop": for (;;);
      case "/regexp": return new Response(`${/^(a+)+$/.test("a".repeat(60) + "b")}`);
      case "/catch": for (;;) try { for (;;); } catch {}
      case "/memory": { const all = []; for (;;) all.push("x".repeat(1e6) + all.length); }
      case "/never": return new Promise(() => {});
      case "/throw": throw new TypeError("on purpose");
      default: return new Response("fine");
    }
  },
};"#;
    // One limit each: on a busy machine the time to fill a memory is anybody's guess.
    let hasty = bench(source, Limits { cpu_time_ms: 100, ..Limits::default() });
    let memory_bytes = 32 << 20;
    let small = bench(source, Limits { cpu_time_ms: 60_000, memory_bytes, ..Limits::default() });
    on_a_core(async {
        for (bench, path, code) in [
            (&hasty, "/loop", ErrorCode::CpuTimeExceeded),
            (&hasty, "/regexp", ErrorCode::CpuTimeExceeded),
            (&hasty, "/catch", ErrorCode::CpuTimeExceeded),
            (&small, "/memory", ErrorCode::MemoryExceeded),
            (&small, "/never", ErrorCode::NoResponse),
            (&small, "/throw", ErrorCode::UncaughtException),
        ] {
            let answer = bench.call(path, "").await;
            assert_eq!(answer.as_ref().map_err(|error| error.code), Err(code), "{path}");
            assert_eq!(bench.call("/", "").await.unwrap(), "fine", "after {path}");
        }
    });
}

#[test]
fn what_is_wrong_at_top_level_is_said_at_deploy() {
    let attempt = |source: &str| {
        let dir = tempfile::tempdir().unwrap();
        let job = SnapshotJob {
            source,
            variables: vec![("NAME".into(), "value".into())],
            bindings: vec![("ASSETS".into(), "assets".into())],
            secret_names: vec!["KEY".into()],
        };
        match make_snapshot(&job, &ENGINE.1, &dir.path().join("snapshot")) {
            Ok(built) => format!("built {:?}", built.warnings),
            Err(LoadError::Exception { title, stack }) => format!("{title} {stack}"),
            Err(LoadError::Other(error)) => error.to_string(),
        }
    };
    let handler = "export default { fetch() { return new Response() } };";
    for (source, says) in [
        ("const = 1;", "SyntaxError"),
        ("await fetch('https://example.com');", "fetch"),
        ("crypto.randomUUID();", "random"),
        ("await new Promise(() => {});", "never settles"),
        ("export const x = 1;", "no handler"),
        ("throw new Error('at the top');", "at the top"),
        ("const f = () => f(); f();", "RangeError"),
        ("const { KEY } = process.env;", "secret"),
    ] {
        let said =
            attempt(&format!("{source}\n{}", if says == "no handler" { "" } else { handler }));
        assert!(said.contains(says), "{source}: {said}");
        assert!(!said.starts_with("built"), "{source}: {said}");
    }
    let fine = attempt(&format!("globalThis.name = process.env.NAME;\n{handler}"));
    assert_eq!(fine, "built []");
    let warned = attempt(&format!("globalThis.began = Date.now() + Math.random();\n{handler}"));
    for part in ["The time", "A random number", "bundle.js:1:"] {
        assert!(warned.contains(part), "{warned}");
    }
}

#[test]
fn nothing_starts_for_a_request_that_has_ended() {
    let source = r#"
let ticked = 0;
export default {
  async fetch(request) {
    if (new URL(request.url).pathname === "/leave") {
      queueMicrotask(() => setInterval(() => ticked++, 1));
      queueMicrotask(async () => { for (;;) { await fetch("https://example.com/"); ticked++; } });
      return new Response("gone");
    }
    await new Promise((done) => setTimeout(done, 50));
    return new Response(`${ticked}`);
  },
};"#;
    let bench = bench_with(source, Limits::default(), InstanceMode::Shared);
    on_a_core(async {
        assert_eq!(bench.call("/leave", "").await.unwrap(), "gone");
        assert_eq!(bench.call("/rest", "").await.unwrap(), "0");
        assert_eq!(bench.world.asked.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_program_may_wait_for_its_client_to_go_and_for_nothing_else() {
    let source = r#"
export default {
  async fetch(request) {
    await new Promise((gone) => request.signal.addEventListener("abort", gone));
    console.log("the client has gone");
  },
};"#;
    let bench = bench(source, Limits::default());
    on_a_core(async {
        let patience = Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, bench.call("/", "")).await.is_err());
        let until = Instant::now() + Duration::from_secs(20);
        let said = || bench.world.lines.lock().unwrap().join("\n");
        while !said().contains("the client has gone") && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let said = said();
        assert!(said.contains("the client has gone") && !said.contains("SQ0204"), "{said}");
    });
}

mod language;
