//! A node in a folder of its own, and a client that speaks plain HTTP to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

pub(crate) const SQUALL: &str = env!("CARGO_BIN_EXE_squall");

/// Far longer than anything here takes: a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct TestNode {
    pub(crate) dir: tempfile::TempDir,
    supervisor: Child,
}

impl TestNode {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// Starts with the given `server.toml`.
    pub(crate) fn start_with(server_toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("server.toml"), server_toml).unwrap();
        let supervisor = spawn(dir.path());
        Self::once_serving(dir, supervisor)
    }

    /// Starts one that can not say anything: what it writes to goes to a full disk.
    pub(crate) fn start_unheard() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("server.toml"), "").unwrap();
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let supervisor = spawn_saying(dir.path(), full);
        Self::once_serving(dir, supervisor)
    }

    fn once_serving(dir: tempfile::TempDir, supervisor: Child) -> Self {
        let node = Self { dir, supervisor };
        node.wait_until_serving();
        node
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the node says of itself; `None` before it serves.
    pub(crate) fn facts(&self) -> Option<Value> {
        let text = std::fs::read_to_string(self.data_dir().join("node.json")).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn address(&self, url: &Value) -> SocketAddr {
        let authority = url.as_str().unwrap().split_once("://").unwrap().1;
        authority.trim_end_matches('/').parse().unwrap()
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        self.address(&self.facts().unwrap()["gateway_urls"][0])
    }

    /// Where it speaks TLS.
    pub(crate) fn gateway_tls(&self) -> SocketAddr {
        let facts = self.facts().unwrap();
        let urls = facts["gateway_urls"].as_array().unwrap();
        let https = urls.iter().find(|url| url.as_str().unwrap().starts_with("https://"));
        self.address(https.unwrap())
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        self.address(&self.facts().unwrap()["admin_url"])
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.facts().unwrap()["pid"].as_u64().unwrap() as u32
    }

    /// Memory that the server process holds.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.server_pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.server_pid())).unwrap().count()
    }

    pub(crate) fn supervisor_pid(&self) -> u32 {
        self.supervisor.id()
    }

    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(self.data_dir().join("admin.token")).unwrap().trim().to_owned()
    }

    pub(crate) fn wait_until_serving(&self) {
        wait_for("the node to serve", || {
            let Some(facts) = self.facts() else { return false };
            let alive = facts["supervisor_pid"].as_u64() == Some(self.supervisor.id().into());
            alive && std::net::TcpStream::connect(self.address(&facts["admin_url"])).is_ok()
        });
    }

    /// A new start in the same folder after `kill`.
    pub(crate) fn restart(&mut self) {
        self.supervisor = spawn(self.dir.path());
        self.wait_until_serving();
    }

    /// SIGKILL; the server dies with its supervisor.
    pub(crate) fn kill(&mut self) {
        let server = self.facts().map(|facts| facts["pid"].as_u64().unwrap() as i32);
        self.supervisor.kill().unwrap();
        self.supervisor.wait().unwrap();
        if let Some(server) = server {
            // The server dies with its supervisor; it must be gone before a new start.
            wait_for("the server to die with its supervisor", || {
                !Path::new(&format!("/proc/{server}")).exists() || is_zombie(server)
            });
        }
    }

    pub(crate) fn signal(&self, pid: u32, signal: i32) {
        // SAFETY: kill has no memory effects; the pid is a process of this test.
        unsafe { libc::kill(pid as i32, signal) };
    }

    /// SIGTERM, and the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.stop()
    }

    /// As `terminate`; what the node left in its folder can be looked at.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(self.supervisor.id(), libc::SIGTERM);
        self.supervisor.wait().unwrap().code()
    }

    /// Runs the CLI against this node.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        Command::new(SQUALL)
            .args(arguments)
            .env("SQUALL_DATA_DIR", self.data_dir())
            .env_remove("SQUALL_URL")
            .env_remove("SQUALL_TOKEN")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs the CLI with `--json`, expects success and parses its output.
    #[track_caller]
    pub(crate) fn cli_json(&self, arguments: &[&str]) -> Value {
        let output = self.cli(&[arguments, &["--json"]].concat());
        assert!(
            output.status.success(),
            "squall {arguments:?} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&output.stdout))
        })
    }

    /// Writes an app and deploys it with the CLI. Returns the deployment resource.
    #[track_caller]
    pub(crate) fn deploy(&self, app: &App) -> Value {
        let folder = self.write_app(app);
        self.cli_json(&["deploy", folder.to_str().unwrap()])
    }

    pub(crate) fn write_app(&self, app: &App) -> PathBuf {
        let folder = self.dir.path().join("apps").join(&app.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("squall.toml"), app.manifest()).unwrap();
        if app.entry.is_none() && app.has_function {
            std::fs::write(folder.join("api.wasm"), &app.component).unwrap();
        }
        for (path, content) in &app.files {
            let file = folder.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        folder
    }

    pub(crate) async fn get(&self, app: &str, path: &str) -> Answer {
        self.request("GET", app, path, &[], Bytes::new()).await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        app: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let host = format!("{app}.localhost");
        request(self.gateway(), &host, method, path, headers, body.into())
            .await
            .unwrap_or_else(|error| panic!("{method} {path} of {app}: {error}"))
    }

    /// The newest log entries of an app, as the CLI prints them.
    pub(crate) fn logs(&self, app: &str) -> Vec<Value> {
        let output = self.cli(&["logs", "--app", app, "-n", "200", "--json"]);
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Waits until the log of `app` holds an entry with this code.
    #[track_caller]
    pub(crate) fn expect_log_code(&self, app: &str, code: &str) -> Value {
        self.expect_log(app, &format!("a log line with {code}"), |entry| entry["code"] == code)
    }

    /// Waits until the log of `app` holds an entry whose message has this text.
    #[track_caller]
    pub(crate) fn expect_log_text(&self, app: &str, text: &str) -> Value {
        self.expect_log(app, &format!("a log line with {text:?}"), |entry| {
            entry["message"].as_str().unwrap().contains(text)
        })
    }

    #[track_caller]
    fn expect_log(&self, app: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        wait_for(what, || {
            found = self.logs(app).into_iter().find(|entry| wanted(entry));
            found.is_some()
        });
        found.unwrap()
    }

    /// Sums of `squall usage` over everything of an app.
    pub(crate) fn usage(&self, app: &str) -> Value {
        self.cli_json(&["usage", "--app", app])
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(self.dir.path().join("stderr"))
        {
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the node's last words ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

fn spawn(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("stderr")).unwrap();
    spawn_saying(dir, log)
}

fn spawn_saying(dir: &Path, log: std::fs::File) -> Child {
    Command::new(SQUALL)
        .arg("up")
        .arg("--data-dir")
        .arg(dir.join("data"))
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"])
        .arg(dir.join("server.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An app with one function, made from the probe unless said otherwise.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) component: Vec<u8>,
    /// The entry file among `files`, in place of a component.
    entry: Option<&'static str>,
    has_function: bool,
    /// Appended to the function's table.
    pub(crate) settings: String,
    /// Appended at the end of the manifest.
    pub(crate) more: String,
    pub(crate) files: Vec<(String, String)>,
}

impl App {
    pub(crate) fn probe(name: &str) -> Self {
        Self::new(name, squall_testkit::PROBE)
    }

    pub(crate) fn new(name: &str, component: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            component: component.to_vec(),
            entry: None,
            has_function: true,
            settings: String::new(),
            more: String::new(),
            files: Vec::new(),
        }
    }

    /// An app whose function is made of TypeScript.
    pub(crate) fn typescript(name: &str, source: &str) -> Self {
        Self::source(name, "src/index.ts", source)
    }

    /// An app without code, whose every request goes to this server.
    pub(crate) fn proxy(name: &str, server: SocketAddr) -> Self {
        let target = format!("http://{server}");
        let route = "[[routes]]\npaths = [\"/*\"]\nupstream = \"server\"";
        let upstream = format!("[upstreams.server]\ntargets = [{target:?}]\nallow_private = true");
        Self { has_function: false, ..Self::new(name, &[]) }.and(&upstream).and(route)
    }

    pub(crate) fn source(name: &str, entry: &'static str, source: &str) -> Self {
        Self { entry: Some(entry), ..Self::new(name, &[]) }.file(entry, source)
    }

    pub(crate) fn with(mut self, settings: &str) -> Self {
        self.settings.push_str(settings);
        self.settings.push('\n');
        self
    }

    /// Appends to the end of the manifest.
    pub(crate) fn and(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self.more.push('\n');
        self
    }

    pub(crate) fn file(mut self, path: &str, content: &str) -> Self {
        self.files.push((path.to_owned(), content.to_owned()));
        self
    }

    fn manifest(&self) -> String {
        if !self.has_function {
            return format!("name = {:?}\n{}\n", self.name, self.more);
        }
        let (key, path) = self.entry.map_or(("component", "api.wasm"), |entry| ("source", entry));
        format!(
            "name = {:?}\n[functions.api]\n{key} = {path:?}\nroutes = [\"/*\"]\n{}\n{}\n",
            self.name, self.settings, self.more
        )
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
    /// The body broke off before its end.
    pub(crate) broken: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The stable code of an error answer.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// One request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> anyhow::Result<Answer> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut builder = http::Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let response = sender.send_request(builder.body(Full::new(body))?).await?;
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut broken = false;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                broken = true;
                break;
            }
        }
    }
    driver.abort();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes.into(), broken })
}

