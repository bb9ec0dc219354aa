use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use squall_types::limits::Limits;
use squall_types::log::{Caller, Level, Source, TlsVersion, UpstreamCall};
use squall_types::manifest::{InstanceMode, SharedInstances};
use squall_types::state::{BlobId, FunctionKey, FunctionSpec, HandlerWorld};
use squall_types::trace::TraceContext;
use squall_types::{AppName, ErrorCode, FunctionName, RevisionId};
use tempfile::tempdir;

use super::*;

fn spec(app: &str) -> Arc<FunctionSpec> {
    Arc::new(FunctionSpec {
        key: FunctionKey {
            app: AppName::parse(app).unwrap(),
            revision: RevisionId::parse("abcdefghij").unwrap(),
            function: FunctionName::parse("api").unwrap(),
        },
        code: BlobId([0; 32]),
        world: HandlerWorld::Http02,
        mode: InstanceMode::PerRequest,
        shared: SharedInstances::default(),
        limits: Limits::default(),
        allowed_hosts: Vec::new(),
        allow_private: false,
        variables: BTreeMap::new(),
        fall_through: false,
        bindings: Default::default(),
    })
}

fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_423_768_000 + ms)
}

fn trace(number: u8) -> TraceContext {
    TraceContext { trace_id: [number; 16], span_id: [number; 8], sampled: true }
}

fn line(app: &str, ms: u64, message: &str) -> LogLine {
    LogLine {
        at: at(ms),
        function: spec(app),
        source: Source::Stdout,
        level: Level::Info,
        message: message.to_owned(),
        code: None,
        trace: trace(1),
    }
}

fn app_line(app: &str, ms: u64, message: &str) -> AppLine {
    AppLine {
        at: at(ms),
        app: AppName::parse(app).unwrap(),
        level: Level::Warn,
        message: message.to_owned(),
        code: Some(ErrorCode::UpstreamBroke),
    }
}

/// What access records point to.
struct Known {
    function: Arc<FunctionSpec>,
    upstream: UpstreamCall,
    user_agent: http::HeaderValue,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| Known {
    function: spec("shop"),
    upstream: UpstreamCall {
        name: Arc::<str>::from("users").into(),
        address: Some("[::1]:8080".parse().unwrap()),
        duration_us: 1_000,
        tries: 2,
    },
    user_agent: http::HeaderValue::from_bytes(b"curl \xff \"quoted\"").unwrap(),
});

fn access(ms: u64, path: &str, status: u16) -> AccessRecord<'_> {
    AccessRecord {
        at: at(ms),
        function: Some(&KNOWN.function),
        app: Some(&KNOWN.function.key.app),
        route: Some("or\"ders"),
        method: &http::Method::GET,
        host: "shop.localhost",
        path,
        status,
        code: (status >= 500).then_some(ErrorCode::Trapped),
        duration_us: 1_234,
        bytes_in: 10,
        bytes_out: 20,
        client: "127.0.0.1".parse().unwrap(),
        version: http::Version::HTTP_11,
        tls: Some(TlsVersion::V13),
        caller: Some(Caller { source: "partners", name: "acme", key_prefix: Some("sk_abc") }),
        upstream: Some(&KNOWN.upstream),
        cache: None,
        user_agent: Some(&KNOWN.user_agent),
        trace: trace(2),
    }
}

fn open(dir: &Path) -> Arc<Logs> {
    Logs::open(LogsOptions::new(dir)).unwrap()
}

fn messages(logs: &Logs, filter: &LogFilter, limit: usize) -> Vec<String> {
    logs.recent(filter, limit).iter().map(|entry| entry.message.clone()).collect()
}

fn everything(logs: &Logs) -> Vec<String> {
    messages(logs, &LogFilter::default(), 1_000_000)
}

