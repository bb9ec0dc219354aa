//! What is sent in a turn of a request core leaves together at its end.
//!
//! A write wakes whoever reads. One that is done as soon as a response is there interrupts
//! the core between any two requests: a client on the same machine runs at once, sends one
//! request and sleeps again. So what is short is put into the core's outbox, and a task at
//! the end of the core's queue sends all of it: requests that came together are served,
//! then their responses leave in one system call. Where nobody else is ready, that end has
//! come.
//!
//! It would be wrong where requests take long, because a response would wait for the
//! others. The CPU time of the functions that the core called lately decides.

mod batch;
mod tcp;

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{self, Handle, RuntimeFlavor};

use batch::Batch;
pub(crate) use tcp::Tcp;
use tcp::{Line, Rest};

/// A function below it is short. What is saved is 5 to 10 µs for each request: for longer
/// ones it is not worth that a response waits for others.
const SHORT_NS: u64 = 150_000;
/// The share of the newest request in what is known, as a divisor.
const NEWEST: u64 = 8;
/// What is longer is sent at once: to copy it would cost more than is saved.
const LONG_BYTES: usize = 16 << 10;
/// An outbox with so much is sent before the end of the turn.
const FULL_BYTES: usize = 256 << 10;
const FULL_WRITES: usize = 128;

thread_local! {
    /// Nanoseconds of CPU that a request of this core took lately.
    static LATELY_NS: Cell<u64> = const { Cell::new(0) };
    static OUTBOX: RefCell<Outbox> = RefCell::default();
}

/// Takes note of a request that this core served: the CPU time of its function, 0 without
/// one.
pub(crate) fn served(cpu_ns: u64) {
    LATELY_NS.set(LATELY_NS.get() - LATELY_NS.get() / NEWEST + cpu_ns / NEWEST);
}

/// Whether what is ready on this core is likely to be served in a moment.
fn is_short() -> bool {
    LATELY_NS.get() < SHORT_NS
}

/// What the sockets of one core have to send.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    writes: Vec<Write>,
    batch: Batch,
    end: Option<End>,
}

/// The task that sends at the end of a turn.
struct End {
    runtime: runtime::Id,
    /// `None` until it ran once.
    waker: Option<Waker>,
}

struct Write {
    line: Arc<Line>,
    fd: RawFd,
    part: Range<usize>,
    /// Of the task that has to care for what could not be sent.
    waker: Waker,
}

/// Puts `parts` into the outbox. False when they have to be sent now.
fn post(line: &Arc<Line>, fd: RawFd, parts: &[IoSlice<'_>], waker: &Waker) -> bool {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > LONG_BYTES || !is_short() {
        return false;
    }
    let posted = OUTBOX.with_borrow_mut(|outbox| {
        let is_last = outbox.writes.last().is_some_and(|last| Arc::ptr_eq(&last.line, line));
        let is_full =
            outbox.bytes.len() + length > FULL_BYTES || outbox.writes.len() == FULL_WRITES;
        // A line has one write at most: of two, the second could leave without the first.
        if is_full || line.is_posted() && !is_last {
            outbox.send();
        }
        // What was sent just now may not have been taken, and comes first.
        if line.is_stuck() {
            return None;
        }
        let without_end = if outbox.writes.is_empty() { outbox.ask_for_end()? } else { None };
        let start = outbox.bytes.len();
        parts.iter().for_each(|part| outbox.bytes.extend_from_slice(part));
        let end = outbox.bytes.len();
        match outbox.writes.last_mut().filter(|_| line.is_posted()) {
            Some(own) => own.part.end = end,
            None => {
                line.post();
                let (line, waker) = (line.clone(), waker.clone());
                outbox.writes.push(Write { line, fd, part: start..end, waker });
            }
        }
        Some(without_end)
    });
    let Some(without_end) = posted else { return false };
    if let Some(runtime) = without_end {
        runtime.spawn(EndOfTurn(runtime.id()));
    }
    true
}

/// Sends everything now. To be called before a socket of the outbox is closed or written to
/// by other means.
fn send_now() {
    // A thread that ends has nothing in it.
    let _ = OUTBOX.try_with(|outbox| outbox.borrow_mut().send());
}

/// `None` where the end of a turn is not known: with several threads a task may run at once
/// on another.
fn runtime_with_turns() -> Option<Handle> {
    let runtime = Handle::try_current().ok()?;
    (runtime.runtime_flavor() == RuntimeFlavor::CurrentThread).then_some(runtime)
}

/// Runs behind all that was ready when it was woken. Sends also when it is dropped with its
/// runtime.
struct EndOfTurn(runtime::Id);

impl Future for EndOfTurn {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        OUTBOX.with_borrow_mut(|outbox| {
            outbox.send();
            if let Some(end) = outbox.end.as_mut().filter(|end| end.runtime == self.0) {
                end.waker.get_or_insert_with(|| cx.waker().clone());
            }
        });
        Poll::Pending
    }
}

impl Drop for EndOfTurn {
    fn drop(&mut self) {
        send_now();
        let _ = OUTBOX.try_with(|outbox| {
            let mut outbox = outbox.borrow_mut();
            outbox.end.take_if(|end| end.runtime == self.0);
        });
    }
}

impl Outbox {
    /// Has everything sent at the end of the turn. Gives the runtime back when it has no task
    /// for that yet, and `None` when there is no end of a turn.
    fn ask_for_end(&mut self) -> Option<Option<Handle>> {
        let handle = runtime_with_turns()?;
        let runtime = handle.id();
        match &self.end {
            Some(end) if end.runtime == runtime => {
                if let Some(waker) = &end.waker {
                    waker.wake_by_ref();
                }
                Some(None)
            }
            _ => {
                self.end = Some(End { runtime, waker: None });
                Some(Some(handle))
            }
        }
    }

    fn send(&mut self) {
        let Self { bytes, writes, batch, .. } = self;
        let parts = writes.iter().map(|write| (write.fd, &bytes[write.part.clone()]));
        batch.write(parts, |index, result| {
            let write = &writes[index];
            let part = &bytes[write.part.clone()];
            let rest = match result {
                Ok(sent) if sent == part.len() => None,
                Ok(sent) => Some(Rest::Bytes(&part[sent..])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(Rest::Bytes(part)),
                Err(error) => Some(Rest::Failure(error)),
            };
            if write.line.sent(rest) {
                write.waker.wake_by_ref();
            }
        });
        writes.clear();
        bytes.clear();
    }
}

#[cfg(test)]
mod tests;
