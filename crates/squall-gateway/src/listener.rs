//! Accepting connections, finding out what they speak, and letting them go.

use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::Either;
use hyper::server::conn;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use squall_types::shard::Local;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use crate::clients::{ClientPlace, Clients};
use crate::connection::{Connection, Detached, Socket, Stream};
use crate::home::HomeWatch;
use crate::http1;
use crate::proxy_protocol;
use crate::rest::{IdleWatch, rest};
use crate::stream::{Streams, TAKEN_LEAST_BYTES};
use crate::timer::LazyTimer;
use crate::tls::Tls;
use crate::turn::Tcp;
use crate::upload::Upload;
use crate::{Door, DoorLimits, Options};

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long an idle connection of HTTP/1 is left open when draining: closing it at once
/// would cut off a request that is on its way.
const LAST_REQUEST_WINDOW: Duration = Duration::from_secs(1);

/// The largest window of HTTP/2 (RFC 9113, section 6.9.1).
pub(crate) const WINDOW_MAX_BYTES: u32 = (1 << 31) - 1;
/// Of a response, what a connection of HTTP/2 holds beyond what its client takes.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Streams that were opened and taken back before anybody looked (rapid reset).
const RESETS_PENDING_MAX: usize = 100;
/// Streams that had to be reset because of the client's errors (MadeYouReset).
const ERROR_RESETS_MAX: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    Serving,
    /// Each connection ends after its next response.
    Closing,
    /// Idle connections end now.
    Ending,
    /// Whatever is left is dropped.
    Cut,
}

/// All connections of a node.
pub(crate) struct Connections {
    places: Arc<Semaphore>,
    /// Where the connections of one client are limited.
    clients: Option<Arc<Clients>>,
    open: AtomicUsize,
    cores: ArcSwap<Vec<Arc<Core>>>,
    core_cpus: Vec<usize>,
    gone: Notify,
    phase: watch::Sender<Phase>,
}

/// A request core and how many connections it has. Written by its own connections and read
/// when others are accepted: a cache line for each.
#[repr(align(128))]
pub(crate) struct Core {
    handle: Handle,
    cpu: Option<usize>,
    open: AtomicUsize,
}

