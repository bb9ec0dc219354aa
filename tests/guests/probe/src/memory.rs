//! Memory that grows, and memory that remembers.
//!
//! `/leak?set=` hides a value where a careless host would let the next request find
//! it: in a global and in freed heap. `/leak` reads the whole linear memory and tells
//! every secret that it meets. The word that it looks for is nowhere in the component
//! as text, or each search would find itself.

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::Exchange;

const PAGE_BYTES: usize = 64 << 10;
/// One write in each of these makes the host find real memory for it.
const HOST_PAGE_BYTES: usize = 4096;
/// A block large enough that the value is still in it after the allocator has written
/// its own links over the first words.
const BLOCK_BYTES: usize = 4096;

static COUNT: AtomicU64 = AtomicU64::new(0);
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// 1 for the first request that an instance serves.
pub(crate) fn count() -> u64 {
    COUNT.fetch_add(1, Ordering::Relaxed) + 1
}

/// Takes memory and writes to all of it until the host refuses more.
pub(crate) fn grow_until_refused() -> ! {
    const PAGES: usize = 16;
    loop {
        let before = core::arch::wasm32::memory_grow::<0>(PAGES);
        if before == usize::MAX {
            core::arch::wasm32::unreachable();
        }
        let added = before * PAGE_BYTES..(before + PAGES) * PAGE_BYTES;
        for address in added.step_by(HOST_PAGE_BYTES) {
            // SAFETY: the address was just added to the memory and nothing else uses it.
            unsafe { (address as *mut u8).write_volatile(1) };
        }
    }
}

/// Allocates and touches; the allocator's own failure traps.
pub(crate) fn allocate(megabytes: u64) -> u64 {
    let block = black_box(vec![1_u8; (megabytes as usize) << 20]);
    block.iter().step_by(HOST_PAGE_BYTES).map(|byte| u64::from(*byte)).sum()
}

pub(crate) fn leak(exchange: Exchange) {
    if let Some(value) = exchange.parameter("set") {
        keep(value.as_bytes());
        return exchange.text(200, "kept\n");
    }
    let kept = KEPT.lock().expect("nothing panics while it is held").clone();
    let mut answer = format!("global: {}\n", String::from_utf8_lossy(&kept));
    for secret in secrets_in_memory() {
        answer.push_str("found: ");
        answer.push_str(&secret);
        answer.push('\n');
    }
    exchange.text(200, &answer);
}

fn keep(value: &[u8]) {
    *KEPT.lock().expect("nothing panics while it is held") = value.to_vec();
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    while !value.is_empty() && block.len() + value.len() <= BLOCK_BYTES {
        block.extend_from_slice(value);
    }
    drop(black_box(block));
}

/// The word with every bit but the highest turned round.
const MASK: u8 = 0x7f;
const MASKED_WORD: [u8; 9] = {
    let mut word = *b"TOPSECRET";
    let mut at = 0;
    while at < word.len() {
        word[at] ^= MASK;
        at += 1;
    }
    word
};
const DIGITS: usize = 8;

fn secrets_in_memory() -> Vec<String> {
    let end = core::arch::wasm32::memory_size::<0>() * PAGE_BYTES;
    let length = MASKED_WORD.len() + DIGITS;
    let mask = black_box(MASK);
    let first = MASKED_WORD[0] ^ mask;
    let mut found = Vec::new();
    let mut at = 1;
    while at + length <= end {
        // SAFETY: the address is inside the memory; volatile since others own it.
        let byte = |offset: usize| unsafe { ((at + offset) as *const u8).read_volatile() };
        if byte(0) == first
            && MASKED_WORD.iter().enumerate().all(|(offset, masked)| byte(offset) ^ mask == *masked)
            && (MASKED_WORD.len()..length).all(|offset| byte(offset).is_ascii_digit())
        {
            let secret: String = (0..length).map(|offset| char::from(byte(offset))).collect();
            // What is found becomes part of the memory that is still to be read.
            if !found.contains(&secret) {
                found.push(secret);
            }
            at += length;
            continue;
        }
        at += 1;
    }
    found
}
