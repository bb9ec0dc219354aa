//! Clients that know of each request whether it was answered whole, and that can kill
//! their connection (RST) while requests are under way.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::origin::Origin;

/// By what an origin tells requests apart.
pub(super) const TICKET: &str = "x-ticket";
/// So much of a longer body the gateway waits for before it calls anybody.
const BEGINNING_BYTES: usize = 16 << 10;
/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the gateway is, and how it is spoken to.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) plain: SocketAddr,
    pub(super) tls: SocketAddr,
    pub(super) certificate: CertificateDer<'static>,
}

/// A request, as its client means it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) app: &'static str,
    pub(super) path: &'static str,
    pub(super) ticket: u64,
    pub(super) body_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    Whole(u16),
    /// Its head came, and its end did not.
    Broken,
}

/// How far a request gets before its connection is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// Not beyond its own head: nobody ever knows of it.
    InHead,
    /// Less of its body is on its way than the gateway waits for before it calls anybody.
    InBeginning,
    /// Its body is on its way.
    InUpload,
    /// So many bytes of the response have come.
    InResponse(usize),
    /// The origin has it, and says nothing.
    AtOrigin,
    /// It was switched to another protocol.
    InTunnel,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    fn reset_when_dropped(&self);
}

impl Wire for TcpStream {
    fn reset_when_dropped(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Wire for tokio_rustls::client::TlsStream<TcpStream> {
    fn reset_when_dropped(&self) {
        self.get_ref().0.set_zero_linger().unwrap();
    }
}

impl Door {
    async fn connect(&self, app: &str, tls: bool, protocol: &[u8]) -> Box<dyn Wire> {
        let tcp = TcpStream::connect(if tls { self.tls } else { self.plain }).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        if !tls {
            return Box::new(tcp);
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(format!("{app}.localhost")).unwrap();
        Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap())
    }
}

/// A connection of HTTP/1.1, byte by byte.
pub(super) struct Http1 {
    wire: Box<dyn Wire>,
    buffer: BytesMut,
}

impl Http1 {
    pub(super) async fn connect(door: &Door, app: &str, tls: bool) -> Self {
        Self { wire: door.connect(app, tls, b"http/1.1").await, buffer: BytesMut::new() }
    }

    fn head(ask: &Ask, more: &str) -> String {
        let Ask { app, path, ticket, body_bytes } = ask;
        let method = if *body_bytes > 0 { "POST" } else { "GET" };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {app}.localhost\r\n{TICKET}: {ticket}\r\ncontent-length: {body_bytes}\r\n{more}\r\n"
        )
    }

    /// What became of a request. After a broken one the connection is of no use.
    pub(super) async fn ask(&mut self, ask: &Ask) -> Seen {
        let mut request = Self::head(ask, "").into_bytes();
        request.resize(request.len() + ask.body_bytes, b'x');
        let asked = async {
            self.wire.write_all(&request).await.unwrap();
            let end = self.read_to(head_end).await.unwrap();
            let head = String::from_utf8(self.buffer.split_to(end).to_vec()).unwrap();
            let status = head[9..12].parse().unwrap();
            let body = match number_of(&head, "content-length") {
                Some(length) => {
                    let length = length as usize;
                    self.read_to(|bytes| (bytes.len() >= length).then_some(length)).await
                }
                None => self.read_to(last_chunk_end).await,
            };
            match body {
                Ok(end) => {
                    self.buffer.clear();
                    assert!(end > 0 || status != 200, "an answer of nothing to {ask:?}");
                    Seen::Whole(status)
                }
                Err(_) => Seen::Broken,
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("late: {ask:?}"))
    }

    /// Reads until `found` finds the place that it looks for.
    async fn read_to(&mut self, found: impl Fn(&[u8]) -> Option<usize>) -> std::io::Result<usize> {
        loop {
            if let Some(place) = found(&self.buffer) {
                return Ok(place);
            }
            if self.wire.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
        }
    }

    /// Sends a request, and resets the connection when it has come so far. `dice` chooses
    /// the byte.
    pub(super) async fn kill(self, ask: &Ask, until: Until, dice: u64, origin: &Origin) {
        self.until(ask, until, dice, origin).await.reset();
    }

    pub(super) fn reset(self) {
        self.wire.reset_when_dropped();
    }

    /// Sends a request, and returns when it has come so far.
    pub(super) async fn until(
        mut self,
        ask: &Ask,
        until: Until,
        dice: u64,
        origin: &Origin,
    ) -> Self {
        let more = match until {
            Until::InBeginning | Until::InUpload => "expect: 100-continue\r\n",
            Until::InTunnel => "connection: upgrade\r\nupgrade: bytes\r\n",
            _ => "",
        };
        let head = Self::head(ask, more).into_bytes();
        let sent = async {
            if until == Until::InHead {
                let part = 1 + dice as usize % (head.len() - 1);
                return self.wire.write_all(&head[..part]).await.unwrap();
            }
            self.wire.write_all(&head).await.unwrap();
            match until {
                Until::InHead => {}
                Until::InBeginning | Until::InUpload => {
                    // That it may go on, or the beginning of the answer.
                    self.read_to(head_end).await.unwrap();
                    let most =
                        if until == Until::InBeginning { BEGINNING_BYTES } else { ask.body_bytes };
                    let part = dice as usize % most;
                    let _ = self.wire.write_all(&vec![b'x'; part]).await;
                }
                Until::InResponse(bytes) => {
                    let enough = |seen: &[u8]| (seen.len() >= bytes).then_some(bytes);
                    self.read_to(enough).await.unwrap();
                }
                Until::AtOrigin => {
                    let part = ask.body_bytes.min(BEGINNING_BYTES);
                    self.wire.write_all(&vec![b'x'; part]).await.unwrap();
                    origin.has_seen(ask.ticket).await;
                }
                Until::InTunnel => {
                    let end = self.read_to(head_end).await.unwrap();
                    assert!(self.buffer.starts_with(b"HTTP/1.1 101"));
                    self.wire.write_all(b"hello").await.unwrap();
                    self.read_to(|seen| (seen.len() >= end + 5).then_some(end)).await.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, sent)
            .await
            .unwrap_or_else(|_| panic!("late: {until:?} of {ask:?}"));
        self
    }
}

type H2Body = BoxBody<Bytes, std::convert::Infallible>;

/// A connection of HTTP/2. It is reset when this is dropped.
pub(super) struct Http2 {
    sender: http2::SendRequest<H2Body>,
    tasks: Tasks,
}

/// What drives a connection, so that it can be dropped in the middle.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        self.0.lock().unwrap().push(tokio::spawn(task).abort_handle());
    }
}

impl Http2 {
    pub(super) async fn connect(door: &Door, app: &str, tls: bool) -> Self {
        let wire = door.connect(app, tls, b"h2").await;
        wire.reset_when_dropped();
        let tasks = Tasks::default();
        let (sender, connection) =
            http2::handshake(tasks.clone(), TokioIo::new(wire)).await.unwrap();
        hyper::rt::Executor::execute(&tasks, connection);
        Self { sender, tasks }
    }

    fn request(ask: &Ask, body: H2Body) -> http::Request<H2Body> {
        let method = if ask.body_bytes > 0 { "POST" } else { "GET" };
        http::Request::builder()
            .method(method)
            .uri(format!("http://{}.localhost{}", ask.app, ask.path))
            .header(TICKET, ask.ticket)
            .body(body)
            .unwrap()
    }

    pub(super) async fn ask(&self, ask: &Ask) -> Seen {
        let body = http_body_util::Full::from(vec![b'x'; ask.body_bytes]);
        let request = Self::request(ask, body.boxed());
        let asked = async {
            let response = self.sender.clone().send_request(request).await.unwrap();
            let status = response.status().as_u16();
            match response.into_body().collect().await {
                Ok(_) => Seen::Whole(status),
                Err(_) => Seen::Broken,
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("late: {ask:?}"))
    }

    /// Begins these requests on the connection, and resets it when each has come as far
    /// as it should.
    pub(super) async fn kill(self, asks: &[(Ask, Until)], dice: u64, origin: &Origin) {
        // What has to stay open until the connection is gone.
        let mut open = Vec::new();
        for (ask, until) in asks {
            let part = Bytes::from(vec![b'x'; dice as usize % ask.body_bytes.max(1)]);
            let uploading = ask.body_bytes > 0;
            // An upload has no end: it is to be cut off.
            let pieces = stream::unfold(Some(part), move |part| async move {
                match part {
                    Some(part) if uploading => Some((Ok(Frame::data(part)), None)),
                    None if uploading => std::future::pending().await,
                    _ => None,
                }
            });
            let request = Self::request(ask, StreamBody::new(pieces).boxed());
            let mut answering = Box::pin(self.sender.clone().send_request(request));
            let begun = async {
                match until {
                    Until::AtOrigin => {
                        let seen = origin.has_seen(ask.ticket);
                        tokio::select! {
                            () = seen => {}
                            answer = &mut answering => panic!("{answer:?} to {ask:?}"),
                        }
                        None
                    }
                    _ => {
                        let mut body = (&mut answering).await.unwrap().into_body();
                        let mut left = match until {
                            Until::InResponse(bytes) => *bytes as i64,
                            _ => 0,
                        };
                        while left > 0 {
                            let frame = body.frame().await.unwrap().unwrap();
                            left -= frame.into_data().unwrap().len() as i64;
                        }
                        Some(body)
                    }
                }
            };
            let begun = tokio::time::timeout(PATIENCE, begun).await;
            let body = begun.unwrap_or_else(|_| panic!("late: {until:?} of {ask:?}"));
            open.push((answering, body));
        }
        drop(self);
        // So that the streams are cut off by the connection's end and not before it.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.tasks.0.lock().unwrap().iter().for_each(AbortHandle::abort);
    }
}

/// Where the body begins.
pub(super) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

fn last_chunk_end(bytes: &[u8]) -> Option<usize> {
    bytes.ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len())
}

/// The number that a header has as its value.
pub(super) fn number_of(head: &str, name: &str) -> Option<u64> {
    head.split("\r\n").find_map(|line| {
        let (this, value) = line.split_once(": ")?;
        this.eq_ignore_ascii_case(name).then(|| value.parse().unwrap())
    })
}
