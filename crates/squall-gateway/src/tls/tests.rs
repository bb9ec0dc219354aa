//! Certificates from files, what clients are shown, and HTTP behind a handshake.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, RootCertStore, StreamOwned};

use super::{CertificateFiles, Tls, TlsOptions, ensure_authority, pem};
use crate::tests::{Door, status};
use crate::{DoorLimits, Options};

/// Writes `NAME.pem` and `NAME.key`, self-signed, and returns the certificate.
fn write_pair(folder: &Path, name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    write_pair_for(folder, name, hosts, -1..3_650)
}

/// The same, for these days from now on.
fn write_pair_for(
    folder: &Path,
    name: &str,
    hosts: &[&str],
    days: std::ops::Range<i64>,
) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    let day = |day: i64| {
        let distance = Duration::from_secs(86_400 * day.unsigned_abs());
        let now = SystemTime::now();
        if day < 0 { now - distance } else { now + distance }
    };
    (params.not_before, params.not_after) = (day(days.start).into(), day(days.end).into());
    let certificate = params.self_signed(&key).unwrap();
    // Beside and renamed, as those who renew certificates do.
    for (end, label, der) in
        [("key", "PRIVATE KEY", key.serialized_der()), ("pem", "CERTIFICATE", certificate.der())]
    {
        write(folder, &format!("{name}.{end}"), &pem(label, der));
    }
    certificate.der().clone()
}

/// Replaces a file by one that has been there for a while.
fn write(folder: &Path, name: &str, text: &str) {
    let beside = folder.join("beside");
    std::fs::write(&beside, text).unwrap();
    let file = std::fs::File::options().write(true).open(&beside).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(10)).unwrap();
    std::fs::rename(beside, folder.join(name)).unwrap();
}

fn open_folder(folder: &Path, default: Option<&str>) -> Arc<Tls> {
    let options = TlsOptions {
        folders: vec![folder.to_owned()],
        default: default.map(str::to_owned),
        ..TlsOptions::default()
    };
    Tls::open(options).unwrap()
}

fn shown(tls: &Tls, name: Option<&str>) -> Option<CertificateDer<'static>> {
    tls.shown.names.load().find(name).map(|key| key.cert[0].clone())
}

#[test]
fn a_certificate_is_found_by_exact_name_then_by_a_star_for_one_label() {
    let folder = tempfile::tempdir().unwrap();
    let exact = write_pair(folder.path(), "a", &["www.a.example", "a.example"]);
    let star = write_pair(folder.path(), "b", &["*.a.example"]);
    let tls = open_folder(folder.path(), None);
    assert_eq!(shown(&tls, Some("www.a.example")), Some(exact.clone()));
    assert_eq!(shown(&tls, Some("a.example")), Some(exact.clone()));
    assert_eq!(shown(&tls, Some("other.a.example")), Some(star));
    for none in [Some("x.other.a.example"), Some("b.example"), Some("example"), None] {
        assert_eq!(shown(&tls, none), None, "{none:?}");
    }
    let tls = open_folder(folder.path(), Some("A.example"));
    assert_eq!(shown(&tls, None), Some(exact.clone()));
    assert_eq!(shown(&tls, Some("b.example")), Some(exact));
}

