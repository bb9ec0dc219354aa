//! A service behind the gateway that does to its connections what its clients ask for.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::client::{TICKET, head_end, number_of};

#[derive(Clone)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    /// Requests that have come, by the ticket that they carry.
    seen: Arc<Mutex<HashSet<u64>>>,
}

impl Origin {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        origin
    }

    pub(super) async fn has_seen(&self, ticket: u64) {
        while !self.seen.lock().unwrap().contains(&ticket) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Until either end has had enough.
    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = BytesMut::new();
        loop {
            let end = loop {
                if let Some(end) = head_end(&buffer) {
                    break end;
                }
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8(buffer.split_to(end).to_vec()).unwrap();
            if let Some(ticket) = number_of(&head, TICKET) {
                self.seen.lock().unwrap().insert(ticket);
            }
            match head.split(' ').nth(1).unwrap() {
                "/upload" => {
                    let all = |bytes: &[u8]| match number_of(&head, "content-length") {
                        Some(length) => bytes.len() as u64 >= length,
                        None => bytes.ends_with(b"\r\n0\r\n\r\n"),
                    };
                    while !all(&buffer) {
                        stream.read_buf(&mut buffer).await?;
                    }
                    buffer.clear();
                    answer(&mut stream, &[b'u'; 10]).await?;
                }
                "/download" => answer(&mut stream, &[b'd'; 64 << 10]).await?,
                "/events" => events(&mut stream, 5).await?,
                "/endless" => events(&mut stream, u64::MAX).await?,
                "/swallow" => {
                    while stream.read_buf(&mut buffer).await? > 0 {
                        buffer.clear();
                    }
                    return Ok(());
                }
                "/cut-in-body" => {
                    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nhalf";
                    stream.write_all(half).await?;
                    return stream.set_zero_linger();
                }
                "/cut-in-head" => return stream.set_zero_linger(),
                "/tunnel" => {
                    stream
                        .write_all(
                            b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: bytes\r\n\r\n",
                        )
                        .await?;
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await?;
                    return Ok(());
                }
                _ => answer(&mut stream, b"small").await?,
            }
        }
    }
}

async fn answer(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await
}

async fn events(stream: &mut TcpStream, most: u64) -> std::io::Result<()> {
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head).await?;
    for _ in 0..most {
        stream.write_all(b"9\r\ndata: 1\n\n\r\n").await?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stream.write_all(b"0\r\n\r\n").await
}
