//! Clients that never come to an end: half of them with a head, half with a body, a byte a
//! second each. One that is cut off comes again at its next byte.
//!
//! `slow-clients ADDRESS CONNECTIONS` goes on until its standard input ends, and prints as
//! JSON how many connections it made and how many were cut off. It sends one byte at a time,
//! at moments spread over the second, so that what others notice is the server's doing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: plain.localhost\r\nX: ";
const BODY: &[u8] = b"POST / HTTP/1.1\r\nHost: sink.localhost\r\nContent-Length: 1000000\r\n\r\n";
const BETWEEN_BYTES: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    squall_testkit::generator("slow-clients", run)
}

fn run(arguments: &[String]) -> Result<String, String> {
    let [address, count] = arguments else {
        return Err("slow-clients ADDRESS CONNECTIONS".to_owned());
    };
    let count: u32 = count.parse().map_err(|_| format!("{count} is no number"))?;
    if count == 0 {
        return Err("there is nothing to do for 0 connections".to_owned());
    }
    let ended = Arc::new(AtomicBool::new(false));
    std::thread::spawn({
        let ended = ended.clone();
        move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ended.store(true, Ordering::Relaxed);
        }
    });
    let mut connections: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    let (mut made, mut cut) = (0, 0);
    let mut due = Instant::now();
    // The second's share of each: whoever had a turn waits for all the others.
    for number in (0..connections.len()).cycle() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if ended.load(Ordering::Relaxed) {
            break;
        }
        due += BETWEEN_BYTES / count;
        let connection = &mut connections[number];
        if connection.as_mut().is_some_and(|socket| !drip(socket)) {
            *connection = None;
            cut += 1;
        }
        if connection.is_none() {
            let start = if number % 2 == 0 { HEAD } else { BODY };
            let begun = begin(address, start).map_err(|error| format!("{address}: {error}"))?;
            *connection = Some(begun);
            made += 1;
        }
    }
    Ok(format!("{{\"made\":{made},\"cut\":{cut}}}"))
}

fn begin(address: &str, start: &[u8]) -> std::io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.write_all(start)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Sends a byte. False when the server has closed the connection, with or without an answer.
fn drip(socket: &mut TcpStream) -> bool {
    if socket.write(b"a").is_err() {
        return false;
    }
    let mut answer = [0; 4096];
    loop {
        match socket.read(&mut answer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}
