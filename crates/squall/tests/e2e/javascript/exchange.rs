//! A request on a connection of its own whose bodies go and come piece by piece.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use crate::harness::TestNode;

/// Dropping it closes the connection.
pub(super) struct Exchange {
    pub(super) head: http::response::Parts,
    body: Incoming,
    driver: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Exchange {
    pub(super) async fn get(node: &TestNode, app: &str, path: &str) -> Self {
        let (_, no_body) = body();
        Self::begin(node, "GET", app, path, no_body).await
    }

    /// Waits for the head of the response.
    pub(super) async fn begin(
        node: &TestNode,
        method: &str,
        app: &str,
        path: &str,
        body: Pieces,
    ) -> Self {
        let stream = tokio::net::TcpStream::connect(node.gateway()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{app}.localhost"))
            .body(body)
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        Self { head, body, driver }
    }

    /// The next piece of the response; `None` at its end.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = self.body.frame().await?.unwrap().into_data().unwrap_or_default();
            if !piece.is_empty() {
                return Some(piece);
            }
        }
    }

    /// Pieces until `text` has come as a whole.
    pub(super) async fn expect(&mut self, text: &str) {
        let mut read = Vec::new();
        while read.len() < text.len() {
            let piece = self.next().await;
            read.extend(
                piece.unwrap_or_else(|| panic!("ended after {read:?} instead of {text:?}")),
            );
        }
        assert_eq!(String::from_utf8_lossy(&read), text);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A body that ends when its sender is dropped.
pub(super) struct Pieces(mpsc::Receiver<Bytes>);

pub(super) fn body() -> (mpsc::Sender<Bytes>, Pieces) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Pieces(receiver))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_closed() && self.0.is_empty()
    }
}
