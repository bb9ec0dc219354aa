//! The supervisor: owns the listening sockets and keeps one server process running.
//!
//! It restarts a server that dies, hands the sockets to a new one for an upgrade without
//! a dropped request, and passes the order to end on. It serves nothing itself and keeps
//! no state but the processes, so there is little in it that could fail.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use squall_gateway::tls::{Tls, TlsError, ensure_authority};
use squall_types::ErrorCode;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use crate::config::{ServerConfig, TlsConfig};
use crate::control_channel::{Channel, Command, Event, JOB_VARIABLE, ServerJob};
use crate::data_dir::{DataDir, write_atomically};
use crate::error::UpError;
use crate::listeners;
use crate::node_file::NodeFile;

/// A server that lived shorter died of its start: wait before the next.
const LIVED_LONG: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long a new server may take to load and compile before a handover is given up.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(600);
/// How long a server may take to answer a command.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
const CRASH_REPORTS_KEPT: usize = 20;
const LAST_WORDS_LINES: usize = 200;
/// Of them, with an error.
const SHOWN_LINES: usize = 3;

/// How `squall up` was called.
#[derive(Debug, Clone, Default)]
pub struct UpOptions {
    pub data_dir: PathBuf,
    pub listen: Option<SocketAddr>,
    pub admin_listen: Option<SocketAddr>,
    pub config: Option<PathBuf>,
    /// Certificates for development, whatever the configuration says.
    pub tls_development: bool,
    /// Print nothing but problems.
    pub quiet: bool,
    /// Say where the node is as JSON.
    pub json: bool,
}

/// Runs a node until it is told to end. Returns the exit code.
///
/// # Errors
/// Fails when the node can not start: the message says how to mend it.
pub fn up(options: UpOptions) -> Result<i32, UpError> {
    crate::allocator::hold_little();
    let config = read_config(&options)?;
    let data_dir = DataDir::open(&options.data_dir)?;
    let cores = config.cores();
    let default = SocketAddr::from(([127, 0, 0, 1], 8080));
    let asked: Vec<SocketAddr> = match options.listen {
        Some(address) => vec![address],
        None => config.gateway.listen.clone(),
    };
    let gateway = listeners::bind_all("gateway", &asked, default, cores)?;
    let tls = if config.gateway.tls.is_on() {
        prepare_tls(&config, data_dir.path())?;
        let default = SocketAddr::from(([127, 0, 0, 1], 8443));
        listeners::bind_all("gateway's TLS", &config.gateway.tls.listen, default, cores)?
    } else {
        Vec::new()
    };
    let admin_default = SocketAddr::from(([127, 0, 0, 1], 8081));
    let admin_asked = options.admin_listen.or(config.admin.listen);
    let mut admin = listeners::bind("admin API", admin_asked, admin_default, 1)?;
    let admin = admin.pop().expect("one socket was bound");

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| UpError::other(format!("the supervisor can not start: {error}")))?;
    let supervisor = Supervisor {
        options,
        data_dir,
        gateway,
        tls,
        admin,
        last_handover_error: None,
        handovers_failed: 0,
    };
    runtime.block_on(supervisor.run(config))
}

fn read_config(options: &UpOptions) -> Result<ServerConfig, UpError> {
    let mut config = match &options.config {
        Some(path) => ServerConfig::read(path)?,
        None => ServerConfig::default(),
    };
    config.gateway.tls.development |= options.tls_development;
    Ok(config)
}

/// Refuses certificates that can not be used while somebody waits for the answer: a server
/// that is started again after a crash goes on without them instead.
fn prepare_tls(config: &ServerConfig, data_dir: &Path) -> Result<(), UpError> {
    let tls = &config.gateway.tls;
    let invalid =
        |error: TlsError| UpError::new(ErrorCode::InvalidConfig, format!("gateway.tls: {error}"));
    if tls.development {
        ensure_authority(&TlsConfig::authority_folder(data_dir)).map_err(invalid)?;
    }
    Tls::check(&tls.options(data_dir)).map_err(invalid)
}

