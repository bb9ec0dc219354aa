//! Bodies that flow: piece by piece, no faster than they are read, and to their end.

use std::time::Duration;

use bytes::Bytes;

use super::exchange::{Exchange, body};
use crate::harness::{App, TestNode};

const MODES: [&str; 2] = ["per-request", "shared"];

const SHIFT: &str = "
    export default {
      fetch(request: Request) {
        const shift = new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            chunk[0] += 1;
            controller.enqueue(chunk);
          },
        });
        return new Response(request.body!.pipeThrough(shift));
      },
    };";

/// `SQUALL_LARGE` asks for the whole gigabyte.
fn total_bytes() -> u64 {
    if std::env::var_os("SQUALL_LARGE").is_some() { 1 << 30 } else { 64 << 20 }
}

/// Sends much through a function that looks at every chunk, and takes it as it comes.
async fn pour_through(node: &TestNode, app: &str, total: u64) -> u64 {
    let (pieces, body) = body();
    let mut exchange = Exchange::begin(node, "POST", app, "/", body).await;
    let sending = tokio::spawn(async move {
        let piece = Bytes::from(vec![b'a'; 64 << 10]);
        for _ in 0..total / piece.len() as u64 {
            pieces.send(piece.clone()).await.unwrap();
        }
    });
    let (mut received, mut changed, mut highest) = (0, 0, 0);
    let mut next_look = 0;
    while let Some(piece) = exchange.next().await {
        received += piece.len() as u64;
        changed += piece.iter().filter(|byte| **byte == b'b').count();
        if received >= next_look {
            highest = highest.max(node.resident_bytes());
            next_look += 1 << 20;
        }
    }
    sending.await.unwrap();
    assert_eq!(received, total);
    assert!(changed > 0, "the function changed nothing");
    highest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn much_data_flows_through_a_function_in_constant_memory() {
    let node = TestNode::start();
    let total = total_bytes();
    for mode in MODES {
        let limits = format!(
            "limits = {{ request_body_bytes = {total}, wall_time_ms = 900000, cpu_time_ms = 300000 }}"
        );
        node.deploy(&App::typescript(mode, SHIFT).with(&format!("instances = {mode:?}\n{limits}")));
        pour_through(&node, mode, 4 << 20).await;
        let before = node.resident_bytes();
        let highest = pour_through(&node, mode, total).await;
        let grown = highest.saturating_sub(before);
        assert!(grown < 32 << 20, "{mode}: {grown} bytes more while {total} flowed through");
    }
}

/// A client that does not read stops the function, which stops the client that sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_read_holds_up_whoever_writes() {
    let source = "
        let pulled = 0;
        export default {
          fetch(request: Request) {
            const piece = new Uint8Array(64 * 1024);
            if (request.method === 'POST') return new Response(request.body);
            return new Response(new ReadableStream({
              pull(controller) {
                pulled++;
                if (pulled % 16 === 0) console.log(`pulled ${pulled}`);
                if (pulled === 1600) controller.close();
                else controller.enqueue(piece);
              },
            }));
          },
        };";
    let node = TestNode::start();
    for mode in MODES {
        node.deploy(&App::typescript(mode, source).with(&format!("instances = {mode:?}")));
        let mut unread = Exchange::get(&node, mode, "/").await;
        unread.next().await.unwrap();
        // Longer than a hundred megabytes would take.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let pulled = node
            .logs(mode)
            .iter()
            .filter_map(|entry| entry["message"].as_str()?.strip_prefix("pulled ")?.parse().ok())
            .max()
            .unwrap_or(0_u32);
        // What sockets and buffers hold is a few megabytes.
        assert!(pulled < 400, "{mode}: {pulled} pieces were made for nobody");
        let mut rest = 0;
        while let Some(piece) = unread.next().await {
            rest += piece.len();
        }
        assert!(rest > 1500 * (64 << 10), "{mode}: {rest}");

        let (pieces, body) = body();
        let exchange = Exchange::begin(&node, "POST", mode, "/", body).await;
        let piece = Bytes::from(vec![0; 64 << 10]);
        let mut sent = 0;
        while let Ok(Ok(())) =
            tokio::time::timeout(Duration::from_secs(1), pieces.send(piece.clone())).await
        {
            sent += 1;
            assert!(
                sent < 1600,
                "{mode}: a hundred megabytes were taken from a client that reads none"
            );
        }
        drop(exchange);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_sent_at_once_and_a_client_that_goes_cancels_their_source() {
    let source = "
        export default {
          fetch(request: Request, env: unknown, ctx: any) {
            const { readable, writable } = new TransformStream<string, string>();
            const writer = writable.getWriter();
            const send = async () => {
              await writer.write('data: first\\n\\n');
              // The next never comes before its client has the first.
              await new Promise((done) => setTimeout(done, 15_000));
              await writer.write('data: second\\n\\n');
            };
            ctx.waitUntil(send());
            writer.closed.catch((reason: Error) => console.log(`the reader has gone: ${reason?.name}`));
            const headers = { 'content-type': 'text/event-stream' };
            return new Response(readable.pipeThrough(new TextEncoderStream()), { headers });
          },
        };";
    let node = TestNode::start();
    for mode in MODES {
        node.deploy(&App::typescript(mode, source).with(&format!("instances = {mode:?}")));
        let mut events = Exchange::get(&node, mode, "/").await;
        assert_eq!(events.head.headers["content-type"], "text/event-stream");
        let first = tokio::time::timeout(Duration::from_secs(10), events.expect("data: first\n\n"));
        first.await.expect("the first event waits for the second");
        drop(events);
        node.expect_log_text(mode, "the reader has gone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_fails_half_way_breaks_off() {
    let source = "
        export default {
          fetch: () => new Response(new ReadableStream({
            async start(controller) {
              controller.enqueue(new TextEncoder().encode('the beginning'));
              await new Promise((done) => setTimeout(done, 100));
              controller.error(new Error('no more'));
            },
          })),
        };";
    let node = TestNode::start();
    for mode in MODES {
        node.deploy(&App::typescript(mode, source).with(&format!("instances = {mode:?}")));
        let answer = node.get(mode, "/").await;
        assert_eq!((answer.status, answer.text(), answer.broken), (200, "the beginning", true));
        node.expect_log_text(mode, "no more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_compressed_decoded_and_teed_on_its_way() {
    let source = "
        export default {
          async fetch(request: Request) {
            const [first, second] = request.body!.tee();
            const squeezed = first.pipeThrough(new CompressionStream('gzip'));
            const opened = squeezed.pipeThrough(new DecompressionStream('gzip'));
            const [text, bytes] = await Promise.all([new Response(opened).text(), new Response(second).bytes()]);
            return Response.json({ same: text === new TextDecoder().decode(bytes), length: bytes.length });
          },
        };";
    let node = TestNode::start();
    node.deploy(&App::typescript("codec", source));
    let text = "wind and rain, ".repeat(20_000);
    let answer = node.request("POST", "codec", "/", &[], text.clone()).await.json();
    assert_eq!((&answer["same"], &answer["length"]), (&true.into(), &text.len().into()));
}
