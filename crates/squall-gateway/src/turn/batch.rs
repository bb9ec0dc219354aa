//! Many writes to sockets in one system call.
//!
//! Linux does writes that are submitted as asynchronous ones (io_submit(2)) at once where
//! the file can do no better, and sockets that do not block are such. It is an old
//! interface that is there nearly everywhere, containers included; where it is not, the
//! writes are done one after another.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

/// More are done in several calls.
const AT_ONCE: usize = 128;

/// `struct iocb` of <linux/aio_abi.h>.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Control {
    data: u64,
    #[cfg(target_endian = "little")]
    key_and_flags: [u32; 2],
    #[cfg(target_endian = "big")]
    flags_and_key: [u32; 2],
    operation: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_fd: u32,
}

/// `struct io_event` of <linux/aio_abi.h>.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

const WRITE: u16 = 1;

/// What is needed for it, made at the first use.
#[derive(Default)]
pub(super) struct Batch {
    context: Context,
    controls: Vec<Control>,
    /// To each of `controls`.
    pointers: Vec<*const Control>,
    events: Vec<Event>,
}

#[derive(Default)]
enum Context {
    #[default]
    NotYet,
    Unavailable,
    Open(libc::c_ulong),
}

impl Batch {
    /// Writes each part to its socket, in order, and says what became of it: how many
    /// bytes were taken, or the error.
    pub(super) fn write<'a>(
        &mut self,
        parts: impl ExactSizeIterator<Item = (RawFd, &'a [u8])>,
        mut done: impl FnMut(usize, io::Result<usize>),
    ) {
        let context = if parts.len() > 1 { self.context() } else { None };
        let Some(context) = context else {
            for (index, (fd, part)) in parts.enumerate() {
                done(index, send(fd, part));
            }
            return;
        };
        self.controls.clear();
        self.controls.extend(parts.enumerate().map(|(index, (fd, part))| Control {
            data: index as u64,
            operation: WRITE,
            fd: fd as u32,
            buffer: part.as_ptr() as u64,
            length: part.len() as u64,
            ..Control::default()
        }));
        self.pointers.clear();
        self.pointers.extend(self.controls.iter().map(std::ptr::from_ref));
        let pieces = self.controls.chunks(AT_ONCE).zip(self.pointers.chunks(AT_ONCE));
        for (controls, pointers) in pieces {
            submit(context, controls, pointers, &mut self.events, &mut done);
        }
    }

    fn context(&mut self) -> Option<libc::c_ulong> {
        if let Context::NotYet = self.context {
            let mut context: libc::c_ulong = 0;
            // SAFETY: the kernel writes the number of a context to where we say.
            let made = unsafe { libc::syscall(libc::SYS_io_setup, AT_ONCE, &raw mut context) };
            self.context = if made == 0 { Context::Open(context) } else { Context::Unavailable };
        }
        match self.context {
            Context::Open(context) => Some(context),
            _ => None,
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Context::Open(context) = self.context {
            // SAFETY: it is ours, and nothing is under way in it.
            unsafe { libc::syscall(libc::SYS_io_destroy, context) };
        }
    }
}

fn submit(
    context: libc::c_ulong,
    controls: &[Control],
    pointers: &[*const Control],
    events: &mut Vec<Event>,
    done: &mut impl FnMut(usize, io::Result<usize>),
) {
    // SAFETY: as many pointers are valid; their buffers live until the writes are done,
    // which is before the call returns or is waited for below.
    let taken =
        unsafe { libc::syscall(libc::SYS_io_submit, context, pointers.len(), pointers.as_ptr()) };
    let taken = usize::try_from(taken).unwrap_or(0);
    events.clear();
    // SAFETY: the context is open, and this thread is the only one that knows it.
    unsafe { reap(context, taken, events) };
    while events.len() < taken {
        let missing = taken - events.len();
        events.reserve(missing);
        // SAFETY: the kernel fills at most `missing` events behind those that are there.
        let more = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                context,
                missing,
                missing,
                events.as_mut_ptr().add(events.len()),
                std::ptr::null_mut::<libc::timespec>(),
            )
        };
        match usize::try_from(more) {
            // SAFETY: so many were filled.
            Ok(more) => unsafe { events.set_len(events.len() + more) },
            // Interrupted.
            Err(_) => continue,
        }
    }
    for event in events.iter() {
        let result = usize::try_from(event.result);
        let error = |_| io::Error::from_raw_os_error(event.result.unsigned_abs() as i32);
        done(event.data as usize, result.map_err(error));
    }
    // One that is not even begun ends the call.
    for control in &controls[taken..] {
        let (start, length) = (control.buffer as *const u8, control.length as usize);
        // SAFETY: made from a slice that still lives.
        let part = unsafe { std::slice::from_raw_parts(start, length) };
        done(control.data as usize, send(control.fd as RawFd, part));
    }
}

/// `struct aio_ring` of fs/aio.c: what the number of a context points to. The kernel keeps it
/// for programs that take events without a call (as libaio, fio and Seastar do).
#[repr(C)]
struct Ring {
    id: u32,
    length: u32,
    head: AtomicU32,
    tail: AtomicU32,
    magic: u32,
    compatible_features: u32,
    incompatible_features: u32,
    header_bytes: u32,
}

const MAGIC: u32 = 0xa10a_10a1;

/// Takes events that are there, at most `most`.
///
/// # Safety
/// `context` must be one that io_setup(2) gave, and nobody else may take its events meanwhile.
unsafe fn reap(context: libc::c_ulong, most: usize, events: &mut Vec<Event>) {
    let start = context as *const Ring;
    // SAFETY: the kernel maps the ring at this address, for as long as the context is open.
    let ring = unsafe { &*start };
    let is_known = ring.magic == MAGIC
        && ring.incompatible_features == 0
        && ring.header_bytes as usize == size_of::<Ring>();
    if !is_known || ring.length == 0 {
        return;
    }
    let tail = ring.tail.load(Ordering::Acquire);
    let mut head = ring.head.load(Ordering::Relaxed);
    while head != tail && events.len() < most {
        // SAFETY: the events follow the header; the one at `head` was written before `tail`.
        events.push(unsafe { start.add(1).cast::<Event>().add(head as usize).read() });
        head = (head + 1) % ring.length;
    }
    ring.head.store(head, Ordering::Release);
}

fn send(fd: RawFd, part: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    loop {
        // SAFETY: the kernel reads `part`, which lives. The descriptor is open: its owner
        // sends before it is closed.
        let sent = unsafe { libc::send(fd, part.as_ptr().cast(), part.len(), flags) };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
