//! The life of an invocation, with an executor that does what its path says.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use squall_types::invoke::{Invocation, Invoke, InvokeError, InvokeFuture, Trigger};
use squall_types::log::{AccessRecord, AppLine, LogLine, LogSink};
use squall_types::manifest::Manifest;
use squall_types::shard::Local;
use squall_types::state::{
    AppState, ApplySnapshot, BlobId, Environment, FunctionKey, FunctionSpec, HandlerWorld,
    RevisionState, Share, Snapshot,
};
use squall_types::trace::TraceContext;
use squall_types::usage::{Meter, UsageRecord, UsageSink};
use squall_types::{AppName, Body, ErrorCode, FunctionName, Limits, RevisionId};

use crate::cores::{self, Cores};
use crate::executor::{Call, Executor, LoadedFunction};
use crate::{Runtime, RuntimeOptions};

#[derive(Default)]
struct Seen {
    records: Mutex<Vec<UsageRecord>>,
    lines: Mutex<Vec<LogLine>>,
    loads: AtomicUsize,
    environment_changes: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
}

impl UsageSink for Seen {
    fn record(&self, record: UsageRecord) {
        self.records.lock().unwrap().push(record);
    }
}

impl LogSink for Seen {
    fn app_line(&self, _: AppLine) {}
    fn line(&self, line: LogLine) {
        self.lines.lock().unwrap().push(line);
    }
    fn access(&self, _: &AccessRecord<'_>) {}
}

struct Fake(Arc<Seen>);
struct FakeFunction(Arc<Seen>);
struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Executor for Fake {
    fn load(&self, _: &Arc<FunctionSpec>) -> Result<Arc<dyn LoadedFunction>, InvokeError> {
        self.0.loads.fetch_add(1, SeqCst);
        Ok(Arc::new(FakeFunction(self.0.clone())))
    }
}

impl LoadedFunction for FakeFunction {
    fn environment_changed(&self) {
        self.0.environment_changes.fetch_add(1, SeqCst);
    }

    fn call(&self, mut call: Call) -> InvokeFuture {
        let cancelled = self.0.cancelled.clone();
        Box::pin(async move {
            match call.request.uri().path() {
                "/core" => Ok(http::Response::new(format!("{:?}", cores::current()).into())),
                "/hang" => {
                    let _guard = CountDrop(cancelled);
                    call.ticket.park();
                    std::future::pending().await
                }
                "/spin" => {
                    // Wants its core all the time, and yields like an epoch does.
                    let until = Instant::now() + Duration::from_millis(100);
                    while Instant::now() < until {
                        tokio::task::yield_now().await;
                    }
                    Ok(http::Response::new(format!("{:?}", cores::current()).into()))
                }
                "/later" => {
                    let admitted = call.admitted;
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        drop(admitted);
                    });
                    Ok(http::Response::new("now".into()))
                }
                "/read" => match call.request.into_body().collect().await {
                    Ok(body) => Ok(http::Response::new(Body::full(body.to_bytes()))),
                    Err(error) => Err(InvokeError::new(error.code, error.message)),
                },
                "/endless" => {
                    let chunks = futures_util::stream::repeat_with(|| {
                        Ok(Frame::data(Bytes::from_static(&[7; 1000])))
                    });
                    Ok(http::Response::new(Body::stream(StreamBody::new(chunks))))
                }
                _ => {
                    let guard = CountDrop(cancelled);
                    let chunks = futures_util::stream::once(async move {
                        let _guard = guard;
                        std::future::pending::<Result<Frame<Bytes>, _>>().await
                    });
                    Ok(http::Response::new(Body::stream(StreamBody::new(chunks))))
                }
            }
        })
    }
}

struct Bench {
    runtime: Runtime,
    seen: Arc<Seen>,
    cores: Arc<Cores>,
    function: Arc<FunctionSpec>,
}

fn bench(limits: Limits, cores: usize) -> Bench {
    let seen = Arc::new(Seen::default());
    let cores = Arc::new(Cores::start(cores).unwrap());
    let options = RuntimeOptions { idle_unload: Duration::from_millis(1), ..Default::default() };
    let runtime = Runtime::new(options, cores.clone(), Arc::new(Fake(seen.clone())), seen.clone());
    let function = Arc::new(FunctionSpec {
        key: FunctionKey {
            app: AppName::parse("app").unwrap(),
            revision: RevisionId::from_digest(&blake3()),
            function: FunctionName::parse("api").unwrap(),
        },
        code: BlobId([0; 32]),
        world: HandlerWorld::Http02,
        mode: Default::default(),
        shared: Default::default(),
        limits,
        allowed_hosts: Vec::new(),
        allow_private: false,
        variables: Default::default(),
        fall_through: false,
        bindings: Default::default(),
    });
    Bench { runtime, seen, cores, function }
}

