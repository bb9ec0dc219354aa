//! Functions to test with, built once from `tests/guests` and committed, so that no
//! test needs a WebAssembly toolchain. Development only: no crate of the product
//! depends on it.

use std::process::ExitCode;

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
