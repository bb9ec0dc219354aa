//! Vectors come from the standards that they name, or were made with OpenSSL 3 through
//! Node.js 20.

use super::*;

mod ciphers;
mod compression;
mod hashes;
mod hostile;
mod signatures;
mod streams;
mod texts;
mod urls;

/// Bytes from hexadecimal digits; white space is skipped.
fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks_exact(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn bytes(bytes: impl AsRef<[u8]>) -> Value {
    Value::Bytes(bytes.as_ref().to_vec())
}

fn int(number: usize) -> Value {
    Value::Int(number as i32)
}

/// The same numbers every time, by xorshift.
fn chance() -> impl FnMut(&mut [u8]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |bytes| {
        for byte in bytes {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *byte = (state >> 24) as u8;
        }
    }
}

fn run<const N: usize>(operation: u32, arguments: [Value; N]) -> Value {
    perform(operation, arguments.to_vec(), &mut chance()).unwrap()
}

fn run_bytes<const N: usize>(operation: u32, arguments: [Value; N]) -> Vec<u8> {
    into_bytes(run(operation, arguments))
}

fn into_bytes(value: Value) -> Vec<u8> {
    let Value::Bytes(bytes) = value else { panic!("{value:?}") };
    bytes
}

/// The name of the exception.
fn refused<const N: usize>(operation: u32, arguments: [Value; N]) -> &'static str {
    perform(operation, arguments.to_vec(), &mut chance()).unwrap_err().name
}
