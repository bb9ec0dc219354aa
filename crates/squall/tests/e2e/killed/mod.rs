//! Connections that are killed while requests are under way, in the middle of others that
//! are not: the ledger has what the clients saw, and nothing is left behind.

mod client;
mod origin;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::client::{Ask, Door, Http1, Http2, Seen, Until};
use self::origin::Origin;
use crate::harness::{App, TestNode, request, wait_for};

/// A component, JavaScript, and an upstream.
const APPS: [&str; 3] = ["wasm", "script", "front"];
/// One of so many requests is killed.
const KILLED_ONE_OF: u64 = 100;
const CLIENTS: u64 = 24;
/// That `front` lets in at once.
const AT_ONCE: usize = 64;
const UPLOAD_BYTES: usize = 40_000;

const SCRIPT: &str = "
    const sleep = (ms: number) => new Promise<void>((done) => setTimeout(done, ms));
    const piece = new TextEncoder().encode('data: 1\\n\\n');
    function events(most: number): Response {
      let sent = 0;
      return new Response(new ReadableStream({
        async pull(controller) {
          if (sent++ === most) return controller.close();
          controller.enqueue(piece);
          await sleep(2);
        },
      }), { headers: { 'content-type': 'text/event-stream' } });
    }
    export default {
      async fetch(request: Request): Promise<Response> {
        switch (new URL(request.url).pathname) {
          case '/upload': {
            let bytes = 0;
            for await (const chunk of request.body!) bytes += chunk.length;
            return new Response(`${bytes}`);
          }
          case '/download': return new Response('d'.repeat(65536));
          case '/events': return events(5);
          case '/endless': return events(Infinity);
          default: return new Response('small');
        }
      },
    };";

/// `SQUALL_LARGE` asks for a hundred thousand.
fn requests_of_a_round() -> u64 {
    if std::env::var_os("SQUALL_LARGE").is_some() { 25_000 } else { 1_000 }
}

/// What the clients know of the requests to one app.
#[derive(Default)]
struct Tally {
    whole: AtomicU64,
    broken: AtomicU64,
    /// Killed after the gateway had shown that it had them.
    killed: AtomicU64,
    /// Killed in the beginning of a body that is waited for: known, and nothing was called.
    uncalled: AtomicU64,
    /// Killed in their own head.
    unborn: AtomicU64,
}

impl Tally {
    fn count(&self, counter: impl Fn(&Self) -> &AtomicU64) {
        counter(self).fetch_add(1, Ordering::Relaxed);
    }
}

