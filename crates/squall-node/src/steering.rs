//! Which of an address's sockets, and so which core, a new connection comes to.
//!
//! By itself the kernel decides by a hash of the addresses. But the packets of a connection are
//! worked on by one CPU: that of the network card's queue, or with a client on the same machine
//! that of the client. Where the connection's core is another one, each packet wakes it across
//! CPUs, and takes its cache lines along. So the connection comes to the core of the CPU that
//! its first packet arrived at. The gateway evens out what gets too uneven.
//!
//! Source: `SO_ATTACH_REUSEPORT_CBPF` in socket(7), and the kernel's
//! Documentation/networking/filter.rst for the instructions.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;

const LOAD_ABSOLUTE: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// An index that no socket has: the kernel decides by its hash then.
const BY_HASH: u32 = u32::MAX;

/// Gives connections to the socket whose place is that of their CPU in `cpus`. `sockets` listen
/// on one address, in the order in which they began to.
///
/// # Errors
/// Fails where the kernel refuses; connections are then spread by their hash.
pub(crate) fn by_cpu(sockets: &[TcpListener], cpus: &[usize]) -> io::Result<()> {
    let Some(first) = sockets.first() else { return Ok(()) };
    let cpu_number = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let mut program = vec![instruction(LOAD_ABSOLUTE, 0, cpu_number)];
    for (index, cpu) in cpus.iter().enumerate() {
        program.push(instruction(JUMP_IF_EQUAL, 1, *cpu as u32));
        program.push(instruction(RETURN, 0, index as u32));
    }
    program.push(instruction(RETURN, 0, BY_HASH));
    let length = u16::try_from(program.len());
    let length = length.map_err(|_| io::Error::other("more CPUs than a filter can name"))?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which lives until it has.
    let done = unsafe {
        libc::setsockopt(
            first.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of_val(&program) as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `skip` is how many of the next are left out where a comparison does not hold.
fn instruction(code: u16, skip: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: skip, k }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use crate::listeners::bind_for_cores;

    #[test]
    fn a_connection_comes_to_the_socket_of_its_cpu() {
        let cpus = squall_runtime::own_cpus();
        let any = "127.0.0.1:0".parse().unwrap();
        let sockets = bind_for_cores(any, cpus.len(), &cpus).unwrap();
        let address = sockets[0].local_addr().unwrap();
        for (socket, cpu) in sockets.iter().zip(&cpus) {
            let clients = std::thread::scope(|scope| {
                let client = scope.spawn(|| {
                    squall_runtime::keep_to_cpu(*cpu).unwrap();
                    (0..10).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
                });
                client.join().unwrap()
            });
            for _ in &clients {
                socket.accept().expect("a connection that has come");
            }
        }
    }

    #[test]
    fn a_cpu_that_has_no_core_is_no_reason_to_refuse() {
        let any = "127.0.0.1:0".parse().unwrap();
        let sockets = bind_for_cores(any, 2, &[4_000, 4_001]).unwrap();
        let address = sockets[0].local_addr().unwrap();
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        let taken = sockets.iter().map(|socket| {
            let mut taken = 0;
            while socket.accept().is_ok() {
                taken += 1;
            }
            taken
        });
        let taken: Vec<usize> = taken.collect();
        assert!(taken.iter().all(|taken| *taken > 0), "{taken:?}");
        assert_eq!(taken.iter().sum::<usize>(), clients.len());
    }
}