#[test]
fn changed_files_are_read_anew_and_bad_ones_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = write_pair(folder.path(), "a", &["a.example"]);
    let tls = open_folder(folder.path(), None);
    let check = |expected: Option<&CertificateDer<'static>>, reloads: u64, failures: u64| {
        tls.reload();
        assert_eq!(shown(&tls, Some("a.example")).as_ref(), expected);
        let files = tls.files.lock().unwrap();
        assert_eq!((files.reloads, files.failures), (reloads, failures));
    };
    check(Some(&first), 0, 0);
    let second = write_pair(folder.path(), "a", &["a.example"]);
    assert_ne!(first, second);
    check(Some(&second), 1, 0);

    let (good, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
    let (good, key) = (std::fs::read_to_string(good), std::fs::read_to_string(key));
    write(folder.path(), "a.pem", "nonsense");
    check(Some(&second), 1, 1);
    // Said once, not at every look.
    check(Some(&second), 1, 1);
    write(folder.path(), "a.pem", &good.unwrap());
    check(Some(&second), 2, 1);
    write_pair(folder.path(), "other", &["other.example"]);
    let other = std::fs::read_to_string(folder.path().join("other.key")).unwrap();
    write(folder.path(), "a.key", &other);
    check(Some(&second), 3, 2);
    write(folder.path(), "a.key", &key.unwrap());
    check(Some(&second), 4, 2);
    // A half that is away is about to be replaced.
    std::fs::rename(folder.path().join("a.pem"), folder.path().join("a.away")).unwrap();
    check(Some(&second), 4, 3);
    check(Some(&second), 4, 3);
    std::fs::rename(folder.path().join("a.away"), folder.path().join("a.pem")).unwrap();
    check(Some(&second), 5, 3);
    std::fs::remove_file(folder.path().join("a.key")).unwrap();
    check(Some(&second), 5, 4);
    std::fs::remove_file(folder.path().join("a.pem")).unwrap();
    check(None, 5, 4);
    // Without its key it is left out, which is no failure of what is shown.
    write(folder.path(), "a.pem", "nonsense");
    check(None, 5, 4);
    std::fs::remove_file(folder.path().join("a.pem")).unwrap();
    assert!(shown(&tls, Some("other.example")).is_some());
    // A folder that is away is no order to forget.
    std::fs::rename(folder.path(), folder.path().with_extension("away")).unwrap();
    tls.reload();
    assert!(shown(&tls, Some("other.example")).is_some());
    std::fs::rename(folder.path().with_extension("away"), folder.path()).unwrap();
}

#[test]
fn one_that_does_not_hold_yet_is_shown_where_there_is_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let early = write_pair_for(folder.path(), "next", &["a.example"], 20..400);
    let tls = open_folder(folder.path(), None);
    assert_eq!(shown(&tls, Some("a.example")), Some(early));
    let now = write_pair_for(folder.path(), "now", &["a.example"], -80..10);
    tls.reload();
    assert_eq!(shown(&tls, Some("a.example")), Some(now));
    // The host is there once, and does not expire before its last certificate.
    let files = tls.files.lock().unwrap();
    let expiries = files.first_to_expire(10);
    let [("a.example", expires)] = expiries[..] else { panic!("{expiries:?}") };
    assert!(expires > super::unix_seconds(SystemTime::now()) + 399 * 86_400);
}

#[test]
fn one_that_begins_to_hold_is_shown_then() {
    let folder = tempfile::tempdir().unwrap();
    let next = write_pair_for(folder.path(), "next", &["a.example"], 20..400);
    write_pair_for(folder.path(), "now", &["a.example"], -80..10);
    let tls = open_folder(folder.path(), None);
    let begins = super::unix_seconds(SystemTime::now()) + 20 * 86_400;
    let names = |at: i64| tls.files.lock().unwrap().read_changed_at(at);
    assert!(names(begins - 60).is_none());
    let after = names(begins + 60).expect("another one is shown");
    assert_eq!(after.find(Some("a.example")).unwrap().cert[0], next);
    assert!(names(begins + 120).is_none());
}

/// An error says that a file can not be read; whoever lets it be read does not touch its content.
#[test]
fn whose_rights_change_is_read_anew() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    let tls = open_folder(folder.path(), None);
    tls.reload();
    assert_eq!(tls.files.lock().unwrap().reloads, 0);
    let rights = std::fs::Permissions::from_mode(0o640);
    std::fs::set_permissions(folder.path().join("a.key"), rights).unwrap();
    tls.reload();
    assert_eq!(tls.files.lock().unwrap().reloads, 1);
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_before_a_start() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example"]);
    write_pair(folder.path(), "b", &["b.example"]);
    write_pair(folder.path(), "nameless", &[]);
    write(folder.path(), "empty", "");
    let check = |certificate: &str, key: &str, default: Option<&str>, expected: &str| {
        let files = CertificateFiles {
            certificate: folder.path().join(certificate),
            key: folder.path().join(key),
        };
        let options = TlsOptions {
            certificates: vec![files],
            default: default.map(str::to_owned),
            ..TlsOptions::default()
        };
        let found = Tls::check(&options).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(found.contains(expected) && found.is_empty() == expected.is_empty(), "{found}");
    };
    check("a.pem", "a.key", None, "");
    check("a.pem", "a.key", Some("a.example"), "");
    check("a.pem", "a.key", Some("b.example"), "no certificate holds for b.example");
    check("a.pem", "b.key", None, "a.pem: does not belong to the key");
    check("missing.pem", "a.key", None, "missing.pem: can not be read");
    check("a.key", "a.key", None, "a.key: holds no certificate");
    check("a.pem", "a.pem", None, "a.pem: holds no private key");
    check("empty", "a.key", None, "empty: holds no certificate");
    check("nameless.pem", "nameless.key", None, "names no host");
}

