//! Functions to test with, built once from `tests/guests` and committed, so that no
//! test needs a WebAssembly toolchain. Development only: no crate of the product
//! depends on it.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;
use std::time::Duration;

/// The life of a load generator: `run` gets the arguments, and what it gives is a line on
/// stdout, or the problem on stderr.
pub fn generator(name: &str, run: impl FnOnce(&[String]) -> Result<String, String>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{name}: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Tells which sockets have something to read. Idle ones cost nothing: the CPU time of a load
/// generator is the server's too.
pub struct Poll(OwnedFd);

impl Poll {
    /// # Errors
    /// Fails when the kernel gives no descriptor.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no memory, and the descriptor that it gives is ours.
        match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: as above.
            fd => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
        }
    }

    /// `mark` stands for the socket from now on.
    ///
    /// # Errors
    /// Fails when `fd` is not open, or watched already.
    pub fn watch(&self, fd: RawFd, mark: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: mark };
        // SAFETY: the event lives; the kernel looks at the descriptor itself.
        let done =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Watches the socket no more.
    pub fn forget(&self, fd: RawFd) {
        // SAFETY: no memory is passed.
        unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut());
        }
    }

    /// The marks of sockets that can be read, at most 64, after at most `longest`.
    ///
    /// # Errors
    /// Fails before Linux 5.11.
    pub fn wait(&self, longest: Option<Duration>) -> io::Result<impl Iterator<Item = u64> + use<>> {
        const MOST: usize = 64;
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        let timeout = longest.map(|longest| libc::timespec {
            tv_sec: longest.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(longest.subsec_nanos() as i32),
        });
        // `epoll_pwait2`, since milliseconds are too long here.
        // SAFETY: the array is as long as it says, and the timeout lives; no signal mask is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                MOST,
                timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref),
                std::ptr::null::<libc::sigset_t>(),
                0,
            )
        };
        let error = io::Error::last_os_error();
        if count < 0 && error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        Ok(events.into_iter().take(count.max(0) as usize).map(|event| event.u64))
    }
}

/// Answers every request with one short text. 22 kB.
pub const HELLO: &[u8] = include_bytes!("../guests/hello.wasm");

/// Does on demand whatever a host must cope with; `GET /` lists its paths.
pub const PROBE: &[u8] = include_bytes!("../guests/probe.wasm");

/// The place in `HELLO` whose digits `distinct_component` replaces.
const MARK: &[u8] = b"SQUALL-MARK-0000";
const MARK_DIGITS: usize = 4;

/// `HELLO` with bytes of its own for each `n` below 1,679,616: it answers with `n` in
/// base 36 in the place of its mark, so that a caller sees which of them answered.
pub fn distinct_component(n: u32) -> Vec<u8> {
    assert!(n < 36_u32.pow(MARK_DIGITS as u32), "there are no more than 36^4 of them");
    let at = mark_offset() + MARK.len() - MARK_DIGITS;
    let mut component = HELLO.to_vec();
    component[at..at + MARK_DIGITS].copy_from_slice(&mark_digits(n));
    component
}

/// The four characters that stand for `n` in the answer of `distinct_component(n)`.
pub fn mark_digits(n: u32) -> [u8; MARK_DIGITS] {
    let mut digits = [b'0'; MARK_DIGITS];
    let mut rest = n;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(rest % 36) as usize];
        rest /= 36;
    }
    digits
}

fn mark_offset() -> usize {
    HELLO.windows(MARK.len()).position(|bytes| bytes == MARK).expect("HELLO carries the mark")
}

#[cfg(test)]
mod tests;
