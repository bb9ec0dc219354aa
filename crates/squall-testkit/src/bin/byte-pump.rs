//! Passes bytes between its clients and one server as they come: the least that a proxy
//! can do, without HTTP, routes, balance or a log. What it adds to a latency is what the
//! machine takes for two more hops; what a gateway adds beyond that is the gateway's.
//!
//! `byte-pump ADDRESS [WORK_NS]` prints the port that it listens on, and ends when it is
//! killed. With a number it computes for so many nanoseconds for each request, half of them
//! on the way there and half on the way back. It has a thread on each CPU.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{IntoRawFd as _, RawFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use squall_testkit::Poll;

fn main() -> ExitCode {
    squall_testkit::generator("byte-pump", run)
}

fn run(arguments: &[String]) -> Result<String, String> {
    let (origin, work) = match arguments {
        [origin] => (origin, 0),
        [origin, work] => (origin, work.parse().map_err(|_| format!("{work} is no number"))?),
        _ => return Err("byte-pump ADDRESS [WORK_NS]".to_owned()),
    };
    let work = Duration::from_nanos(work) / 2;
    let explain = |error: io::Error| error.to_string();
    let pumps: Vec<Pump> = squall_runtime::own_cpus()
        .into_iter()
        .map(|cpu| Pump::start(cpu, work))
        .collect::<Result<_, _>>()
        .map_err(explain)?;
    let listener = TcpListener::bind("127.0.0.1:0").map_err(explain)?;
    println!("{}", listener.local_addr().map_err(explain)?.port());
    for pump in pumps.iter().cycle() {
        let (client, _) = listener.accept().map_err(explain)?;
        let server = TcpStream::connect(origin).map_err(|error| format!("{origin}: {error}"))?;
        pump.join(client, server).map_err(explain)?;
    }
    Err("there is no CPU to work on".to_owned())
}

/// A thread and the sockets that it looks after. Each is marked with itself and the one on
/// the other side. Descriptors are kept until the program ends, so none can be mistaken for
/// another.
struct Pump(Arc<Poll>);

impl Pump {
    fn start(cpu: usize, work: Duration) -> io::Result<Self> {
        let poll = Arc::new(Poll::new()?);
        let watched = poll.clone();
        std::thread::spawn(move || {
            // It is measured beside gateways, whose threads keep to their CPUs as well.
            let kept = squall_runtime::keep_to_cpu(cpu);
            if let Err(error) = kept.and_then(|()| pump(&watched, work)) {
                eprintln!("byte-pump: CPU {cpu}: {error}");
            }
        });
        Ok(Self(poll))
    }

    fn join(&self, client: TcpStream, server: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client, server) = (client.into_raw_fd(), server.into_raw_fd());
        for (from, to) in [(client, server), (server, client)] {
            self.0.watch(from, (from as u64) << 32 | to as u64)?;
        }
        Ok(())
    }
}

/// Ends with an error only.
fn pump(poll: &Poll, work: Duration) -> io::Result<()> {
    let mut piece = vec![0_u8; 64 << 10];
    loop {
        for mark in poll.wait(None)? {
            let (from, to) = ((mark >> 32) as RawFd, mark as u32 as RawFd);
            // SAFETY: the descriptor is open, and the buffer as long as it says.
            let read = unsafe { libc::recv(from, piece.as_mut_ptr().cast(), piece.len(), 0) };
            let Some(read) = usize::try_from(read).ok().filter(|read| *read > 0) else {
                poll.forget(from);
                // SAFETY: it is open: none is ever closed.
                unsafe { libc::shutdown(to, libc::SHUT_RDWR) };
                continue;
            };
            if !work.is_zero() {
                let until = Instant::now() + work;
                while Instant::now() < until {}
            }
            // A socket that blocks takes all of it. A peer that is gone shows at its own event.
            // SAFETY: as above.
            unsafe { libc::send(to, piece.as_ptr().cast(), read, libc::MSG_NOSIGNAL) };
        }
    }
}
