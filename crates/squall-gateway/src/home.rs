//! Connections whose packets arrive at the CPU of another core.
//!
//! A new connection comes to the core of the CPU that its packets arrive at, unless that has
//! too many. But clients on the same machine move, and what was uneven evens out. Then every
//! packet wakes a core from another CPU and takes its cache lines along, which costs a fifth of
//! what a short request does. So a connection of HTTP/1 that has served some requests is looked
//! at where it is idle for a moment, and moves after its packets when the other core has room.
//! Connections of TLS and HTTP/2 stay where they are.

use std::os::fd::RawFd;
use std::sync::Arc;

use crate::connection::Connection;
use crate::listener::Core;

/// Requests from one look to the next. After each move it is twice as many: a client that
/// wanders for ever is not followed for ever.
const LOOK_AFTER: u64 = 64;
const DOUBLED_MAX: u32 = 10;

/// Looks after a connection on its core.
pub(crate) struct HomeWatch {
    next_look: u64,
    every: u64,
    /// Where its packets arrived at the look before.
    seen: Option<usize>,
}

impl HomeWatch {
    pub(crate) fn new(connection: &Connection) -> Self {
        let every = LOOK_AFTER << connection.moves().min(DOUBLED_MAX);
        Self { next_look: connection.requests_served() + every, every, seen: None }
    }

    /// The core to move to, when the connection is idle and two looks in a row have found its
    /// packets there.
    pub(crate) fn look(&mut self, connection: &Connection) -> Option<Arc<Core>> {
        let served = connection.requests_when_idle()?;
        if served < self.next_look {
            return None;
        }
        self.next_look = served + self.every;
        let cpu = incoming_cpu(connection.plain_socket()?)?;
        if self.seen.replace(cpu) != Some(cpu) {
            return None;
        }
        connection.open().better_core(cpu)
    }
}

/// The CPU that worked on the newest packet: `SO_INCOMING_CPU` in socket(7).
fn incoming_cpu(socket: RawFd) -> Option<usize> {
    let mut cpu: libc::c_int = -1;
    let mut length = size_of_val(&cpu) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `cpu`; a descriptor that is no
    // socket is an error.
    let done = unsafe {
        libc::getsockopt(
            socket,
            libc::SOL_SOCKET,
            libc::SO_INCOMING_CPU,
            (&raw mut cpu).cast(),
            &raw mut length,
        )
    };
    if done == 0 { usize::try_from(cpu).ok() } else { None }
}