#[test]
fn recent_entries_are_in_order_of_time_and_survive_a_restart() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    logs.line(line("shop", 2, "second \"line\"\n\u{1b}[31m"));
    logs.access(&access(1, "/first?\u{7f}é", 200));
    logs.line(line("blog", 3, "third"));
    logs.flush();
    let want = ["GET /first?\u{7f}é 200 1.2ms", "second \"line\"\n\u{1b}[31m", "third"];
    assert_eq!(everything(&logs), want);
    assert_eq!(messages(&logs, &LogFilter::default(), 2), want[1..]);
    drop(logs);
    let logs = open(dir.path());
    assert_eq!(everything(&logs), want);
    let first = &logs.recent(&LogFilter::default(), 3)[0];
    assert_eq!(first.at, "2026-11-23T08:49:28.001Z");
    assert_eq!(first.status, Some(200));
    assert_eq!(first.trace_id, "02".repeat(16));
}

#[test]
fn an_access_record_is_read_back_whole() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    logs.access(&access(1, "/", 200));
    let bare = AccessRecord {
        route: None,
        tls: None,
        caller: None,
        upstream: None,
        ..access(2, "/", 200)
    };
    logs.access(&bare);
    logs.line(line("shop", 3, "a line has none of it"));
    logs.flush();
    let entries = logs.recent(&LogFilter::default(), 3);
    let fields = |index: usize| serde_json::to_value(&*entries[index]).unwrap();
    let expected = serde_json::json!({
        "at": "2026-11-23T08:49:28.001Z", "level": "info", "source": "access", "app": "shop",
        "function": "api", "revision": "abcdefghij", "message": "GET / 200 1.2ms",
        "trace_id": "02".repeat(16), "span_id": "02".repeat(8), "status": 200, "duration_us": 1_234, "route": "or\"ders",
        "method": "GET", "host": "shop.localhost", "path": "/", "bytes_in": 10, "bytes_out": 20,
        "client": "127.0.0.1", "version": "HTTP/1.1", "tls": "1.3", "identity": "partners",
        "caller": "acme", "key_prefix": "sk_abc", "upstream": "users",
        "upstream_address": "[::1]:8080", "upstream_us": 1_000, "upstream_tries": 2,
        "user_agent": "curl \u{fffd} \"quoted\"",
    });
    assert_eq!(fields(0), expected);
    for name in ["route", "tls", "caller", "upstream", "key_prefix"] {
        assert!(fields(1).get(name).is_none(), "{name}");
    }
    assert_eq!(fields(2).as_object().unwrap().len(), 9, "{}", fields(2));
}

#[track_caller]
fn check_filter(filter: LogFilter, want: &[&str]) {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    let mut follower = logs.follow(filter.clone());
    logs.line(line("shop", 1, "one"));
    logs.line(LogLine { level: Level::Error, ..line("blog", 2, "two") });
    logs.access(&access(3, "/3", 200));
    logs.access(&access(4, "/4", 404));
    logs.access(&access(5, "/5", 503));
    logs.app_line(app_line("shop", 6, "upstream \"users\" broke off"));
    logs.flush();
    assert_eq!(messages(&logs, &filter, 100), want);
    // A follower sees the same, entry by entry.
    for entry in logs.recent(&filter, 100) {
        let Ok(LogEvent::Entry(followed)) = follower.try_recv() else { panic!("an entry") };
        assert_eq!(
            serde_json::to_string(&followed).unwrap(),
            serde_json::to_string(&entry).unwrap()
        );
    }
    assert!(follower.try_recv().is_err());
}

#[test]
fn filters_choose() {
    let filter = LogFilter::default;
    let text = |text: &str| Some(text.to_owned());
    let (a3, a4, a5) = ("GET /3 200 1.2ms", "GET /4 404 1.2ms", "GET /5 503 1.2ms");
    let broke = "upstream \"users\" broke off";
    check_filter(filter(), &["one", "two", a3, a4, a5, broke]);
    check_filter(
        LogFilter { app: text("shop"), level: Some(Level::Warn), ..filter() },
        &[a5, broke],
    );
    check_filter(LogFilter { app: text("blog"), ..filter() }, &["two"]);
    check_filter(LogFilter { app: text("none"), ..filter() }, &[]);
    check_filter(
        LogFilter { function: text("api"), app: text("shop"), ..filter() },
        &["one", a3, a4, a5],
    );
    check_filter(LogFilter { level: Some(Level::Error), ..filter() }, &["two", a5]);
    check_filter(LogFilter { status: text("404"), ..filter() }, &[a4]);
    check_filter(LogFilter { status: text("5xx"), ..filter() }, &[a5]);
    check_filter(LogFilter { trace_id: text(&"02".repeat(16)), ..filter() }, &[a3, a4, a5]);
}

