//! Lines that were formatted and wait to be written.

use std::time::SystemTime;

use super::entry::{Formatter, Item};
use crate::shards::{self, Buffer};

/// Bounds of what one thread may be ahead of the writer.
pub(super) const MOST_LINES: usize = 32 << 10;
const MOST_BYTES: usize = 16 << 20;
/// A buffer that was mostly empty is given back when it has room for more than this.
const KEEP_LINES: usize = 1024;
const KEEP_BYTES: usize = 512 << 10;

/// The lines of one thread, or those of all.
#[derive(Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    text: Vec<u8>,
    formatter: Formatter,
    /// Lines that found no place.
    refused: u64,
}

pub(super) struct Line {
    pub(super) at: SystemTime,
    /// Of the access log; otherwise of the functions' log.
    pub(super) is_access: bool,
    end: usize,
}

impl Lines {
    /// Adds a line, or counts it when there are too many.
    pub(super) fn push(&mut self, item: &Item<'_>) {
        if self.lines.len() >= MOST_LINES || self.text.len() + item.length() > MOST_BYTES {
            self.refused += 1;
            return;
        }
        self.add(item);
    }

    /// Adds a line whatever else there is.
    pub(super) fn push_notice(&mut self, message: &str) {
        self.add(&Item::Notice { at: SystemTime::now(), message });
    }

    fn add(&mut self, item: &Item<'_>) {
        self.formatter.write(item, &mut self.text);
        let (at, is_access, end) = (item.at(), item.is_access(), self.text.len());
        self.lines.push(Line { at, is_access, end });
    }

    pub(super) fn append(&mut self, other: &Self) {
        let start = self.text.len();
        self.text.extend_from_slice(&other.text);
        let moved = |line: &Line| Line { end: start + line.end, ..*line };
        self.lines.extend(other.lines.iter().map(moved));
        self.refused += other.refused;
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// A line, and its text with the newline.
    pub(super) fn get(&self, index: usize) -> (&Line, &[u8]) {
        let start = if index == 0 { 0 } else { self.lines[index - 1].end };
        let line = &self.lines[index];
        (line, &self.text[start..line.end])
    }
}

impl Buffer for Lines {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.refused == 0
    }

    fn clear(&mut self) {
        shards::clear(&mut self.lines, KEEP_LINES);
        shards::clear(&mut self.text, KEEP_BYTES);
        self.refused = 0;
    }
}
