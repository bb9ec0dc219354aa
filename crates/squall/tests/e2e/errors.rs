//! Wrong inputs get an error that names the fix.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::harness::{App, SQUALL, TestNode};

#[track_caller]
fn check_deploy_error(node: &TestNode, app: &App, says: &[&str]) {
    let folder = node.write_app(app);
    let output = node.cli(&["deploy", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "deployed: {said}");
    for part in says {
        assert!(said.contains(part), "{said:?} does not say {part:?}");
    }
}

#[test]
fn a_deploy_that_can_not_work_says_why() {
    let node = TestNode::start();
    check_deploy_error(
        &node,
        &App::new("bad", b"just some text"),
        &["SQ0301", "not a WebAssembly"],
    );
    check_deploy_error(
        &node,
        &App::new("bad", b"\0asm\x01\0\0\0"),
        &["SQ0301", "core module", "component"],
    );
    let unknown_import = wat::parse_str(
        "(component (import \"acme:rocket/launch@1.0.0\" (instance (export \"go\" (func)))))",
    )
    .unwrap();
    check_deploy_error(&node, &App::new("bad", &unknown_import), &["SQ0302", "acme:rocket/launch"]);
    let no_handler = wat::parse_str("(component)").unwrap();
    check_deploy_error(&node, &App::new("bad", &no_handler), &["SQ0303", "wasi:http"]);
    check_deploy_error(
        &node,
        &App::probe("bad").with("limit = { wall_time_ms = 5 }"),
        &["did you mean `limits`", "squall.toml:"],
    );
    let mut truncated = squall_testkit::HELLO.to_vec();
    truncated.truncate(truncated.len() / 2);
    check_deploy_error(&node, &App::new("bad", &truncated), &["SQ0301"]);
    // None of it left an app behind.
    let apps = String::from_utf8(node.cli(&["apps", "--json"]).stdout).unwrap();
    assert!(!apps.contains("bad"), "{apps}");
}

#[test]
fn an_upload_that_ends_early_leaves_nothing() {
    use std::io::{Read, Write};
    let node = TestNode::start();
    let mut stream = std::net::TcpStream::connect(node.admin()).unwrap();
    write!(
        stream,
        "POST /v1/apps/half/deployments HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Type: application/x-tar\r\nContent-Length: 100000\r\n\r\n",
        node.token()
    )
    .unwrap();
    stream.write_all(&[0x61; 700]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    let staging = node.data_dir().join("staging");
    crate::harness::wait_for("the upload's leftovers to go", || {
        std::fs::read_dir(&staging).unwrap().count() == 0
    });
}

#[test]
fn a_wrong_token_and_no_node_are_told_apart() {
    let node = TestNode::start();
    let url = format!("http://{}", node.admin());
    let run = |url: &str, token: &str| {
        Command::new(SQUALL)
            .arg("apps")
            .env("SQUALL_URL", url)
            .env("SQUALL_TOKEN", token)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let wrong = run(&url, "sqt_wrong");
    assert_eq!(wrong.status.code(), Some(4), "{}", String::from_utf8_lossy(&wrong.stderr));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("SQ0310"));
    let nobody = run("http://127.0.0.1:9", &node.token());
    assert_eq!(nobody.status.code(), Some(3), "{}", String::from_utf8_lossy(&nobody.stderr));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("squall up"));
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    let node = TestNode::start();
    let made = node.cli_json(&["tokens", "create", "reader", "--scope", "read"]);
    let token = made["token"].as_str().unwrap();
    let mut stream = TcpStream::connect(node.admin()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    write!(
        stream,
        "GET /v1/logs/stream HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n",
        node.admin()
    )
    .unwrap();
    let mut begun = [0; 15];
    stream.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");
    let revoked = node.cli(&["tokens", "revoke", made["id"].as_str().unwrap()]);
    assert!(revoked.status.success(), "{revoked:?}");
    stream.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn a_failure_is_data_too_for_who_asks_for_json() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = "name = \"shop\"\n[[routes]]\nname = 5\n";
    std::fs::write(folder.path().join("squall.toml"), manifest).unwrap();
    for command in [&["check"][..], &["gateway", "check"]] {
        let run = |more: &[&str]| {
            let mut line = Command::new(SQUALL);
            line.args(command).args(more).arg(folder.path()).stdin(Stdio::null());
            line.output().unwrap()
        };
        let (plain, json) = (run(&[]), run(&["--json"]));
        assert_eq!((plain.status.code(), json.status.code()), (Some(5), Some(5)));
        assert!(plain.stdout.is_empty());
        assert_eq!(plain.stderr, json.stderr);
        let said: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let error = &said["error"];
        assert_eq!((&error["exit"], &error["code"]), (&5.into(), &"SQ0300".into()), "{said}");
        assert!(error["what"].as_str().unwrap().ends_with("squall.toml:3:8"), "{said}");
        assert!(error["why"].as_str().unwrap().starts_with("routes[1].name: "), "{said}");
    }
}

#[test]
fn a_command_whose_data_can_not_be_written_does_not_end_well() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("squall.toml");
    let run = |text: &str, to: Stdio| {
        std::fs::write(&manifest, text).unwrap();
        let mut line = Command::new(SQUALL);
        line.args(["check", "--json"]).arg(folder.path()).stdin(Stdio::null()).stdout(to);
        line.stderr(Stdio::piped()).output().unwrap()
    };
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let nobody = || std::io::pipe().unwrap().1;
    let good = "name = \"shop\"\n[[routes]]\nresponse = { status = 200 }\n";
    let lost = run(good, full().into());
    assert_eq!(lost.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&lost.stderr).contains("standard output"));
    assert_eq!(run(good, nobody().into()).status.code(), Some(0), "as of any tool in a pipe");
    for to in [Stdio::from(full()), Stdio::from(nobody())] {
        let failed = run("name = 5", to);
        assert_eq!(failed.status.code(), Some(5));
        assert!(String::from_utf8_lossy(&failed.stderr).contains("SQ0300"));
    }
}

