use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

#[test]
fn long_requests_make_turns_long_and_short_ones_bring_them_back() {
    assert!(is_short());
    served(300_000);
    assert!(is_short(), "one is not enough");
    (0..10).for_each(|_| served(300_000));
    assert!(!is_short());
    (0..10).for_each(|_| served(0));
    assert!(is_short());
    served(10_000_000);
    assert!(!is_short(), "one that is very long is");
}

/// Every write of a batch, with what became of it.
fn write(batch: &mut Batch, parts: &[(RawFd, &[u8])]) -> Vec<Result<usize, io::ErrorKind>> {
    let mut results = vec![None; parts.len()];
    batch.write(parts.iter().copied(), |index, result| {
        let before = results[index].replace(result.map_err(|error| error.kind()));
        assert!(before.is_none(), "{index} was told twice");
    });
    results.into_iter().map(|result| result.expect("each is told")).collect()
}

#[test]
fn the_writes_of_a_batch_are_done_each_by_itself() {
    let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
    for (ours, _) in &pairs {
        ours.set_nonblocking(true).unwrap();
    }
    let (gone, full) = (17, 40);
    pairs[gone].1.shutdown(std::net::Shutdown::Both).unwrap();
    let much = vec![7; 4 << 20];
    let texts: Vec<Vec<u8>> = (0..pairs.len())
        .map(|index| if index == full { much.clone() } else { format!("<{index}>").into_bytes() })
        .collect();
    let parts: Vec<_> = pairs
        .iter()
        .zip(&texts)
        .map(|((ours, _), text)| (ours.as_raw_fd(), text.as_slice()))
        .collect();
    let mut batch = Batch::default();
    let results = write(&mut batch, &parts);
    for (index, result) in results.iter().enumerate() {
        match index {
            _ if index == gone => assert_eq!(*result, Err(io::ErrorKind::BrokenPipe)),
            _ if index == full => assert!(result.unwrap() < much.len()),
            _ => {
                assert_eq!(*result, Ok(texts[index].len()));
                let mut read = vec![0; texts[index].len()];
                (&pairs[index].1).read_exact(&mut read).unwrap();
                assert_eq!(read, texts[index]);
            }
        }
    }
    assert_eq!(write(&mut batch, &[parts[full]]), [Err(io::ErrorKind::WouldBlock)]);
    assert_eq!(write(&mut batch, &[parts[full], parts[1]])[0], Err(io::ErrorKind::WouldBlock));
}

async fn connected() -> (Tcp, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Tcp::new(listener.accept().await.unwrap().0), theirs)
}

#[tokio::test]
async fn short_writes_leave_at_the_end_of_the_turn() {
    let (mut one, mut other_end) = connected().await;
    let (mut two, mut other_two) = connected().await;
    one.write_all(b"first ").await.unwrap();
    two.write_all(b"in between").await.unwrap();
    one.write_all(b"second").await.unwrap();
    assert!(other_two.try_read(&mut [0; 8]).is_err(), "not yet");
    let mut read = [0; 12];
    other_end.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"first second");
    let mut read = [0; 10];
    other_two.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"in between");
}

#[tokio::test]
async fn what_was_written_leaves_before_the_end() {
    let (mut dropped, mut reader) = connected().await;
    dropped.write_all(b"and gone").await.unwrap();
    drop(dropped);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"and gone");

    let (mut shut, mut reader) = connected().await;
    shut.write_all(b"bye").await.unwrap();
    shut.shutdown().await.unwrap();
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"bye");
}

#[test]
fn what_was_written_survives_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (mut written, reader) = first.block_on(connected());
    let reader = reader.into_std().unwrap();
    first.block_on(async { written.write_all(b"once").await.unwrap() });
    drop(first);
    reader.set_nonblocking(false).unwrap();
    let mut read = [0; 4];
    (&reader).read_exact(&mut read).unwrap();
    assert_eq!(&read, b"once");
    drop(written);
    // Another turn of the same thread begins anew.
    runtime().block_on(async {
        let (mut written, mut reader) = connected().await;
        written.write_all(b"more").await.unwrap();
        reader.read_exact(&mut read).await.unwrap();
    });
    assert_eq!(&read, b"more");
}

