//! An open-loop load generator for HTTP/1.1: requests are due at random moments of a
//! given rate, whether or not earlier ones have been answered, and a latency counts
//! from the moment that the request was due. A server that stalls can not slow down the
//! clock that it is measured with.
//!
//! `open-loop URL RATE_PER_S SECONDS CONNECTIONS [HOST [FILE]]` prints one line of JSON; times
//! are microseconds, and `per_s` is what was answered in each second until the last answer. With
//! a file it posts the JSON in it. wrk waits for an answer before it asks again, and h2load wakes
//! every 10 ms and sends what became due in one burst: both measure something else.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use squall_testkit::Poll;

/// What is still unanswered so long after the last request was due counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    squall_testkit::generator("open-loop", run)
}

fn run(arguments: &[String]) -> Result<String, String> {
    let [url, rate, seconds, connections, rest @ ..] = arguments else {
        return Err("open-loop URL RATE_PER_S SECONDS CONNECTIONS [HOST [FILE]]".to_owned());
    };
    let number = |text: &String| text.parse::<f64>().map_err(|_| format!("{text} is no number"));
    let (rate, seconds, connections) = (number(rate)?, number(seconds)?, number(connections)?);
    let (address, path) = url
        .strip_prefix("http://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        .ok_or_else(|| format!("{url} does not begin with http://"))?;
    let host = rest.first().map_or(address, String::as_str);
    let request = match rest.get(1) {
        None => format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        Some(file) => {
            let body = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
            let length = body.len();
            format!(
                "POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        }
    };
    let schedule = schedule(rate, seconds);
    let began = Instant::now();
    let mut latencies = drive(address, request.as_bytes(), &schedule, connections as usize)?;
    let per_s = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| {
        let rank = (latencies.len() as f64 * share).ceil() as usize;
        latencies[rank.clamp(1, latencies.len()) - 1].as_micros()
    };
    Ok(format!(
        "{{\"requests\":{},\"per_s\":{per_s:.0},\"p50_us\":{},\"p90_us\":{},\"p99_us\":{},\"p999_us\":{},\"max_us\":{}}}",
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    ))
}

/// When each request is due: a Poisson process, the arrivals of many independent clients.
fn schedule(rate: f64, seconds: f64) -> Vec<Duration> {
    // The same moments in every run: xorshift64* (Vigna, 2016) from a fixed seed.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut at = 0.0;
    let mut all = Vec::new();
    loop {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let uniform =
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        at -= (1.0 - uniform).ln() / rate;
        if at > seconds {
            return all;
        }
        all.push(Duration::from_secs_f64(at));
    }
}

struct Connection {
    socket: TcpStream,
    /// When the request that it serves was due.
    due: Option<Instant>,
    answer: Vec<u8>,
}

fn drive(
    address: &str,
    request: &[u8],
    schedule: &[Duration],
    count: usize,
) -> Result<Vec<Duration>, String> {
    // A client would have a machine of its own; here it shares CPUs with the server.
    squall_runtime::wake_promptly();
    // The kernel delays wake-ups by 50 us to save power; here that would be latency.
    // SAFETY: this option takes a number and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0) };
    let mut connections = Vec::new();
    for _ in 0..count.max(1) {
        let socket = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        let ready = socket.set_nodelay(true).and_then(|()| socket.set_nonblocking(true));
        ready.map_err(|error| format!("{address}: {error}"))?;
        connections.push(Connection { socket, due: None, answer: Vec::new() });
    }
    let explain = |error: io::Error| format!("epoll: {error}");
    let poll = Poll::new().map_err(explain)?;
    for (index, connection) in connections.iter().enumerate() {
        poll.watch(connection.socket.as_raw_fd(), index as u64).map_err(explain)?;
    }
    // The one that was used last waits longest, so that all of them take part.
    let mut free: VecDeque<usize> = (0..connections.len()).collect();
    let mut waiting = VecDeque::new();
    let mut piece = vec![0; 64 << 10];
    let mut latencies = Vec::with_capacity(schedule.len());
    let mut upcoming = schedule.iter().peekable();
    let began = Instant::now();
    let last = began + schedule.last().copied().unwrap_or_default() + PATIENCE;
    while latencies.len() < schedule.len() {
        let now = Instant::now();
        if now > last {
            return Err(format!("{} of {} answered", latencies.len(), schedule.len()));
        }
        while let Some(due) = upcoming.next_if(|due| began + **due <= now) {
            waiting.push_back(began + *due);
        }
        while !waiting.is_empty() && !free.is_empty() {
            let index = free.pop_front().expect("one is free");
            let connection = &mut connections[index];
            connection.due = waiting.pop_front();
            let written = connection.socket.write(request);
            if !written.is_ok_and(|bytes| bytes == request.len()) {
                return Err("a request could not be sent at once".to_owned());
            }
        }
        let next = upcoming.peek().map_or(last, |due| began + **due);
        let left = next.saturating_duration_since(Instant::now());
        for index in poll.wait(Some(left)).map_err(explain)? {
            let index = index as usize;
            let connection = &mut connections[index];
            if connection.receive(&mut piece)? {
                let due = connection.due.take().ok_or("an answer that nobody asked for")?;
                latencies.push(due.elapsed());
                connection.answer.clear();
                free.push_back(index);
            }
        }
    }
    if latencies.is_empty() {
        return Err("no request was due in that time".to_owned());
    }
    Ok(latencies)
}

impl Connection {
    /// Reads what is there; true when the answer is complete.
    fn receive(&mut self, piece: &mut [u8]) -> Result<bool, String> {
        loop {
            match self.socket.read(piece) {
                Ok(0) => return Err("the server closed a connection".to_owned()),
                Ok(read) => self.answer.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.is_complete(),
                Err(error) => return Err(format!("reading an answer: {error}")),
            }
            if self.is_complete()? {
                return Ok(true);
            }
        }
    }

    fn is_complete(&self) -> Result<bool, String> {
        let Some(end) = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&self.answer[..end]);
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("an answer begins with {:?}", head.lines().next()));
        }
        let body = &self.answer[end + 4..];
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())?.ok()
        });
        Ok(match length {
            Some(length) => body.len() >= length,
            None => body.ends_with(b"0\r\n\r\n"),
        })
    }
}