#[test]
fn a_command_of_the_binary_s_own_is_not_suggested() {
    let said = |word: &str| {
        let output = Command::new(SQUALL).arg(word).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let (server, deploys) = (said("server"), said("deploys"));
    assert!(!server.contains("__"), "{server}");
    assert!(deploys.contains("'deploy'"), "{deploys}");
}

fn failing_up(arguments: &[&str]) -> String {
    let output =
        Command::new(SQUALL).arg("up").args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_second_node_on_the_same_folder_or_port_is_refused() {
    let node = TestNode::start();
    let folder = node.data_dir();
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let same = failing_up(&[&["--data-dir", folder.to_str().unwrap()], &listen[..]].concat());
    assert!(same.contains("SQ0400") && same.contains(&node.supervisor_pid().to_string()), "{same}");

    let other = tempfile::tempdir().unwrap();
    let data = other.path().join("data");
    let gateway = node.gateway().to_string();
    let port = failing_up(&[
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        &gateway,
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    assert!(port.contains("SQ0402") && port.contains(&gateway), "{port}");
}

#[test]
fn a_folder_of_a_newer_version_or_open_to_others_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::write(data.join("version"), "9999\n").unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let arguments = [&["--data-dir", data.to_str().unwrap()], &listen[..]].concat();
    let newer = failing_up(&arguments);
    assert!(newer.contains("SQ0401"), "{newer}");
    std::fs::remove_file(data.join("version")).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let open = failing_up(&arguments);
    assert!(open.contains("SQ0404") && open.contains("chmod"), "{open}");
}

#[test]
fn a_wrong_server_config_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("server.toml");
    std::fs::write(&config, "[gateway]\nlisten = [\"127.0.0.1:0\"]\n[gatway]\n").unwrap();
    let said = failing_up(&["--config", config.to_str().unwrap()]);
    assert!(said.contains("SQ0403") && said.contains("did you mean `gateway`"), "{said}");
    std::fs::write(&config, "[gateway]\n\n[node]\ndrain_s = 5\ncores = 0\n").unwrap();
    let said = failing_up(&["--config", config.to_str().unwrap()]);
    assert!(said.contains("server.toml:5:1: node.cores must be from 1 to 1024"), "{said}");
}
