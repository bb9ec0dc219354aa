//! Speaks HTTP to a node's admin API: one connection for each call, bodies streamed both
//! ways. It follows no redirects and keeps nothing between calls.

mod lines;
mod upload;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::failure::{Exit, Failure, Problem};
use crate::target::Target;

pub(crate) use lines::{Events, Lines};
pub(crate) use upload::{UploadBody, UploadWriter, upload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The head of an answer; of a call that runs a function it may take that function's time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

type RequestBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// A node that calls are made to.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    target: Target,
    secure: bool,
    host: String,
    port: u16,
    /// What the Host header says.
    authority: String,
    /// Before every path, for a node behind a proxy; without a slash at its end.
    prefix: String,
}

impl Client {
    pub(crate) fn new(target: Target) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::invalid(format!("reading the URL {:?}", target.url), why)
                .next("SQUALL_URL=https://HOST:PORT")
        };
        let uri: Uri = target.url.parse().map_err(|_| wrong("it is not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?.clone();
        if authority.as_str().contains('@') {
            return Err(wrong("user names do not belong here; the token goes into SQUALL_TOKEN"));
        }
        if header::HeaderValue::from_str(&target.token).is_err() {
            return Err(Failure::new(
                Exit::Auth,
                "reading the token",
                "it holds characters that no token has",
            ));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { target, secure, host, port, authority: authority.to_string(), prefix })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The token would cross a network in the clear.
    pub(crate) fn is_exposed(&self) -> bool {
        let loopback = self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        !self.secure && !loopback
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
    ) -> Result<T, Failure> {
        self.call(what, Method::GET, path, None).await
    }

    /// Sends JSON and reads JSON.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let bytes = self.exchange(what, method, path, body, Some(ANSWER_TIMEOUT)).await?;
        parse(what, &bytes)
    }

    /// Like `call`, for as long as a function may run.
    pub(crate) async fn call_patiently<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<T, Failure> {
        let bytes = self.exchange(what, method, path, Some(body), None).await?;
        parse(what, &bytes)
    }

    /// Sends JSON and expects nothing back.
    pub(crate) async fn send(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(), Failure> {
        self.exchange(what, method, path, body, Some(ANSWER_TIMEOUT)).await.map(drop)
    }

    /// Every page of a list.
    pub(crate) async fn list(&self, what: &str, path: &str) -> Result<Vec<Value>, Failure> {
        #[derive(serde::Deserialize)]
        struct Page {
            items: Vec<Value>,
            #[serde(default)]
            next: Option<String>,
        }
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = Query::new(path).with("limit", Some("500"));
            query = query.with("cursor", cursor.as_deref());
            let page: Page = self.get(what, query.as_str()).await?;
            items.extend(page.items);
            match page.next {
                Some(next) if Some(&next) != cursor.as_ref() => cursor = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// The status and text of a page for machines, such as `/readyz`.
    pub(crate) async fn probe(&self, path: &str) -> Result<(StatusCode, String), Failure> {
        let what = format!("asking for {path}");
        let response =
            self.start(&what, Method::GET, path, None, empty(), Some(CONNECT_TIMEOUT)).await?;
        let status = response.status();
        let bytes = collect(&what, response, Some(CONNECT_TIMEOUT)).await?;
        Ok((status, String::from_utf8_lossy(&bytes).trim().to_owned()))
    }

    /// The node's clock, from the Date header.
    pub(crate) async fn date(&self) -> Result<Option<String>, Failure> {
        let what = "asking for the time";
        let response =
            self.start(what, Method::GET, "/livez", None, empty(), Some(CONNECT_TIMEOUT)).await?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        Ok(date.map(str::to_owned))
    }

    /// Starts an answer that comes line by line, for as long as it takes.
    pub(crate) async fn lines(
        &self,
        what: &str,
        method: Method,
        path: &str,
        upload: Option<(&str, UploadBody)>,
    ) -> Result<Lines, Failure> {
        let (content_type, body, patience) = match upload {
            Some((content_type, body)) => (Some(content_type), body.boxed_unsync(), None),
            None => (None, empty(), Some(ANSWER_TIMEOUT)),
        };
        let response = self.start(what, method, path, content_type, body, patience).await?;
        let response = accept(what, response).await?;
        Ok(Lines::new(response.into_body()))
    }

    async fn exchange(
        &self,
        what: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Option<Duration>,
    ) -> Result<Bytes, Failure> {
        let (content_type, body) = match body {
            Some(value) => (Some("application/json"), full(value.to_string())),
            None => (None, empty()),
        };
        let response = self.start(what, method, path, content_type, body, patience).await?;
        let response = accept(what, response).await?;
        collect(what, response, patience).await
    }

    /// Connects, sends the request and waits for the head of the answer.
    async fn start(
        &self,
        what: &str,
        method: Method,
        path: &str,
        content_type: Option<&str>,
        body: RequestBody,
        patience: Option<Duration>,
    ) -> Result<http::Response<Incoming>, Failure> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, &self.authority)
            .header(header::AUTHORIZATION, format!("Bearer {}", self.target.token))
            .header(header::USER_AGENT, concat!("squall/", env!("CARGO_PKG_VERSION")))
            .header(
                header::ACCEPT,
                "application/json, application/x-ndjson, text/event-stream, */*",
            );
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(body).map_err(|error| Failure::invalid(what, error))?;

        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect()).await;
        let mut sender = match connected {
            Ok(Ok(sender)) => sender,
            // Somebody answers, who can not prove to be the node that was asked for.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Failure {
                    next: Some("the name that the certificate was made for, in SQUALL_URL".into()),
                    ..self.target.unreachable(&error.to_string())
                });
            }
            Ok(Err(error)) => return Err(self.target.unreachable(&error.to_string())),
            Err(_) => {
                let why = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(self.target.unreachable(&why));
            }
        };
        let answer = sender.send_request(request);
        let answer = match patience {
            Some(patience) => tokio::time::timeout(patience, answer).await.map_err(|_| {
                let why = format!("the node gave no answer within {} s", patience.as_secs());
                Failure::failed(what, why).next("squall doctor")
            })?,
            None => answer.await,
        };
        answer.map_err(|error| broken(what, &error))
    }

    async fn connect(
        &self,
    ) -> std::io::Result<hyper::client::conn::http1::SendRequest<RequestBody>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        // A log that is followed may be silent for hours; a peer that is gone must show.
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10));
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
        if self.secure {
            return handshake(self.secured(stream).await?).await;
        }
        handshake(stream).await
    }

    async fn secured(
        &self,
        stream: TcpStream,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = rustls::pki_types::ServerName::try_from(self.host.clone())
            .map_err(std::io::Error::other)?;
        tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> std::io::Result<hyper::client::conn::http1::SendRequest<RequestBody>> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    // It ends with the connection; its errors reach whoever waits for the answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// Turns an answer that is not a success into the failure that it describes.
async fn accept(
    what: &str,
    response: http::Response<Incoming>,
) -> Result<http::Response<Incoming>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let bytes = collect(what, response, Some(ANSWER_TIMEOUT)).await.unwrap_or_default();
    let mut problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
    problem.status = status.as_u16();
    Err(problem.into_failure(what))
}

