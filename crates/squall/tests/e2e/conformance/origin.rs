//! A server behind the gateway that writes down what reaches it, byte for byte.
//!
//! It reads requests in the strictest way and calls everything else garbage, so that
//! nothing which was smuggled or split can pass for something that was meant.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Method, target and body, as in `POST /a hello`.
    pub(crate) request: String,
    pub(crate) head: String,
}

impl Origin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), log) = (stream, log.clone()) else { return };
                std::thread::spawn(move || serve(stream, &log));
            }
        });
        Self { address, seen }
    }

    /// What came since the last call.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Seen>>) {
    let mut received = Vec::new();
    loop {
        match next_request(&mut stream, &mut received) {
            Ok(Some(seen)) => {
                let head_only = seen.request.starts_with("HEAD ");
                log.lock().unwrap().push(seen);
                let body = if head_only { "" } else { "ok" };
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(garbage) => {
                log.lock().unwrap().push(garbage);
                return;
            }
        }
    }
}

/// `None` when the connection ends, whether between two requests or inside one.
fn next_request(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Option<Seen>, Seen> {
    let head_bytes = loop {
        if let Some(at) = find(received, b"\r\n\r\n") {
            break at + 4;
        }
        if !read_more(stream, received) {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&received[..head_bytes]).into_owned();
    received.drain(..head_bytes);
    let garbage = |why: &str| Seen { request: format!("garbage: {why}"), head: head.clone() };
    let text = head.trim_end_matches("\r\n");
    if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err(garbage("control characters"));
    }
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let &[method, target, "HTTP/1.1"] = words.as_slice() else {
        return Err(garbage("request line"));
    };
    let (mut length, mut chunked, mut hosts) = (None, false, 0);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { return Err(garbage("header")) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" if length.is_none() => {
                length = value.trim().parse::<usize>().ok();
                if length.is_none() {
                    return Err(garbage("length"));
                }
            }
            "transfer-encoding" if value.trim() == "chunked" && !chunked => chunked = true,
            "content-length" | "transfer-encoding" => return Err(garbage("framing")),
            "host" => hosts += 1,
            _ if name.is_empty() || name.contains([' ', '\t']) => return Err(garbage("name")),
            _ => {}
        }
    }
    if hosts != 1 || chunked && length.is_some() {
        return Err(garbage("framing or host"));
    }
    let body = if chunked {
        match read_chunks(stream, received) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(None),
            Err(()) => return Err(garbage("chunks")),
        }
    } else {
        let length = length.unwrap_or(0);
        while received.len() < length {
            if !read_more(stream, received) {
                return Ok(None);
            }
        }
        received.drain(..length).collect()
    };
    let body = String::from_utf8_lossy(&body);
    let request = format!("{method} {target} {body}").trim_end().to_owned();
    Ok(Some(Seen { request, head }))
}

fn read_chunks(stream: &mut TcpStream, received: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let mut body = Vec::new();
    loop {
        let Some(line) = read_line(stream, received) else { return Ok(None) };
        let size = usize::from_str_radix(&line, 16).map_err(|_| ())?;
        if size == 0 {
            break;
        }
        while received.len() < size + 2 {
            if !read_more(stream, received) {
                return Ok(None);
            }
        }
        body.extend(received.drain(..size));
        if received.drain(..2).collect::<Vec<_>>() != b"\r\n" {
            return Err(());
        }
    }
    loop {
        match read_line(stream, received) {
            None => return Ok(None),
            Some(line) if line.is_empty() => return Ok(Some(body)),
            // Trailers are written down as a part of the body.
            Some(line) => body.extend_from_slice(format!(" trailer {line}").as_bytes()),
        }
    }
}

fn read_line(stream: &mut TcpStream, received: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(at) = find(received, b"\r\n") {
            let line = String::from_utf8_lossy(&received[..at]).into_owned();
            received.drain(..at + 2);
            return Some(line);
        }
        if !read_more(stream, received) {
            return None;
        }
    }
}

fn read_more(stream: &mut TcpStream, received: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16 << 10];
    match stream.read(&mut buffer) {
        Ok(read) if read > 0 => {
            received.extend_from_slice(&buffer[..read]);
            true
        }
        _ => false,
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
