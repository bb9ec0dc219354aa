//! HTTPS from outside: certificates that change, many of them, and the clients of others.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{App, SQUALL, TestNode, wait_for};

/// Writes `NAME.pem` and `NAME.key`, self-signed, in one step each.
fn write_pair(folder: &Path, name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let certificate = CertificateParams::new(hosts).unwrap().self_signed(&key).unwrap();
    for (end, label, der) in
        [("key", "PRIVATE KEY", key.serialized_der()), ("pem", "CERTIFICATE", certificate.der())]
    {
        replace(&folder.join(format!("{name}.{end}")), &pem(label, der));
    }
    certificate.der().clone()
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap());
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// Puts a file in the place of another. It was written a while ago, so nobody waits for
/// the rest of it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("beside");
    std::fs::write(&beside, text).unwrap();
    let file = std::fs::File::options().write(true).open(&beside).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(10)).unwrap();
    std::fs::rename(beside, path).unwrap();
}

/// A node with HTTPS for the certificates of a folder.
fn node_with_folder(folder: &Path) -> TestNode {
    TestNode::start_with(&format!(
        "[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\nfolders = [{folder:?}]\n"
    ))
}

fn connector(root: &CertificateDer<'static>) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// A handshake with a client that trusts `root` alone: it succeeds when that is shown.
async fn connect(
    node: &TestNode,
    host: &str,
    root: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(node.gateway_tls()).await?;
    connector(root).connect(ServerName::try_from(host.to_owned()).unwrap(), tcp).await
}

type Sender = hyper::client::conn::http1::SendRequest<http_body_util::Empty<bytes::Bytes>>;

async fn session(node: &TestNode, host: &str, root: &CertificateDer<'static>) -> Sender {
    let stream = connect(node, host, root).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Sender, host: &str) -> http::Response<hyper::body::Incoming> {
    let request = http::Request::get("/").header("host", host);
    let request = request.body(http_body_util::Empty::new()).unwrap();
    sender.ready().await.unwrap();
    sender.send_request(request).await.unwrap()
}

fn metric(node: &TestNode, name: &str) -> u64 {
    let (admin, token) = (node.admin(), node.token());
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    let head = format!(
        "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {answer}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_under_load_and_no_connection_notices() {
    let folder = tempfile::tempdir().unwrap();
    let host = "hello.localhost";
    let first = write_pair(folder.path(), "hello", &[host]);
    let node = node_with_folder(folder.path());
    node.deploy(&App::new("hello", squall_testkit::HELLO));

    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(session(&node, host, &first).await);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = sessions
        .into_iter()
        .map(|mut sender| {
            let stop = stop.clone();
            tokio::spawn(async move {
                let mut served = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(ask(&mut sender, host).await.status(), 200);
                    served += 1;
                }
                served
            })
        })
        .collect();

    let mut shown = first;
    for _ in 0..3 {
        let next = write_pair(folder.path(), "hello", &[host]);
        let begun = std::time::Instant::now();
        while connect(&node, host, &next).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the new one is not shown");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(connect(&node, host, &shown).await.is_err(), "the old one is shown no more");
        shown = next;
    }
    // Nonsense in its place changes nothing, and is said.
    let name = "squall_tls_certificate_reload_failures_total";
    let before = metric(&node, name);
    replace(&folder.path().join("hello.pem"), "nonsense");
    wait_for("the failure to be counted", || metric(&node, name) > before);
    connect(&node, host, &shown).await.unwrap();
    assert_eq!(metric(&node, "squall_tls_certificates"), 1);

    stop.store(true, Ordering::Relaxed);
    for client in load {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_hosts_have_a_certificate_each_through_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let hosts: Vec<String> = (0..1_000).map(|number| format!("host-{number}.example")).collect();
    let roots: Vec<_> = hosts.iter().map(|host| write_pair(folder.path(), host, &[host])).collect();
    let node = node_with_folder(folder.path());
    node.deploy(&App::new("hello", squall_testkit::HELLO));
    for upgraded in [false, true] {
        if upgraded {
            let output = node.cli(&["upgrade"]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        for (host, root) in hosts.iter().zip(&roots).step_by(37) {
            let mut sender = session(&node, host, root).await;
            assert_eq!(ask(&mut sender, host).await.status(), 200, "the only app, on any host");
        }
        let unknown = connect(&node, "unknown.example", &roots[0]).await;
        assert!(unknown.is_err(), "an unknown host is refused in the handshake");
    }
}

#[test]
fn a_certificate_that_can_not_be_used_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    write_pair(folder.path(), "b", &["b.example"]);
    let (certificate, key) = (folder.path().join("a.pem"), folder.path().join("b.key"));
    let config = folder.path().join("server.toml");
    let pair = format!("{{ cert = {certificate:?}, key = {key:?} }}");
    std::fs::write(&config, format!("[gateway.tls]\ncertificates = [{pair}]\n")).unwrap();
    let output = Command::new(SQUALL)
        .args(["up", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg("--config")
        .arg(&config)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("SQ0403") && said.contains("does not belong to the key"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleartext_is_redirected_and_browsers_are_told_to_stay() {
    let folder = tempfile::tempdir().unwrap();
    let host = "hello.localhost";
    let root = write_pair(folder.path(), "hello", &[host]);
    let node = node_with_folder(folder.path());
    let policy = "[gateway.policy]\nhttps = \"redirect\"\nhsts = { max_age_s = 300 }";
    node.deploy(&App::new("hello", squall_testkit::HELLO).and(policy));
    let answer = node.get("hello", "/x?y=1").await;
    assert_eq!(answer.status, 308);
    let expected = format!("https://{host}:{}/x?y=1", node.gateway_tls().port());
    assert_eq!(answer.headers["location"], expected.as_str());
    assert!(!answer.headers.contains_key("strict-transport-security"));
    let mut sender = session(&node, host, &root).await;
    let answer = ask(&mut sender, host).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=300");
}

/// Runs a program of somebody else, if it is there.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{program} is not installed: what it would have tested is left out");
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn programs_of_others_trust_the_authority_for_development() {
    let node =
        TestNode::start_with("[gateway.tls]\nlisten = [\"127.0.0.1:0\"]\ndevelopment = true\n");
    node.deploy(&App::new("hello", squall_testkit::HELLO));
    let authority = node.data_dir().join("tls/ca.pem");
    let authority = authority.to_str().unwrap();
    let url = format!("https://hello.localhost:{}/", node.gateway_tls().port());
    let shown = "%{http_version} %{response_code}";
    for (version, expected) in [("--http1.1", "1.1 200"), ("--http2", "2 200")] {
        let arguments =
            ["-sS", version, "--cacert", authority, "-o", "/dev/null", "-w", shown, &url];
        if let Some(said) = run("curl", &arguments) {
            assert_eq!(said, expected);
        }
    }
    // Most programs do not resolve names below localhost; any name leads to the only app.
    let url = format!("https://{}/", node.gateway_tls());
    if let Some(said) = run("h2load", &["-n", "200", "-c", "2", "-m", "10", &url]) {
        assert!(said.contains("Application protocol: h2"), "{said}");
        assert!(said.contains("200 succeeded, 0 failed"), "{said}");
    }
}
