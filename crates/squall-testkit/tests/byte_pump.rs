//! The pump as a process between a client and a server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

struct Pump {
    process: Child,
    port: u16,
}

impl Pump {
    fn before(origin: &TcpListener, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_byte-pump"))
            .arg(origin.local_addr().unwrap().to_string())
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Self { process, port: port.trim().parse().unwrap() }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn bytes_pass_both_ways_and_so_does_an_end() {
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    for more in [&[][..], &["20000"]] {
        let pump = Pump::before(&origin, more);
        // More of them than threads.
        for number in 0..5_u8 {
            let mut client = TcpStream::connect(("127.0.0.1", pump.port)).unwrap();
            let (mut server, _) = origin.accept().unwrap();
            let long = vec![number; 300_000];
            let mut back = vec![0; long.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| client.write_all(&long).unwrap());
                server.read_exact(&mut back).unwrap();
            });
            assert!(back == long);
            server.write_all(b"answer").unwrap();
            let mut answer = [0; 6];
            client.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"answer");
            drop(client);
            assert_eq!(server.read(&mut answer).unwrap(), 0);
        }
    }
}