fn blake3() -> blake3::Hash {
    blake3::hash(b"a revision")
}

impl Bench {
    fn invocation(&self, path: &str, body: Body) -> Invocation {
        let trace = TraceContext::from_random([1; 24]);
        let usage: Arc<dyn UsageSink> = self.seen.clone();
        let function = Local::from(self.function.clone());
        Invocation {
            function: function.clone(),
            environment: Local::from(Arc::default()),
            trigger: Trigger::Http,
            request: http::Request::builder()
                .uri(format!("http://app.localhost{path}"))
                .body(body)
                .unwrap(),
            trace,
            meter: Meter::start(
                usage.into(),
                function,
                Trigger::Http,
                &trace,
                SystemTime::now(),
                Instant::now(),
            ),
        }
    }

    async fn text(&self, path: &str) -> String {
        let response = self.runtime.invoke(self.invocation(path, Body::empty())).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    async fn refusal(&self, path: &str, body: Body) -> ErrorCode {
        self.runtime.invoke(self.invocation(path, body)).await.expect_err("must be refused").code
    }

    fn snapshot(&self, environment: Arc<Environment>) -> Arc<Snapshot> {
        let manifest = "name = \"app\"\n[functions.api]\ncomponent = \"a\"\nroutes = [\"/*\"]";
        let revision = Arc::new(RevisionState {
            id: self.function.key.revision.clone(),
            app: self.function.key.app.clone(),
            manifest: Manifest::parse(manifest).unwrap(),
            functions: vec![self.function.clone()],
            assets: Default::default(),
        });
        Arc::new(Snapshot {
            version: 1,
            apps: vec![Arc::new(AppState {
                name: revision.app.clone(),
                hosts: Vec::new(),
                default: false,
                traffic: vec![Share { revision: revision.clone(), percent: 100 }],
                revisions: vec![revision],
                environment,
                clients: Arc::default(),
            })],
        })
    }
}

#[tokio::test]
async fn the_first_call_maps_the_function_and_is_marked_cold() {
    let bench = bench(Limits::default(), 1);
    bench.text("/core").await;
    bench.text("/core").await;
    assert_eq!(bench.seen.loads.load(SeqCst), 1);
    let cold: Vec<bool> =
        bench.seen.records.lock().unwrap().iter().map(|record| record.cold).collect();
    assert_eq!(cold, [true, false]);
}

#[tokio::test]
async fn an_idle_function_is_unmapped_and_mapped_again_when_called() {
    let bench = bench(Limits::default(), 1);
    let sweeper = tokio::spawn(bench.runtime.clone().sweep_idle());
    bench.text("/core").await;
    let mut metrics = String::new();
    while !metrics.contains("squall_functions_loaded 0") {
        tokio::time::sleep(Duration::from_millis(20)).await;
        metrics.clear();
        bench.runtime.write_metrics(&mut metrics);
    }
    bench.text("/core").await;
    assert_eq!(bench.seen.loads.load(SeqCst), 2);
    sweeper.abort();
}

#[tokio::test]
async fn the_wall_time_limit_cancels_the_guest_and_says_so_to_its_owner() {
    let bench = bench(Limits { wall_time_ms: 30, ..Limits::default() }, 1);
    assert_eq!(bench.refusal("/hang", Body::empty()).await, ErrorCode::WallTimeExceeded);
    while bench.seen.cancelled.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let lines = bench.seen.lines.lock().unwrap();
    assert!(lines[0].message.contains("limits.wall_time_ms"), "{:?}", lines[0]);
    assert_eq!(bench.seen.records.lock().unwrap()[0].code, Some(ErrorCode::WallTimeExceeded));
}

#[tokio::test]
async fn a_response_that_stalls_or_never_ends_is_broken_off() {
    let stalls = bench(Limits { wall_time_ms: 30, ..Limits::default() }, 1);
    let response = stalls.runtime.invoke(stalls.invocation("/stall", Body::empty())).await.unwrap();
    let error = response.into_body().collect().await.expect_err("it never ends");
    assert_eq!(error.code, ErrorCode::WallTimeExceeded);
    assert_eq!(stalls.seen.cancelled.load(SeqCst), 1);

    let endless = bench(Limits { response_body_bytes: 10_500, ..Limits::default() }, 1);
    let response =
        endless.runtime.invoke(endless.invocation("/endless", Body::empty())).await.unwrap();
    let error = response.into_body().collect().await.expect_err("it is too large");
    assert_eq!(error.code, ErrorCode::ResponseBodyTooLarge);
    assert_eq!(endless.runtime.running(), 0);
}

#[tokio::test]
async fn request_bytes_are_counted_and_limited() {
    let bench = bench(Limits { request_body_bytes: 10, ..Limits::default() }, 1);
    let ten = || Body::full(vec![1; 10]);
    bench.runtime.invoke(bench.invocation("/read", ten())).await.unwrap();
    let eleven = Body::full(vec![1; 11]);
    assert_eq!(bench.refusal("/read", eleven).await, ErrorCode::RequestBodyTooLarge);
    assert_eq!(bench.seen.records.lock().unwrap()[0].bytes_in, 10);
}

#[tokio::test]
async fn beyond_concurrency_and_queue_requests_are_refused_and_logged_once() {
    let limits = Limits { concurrency: 1, queue: 1, queue_time_ms: 40, ..Limits::default() };
    let bench = bench(limits, 1);
    let held = tokio::spawn(bench.runtime.invoke(bench.invocation("/hang", Body::empty())));
    while bench.runtime.running() == 0 {
        tokio::task::yield_now().await;
    }
    let waiting = tokio::spawn(bench.runtime.invoke(bench.invocation("/core", Body::empty())));
    tokio::task::yield_now().await;
    for _ in 0..100 {
        assert_eq!(bench.refusal("/core", Body::empty()).await, ErrorCode::QueueFull);
    }
    assert_eq!(waiting.await.unwrap().unwrap_err().code, ErrorCode::QueueTimeout);
    assert_eq!(bench.seen.lines.lock().unwrap().len(), 1);
    // Its client goes away: the place is free again.
    held.abort();
    let _ = held.await;
    assert!(bench.text("/core").await.starts_with("Some"));
}

#[tokio::test]
async fn dropping_the_response_cancels_and_frees_the_permits() {
    let bench = bench(Limits::default(), 1);
    let response = bench.runtime.invoke(bench.invocation("/stall", Body::empty())).await.unwrap();
    assert_eq!(bench.runtime.running(), 1);
    drop(response);
    assert_eq!(bench.runtime.running(), 0);
    assert_eq!(bench.seen.cancelled.load(SeqCst), 1);
    assert!(bench.seen.records.lock().unwrap()[0].aborted);
}

#[tokio::test]
async fn what_goes_on_after_the_response_keeps_its_place() {
    let bench = bench(Limits::default(), 1);
    assert_eq!(bench.text("/later").await, "now");
    assert_eq!(bench.runtime.running(), 1);
    while bench.runtime.running() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn guests_that_want_cpu_time_spread_over_the_cores() {
    let bench = Arc::new(bench(Limits::default(), 2));
    let (answers, received) = std::sync::mpsc::channel();
    for _ in 0..4 {
        let invocation = bench.invocation("/spin", Body::empty());
        let (runtime, answers) = (bench.runtime.clone(), answers.clone());
        // All of them arrive on the first core, as the streams of one connection do.
        bench.cores.handles()[0].spawn(async move {
            let response = runtime.invoke(invocation).await.unwrap();
            let core = response.into_body().collect().await.unwrap().to_bytes();
            answers.send(String::from_utf8(core.to_vec()).unwrap()).unwrap();
        });
    }
    let mut cores: Vec<String> = (0..4).map(|_| received.recv().unwrap()).collect();
    cores.sort();
    assert_eq!(cores, ["Some(0)", "Some(0)", "Some(1)", "Some(1)"]);
    assert_eq!(bench.cores.runnable(), [0, 0]);
    bench.cores.stop();
}

#[tokio::test]
async fn new_secrets_retire_instances_and_a_removed_app_is_unmapped() {
    let bench = bench(Limits::default(), 1);
    let environment = Arc::<Environment>::default();
    bench.runtime.apply(&bench.snapshot(environment.clone()));
    bench.text("/core").await;
    bench.runtime.apply(&bench.snapshot(environment));
    assert_eq!(bench.seen.environment_changes.load(SeqCst), 0, "nothing changed");
    bench.runtime.apply(&bench.snapshot(Arc::default()));
    assert_eq!(bench.seen.environment_changes.load(SeqCst), 1);
    bench.runtime.apply(&Arc::new(Snapshot::default()));
    let mut metrics = String::new();
    bench.runtime.write_metrics(&mut metrics);
    assert!(metrics.contains("squall_functions_loaded 0"), "{metrics}");
    // A request that began before the removal still finds its function.
    bench.text("/core").await;
}