impl Connections {
    pub(crate) fn new(options: &Options) -> Self {
        let limits = &options.limits;
        let most = limits.connections_max.min(Semaphore::MAX_PERMITS);
        let of_one = limits.connections_per_client_max;
        Self {
            places: Arc::new(Semaphore::new(most)),
            clients: (of_one > 0).then(|| Clients::new(of_one)),
            open: AtomicUsize::new(0),
            cores: ArcSwap::default(),
            core_cpus: options.core_cpus.clone(),
            gone: Notify::new(),
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn open_by_core(&self) -> Vec<usize> {
        self.cores.load().iter().map(|core| core.open.load(Ordering::Relaxed)).collect()
    }

    /// The core that `handle` belongs to, from now on one of those that share the connections.
    pub(crate) fn core(&self, handle: &Handle) -> Arc<Core> {
        let known = |cores: &[Arc<Core>]| {
            cores.iter().find(|core| core.handle.id() == handle.id()).cloned()
        };
        self.cores.rcu(|cores| {
            let mut cores = Vec::clone(cores);
            if known(&cores).is_none() {
                let cpu = self.core_cpus.get(cores.len()).copied();
                let handle = handle.clone();
                cores.push(Arc::new(Core { handle, cpu, open: AtomicUsize::new(0) }));
            }
            cores
        });
        known(&self.cores.load()).expect("it was there or was put there")
    }

    /// The core of `cpu`, when a connection of `here` may go there: not when one of them would
    /// have noticeably more than the other.
    fn better(&self, here: &Core, cpu: usize) -> Option<Arc<Core>> {
        if *self.phase.borrow() > Phase::Serving {
            return None;
        }
        let cores = self.cores.load();
        let there = cores.iter().find(|core| core.cpu == Some(cpu))?;
        let open = |core: &Core| core.open.load(Ordering::Relaxed);
        let left = open(here).saturating_sub(1);
        let is_elsewhere = !std::ptr::eq(&**there, here);
        (is_elsewhere && !is_clearly_more(open(there), left)).then(|| there.clone())
    }

    /// Who takes a connection that was accepted on `here`. The kernel gives each one to a core by
    /// the hash of its addresses, which leaves some with twice as many as others when there are few.
    /// `turn` counts what was accepted here: one of the others is looked at each time.
    fn choose(&self, here: &Arc<Core>, turn: usize) -> Arc<Core> {
        let cores = self.cores.load();
        let other = &cores[turn % cores.len()];
        let open = |core: &Core| core.open.load(Ordering::Relaxed);
        let there = open(other);
        // Changing cores has a price too, which one that ends after a request does not earn back.
        if is_clearly_more(open(here), there) { other.clone() } else { here.clone() }
    }

    pub(crate) async fn drain(&self, longest: Duration) -> usize {
        let deadline = tokio::time::Instant::now() + longest;
        self.phase.send_replace(Phase::Closing);
        let window = tokio::time::Instant::now() + LAST_REQUEST_WINDOW;
        self.all_gone(window.min(deadline)).await;
        self.phase.send_replace(Phase::Ending);
        self.all_gone(deadline).await;
        let left = self.open();
        self.phase.send_replace(Phase::Cut);
        left
    }

    /// For what is no longer a connection of HTTP, and has to end with the node all the same.
    pub(crate) fn draining(&self) -> Draining {
        Draining(self.phase.subscribe())
    }

    async fn all_gone(&self, until: tokio::time::Instant) {
        loop {
            let gone = self.gone.notified();
            if self.open() == 0 || tokio::time::timeout_at(until, gone).await.is_err() {
                return;
            }
        }
    }
}

/// Whether a core with so many connections is worse off than one with `others`, by more than
/// it costs to change cores.
fn is_clearly_more(open: usize, others: usize) -> bool {
    open > others + others / 8 + 1
}

/// Tells when the node begins to drain.
pub(crate) struct Draining(watch::Receiver<Phase>);

impl Draining {
    /// Drives `main` until it ends; `None` when the node drains first.
    pub(crate) async fn unless_draining<M: Future>(&self, main: M) -> Option<M::Output> {
        let mut waiting = self.0.clone();
        let draining = waiting.wait_for(|phase| *phase > Phase::Serving);
        match unless(pin!(main), draining, &self.0).await {
            Either::Left(output) => Some(output),
            Either::Right(_) => None,
        }
    }
}

/// Counts a connection until it is gone.
pub(crate) struct Open {
    door: Local<Door>,
    core: ArcSwap<Core>,
    _place: OwnedSemaphorePermit,
    client_place: Option<ClientPlace>,
}

impl Open {
    fn new(door: &Arc<Door>, core: Arc<Core>, place: OwnedSemaphorePermit) -> Self {
        door.connections.open.fetch_add(1, Ordering::Relaxed);
        core.open.fetch_add(1, Ordering::Relaxed);
        let (door, core) = (door.clone().into(), ArcSwap::new(core));
        Self { door, core, _place: place, client_place: None }
    }

    pub(crate) fn door(&self) -> &Local<Door> {
        &self.door
    }

    /// The core where the packets of `cpu` are worked on, when it is better for this one.
    pub(crate) fn better_core(&self, cpu: usize) -> Option<Arc<Core>> {
        self.door.connections.better(&self.core.load(), cpu)
    }

    fn move_to(&self, core: Arc<Core>) {
        core.open.fetch_add(1, Ordering::Relaxed);
        self.core.swap(core).open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the client may have one more connection. Proxies have those of many.
    fn admit(&mut self, peer: IpAddr) -> bool {
        let Some(clients) = &self.door.connections.clients else { return true };
        if self.door.options.is_trusted(peer) {
            return true;
        }
        self.client_place = clients.admit(peer);
        self.client_place.is_some()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.core.load().open.fetch_sub(1, Ordering::Relaxed);
        self.door.connections.open.fetch_sub(1, Ordering::Relaxed);
        self.door.connections.gone.notify_waiters();
    }
}

/// Accepts on `here` until the door drains. With `tls`, connections begin with its handshake.
pub(crate) async fn accept(
    door: Arc<Door>,
    here: Arc<Core>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
) {
    let mut turn = 0;
    let mut phase = door.connections.phase.subscribe();
    loop {
        let next = async {
            let place = door.connections.places.clone().acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase > Phase::Serving) => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                door.counters.accepted.fetch_add(1, Ordering::Relaxed);
                turn += 1;
                let core = door.connections.choose(&here, turn);
                let open = Open::new(&door, core.clone(), place);
                if Arc::ptr_eq(&core, &here) {
                    tokio::spawn(serve(open, stream, peer.ip(), tls.clone()));
                } else {
                    let moving = move_here(open, stream, peer.ip(), tls.clone());
                    core.handle.spawn(moving);
                }
            }
            Err(error) => {
                // Usually file descriptors ran out: wait for some to come back.
                tracing::warn!("accepting a connection failed: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Takes over a connection that another core accepted.
async fn move_here(open: Open, tcp: TcpStream, peer: IpAddr, tls: Option<Arc<Tls>>) {
    match tcp.into_std().and_then(TcpStream::from_std) {
        Ok(tcp) => serve(open, tcp, peer, tls).await,
        Err(error) => tracing::warn!(%peer, "a connection could not change its core: {error}"),
    }
}

async fn serve(mut open: Open, tcp: TcpStream, peer: IpAddr, tls: Option<Arc<Tls>>) {
    let door = open.door.clone();
    // What a client notices is written at once; hyper has gathered it already.
    let _ = tcp.set_nodelay(true);
    // Boxed: what a handshake needs is not kept for the life of the connection.
    let beginning = Box::pin(begin(&mut open, tcp, peer, tls));
    let begun = tokio::time::timeout(door.options.limits.head_timeout, beginning).await;
    let begun = match begun {
        Ok(Ok(begun)) => begun,
        Ok(Err(error)) => {
            tracing::debug!(%peer, "a connection did not begin: {error}");
            return;
        }
        Err(_) => {
            door.counters.slow_clients.fetch_add(1, Ordering::Relaxed);
            return;
        }
    };
    let connection = Connection::new(open, begun.peer, &begun.socket, begun.http2);
    let stream = Stream::new(begun.socket, begun.prefix, connection.clone());
    drive(connection, stream).await;
}

/// Serves a connection on this core, until it ends or moves to another.
fn drive(connection: Arc<Connection>, stream: Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let phase = connection.door().connections.phase.subscribe();
        let served = pin!(async {
            if connection.is_http2() {
                // Boxed: HTTP/1 does not need as much.
                Box::pin(serve_http2(connection.clone(), stream)).await?;
                Ok(None)
            } else {
                serve_http1(connection.clone(), stream).await
            }
        });
        let mut waiting = phase.clone();
        let cut = waiting.wait_for(|phase| *phase == Phase::Cut);
        let ended = match unless(served, cut, &phase).await {
            Either::Left(ended) => ended,
            Either::Right(_) => return,
        };
        match ended {
            Ok(Some(leaving)) => leaving.go(connection.clone()),
            Ok(None) => {}
            // Clients that leave or send nonsense: their business, seen when debugging.
            Err(error) => {
                tracing::debug!(peer = %connection.peer(), "a connection ended: {error}");
            }
        }
    })
}

/// An idle connection that is better served by another core.
struct Leaving {
    stream: Detached,
    core: Arc<Core>,
}

impl Leaving {
    fn go(self, connection: Arc<Connection>) {
        let Self { stream, core } = self;
        connection.open().move_to(core.clone());
        connection.count_move();
        connection.door().counters.moved.fetch_add(1, Ordering::Relaxed);
        core.handle.spawn(async move {
            match stream.attach() {
                Ok(stream) => drive(connection, stream).await,
                Err(error) => tracing::warn!("a connection could not change its core: {error}"),
            }
        });
    }
}

/// Why a connection ended that should not have.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// What becomes of a connection of HTTP/1 that was spoken on.
pub(crate) enum Spoken {
    Ended,
    Idle(Stream),
    /// Another core is better for it.
    Misplaced(Stream, Arc<Core>),
}

/// A connection of which it is known who is there and what is spoken.
struct Begun {
    peer: IpAddr,
    socket: Socket,
    /// Read already, to find out what this is.
    prefix: Bytes,
    http2: bool,
}

async fn begin(
    open: &mut Open,
    mut tcp: TcpStream,
    peer: IpAddr,
    tls: Option<Arc<Tls>>,
) -> io::Result<Begun> {
    let door = open.door.clone();
    let peer = find_peer(&door, &mut tcp, peer).await?;
    if !open.admit(peer) {
        door.counters.refused_clients.fetch_add(1, Ordering::Relaxed);
        return Err(io::Error::other("the client has as many connections as it may"));
    }
    let Some(tls) = tls else {
        let (prefix, http2) = sniff(&mut tcp).await?;
        return Ok(Begun { peer, socket: Socket::Plain(Tcp::new(tcp)), prefix, http2 });
    };
    let mut stream = tls.handshake(Tcp::new(tcp), door.options.limits.handshake_timeout).await?;
    let mut prefix = Bytes::new();
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    if http2 {
        // Whoever chose it and says nothing is nobody's client: hyper would wait for ever.
        let (read, is_preface) = sniff(&mut stream).await?;
        if !is_preface {
            let why = "HTTP/2 was chosen, and something else is spoken";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        prefix = read;
    }
    Ok(Begun { peer, socket: Socket::Tls(Box::new(stream)), prefix, http2 })
}

/// Drives `main` until it ends or `signal` does. `signal` hangs on changes of `phase`, and
/// is looked at only when there were some: this is done for each packet of a connection,
/// and to look takes locks that all cores share. Both stay with one task, so the waker
/// that `signal` was given at first is the right one for good.
async fn unless<M: Future, S: Future>(
    mut main: Pin<&mut M>,
    signal: S,
    phase: &watch::Receiver<Phase>,
) -> Either<M::Output, S::Output> {
    let mut signal = pin!(signal);
    let mut listening = false;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(output) = main.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        if !listening || phase.has_changed().unwrap_or(true) {
            listening = true;
            return signal.as_mut().poll(cx).map(Either::Right);
        }
        Poll::Pending
    })
    .await
}

async fn find_peer(door: &Door, tcp: &mut TcpStream, peer: IpAddr) -> io::Result<IpAddr> {
    let believed = door.options.trusted_proxies.is_empty() || door.options.is_trusted(peer);
    if !door.options.proxy_protocol || !believed {
        return Ok(peer);
    }
    Ok(proxy_protocol::read(tcp).await?.unwrap_or(peer))
}

/// Reads until it is clear whether this is HTTP/2, which is after a byte or two for
/// everything else.
async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Bytes, bool)> {
    let mut start = [0; PREFACE.len()];
    let mut read = 0;
    while read < PREFACE.len() && start[..read] == PREFACE[..read] {
        match stream.read(&mut start[read..]).await? {
            0 => break,
            more => read += more,
        }
    }
    Ok((Bytes::copy_from_slice(&start[..read]), &start == PREFACE))
}

async fn serve_http1(
    connection: Arc<Connection>,
    mut stream: Stream,
) -> Result<Option<Leaving>, Broken> {
    let mut phase = connection.door().connections.phase.subscribe();
    if *phase.borrow() > Phase::Serving {
        // The node began to drain while this one began, or was on its way to this core.
        connection.close_soon();
        phase.mark_changed();
    }
    loop {
        // Boxed, both: an idle connection does not hold it.
        let spoken = match Box::pin(speak_http1(&connection, stream, &mut phase)).await? {
            Either::Left(spoken) => spoken,
            Either::Right(stream) => {
                let speaking = speak_with_hyper(&connection, stream.for_hyper(), &mut phase);
                Box::pin(speaking).await.inspect_err(|error| {
                    let counters = &connection.door().counters;
                    counters.refused_heads.fetch_add(error.is_parse().into(), Ordering::Relaxed);
                })?
            }
        };
        stream = match spoken {
            Spoken::Ended => return Ok(None),
            Spoken::Misplaced(misplaced, core) => {
                if let Some(socket) = misplaced.socket_to_take_along() {
                    return Ok(Some(Leaving { stream: misplaced.detach(socket), core }));
                }
                stream = misplaced;
                continue;
            }
            Spoken::Idle(stream) => stream,
        };
        if !rest(&connection, &mut stream, &mut phase).await {
            return Ok(None);
        }
    }
}

/// Until a request comes that is for hyper, or the connection ends, or is idle for long, or is
/// idle for a moment and belongs elsewhere.
async fn speak_http1(
    connection: &Arc<Connection>,
    stream: Stream,
    phase: &mut watch::Receiver<Phase>,
) -> io::Result<Either<Spoken, Stream>> {
    let mut conversation = pin!(http1::converse(connection, stream));
    loop {
        let seen = phase.clone();
        let changed = match unless(conversation.as_mut(), phase.changed(), &seen).await {
            Either::Left(spoken) => return spoken,
            Either::Right(changed) => changed,
        };
        let now = *phase.borrow_and_update();
        if changed.is_err() || now >= Phase::Ending {
            connection.end_soon();
            return conversation.await;
        }
        connection.close_soon();
    }
}

/// As `speak_http1`, for whatever comes.
async fn speak_with_hyper(
    connection: &Arc<Connection>,
    stream: Stream,
    phase: &mut watch::Receiver<Phase>,
) -> hyper::Result<Spoken> {
    let limits = &connection.door().options.limits;
    let service = {
        let connection = connection.clone();
        service_fn(move |request| {
            // Boxed: hyper keeps the place of a request for the next one, so that an idle
            // connection would hold what only a busy one needs.
            Box::pin(crate::request::serve(connection.clone(), request.map(Upload::Coming)))
        })
    };
    let mut serving = conn::http1::Builder::new()
        .timer(LazyTimer::default())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.http1_buffer_bytes())
        .max_headers(limits.headers_max)
        .serve_connection(stream, service)
        // The service decides; what it does not switch stays as it is.
        .with_upgrades();
    let mut idle = IdleWatch::new();
    let mut home = HomeWatch::new(connection);
    loop {
        let until_idle = std::future::poll_fn(|cx| match Pin::new(&mut serving).poll(cx) {
            Poll::Ready(result) => Poll::Ready(Err(result)),
            Poll::Pending => match home.look(connection) {
                Some(core) => Poll::Ready(Ok(Some(core))),
                None => idle.poll(connection, cx).map(|()| Ok(None)),
            },
        });
        let seen = phase.clone();
        let changed = match unless(pin!(until_idle), phase.changed(), &seen).await {
            Either::Left(Err(result)) => return result.map(|()| Spoken::Ended),
            Either::Left(Ok(core)) => {
                // There are no parts of what became something else than HTTP.
                let Some(parts) = serving.into_parts() else { return Ok(Spoken::Ended) };
                // Idle: nothing of another request has come.
                debug_assert!(parts.read_buf.is_empty());
                let stream = parts.io;
                return Ok(match core {
                    Some(core) => Spoken::Misplaced(stream, core),
                    None => Spoken::Idle(stream),
                });
            }
            Either::Right(changed) => changed,
        };
        let now = *phase.borrow_and_update();
        if changed.is_err() || now >= Phase::Ending {
            Pin::new(&mut serving).graceful_shutdown();
            return serving.await.map(|()| Spoken::Ended);
        }
        if now == Phase::Closing {
            connection.close_soon();
        }
    }
}

/// What may be under way to us on a connection of HTTP/2: as much as all of its streams may have,
/// or those that nobody reads yet would keep the others from sending.
fn connection_window_bytes(limits: &DoorLimits) -> u32 {
    limits.streams_max.saturating_mul(limits.stream_window_bytes).clamp(65_535, WINDOW_MAX_BYTES)
}

async fn serve_http2(connection: Arc<Connection>, stream: Stream) -> hyper::Result<()> {
    let door = connection.door();
    let limits = &door.options.limits;
    let phase = door.connections.phase.subscribe();
    let service = {
        let connection = connection.clone();
        service_fn(move |request| {
            let connection = connection.clone();
            // All of it in the stream's own task: a panic ends this stream and no other.
            async move { crate::request::serve(connection, request.map(Upload::Coming)).await }
        })
    };
    let serving = conn::http2::Builder::new(Streams(connection.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(connection_window_bytes(limits))
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(limits.head_timeout)
        .keep_alive_timeout(limits.head_timeout)
        .serve_connection(stream, service);
    let mut serving = pin!(serving);
    let mut waiting = phase.clone();
    let closing = waiting.wait_for(|phase| *phase > Phase::Serving);
    let until_retired = std::future::poll_fn(|cx| {
        let served = serving.as_mut().poll(cx).map(Some);
        // Noticed while it was polled.
        if served.is_pending() && connection.is_retired() { Poll::Ready(None) } else { served }
    });
    if let Either::Left(Some(result)) = unless(pin!(until_retired), closing, &phase).await {
        return result;
    }
    // GOAWAY names the last stream that is served: nothing is lost.
    serving.as_mut().graceful_shutdown();
    loop {
        let before = connection.written();
        if let Ok(result) = tokio::time::timeout(limits.write_timeout, serving.as_mut()).await {
            return result;
        }
        // All that is left is the end of responses that nobody takes.
        if !connection.has_requests() && connection.written() - before < TAKEN_LEAST_BYTES {
            door.counters.slow_clients.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
