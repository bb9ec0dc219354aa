//! The newest lines of one log, as they were written, bounded in bytes. Lines are parsed
//! when somebody asks, since most are never asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use squall_types::log::{LogEntry, LogFilter};

use super::entry;

/// Lines are gathered in chunks of this size, or of a quarter of a small ring. A line that is
/// longer has a chunk of its own.
const CHUNK_BYTES: usize = 16 << 10;

pub(super) struct Ring {
    chunks: VecDeque<Arc<Vec<u8>>>,
    bytes: usize,
    max_bytes: usize,
    chunk_bytes: usize,
}

impl Ring {
    pub(super) fn new(max_bytes: usize) -> Self {
        let chunk_bytes = CHUNK_BYTES.min(max_bytes / 4);
        Self { chunks: VecDeque::new(), bytes: 0, max_bytes, chunk_bytes }
    }

    /// Adds whole lines.
    pub(super) fn push(&mut self, lines: &[u8]) {
        let batch = lines;
        let mut lines = newest_lines(batch, self.max_bytes);
        if lines.len() < batch.len() {
            // What is older than a line that is left out has no place either.
            while self.drop_oldest().is_some() {}
        }
        while !lines.is_empty() {
            let chunk = self.chunk_for(first_line(lines));
            let (fit, rest) = lines.split_at(whole_lines(lines, chunk.capacity() - chunk.len()));
            chunk.extend_from_slice(fit);
            self.bytes += fit.len();
            lines = rest;
        }
        while self.bytes > self.max_bytes && self.drop_oldest().is_some() {}
    }

    /// The newest chunk, with space for `line`.
    fn chunk_for(&mut self, line: &[u8]) -> &mut Vec<u8> {
        let has_space = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= line.len();
        // One that somebody reads is left as it is.
        if !self.chunks.back_mut().and_then(Arc::get_mut).is_some_and(|chunk| has_space(chunk)) {
            let full = self.bytes + self.chunk_bytes > self.max_bytes;
            let mut chunk = full.then(|| self.drop_oldest()).flatten().unwrap_or_default();
            chunk.clear();
            chunk.reserve_exact(line.len().max(self.chunk_bytes));
            self.chunks.push_back(Arc::new(chunk));
        }
        self.chunks.back_mut().and_then(Arc::get_mut).expect("nobody has seen it yet")
    }

    /// Forgets the oldest chunk; returns its memory where nobody reads it.
    fn drop_oldest(&mut self) -> Option<Vec<u8>> {
        let oldest = self.chunks.pop_front()?;
        self.bytes -= oldest.len();
        Some(Arc::try_unwrap(oldest).unwrap_or_default())
    }

    /// All lines, oldest first.
    pub(super) fn chunks(&self) -> Vec<Arc<Vec<u8>>> {
        self.chunks.iter().cloned().collect()
    }
}

/// The last whole lines of `lines` that fit in `max_bytes`.
fn newest_lines(lines: &[u8], max_bytes: usize) -> &[u8] {
    if lines.len() <= max_bytes {
        return lines;
    }
    let cut = lines.len() - max_bytes;
    match lines[cut - 1..].iter().position(|byte| *byte == b'\n') {
        Some(newline) => &lines[cut + newline..],
        None => &[],
    }
}

fn first_line(lines: &[u8]) -> &[u8] {
    let end = lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
    &lines[..end]
}

/// Bytes of the first whole lines of `lines` that fit in `space`.
fn whole_lines(lines: &[u8], space: usize) -> usize {
    if lines.len() <= space {
        return lines.len();
    }
    lines[..space].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// The newest `limit` entries that match, newest first.
pub(super) fn newest(chunks: &[Arc<Vec<u8>>], filter: &LogFilter, limit: usize) -> Vec<LogEntry> {
    chunks
        .iter()
        .rev()
        .flat_map(|chunk| chunk.rsplit(|byte| *byte == b'\n'))
        .filter(|line| !line.is_empty())
        .filter_map(|line| entry::parse(line, filter))
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(ring: &Ring) -> Vec<u8> {
        ring.chunks().iter().flat_map(|chunk| chunk.iter().copied()).collect()
    }

    proptest! {
        #[test]
        fn the_newest_lines_are_kept_within_the_bound(
            max_bytes in 64usize..600,
            batches in prop::collection::vec(prop::collection::vec(0usize..60, 0..12), 0..30),
            read_after in prop::collection::vec(any::<bool>(), 30),
        ) {
            let mut ring = Ring::new(max_bytes);
            let mut all = Vec::new();
            let mut reader: Vec<Arc<Vec<u8>>> = Vec::new();
            let mut seen_before = Vec::new();
            for (batch, read) in batches.iter().zip(read_after) {
                let mut text = Vec::new();
                for length in batch {
                    text.extend((0..*length).map(|at| b'a' + ((all.len() + at) % 26) as u8));
                    text.push(b'\n');
                }
                all.extend_from_slice(&text);
                ring.push(&text);
                let kept = lines_of(&ring);
                prop_assert!(kept.len() <= max_bytes);
                prop_assert!(all.ends_with(&kept));
                let before = all.len() - kept.len();
                prop_assert!(before == 0 || all[before - 1] == b'\n');
                let last = all.len() - text.len();
                // What does not fit is given up by chunks and lines.
                if text.len() <= max_bytes / 4 {
                    prop_assert!(before <= last, "the last batch is there");
                }
                // Readers keep what they saw.
                let seen: Vec<u8> = reader.iter().flat_map(|chunk| chunk.to_vec()).collect();
                prop_assert_eq!(&seen, &seen_before);
                if read {
                    reader = ring.chunks();
                    seen_before = kept;
                }
            }
        }
    }
}
