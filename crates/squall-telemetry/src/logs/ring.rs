//! The newest lines of one log, as they were written, bounded in bytes. Lines are parsed
//! when somebody asks, since most are never asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use squall_types::log::{LogEntry, LogFilter};

use super::entry;

/// Small batches are joined up to this size, so that the bound holds for quiet logs too.
const CHUNK_BYTES: usize = 16 << 10;

pub(super) struct Ring {
    chunks: VecDeque<Arc<Vec<u8>>>,
    bytes: usize,
    max_bytes: usize,
}

impl Ring {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { chunks: VecDeque::new(), bytes: 0, max_bytes }
    }

    /// Adds whole lines.
    pub(super) fn push(&mut self, lines: &[u8]) {
        let lines = newest_lines(lines, self.max_bytes);
        if lines.is_empty() {
            return;
        }
        self.bytes += lines.len();
        match self.chunks.back_mut().and_then(Arc::get_mut) {
            Some(last) if last.len() + lines.len() <= CHUNK_BYTES => last.extend_from_slice(lines),
            _ => self.chunks.push_back(Arc::new(lines.to_vec())),
        }
        while self.bytes > self.max_bytes
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.bytes -= oldest.len();
        }
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