#[test]
fn files_rotate_by_size_and_old_ones_go() {
    let dir = tempdir().unwrap();
    let mut options = LogsOptions::new(dir.path());
    options.max_bytes = 2_000;
    options.files = 3;
    let logs = Logs::open(options.clone()).unwrap();
    for n in 0..100 {
        logs.line(line("shop", n, &format!("line {n}")));
        logs.flush();
    }
    assert_eq!(everything(&logs).len(), 100);
    drop(logs);
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("functions"))
        .collect();
    names.sort();
    assert_eq!(names, ["functions.log", "functions.log.1", "functions.log.2"]);
    for name in &names {
        assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 2_000);
    }
    // What the files still hold is there again, without a gap.
    let logs = Logs::open(options).unwrap();
    let kept = everything(&logs);
    assert!(kept.len() > 10);
    let want: Vec<String> = (100 - kept.len()..100).map(|n| format!("line {n}")).collect();
    assert_eq!(kept, want);
}

#[test]
fn two_processes_rotate_the_same_files() {
    let dir = tempdir().unwrap();
    let mut options = LogsOptions::new(dir.path());
    options.max_bytes = 1_000;
    options.files = 100;
    let (old, new) = (Logs::open(options.clone()).unwrap(), Logs::open(options.clone()).unwrap());
    for n in 0..60 {
        let logs = if n % 2 == 0 { &old } else { &new };
        logs.line(line("shop", n, &format!("line {n}")));
        logs.flush();
    }
    drop((old, new));
    let logs = Logs::open(options).unwrap();
    assert_eq!(everything(&logs), (0..60).map(|n| format!("line {n}")).collect::<Vec<_>>());
}

#[test]
fn a_torn_or_foreign_line_spoils_only_itself() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    logs.line(line("shop", 1, "one"));
    drop(logs);
    let path = dir.path().join("functions.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(b"not json\n{\"at\":\"20");
    fs::write(&path, bytes).unwrap();
    let logs = open(dir.path());
    logs.line(line("shop", 2, "two"));
    logs.flush();
    assert_eq!(everything(&logs), ["one", "two"]);
    drop(logs);
    assert_eq!(everything(&open(dir.path())), ["one", "two"]);
}

#[test]
fn memory_is_bounded_and_keeps_the_newest() {
    let dir = tempdir().unwrap();
    let mut options = LogsOptions::new(dir.path());
    options.ring_bytes = 64 << 10;
    let logs = Logs::open(options.clone()).unwrap();
    for n in 0..5_000 {
        logs.line(line("shop", n, &format!("line {n}")));
    }
    logs.flush();
    let check = |logs: &Logs| {
        let kept = everything(logs);
        assert!((100..1_000).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.last().unwrap(), "line 4999");
    };
    check(&logs);
    drop(logs);
    check(&Logs::open(options).unwrap());
}

#[test]
fn a_slow_follower_is_told_what_it_missed() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    let mut follower = logs.follow(LogFilter { app: Some("shop".into()), ..LogFilter::default() });
    for n in 0..1_500 {
        logs.line(line("shop", n, &format!("line {n}")));
        logs.line(line("blog", n, "of another app"));
    }
    logs.flush();
    for n in 0..followers::FOLLOWER_QUEUE {
        let Ok(LogEvent::Entry(entry)) = follower.try_recv() else { panic!("entry {n}") };
        assert_eq!(entry.message, format!("line {n}"));
    }
    // The writer thread says it without another line being logged.
    let event = follower.blocking_recv();
    assert!(matches!(event, Some(LogEvent::Dropped(500))), "{event:?}");
    logs.line(line("shop", 2_000, "after"));
    let event = follower.blocking_recv();
    assert!(matches!(&event, Some(LogEvent::Entry(entry)) if entry.message == "after"));

    drop(follower);
    logs.line(line("shop", 2_001, "to nobody"));
    logs.flush();
    assert_eq!(logs.inner.followers.count(), 0);
}