#[test]
fn a_thousand_certificates_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let hosts: Vec<String> = (0..1000).map(|number| format!("host-{number}.example")).collect();
    let written: Vec<_> =
        hosts.iter().map(|host| write_pair(folder.path(), host, &[host])).collect();
    let tls = open_folder(folder.path(), None);
    for (host, certificate) in hosts.iter().zip(&written) {
        assert_eq!(shown(&tls, Some(host)).as_ref(), Some(certificate));
    }
}

fn client_config(roots: &[CertificateDer<'static>], alpn: &[&str]) -> Arc<rustls::ClientConfig> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn connect(
    address: SocketAddr,
    host: &str,
    config: &Arc<rustls::ClientConfig>,
) -> std::io::Result<Client> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
    session.complete_io(&mut tcp)?;
    Ok(StreamOwned::new(session, tcp))
}

fn ask(client: &mut Client, request: &str) -> String {
    client.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn development_door() -> (Door, CertificateDer<'static>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let root = CertificateDer::from_pem_file(ensure_authority(folder.path()).unwrap()).unwrap();
    let options =
        TlsOptions { development: Some(folder.path().to_owned()), ..TlsOptions::default() };
    let limits =
        DoorLimits { handshake_timeout: Duration::from_millis(300), ..DoorLimits::default() };
    let tls = Some(Tls::open(options).unwrap());
    (Door::with(Options { tls, limits, ..Options::default() }), root, folder)
}

#[test]
fn the_authority_for_development_vouches_for_hosts_of_this_node_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (door, root, folder) = development_door();
    let address = door.tls_address.unwrap();
    let mode = std::fs::metadata(folder.path().join("ca.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = CertificateDer::from_pem_file(ensure_authority(folder.path()).unwrap()).unwrap();
    assert_eq!(root, again, "made once");
    let config = client_config(&[root], &["http/1.1"]);
    for host in [
        "localhost",
        "one.localhost",
        "abcdefghij--one.localhost",
        "www.example.com",
        "a.wild.example",
        "a.b.wild.example",
    ] {
        connect(address, host, &config).unwrap_or_else(|error| panic!("{host}: {error}"));
    }
    connect(address, "127.0.0.1", &config).unwrap();
    assert!(connect(address, "www.elsewhere.com", &config).is_err());
    assert!(connect(address, "wild.example", &config).is_err());
}

#[test]
fn http_1_over_tls_is_told_as_https_and_read_with_the_same_care() {
    let (door, root, _folder) = development_door();
    let address = door.tls_address.unwrap();
    let config = client_config(&[root], &[]);
    let mut client = connect(address, "one.localhost", &config).unwrap();
    let answer = ask(
        &mut client,
        "GET /api/x HTTP/1.1\r\nHost: one.localhost\r\nX-Forwarded-Proto: http\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(answer.contains("GET https://one.localhost/api/x\n"), "{answer}");
    assert!(answer.contains("x-forwarded-proto: https\n"), "{answer}");

    let mut client = connect(address, "one.localhost", &config).unwrap();
    assert_eq!(
        client.conn.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed),
        "a ticket spares the second handshake"
    );
    let answer = ask(
        &mut client,
        "POST /api/x HTTP/1.1\r\nHost: one.localhost\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(status(&answer), 400, "{answer}");
}

#[test]
fn http_2_is_chosen_by_alpn() {
    let (door, root, _folder) = development_door();
    let config = client_config(&[root], &["h2", "http/1.1"]);
    let mut client = connect(door.tls_address.unwrap(), "one.localhost", &config).unwrap();
    assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut head = [0; 9];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "the server begins with its settings");
}

#[test]
fn a_certificate_holds_for_its_names_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    write_pair(folder.path(), "a", &["a.example", "*.b.example", "10.0.0.1", "::1"]);
    write_pair(folder.path(), "c", &["c.example"]);
    let tls = open_folder(folder.path(), None);
    for (host, holds) in [
        ("a.example", true),
        ("x.b.example", true),
        ("10.0.0.1", true),
        ("[::1]", true),
        ("b.example", false),
        ("x.y.b.example", false),
        ("c.example", false),
        ("10.0.0.2", false),
        ("no_host:", false),
    ] {
        assert_eq!(tls.covers("a.example", host), holds, "{host}");
    }
    assert!(!tls.covers("unknown.example", "a.example"));
}

/// The statuses of requests for `hosts` on one connection of HTTP/2 that asked for the
/// first of them in its handshake.
fn statuses_by_http2(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    hosts: &[&str],
) -> Vec<u16> {
    let client = tokio::runtime::Runtime::new().unwrap();
    client.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(hosts[0].to_owned()).unwrap();
        let tls = tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await;
        let (mut sender, connection) = hyper::client::conn::http2::handshake(
            hyper_util::rt::TokioExecutor::new(),
            hyper_util::rt::TokioIo::new(tls.unwrap()),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        let mut statuses = Vec::new();
        for host in hosts {
            let request = http::Request::get(format!("https://{host}/exact"));
            let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
            statuses.push(sender.send_request(request).await.unwrap().status().as_u16());
        }
        statuses
    })
}

