use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::*;

struct Source(mpsc::UnboundedReceiver<Result<Frame<Bytes>, BodyError>>);

impl HttpBody for Source {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx)
    }
}

type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, BodyError>>;

fn source() -> (Sender, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Body::stream(Source(receiver)))
}

fn chunk(text: &str) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
}

async fn read(body: Body) -> Result<Bytes, BodyError> {
    body.collect().await.map(http_body_util::Collected::to_bytes)
}

#[tokio::test]
async fn all_readers_get_all_of_it_whenever_they_come() {
    let fill = Fill::new(Some(6), 100, &Arc::default());
    let (sender, body) = source();
    let first = fill.join().unwrap();
    let pump = tokio::spawn({
        let fill = fill.clone();
        async move { fill.pump(body).await }
    });
    sender.send(chunk("abc")).unwrap();
    tokio::task::yield_now().await;
    let second = fill.join().unwrap();
    sender.send(chunk("def")).unwrap();
    drop(sender);
    let read = join_all([read(first), read(second)]).await;
    assert!(read.iter().all(|read| read.as_ref().unwrap() == "abcdef"), "{read:?}");
    assert_eq!(pump.await.unwrap().unwrap(), "abcdef");
    assert_eq!(super::tests::read(fill.join().unwrap()).await.unwrap(), "abcdef");
}

#[tokio::test]
async fn nobody_needs_to_read_what_is_stored() {
    let fill = Fill::new(None, 100, &Arc::default());
    let (sender, body) = source();
    drop(fill.join());
    sender.send(chunk("abc")).unwrap();
    drop(sender);
    assert_eq!(fill.pump(body).await.unwrap(), "abc");
}

#[tokio::test]
async fn a_body_that_is_too_short_is_an_error_for_all() {
    let fill = Fill::new(Some(6), 100, &Arc::default());
    let (sender, body) = source();
    let reader = fill.join().unwrap();
    sender.send(chunk("abc")).unwrap();
    drop(sender);
    assert!(fill.pump(body).await.is_none());
    assert_eq!(read(reader).await.unwrap_err().code, ErrorCode::InvalidResponse);
    assert!(fill.join().is_none());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_for_all() {
    let fill = Fill::new(None, 100, &Arc::default());
    let (sender, body) = source();
    let reader = fill.join().unwrap();
    sender.send(chunk("abc")).unwrap();
    sender.send(Err(BodyError::new(ErrorCode::UpstreamBroke, "gone"))).unwrap();
    assert!(fill.pump(body).await.is_none());
    assert_eq!(read(reader).await.unwrap_err().code, ErrorCode::UpstreamBroke);
}

#[tokio::test]
async fn what_is_too_large_passes_at_the_pace_of_the_slowest() {
    let fill = Fill::new(None, 10, &Arc::default());
    let (sender, body) = source();
    let mut fast = fill.join().unwrap();
    let mut slow = fill.join().unwrap();
    let pump = tokio::spawn({
        let fill = fill.clone();
        async move { fill.pump(body).await }
    });
    let piece = "x".repeat(64 << 10);
    for _ in 0..100 {
        sender.send(chunk(&piece)).unwrap();
    }
    drop(sender);
    let mut taken = 0;
    while let Ok(Some(frame)) =
        tokio::time::timeout(std::time::Duration::from_millis(50), fast.frame()).await
    {
        taken += frame.unwrap().into_data().unwrap().len();
    }
    // It waits for the other.
    assert!(taken < 100 * piece.len(), "{taken}");
    assert!(fill.lock().held <= WINDOW_BYTES + piece.len() as u64);
    assert!(fill.join().is_none());
    let rest = tokio::spawn(read(fast));
    let mut whole = 0;
    while let Some(frame) = slow.frame().await {
        whole += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(whole, 100 * piece.len());
    assert_eq!(taken + rest.await.unwrap().unwrap().len(), whole);
    assert!(pump.await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_too_large_ends_with_its_last_reader() {
    let fill = Fill::new(None, 1, &Arc::default());
    let (sender, body) = source();
    let reader = fill.join().unwrap();
    let pump = tokio::spawn({
        let fill = fill.clone();
        async move { fill.pump(body).await }
    });
    sender.send(chunk("abc")).unwrap();
    tokio::task::yield_now().await;
    drop(reader);
    sender.send(chunk("def")).unwrap();
    assert!(pump.await.unwrap().is_none());
}

/// The memory of a node is the same for all of its responses.
#[tokio::test]
async fn what_all_bodies_hold_together_is_bounded() {
    let filling = Arc::<Filling>::default();
    let most = FILLING_MAX_BYTES;
    let piece = Bytes::from(vec![0; 1 << 20]);
    let held = || filling.0.load(Ordering::Relaxed);
    let mut open = Vec::new();
    for _ in 0..most / (32 << 20) {
        let fill = Fill::new(None, most, &filling);
        let reader = fill.join().unwrap();
        for _ in 0..32 {
            fill.lock().push(piece.clone(), most);
        }
        assert!(fill.join().is_some(), "it will be stored");
        open.push((fill, reader));
    }
    assert_eq!(held(), most);
    let fill = Fill::new(None, most, &filling);
    let reader = fill.join().unwrap();
    fill.lock().push(piece.clone(), most);
    assert!(fill.join().is_none(), "it is only passed on");
    fill.finish(Ok(()));
    assert_eq!(read(reader).await.unwrap().len(), piece.len());
    assert_eq!(held(), most);
    drop(open);
    assert_eq!(held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_not_waited_for_for_ever() {
    let fill = Fill::new(None, 100, &Arc::default());
    let (sender, body) = source();
    drop(fill.join());
    let pump = tokio::spawn({
        let fill = fill.clone();
        async move { fill.pump(body).await }
    });
    tokio::time::sleep(ALONE_MAX / 2).await;
    // Somebody comes, and it goes on from there.
    drop(fill.join().unwrap());
    for _ in 0..ALONE_MAX.as_secs() {
        assert!(!pump.is_finished());
        sender.send(chunk("a")).unwrap();
        tokio::time::sleep(LOOK_EVERY).await;
    }
    tokio::time::sleep(2 * LOOK_EVERY).await;
    assert!(pump.await.unwrap().is_none());
    assert!(fill.join().is_none());
    assert!(sender.send(chunk("a")).is_err(), "its connection is given up");
}