/// As `eprintln`, which would end the node when nobody takes what it says: a log's disk may
/// be full, and a terminal may be closed.
macro_rules! say {
    ($($text:tt)*) => {{
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

struct Supervisor {
    options: UpOptions,
    data_dir: DataDir,
    gateway: Vec<Vec<TcpListener>>,
    /// Empty when TLS was off at the start.
    tls: Vec<Vec<TcpListener>>,
    admin: TcpListener,
    last_handover_error: Option<String>,
    handovers_failed: u64,
}

/// A server process.
struct Server {
    child: Child,
    pid: u32,
    channel: Channel,
    started: Instant,
    last_words: Arc<Mutex<VecDeque<String>>>,
    /// Ends when it has nothing more to say.
    speaking: Option<JoinHandle<()>>,
}

/// What a server said when it began to serve.
struct Serving {
    gateway_urls: Vec<String>,
    admin_url: String,
    started_at: String,
    first_token: Option<String>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    async fn asked_to_end(&mut self) {
        asked_to_end(&mut self.terminate, &mut self.interrupt).await;
    }
}

async fn asked_to_end(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What the supervisor waits for.
enum Happened {
    End,
    HandOver,
    Died(Option<ExitStatus>),
}

impl Supervisor {
    async fn run(mut self, config: ServerConfig) -> Result<i32, UpError> {
        let listen = |kind| {
            signal(kind).map_err(|error| UpError::other(format!("signals can not be had: {error}")))
        };
        let mut signals = Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        };
        let drain = Duration::from_secs(config.node.drain_s);
        let mut config = config;
        let mut server = self.spawn(&config, false)?;
        let mut serving = match self.bring_up(&mut server).await {
            Ok(serving) => serving,
            Err(error) => {
                self.reap(server).await;
                return Err(error);
            }
        };
        self.announce(&config, &serving);
        self.write_node_file(&server, &serving);
        let mut pause = Duration::ZERO;
        loop {
            let what = tokio::select! {
                () = asked_to_end(&mut signals.terminate, &mut signals.interrupt) => Happened::End,
                _ = signals.hangup.recv() => Happened::HandOver,
                status = server.child.wait() => Happened::Died(status.ok()),
            };
            match what {
                Happened::End => {
                    let code = self.end(server, drain, &mut signals).await;
                    NodeFile::remove(self.data_dir.path());
                    return Ok(code);
                }
                Happened::HandOver => {
                    self.last_handover_error = None;
                    // The configuration may have changed as well as the binary.
                    let handed = match read_config(&self.options) {
                        Ok(newer) => {
                            let handed = self.hand_over(&mut server, &newer).await;
                            if handed.is_ok() {
                                config = newer;
                            }
                            handed
                        }
                        Err(error) => Err(error.to_string()),
                    };
                    match handed {
                        Ok((new_server, now_serving)) => {
                            let old = std::mem::replace(&mut server, new_server);
                            serving = now_serving;
                            self.write_node_file(&server, &serving);
                            tokio::spawn(let_drain(old, drain));
                        }
                        Err(why) => {
                            say!("the handover failed, the old server goes on: {why}");
                            self.last_handover_error = Some(why);
                            self.handovers_failed += 1;
                            self.write_node_file(&server, &serving);
                        }
                    }
                }
                Happened::Died(status) => {
                    let lived = server.started.elapsed();
                    self.report_crash(&server, status, lived);
                    pause = match lived {
                        lived if lived > LIVED_LONG => Duration::ZERO,
                        _ => (pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE),
                    };
                    loop {
                        tokio::select! {
                            () = tokio::time::sleep(pause) => {}
                            () = signals.asked_to_end() => {
                                NodeFile::remove(self.data_dir.path());
                                return Ok(0);
                            }
                        }
                        match self.restart(&config).await {
                            Ok((new_server, now_serving)) => {
                                server = new_server;
                                serving = now_serving;
                                self.write_node_file(&server, &serving);
                                break;
                            }
                            Err(error) => {
                                pause = (pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE);
                                say!("the server does not start, again in {pause:?}: {error}");
                            }
                        }
                    }
                }
            }
        }
    }

    async fn restart(&self, config: &ServerConfig) -> Result<(Server, Serving), UpError> {
        let mut server = self.spawn(config, false)?;
        match self.bring_up(&mut server).await {
            Ok(serving) => Ok((server, serving)),
            Err(error) => {
                self.reap(server).await;
                Err(error)
            }
        }
    }

    fn spawn(&self, config: &ServerConfig, handover: bool) -> Result<Server, UpError> {
        let failed = |error: std::io::Error| {
            UpError::other(format!("the server process does not start: {error}"))
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        let theirs = OwnedFd::from(theirs);
        let fds = |addresses: &[Vec<TcpListener>]| -> Vec<Vec<i32>> {
            let of_one = |sockets: &Vec<TcpListener>| {
                sockets.iter().map(|socket| socket.as_raw_fd()).collect()
            };
            addresses.iter().map(of_one).collect()
        };
        let job = ServerJob {
            data_dir: self.data_dir.path().to_owned(),
            config: config.clone(),
            admin_fd: self.admin.as_raw_fd(),
            control_fd: theirs.as_raw_fd(),
            gateway_fds: fds(&self.gateway),
            tls_fds: fds(&self.tls),
            handover,
        };
        let sockets = job.gateway_fds.iter().chain(&job.tls_fds);
        let mut inherited: Vec<i32> = sockets.flatten().copied().collect();
        inherited.extend([job.admin_fd, job.control_fd]);
        let text = serde_json::to_string(&job).map_err(|error| failed(error.into()))?;
        let mut command = tokio::process::Command::new(executable());
        command
            .arg("__server")
            .env(JOB_VARIABLE, text)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let supervisor = rustix::process::getpid();
        // SAFETY: between fork and exec only async-signal-safe calls are made: fcntl,
        // prctl and getppid. Nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                for fd in &inherited {
                    let fd = std::os::fd::BorrowedFd::borrow_raw(*fd);
                    rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
                }
                // A server without its supervisor would hold the sockets for ever.
                rustix::process::set_parent_process_death_signal(Some(
                    rustix::process::Signal::KILL,
                ))?;
                if rustix::process::getppid() != Some(supervisor) {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(failed)?;
        drop(theirs);
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let speaking =
            child.stderr.take().map(|stderr| tokio::spawn(pass_on(stderr, last_words.clone())));
        let pid = child.id().unwrap_or_default();
        let channel = Channel::new(ours.into()).map_err(failed)?;
        Ok(Server { child, pid, channel, started: Instant::now(), last_words, speaking })
    }

    /// From spawned to serving, with nobody else serving.
    async fn bring_up(&self, server: &mut Server) -> Result<Serving, UpError> {
        server.expect_prepared().await?;
        server.go().await
    }

    /// From one server to the next, without a moment when nobody accepts.
    async fn hand_over(
        &self,
        old: &mut Server,
        config: &ServerConfig,
    ) -> Result<(Server, Serving), String> {
        if config.gateway.tls.is_on() {
            prepare_tls(config, self.data_dir.path()).map_err(|error| error.to_string())?;
            if self.tls.is_empty() {
                return Err("gateway.tls was off when the node started, and addresses are bound at the start: restart the node".to_owned());
            }
        }
        let mut new = self.spawn(config, true).map_err(|error| error.to_string())?;
        let prepared = tokio::time::timeout(HANDOVER_PATIENCE, new.expect_prepared()).await;
        let prepared = prepared.unwrap_or_else(|_| {
            Err(UpError::other("the new server was not ready in time".to_owned()))
        });
        if let Err(error) = prepared {
            self.reap(new).await;
            return Err(error.to_string());
        }
        let stopped = old.command(Command::StopAdmin, &Event::AdminStopped).await;
        let went = match stopped {
            Ok(()) => new.go().await,
            Err(error) => Err(error),
        };
        match went {
            Ok(serving) => Ok((new, serving)),
            Err(error) => {
                self.reap(new).await;
                // A server that is gone is noticed by the caller's loop.
                let _ = old.channel.send(&Command::ResumeAdmin).await;
                Err(error.to_string())
            }
        }
    }

    async fn reap(&self, mut server: Server) {
        let _ = server.child.start_kill();
        let _ = server.child.wait().await;
    }

    /// Lets the server finish and passes its exit code on. A second signal ends it now.
    async fn end(&self, mut server: Server, drain: Duration, signals: &mut Signals) -> i32 {
        if !self.options.quiet {
            say!("finishing what runs; once more to stop at once");
        }
        let _ = server.channel.send(&Command::Drain).await;
        let longest = drain + Duration::from_secs(10);
        tokio::select! {
            status = tokio::time::timeout(longest, server.child.wait()) => {
                if let Ok(Ok(status)) = status {
                    return status.code().unwrap_or(1);
                }
            }
            () = signals.asked_to_end() => {}
        }
        self.reap(server).await;
        1
    }

    fn announce(&self, config: &ServerConfig, serving: &Serving) {
        if let Some(token) = &serving.first_token {
            say!("admin token, shown once (this machine finds its own): {token}");
        }
        if self.options.quiet {
            return;
        }
        if self.options.json {
            let urls = &serving.gateway_urls;
            let places =
                serde_json::json!({ "gateway_urls": urls, "admin_url": serving.admin_url });
            let _ = writeln!(std::io::stdout(), "{places}");
        } else {
            for url in &serving.gateway_urls {
                let _ = writeln!(std::io::stdout(), "{url}");
            }
        }
        say!("admin API on {}", serving.admin_url);
        if config.gateway.tls.development {
            let folder = TlsConfig::authority_folder(self.data_dir.path());
            say!("certificates for development are signed by {}", folder.join("ca.pem").display());
            say!("  trust it in one call:   curl --cacert FILE https://NAME.localhost:PORT/");
            say!(
                "  on Debian and Ubuntu:   sudo cp FILE /usr/local/share/ca-certificates/squall.crt && sudo update-ca-certificates"
            );
            say!("  in Firefox and Chrome:  import it as an authority for web sites");
        }
        say!("data in {}", self.data_dir.path().display());
        say!("deploy an app with `squall deploy`, end with Ctrl-C");
    }

    fn write_node_file(&self, server: &Server, serving: &Serving) {
        let file = NodeFile {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: server.pid,
            supervisor_pid: std::process::id(),
            admin_url: serving.admin_url.clone(),
            gateway_urls: serving.gateway_urls.clone(),
            started_at: serving.started_at.clone(),
            last_handover_error: self.last_handover_error.clone(),
            handovers_failed: self.handovers_failed,
        };
        if let Err(error) = file.write(self.data_dir.path()) {
            say!("node.json can not be written, so tools will not find this node: {error}");
        }
    }

    fn report_crash(&self, server: &Server, status: Option<ExitStatus>, lived: Duration) {
        let how = describe(status);
        say!("the server process {} {how} after {lived:.1?}; starting another", server.pid);
        let words = server.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let at = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": server.pid,
            "ended": how,
            "signal": status.and_then(|status| status.signal()),
            "at_unix_ms": at as u64,
            "lived_ms": lived.as_millis() as u64,
            "last_words": words,
        });
        let folder = self.data_dir.path().join("crashes");
        let path = folder.join(format!("{at}-{}.json", server.pid));
        let text = serde_json::to_vec_pretty(&report).unwrap_or_default();
        if let Err(error) = write_atomically(&path, &text) {
            say!("the crash report can not be written: {error}");
        }
        forget_old_reports(&folder);
    }
}

impl Server {
    async fn next(&mut self) -> Result<Event, UpError> {
        match self.channel.receive::<Event>().await {
            Ok(Some(Event::Failed { code: Some(code), message })) => {
                Err(UpError::new(code, message))
            }
            Ok(Some(Event::Failed { code: None, message })) => Err(UpError::other(message)),
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(self.early_end().await),
            Err(error) => Err(UpError::other(format!("the server speaks nonsense: {error}"))),
        }
    }

    async fn early_end(&mut self) -> UpError {
        let status = tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await;
        let how = describe(status.ok().and_then(Result::ok));
        if let Some(speaking) = self.speaking.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), speaking).await;
        }
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<&str> = words
            .iter()
            .skip(words.len().saturating_sub(SHOWN_LINES))
            .map(String::as_str)
            .collect();
        let said = if said.is_empty() { "nothing".to_owned() } else { said.join("\n  ") };
        UpError::other(format!(
            "the server process {how} while it started; it said last:\n  {said}"
        ))
    }

    async fn expect_prepared(&mut self) -> Result<(), UpError> {
        match self.next().await? {
            Event::Prepared => Ok(()),
            other => Err(UpError::other(format!("the server said {other:?} out of turn"))),
        }
    }

    async fn command(&mut self, command: Command, answer: &Event) -> Result<(), UpError> {
        let gone = |error: std::io::Error| UpError::other(format!("the server is gone: {error}"));
        self.channel.send(&command).await.map_err(gone)?;
        let answered = tokio::time::timeout(ANSWER_PATIENCE, self.next()).await;
        let answered = answered
            .map_err(|_| UpError::other(format!("the server did not answer {command:?}")))??;
        if answered != *answer {
            return Err(UpError::other(format!("the server said {answered:?} out of turn")));
        }
        Ok(())
    }

    async fn go(&mut self) -> Result<Serving, UpError> {
        let gone = |error: std::io::Error| UpError::other(format!("the server is gone: {error}"));
        self.channel.send(&Command::Go).await.map_err(gone)?;
        let answered = tokio::time::timeout(ANSWER_PATIENCE, self.next()).await;
        match answered.map_err(|_| UpError::other("the server did not begin to serve"))?? {
            Event::Serving { gateway_urls, admin_url, started_at, first_token } => {
                Ok(Serving { gateway_urls, admin_url, started_at, first_token })
            }
            other => Err(UpError::other(format!("the server said {other:?} out of turn"))),
        }
    }
}