#[test]
fn a_follower_is_told_also_by_a_writer_that_slept() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    let mut follower = logs.follow(LogFilter::default());
    // Nothing was logged yet: the writer thread goes to sleep, and these do not wake it.
    std::thread::sleep(2 * LONGEST_PAUSE);
    let missed = 100;
    for n in 0..followers::FOLLOWER_QUEUE + missed {
        logs.inner.shards.own().push(&Item::Line(&line("shop", n as u64, "hello")));
    }
    logs.flush();
    for n in 0..followers::FOLLOWER_QUEUE {
        assert!(matches!(follower.try_recv(), Ok(LogEvent::Entry(_))), "entry {n}");
    }
    let patience = Instant::now() + Duration::from_secs(20);
    let told = loop {
        match follower.try_recv() {
            Err(_) if Instant::now() < patience => std::thread::sleep(SHORTEST_PAUSE),
            told => break told,
        }
    };
    assert!(matches!(told, Ok(LogEvent::Dropped(100))), "{told:?}");
}

#[test]
fn followers_are_served_without_a_flush() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    let mut follower = logs.follow(LogFilter::default());
    for n in 0..3 {
        logs.line(line("shop", n, "hello"));
        assert!(matches!(follower.blocking_recv(), Some(LogEvent::Entry(_))));
    }
}

#[test]
fn what_the_writer_can_not_take_is_counted_in_the_log() {
    let dir = tempdir().unwrap();
    let logs = open(dir.path());
    {
        // Holding the writer's lock stops it.
        let _writer = lock(&logs.inner.writer);
        for n in 0..lines::MOST_LINES as u64 + 7 {
            logs.line(line("shop", n % 10, "flood"));
        }
    }
    logs.flush();
    assert_eq!(
        messages(&logs, &LogFilter::default(), 1),
        ["dropped 7 lines: the log writer could not keep up"]
    );
    let mut metrics = String::new();
    logs.write_metrics(&mut metrics);
    assert!(metrics.contains("\nsquall_log_dropped_total 7\n"), "{metrics}");
}

#[test]
fn without_an_access_log_only_followers_see_access_records() {
    let dir = tempdir().unwrap();
    let mut options = LogsOptions::new(dir.path());
    options.access_log = false;
    let logs = Logs::open(options).unwrap();
    logs.access(&access(1, "/", 200));
    let mut follower = logs.follow(LogFilter::default());
    logs.access(&access(2, "/followed", 200));
    let Some(LogEvent::Entry(entry)) = follower.blocking_recv() else { panic!("an entry") };
    assert_eq!(entry.message, "GET /followed 200 1.2ms");
    assert_eq!(everything(&logs), Vec::<String>::new());
    assert_eq!(fs::read(dir.path().join("access.log")).unwrap(), b"");
}

#[test]
fn the_writer_comes_more_often_when_there_is_more_to_write() {
    let settled = |entries_per_s: u128| {
        let mut pace = Pace::new(SHORTEST_PAUSE, LONGEST_PAUSE);
        for _ in 0..20 {
            let count = entries_per_s * pace.pause().as_micros() / 1_000_000;
            pace.follow(count as usize);
        }
        pace.pause()
    };
    assert_eq!(settled(0), LONGEST_PAUSE);
    assert_eq!(settled(1_000), LONGEST_PAUSE);
    assert!(settled(20_000).as_micros().abs_diff(12_800) < 200, "{:?}", settled(20_000));
    assert_eq!(settled(1_000_000), SHORTEST_PAUSE);
}