async fn collect(
    what: &str,
    response: http::Response<Incoming>,
    patience: Option<Duration>,
) -> Result<Bytes, Failure> {
    let body = response.into_body().collect();
    let body = match patience {
        Some(patience) => tokio::time::timeout(patience, body)
            .await
            .map_err(|_| Failure::failed(what, "the answer did not end in time"))?,
        None => body.await,
    };
    Ok(body.map_err(|error| broken(what, &error))?.to_bytes())
}

/// The connection broke after it was made.
fn broken(what: &str, error: &hyper::Error) -> Failure {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        why = format!("{why}: {cause}");
        source = cause.source();
    }
    Failure::failed(what, format!("the connection to the node broke: {why}"))
}

fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        let why = format!("the node's answer is not what this version understands: {error}");
        Failure::failed(what, why).next("squall doctor, which compares the versions")
    })
}

fn empty() -> RequestBody {
    full(Bytes::new())
}

fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A path with a query of the parameters that are given.
pub(crate) struct Query(String);

impl Query {
    pub(crate) fn new(path: &str) -> Self {
        Self(path.to_owned())
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            self.0.push_str(&encode(value));
        }
        self
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Percent-encodes one segment of a path or one value of a query.
pub(crate) fn encode(text: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEEP).to_string()
}

#[cfg(test)]
mod tests;
