//! The listening sockets: bound once, by the supervisor, and inherited by every server
//! process that it starts.

use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};
use squall_types::ErrorCode;

use crate::error::UpError;
use crate::steering;

const BACKLOG: i32 = 4096;
/// How many ports after the default one are tried.
const NEXT_PORTS: u16 = 100;

/// One socket for each core on the same address. Where cores have a CPU each, `cpus` in
/// their order, connections come to the core of the CPU that they arrive at.
pub(crate) fn bind_for_cores(
    address: SocketAddr,
    cores: usize,
    cpus: &[usize],
) -> std::io::Result<Vec<TcpListener>> {
    // Without SO_REUSEPORT first: with it a second server, ours or another, would share
    // the port silently.
    let first = new_socket(address)?;
    first.bind(&address.into())?;
    let bound = first.local_addr()?.as_socket().expect("an Internet socket");
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    for _ in 1..cores {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&bound.into())?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    let sockets: Vec<TcpListener> = sockets.into_iter().map(TcpListener::from).collect();
    if cpus.len() == cores
        && cores > 1
        && let Err(error) = steering::by_cpu(&sockets, cpus)
    {
        tracing::debug!("the kernel does not let us choose a connection's core: {error}");
    }
    Ok(sockets)
}

fn new_socket(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

/// Binds every address that was asked for, or the default one.
pub(crate) fn bind_all(
    what: &str,
    asked: &[SocketAddr],
    default: SocketAddr,
    cores: usize,
) -> Result<Vec<Vec<TcpListener>>, UpError> {
    if asked.is_empty() {
        return Ok(vec![bind(what, None, default, cores)?]);
    }
    asked.iter().map(|address| bind(what, Some(*address), default, cores)).collect()
}

/// Binds an address that was asked for, or the default one and those after it. Says
/// aloud when the default was taken.
pub(crate) fn bind(
    what: &str,
    asked: Option<SocketAddr>,
    default: SocketAddr,
    cores: usize,
) -> Result<Vec<TcpListener>, UpError> {
    let in_use = std::io::ErrorKind::AddrInUse;
    let cpus = squall_runtime::own_cpus();
    if let Some(address) = asked {
        return bind_for_cores(address, cores, &cpus).map_err(|error| {
            let hint = if error.kind() == in_use {
                format!("; `ss -ltnp 'sport = :{}'` shows who listens there", address.port())
            } else {
                String::new()
            };
            UpError::new(
                ErrorCode::PortInUse,
                format!("the {what} can not listen on {address}: {error}{hint}"),
            )
        });
    }
    for port in default.port()..=default.port().saturating_add(NEXT_PORTS) {
        let address = SocketAddr::new(default.ip(), port);
        match bind_for_cores(address, cores, &cpus) {
            Ok(sockets) => {
                if port != default.port() {
                    eprintln!("port {} is taken; the {what} listens on {port}", default.port());
                }
                return Ok(sockets);
            }
            Err(error) if error.kind() == in_use => {}
            Err(error) => {
                return Err(UpError::new(
                    ErrorCode::PortInUse,
                    format!("the {what} can not listen on {address}: {error}"),
                ));
            }
        }
    }
    Err(UpError::new(
        ErrorCode::PortInUse,
        format!("the {what} found no free port from {} on", default.port()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_of_an_address_takes_connections_and_nobody_else_may_bind_it() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let sockets = bind_for_cores(any, 3, &[]).unwrap();
        let address = sockets[0].local_addr().unwrap();
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == address));
        let refused = bind_for_cores(address, 2, &[]).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
        // 200 connections: none of the sockets stays without one, but once in 10^35.
        let clients: Vec<_> =
            (0..200).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let mut taken = Vec::new();
        for socket in &sockets {
            let before = taken.len();
            while let Ok((stream, _)) = socket.accept() {
                taken.push(stream);
            }
            assert!(taken.len() > before, "a socket without connections");
        }
        assert_eq!(taken.len(), clients.len());
    }
}