#[tokio::test]
async fn a_broken_connection_is_told_to_its_writer_alone() {
    let (mut broken, theirs) = connected().await;
    let (mut whole, mut reader) = connected().await;
    theirs.set_zero_linger().unwrap();
    drop(theirs);
    let mut failed = None;
    for _ in 0..100 {
        whole.write_all(b"x").await.unwrap();
        if let Err(error) = broken.write_all(b"x").await {
            failed = Some(error.kind());
            break;
        }
        reader.read_exact(&mut [0]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    use io::ErrorKind::{BrokenPipe, ConnectionReset};
    assert!(matches!(failed, Some(BrokenPipe | ConnectionReset)), "{failed:?}");
    assert!(broken.write_all(b"x").await.is_err(), "it stays broken");
    assert!(broken.flush().await.is_err());
}

/// In one turn a connection writes, another does, and the first once more: the outbox is
/// sent in between, and its socket is full at that moment but not at the end of the turn.
#[tokio::test]
async fn what_is_stuck_goes_before_what_is_written_later() {
    let (mut one, reader) = connected().await;
    let (mut two, _other_end) = connected().await;
    let mut in_the_way = 0;
    while let Ok(taken) = one.socket().try_write(&[0; 64 << 10]) {
        in_the_way += taken;
    }
    one.write_all(b"first").await.unwrap();
    two.write_all(b"in between").await.unwrap();
    let mut later = Box::pin(one.write_all(b"second"));
    let _ = std::future::poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx))).await;

    let mut read = Vec::new();
    let mut reader = reader.into_std().unwrap();
    let mut piece = vec![0; 1 << 20];
    while read.len() < in_the_way {
        match reader.read(&mut piece) {
            Ok(bytes) => read.extend_from_slice(&piece[..bytes]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    later.await.unwrap();
    one.shutdown().await.unwrap();
    let mut reader = TcpStream::from_std(reader).unwrap();
    reader.read_to_end(&mut read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&read[in_the_way..]), "firstsecond");
}

/// Writes of these sizes, each with a flush or not.
async fn write_pieces(mut socket: Tcp, pieces: &[(usize, bool)]) {
    let mut next = 0_u8;
    for (size, flush) in pieces {
        let bytes: Vec<u8> = (0..*size).map(|at| next.wrapping_add(at as u8)).collect();
        next = next.wrapping_add(*size as u8);
        socket.write_all(&bytes).await.unwrap();
        if *flush {
            socket.flush().await.unwrap();
        }
    }
    socket.shutdown().await.unwrap();
}

async fn all_arrives_in_order(connections: Vec<Vec<(usize, bool)>>) {
    let mut tasks = Vec::new();
    for pieces in connections {
        let (socket, mut reader) = connected().await;
        let small = socket2::SockRef::from(socket.socket()).set_send_buffer_size(4 << 10);
        small.unwrap();
        let length: usize = pieces.iter().map(|(size, _)| size).sum();
        tasks.push(tokio::spawn(async move { write_pieces(socket, &pieces).await }));
        tasks.push(tokio::spawn(async move {
            let mut read = Vec::new();
            reader.read_to_end(&mut read).await.unwrap();
            assert_eq!(read.len(), length);
            let wrong = read.iter().enumerate().find(|(at, byte)| *at as u8 != **byte);
            assert_eq!(wrong, None);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Short and long writes, more than the sockets take at once.
    #[test]
    fn bytes_keep_their_order(
        connections in prop::collection::vec(
            prop::collection::vec((prop_oneof![0..200_usize, 0..60_000_usize], any::<bool>()), 0..40),
            1..6,
        ),
        threads in any::<bool>(),
    ) {
        let runtime = match threads {
            true => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build(),
            false => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        };
        runtime.unwrap().block_on(all_arrives_in_order(connections));
    }
}

/// A turn has an end of its own in each runtime that a thread has been in.
#[test]
fn what_was_written_leaves_in_whichever_runtime_runs() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (one, two) = (runtime(), runtime());
    let (mut ours, mut theirs) = one.block_on(connected());
    let (mut our_other, mut other) = two.block_on(connected());
    let mut read = [0; 1];
    for _ in 0..3 {
        one.block_on(async {
            ours.write_all(b"1").await.unwrap();
            theirs.read_exact(&mut read).await.unwrap();
        });
        two.block_on(async {
            our_other.write_all(b"2").await.unwrap();
            other.read_exact(&mut read).await.unwrap();
        });
    }
    assert_eq!(read, *b"2");
}