/// Clients that ask for `path` over and over, each on its own keep-alive connection.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    pub(crate) completed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    /// `accept` judges each answer; what it returns as an error is reported by `stop`.
    pub(crate) fn start(
        address: SocketAddr,
        host: &str,
        path: &str,
        clients: usize,
        accept: impl Fn(u16, &[u8]) -> Result<(), String> + Send + Sync + Clone + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let completed = Arc::new(AtomicU64::new(0));
        let tasks = (0..clients)
            .map(|_| {
                let (stop, completed, accept) = (stop.clone(), completed.clone(), accept.clone());
                let (host, path) = (host.to_owned(), path.to_owned());
                tokio::spawn(async move {
                    let mut failures = Vec::new();
                    'connections: while !stop.load(Ordering::Relaxed) {
                        let Ok(stream) = tokio::net::TcpStream::connect(address).await else {
                            failures.push("connection refused".to_owned());
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            continue;
                        };
                        let Ok((mut sender, connection)) =
                            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await
                        else {
                            failures.push("no handshake".to_owned());
                            continue;
                        };
                        tokio::spawn(connection);
                        while !stop.load(Ordering::Relaxed) {
                            if sender.ready().await.is_err() {
                                // Closed between requests, as a draining server may.
                                continue 'connections;
                            }
                            let request = http::Request::get(path.as_str())
                                .header("host", host.as_str())
                                .body(Full::new(Bytes::new()))
                                .unwrap();
                            match sender.try_send_request(request).await {
                                Ok(response) => {
                                    let status = response.status().as_u16();
                                    match response.into_body().collect().await {
                                        Ok(body) => {
                                            if let Err(failure) = accept(status, &body.to_bytes()) {
                                                failures.push(failure);
                                            }
                                            completed.fetch_add(1, Ordering::Relaxed);
                                        }
                                        Err(error) => failures.push(format!("body: {error}")),
                                    }
                                }
                                Err(mut error) => {
                                    // Never sent: the connection closed while it was idle.
                                    if error.take_message().is_some() {
                                        continue 'connections;
                                    }
                                    failures.push(format!("request: {}", error.into_error()));
                                }
                            }
                        }
                    }
                    failures
                })
            })
            .collect();
        Self { stop, completed, tasks }
    }

    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        failures
    }
}