/// The binary that is at our path now: after an upgrade, the new one. When the file is
/// gone, the one that runs.
fn executable() -> PathBuf {
    match std::env::current_exe() {
        Ok(path) if path.exists() => path,
        Ok(path) => {
            // Linux marks the path of a replaced file.
            let text = path.to_string_lossy();
            let original = text.strip_suffix(" (deleted)").map(PathBuf::from);
            original.filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into())
        }
        Err(_) => "/proc/self/exe".into(),
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("was ended by signal {signal}"),
            (None, Some(code)) => format!("ended with status {code}"),
            (None, None) => "ended".to_owned(),
        },
        None => "ended".to_owned(),
    }
}

async fn let_drain(mut old: Server, drain: Duration) {
    let _ = old.channel.send(&Command::Drain).await;
    let longest = drain + Duration::from_secs(10);
    if tokio::time::timeout(longest, old.child.wait()).await.is_err() {
        say!("the old server process {} did not end in time and is stopped", old.pid);
        let _ = old.child.start_kill();
        let _ = old.child.wait().await;
    }
}

/// The server's log goes to our own; its end is kept for a crash report.
async fn pass_on(from: impl AsyncRead + Unpin, last: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(from).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        say!("{line}");
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= LAST_WORDS_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

fn forget_old_reports(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut reports: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // Names begin with the time.
    reports.sort();
    let excess = reports.len().saturating_sub(CRASH_REPORTS_KEPT);
    for path in &reports[..excess] {
        let _ = std::fs::remove_file(path);
    }
}

impl From<UpError> for String {
    fn from(error: UpError) -> Self {
        match error.code() {
            Some(ErrorCode::InvalidConfig) | None => error.to_string(),
            Some(code) => format!("{code}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_does_not_start_is_quoted() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(theirs);
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "echo one; echo two; echo three; echo four; exit 101"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let last_words = Arc::new(Mutex::new(VecDeque::new()));
        let said = child.stdout.take().unwrap();
        let mut server = Server {
            pid: child.id().unwrap(),
            child,
            channel: Channel::new(ours.into()).unwrap(),
            started: Instant::now(),
            speaking: Some(tokio::spawn(pass_on(said, last_words.clone()))),
            last_words,
        };
        let error = server.expect_prepared().await.unwrap_err().to_string();
        assert!(error.contains("101"), "{error}");
        assert!(error.ends_with("two\n  three\n  four"), "{error}");
    }
}