/// Numbers that look random and are the same in every run (splitmix64).
fn dice(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

struct Traffic {
    door: Door,
    origin: Origin,
    tallies: [Tally; APPS.len()],
    tickets: AtomicU64,
}

impl Traffic {
    fn tally(&self, app: &str) -> &Tally {
        &self.tallies[APPS.iter().position(|one| *one == app).unwrap()]
    }

    /// Makes `requests` requests, with some that are killed among them.
    async fn round(self: &Arc<Self>, requests: u64) {
        let until = self.tickets.load(Ordering::Relaxed) + requests;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let traffic = self.clone();
                tokio::spawn(async move {
                    let (app, tls) = (APPS[number as usize % APPS.len()], number % 4 >= 2);
                    if number % 2 == 0 {
                        traffic.speak_http1(app, tls, until).await;
                    } else {
                        traffic.speak_http2(tls, until).await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    }

    fn next_ticket(&self, until: u64) -> Option<u64> {
        Some(self.tickets.fetch_add(1, Ordering::Relaxed)).filter(|ticket| *ticket < until)
    }

    async fn speak_http1(&self, app: &'static str, tls: bool, until: u64) {
        let mut connection = None;
        while let Some(ticket) = self.next_ticket(until) {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Http1::connect(&self.door, app, tls).await,
            };
            if ticket.is_multiple_of(KILLED_ONE_OF) {
                let (ask, until) = to_be_killed(app, ticket);
                let tally = self.tally(app);
                match until {
                    Until::InHead => tally.count(|tally| &tally.unborn),
                    Until::InBeginning => tally.count(|tally| &tally.uncalled),
                    _ => tally.count(|tally| &tally.killed),
                }
                open.kill(&ask, until, dice(!ticket), &self.origin).await;
                continue;
            }
            let ask = to_be_answered(app, ticket);
            let seen = open.ask(&ask).await;
            self.note(&ask, seen);
            connection = (seen != Seen::Broken).then_some(open);
        }
    }

    async fn speak_http2(&self, tls: bool, until: u64) {
        let mut connection = Http2::connect(&self.door, APPS[0], tls).await;
        while let Some(ticket) = self.next_ticket(until) {
            if ticket.is_multiple_of(KILLED_ONE_OF) {
                // Several are lost with the connection.
                let asks = [
                    ask("wasm", "/endless", ticket, 0, Until::InResponse(20_000)),
                    ask("wasm", "/echo", ticket, UPLOAD_BYTES, Until::InResponse(1)),
                    ask("script", "/endless", ticket, 0, Until::InResponse(30)),
                    ask("front", "/endless", ticket, 0, Until::InResponse(30)),
                    ask("front", "/swallow", ticket, 0, Until::AtOrigin),
                    ask("front", "/swallow", !ticket, UPLOAD_BYTES, Until::AtOrigin),
                ];
                for (ask, _) in &asks {
                    self.tally(ask.app).count(|tally| &tally.killed);
                }
                let old = std::mem::replace(
                    &mut connection,
                    Http2::connect(&self.door, APPS[0], tls).await,
                );
                old.kill(&asks, 1 + dice(ticket), &self.origin).await;
                continue;
            }
            let ask = to_be_answered(APPS[dice(ticket) as usize % APPS.len()], ticket);
            let seen = connection.ask(&ask).await;
            self.note(&ask, seen);
        }
    }

    fn note(&self, ask: &Ask, seen: Seen) {
        let tally = self.tally(ask.app);
        let expected = match ask.path {
            "/cut-in-body" => Seen::Broken,
            "/cut-in-head" => Seen::Whole(502),
            _ => Seen::Whole(200),
        };
        assert_eq!(seen, expected, "{ask:?}");
        match seen {
            Seen::Whole(_) => tally.count(|tally| &tally.whole),
            Seen::Broken => tally.count(|tally| &tally.broken),
        }
    }

    /// What every tally has together.
    fn sum(&self, counters: &[fn(&Tally) -> &AtomicU64]) -> u64 {
        let of = |tally: &Tally| {
            counters.iter().map(|counter| counter(tally).load(Ordering::Relaxed)).sum::<u64>()
        };
        self.tallies.iter().map(of).sum()
    }
}

fn ask(
    app: &'static str,
    path: &'static str,
    ticket: u64,
    body_bytes: usize,
    until: Until,
) -> (Ask, Until) {
    (Ask { app, path, ticket, body_bytes }, until)
}

fn to_be_answered(app: &'static str, ticket: u64) -> Ask {
    let (path, body_bytes) = match (app, dice(ticket) >> 32 & 15) {
        ("wasm", 0..4) => ("/echo", UPLOAD_BYTES),
        ("wasm", 4) => ("/sse", 0),
        ("wasm", _) => ("/count", 0),
        ("script" | "front", 0..3) => ("/upload", UPLOAD_BYTES),
        (_, 3 | 4) => ("/download", 0),
        (_, 5) => ("/events", 0),
        ("front", 6) => ("/cut-in-body", 0),
        ("front", 7) => ("/cut-in-head", 0),
        _ => ("/small", 0),
    };
    Ask { app, path, ticket, body_bytes }
}

/// By HTTP/1.1, one after the other of what can happen.
fn to_be_killed(app: &'static str, ticket: u64) -> (Ask, Until) {
    let some_bytes = 1 + dice(ticket) as usize % 10_000;
    let upload = if app == "wasm" { "/echo" } else { "/upload" };
    match (ticket / KILLED_ONE_OF % 5, app) {
        (0, _) => ask(app, "/endless", ticket, 0, Until::InHead),
        (1, "front") if some_bytes.is_multiple_of(2) => {
            ask(app, "/swallow", ticket, UPLOAD_BYTES, Until::InBeginning)
        }
        (1, "front") => ask(app, "/swallow", ticket, UPLOAD_BYTES, Until::AtOrigin),
        (1, _) => ask(app, upload, ticket, UPLOAD_BYTES, Until::InUpload),
        (2, "front") => ask(app, "/swallow", ticket, 0, Until::AtOrigin),
        (3, "front") => ask(app, "/tunnel", ticket, 0, Until::InTunnel),
        (_, "wasm") => ask(app, "/endless", ticket, 0, Until::InResponse(some_bytes)),
        _ => ask(app, "/endless", ticket, 0, Until::InResponse(some_bytes % 400 + 1)),
    }
}

/// A certificate for all apps, as files. Returns what a client trusts.
fn write_certificate(folder: &Path) -> rustls::pki_types::CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let hosts = APPS.map(|app| format!("{app}.localhost")).to_vec();
    let certificate = rcgen::CertificateParams::new(hosts).unwrap().self_signed(&key).unwrap();
    std::fs::write(folder.join("apps.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("apps.key"), key.serialize_pem()).unwrap();
    certificate.der().clone()
}

/// The sum of all samples of a metric.
async fn metric(node: &TestNode, name: &str) -> f64 {
    let answer = request(node.admin(), "127.0.0.1", "GET", "/metrics", &[], Bytes::new()).await;
    let answer = answer.unwrap();
    let samples = answer.text().lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next().unwrap().parse::<f64>())
    });
    samples.map(Result::unwrap).sum()
}

/// Waits until nothing is under way any more, by everything that the node says of itself.
async fn expect_quiet(node: &TestNode) {
    let began = Instant::now();
    for name in [
        "squall_http_connections",
        "squall_route_in_flight",
        "squall_invocations_running",
        "squall_invocations_waiting",
        "squall_upstream_in_flight",
        "squall_upstream_tunnels",
        "squall_upstream_idle_connections",
    ] {
        loop {
            let value = metric(node, name).await;
            if value == 0.0 {
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "{name} stays at {value}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_matches_and_nothing_leaks_when_connections_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = write_certificate(folder.path());
    let node = TestNode::start_with(&format!(
        "[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\nfolders = [{:?}]\n",
        folder.path()
    ));
    let origin = Origin::start().await;
    node.deploy(&App::probe("wasm"));
    node.deploy(&App::typescript("script", SCRIPT));
    let limit = format!("policy = {{ concurrency = {{ limit = {AT_ONCE} }} }}");
    let mut front = App::proxy("front", origin.address).and(&limit);
    front.more =
        front.more.replace("allow_private = true", "allow_private = true\nkeep_alive_ms = 300");
    node.deploy(&front);
    let door = Door { plain: node.gateway(), tls: node.gateway_tls(), certificate };
    let tickets = AtomicU64::new(1);
    let traffic = Arc::new(Traffic { door, origin, tallies: Default::default(), tickets });

    traffic.round(requests_of_a_round()).await;
    expect_quiet(&node).await;
    let (files, mut memory) = (node.open_files(), Vec::new());
    let began = Instant::now();
    for _ in 0..4 {
        traffic.round(requests_of_a_round()).await;
        expect_quiet(&node).await;
        memory.push(node.resident_bytes());
        assert!(node.open_files() <= files + 8, "{} files after {files}", node.open_files());
    }
    let took = began.elapsed();
    // What logs and the ledger hold is a part of it, and the first rounds fill what is kept.
    let most = memory[1] + memory[1] / 10 + (8 << 20);
    assert!(memory[3] < most, "{memory:?} bytes after the rounds");

    // Every place among those at once is free: as many come in as may, and no more.
    let mut held = Vec::new();
    for number in 0..AT_ONCE {
        let (ask, until) =
            ask("front", "/swallow", u64::MAX / 2 + number as u64, 0, Until::AtOrigin);
        traffic.tally("front").count(|tally| &tally.killed);
        let connection = Http1::connect(&traffic.door, "front", false).await;
        held.push(connection.until(&ask, until, 0, &traffic.origin).await);
    }
    let mut one_more = Http1::connect(&traffic.door, "front", false).await;
    let refused = one_more.ask(&to_be_answered("front", 5)).await;
    assert_eq!(refused, Seen::Whole(429));
    held.into_iter().for_each(Http1::reset);
    drop(one_more);
    expect_quiet(&node).await;

    for (app, tally) in APPS.iter().zip(&traffic.tallies) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (whole, broken, killed) =
            (read(&tally.whole), read(&tally.broken), read(&tally.killed));
        let (uncalled, unborn) = (read(&tally.uncalled), read(&tally.unborn));
        println!(
            "{app}: {whole} whole, {broken} broken off by the upstream, {killed} killed, {uncalled} killed before anything was called, {unborn} killed in their head; the ledger: {}",
            node.usage(app)["total"]
        );
        let expected = whole + broken + killed;
        wait_for("all records", || node.usage(app)["total"]["invocations"] == expected);
        let total = node.usage(app)["total"].clone();
        assert_eq!(total["aborted"], broken + killed, "{app}: {total}");
    }
    // The one that was refused is no usage.
    let all =
        traffic.sum(&[|one| &one.whole, |one| &one.broken, |one| &one.killed, |one| &one.uncalled])
            + 1;
    assert_eq!(metric(&node, "squall_http_requests_total").await, all as f64);
    println!(
        "{all} requests; three rounds in {took:?}; resident {memory:?}; files {files} and {}",
        node.open_files()
    );
    assert_eq!(node.terminate(), Some(0));
}