#[test]
fn a_host_that_the_certificate_is_not_for_is_sent_to_another_connection() {
    let folder = tempfile::tempdir().unwrap();
    let root = write_pair(folder.path(), "a", &["one.localhost", "two.localhost"]);
    let tls = Some(open_folder(folder.path(), None));
    let door = Door::with(Options { tls: tls.clone(), ..Options::default() });
    let config = client_config(&[root], &["h2"]);
    let hosts = ["one.localhost", "two.localhost", "www.example.com", "one.localhost"];
    let address = door.tls_address.unwrap();
    assert_eq!(statuses_by_http2(address, &config, &hosts), [200, 200, 421, 200]);
    // A proxy that is trusted sends everything by one connection.
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let door = Door::with(Options { tls, trusted_proxies, ..Options::default() });
    let address = door.tls_address.unwrap();
    assert_eq!(statuses_by_http2(address, &config, &hosts), [200; 4]);
}

#[test]
fn silence_and_nonsense_instead_of_a_handshake_end() {
    let (door, ..) = development_door();
    for start in [&b""[..], b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut stream = TcpStream::connect(door.tls_address.unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(start).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 20, "at most an alert: {answer:?}");
    }
    // The last one is counted a moment after its client has seen the end.
    for line in ["{reason=\"timeout\"} 2", "{reason=\"protocol\"} 1"] {
        let seen = || door.metrics().contains(line);
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while !seen() {
            assert!(std::time::Instant::now() < patience, "{line} in {}", door.metrics());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Nobody waits for ever for who chose HTTP/2 and then says nothing of it.
#[test]
fn who_chooses_http_2_has_to_speak_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = CertificateDer::from_pem_file(ensure_authority(folder.path()).unwrap()).unwrap();
    let options =
        TlsOptions { development: Some(folder.path().to_owned()), ..TlsOptions::default() };
    let limits = DoorLimits { head_timeout: Duration::from_millis(500), ..DoorLimits::default() };
    let tls = Some(Tls::open(options).unwrap());
    let door = Door::with(Options { tls, limits, ..Options::default() });
    let config = client_config(&[root], &["h2"]);
    for said in ["", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\nHost: one.localhost\r\n\r\n"] {
        let mut client = connect(door.tls_address.unwrap(), "one.localhost", &config).unwrap();
        client.write_all(said.as_bytes()).unwrap();
        client.flush().unwrap();
        let mut answer = Vec::new();
        // However it ends, it does.
        if let Err(error) = client.read_to_end(&mut answer) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{said:?}");
        }
        assert!(answer.is_empty(), "{said:?}: {answer:?}");
    }
}
