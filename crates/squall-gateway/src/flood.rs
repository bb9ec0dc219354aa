//! Reads along with an HTTP/2 connection and counts the frames that cost the client
//! nothing and us something (RFC 9113, section 10.5).
//!
//! h2 bounds what it keeps of them, not how many it answers: resets after requests (rapid
//! reset, CVE-2023-44487), pings, settings, priorities and empty frames. This counts
//! types and lengths only; everything else about frames is h2's business.

use std::time::Instant;

const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// Streams that a client may take back: what people who type ahead and leave pages do,
/// many times over.
const RESETS: Budget = Budget::new(200, 20);
/// Frames without content. A gRPC client pings for each round trip while data flows.
const EMPTY: Budget = Budget::new(10_000, 1_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Nothing,
    /// An answer to our ping: the client is there, and may have nothing to say.
    Pong,
    Flood,
}

#[derive(Debug)]
pub(crate) struct FrameCounter {
    head: [u8; FRAME_HEAD_BYTES],
    head_bytes: usize,
    /// Of the present frame, or of the preface at first.
    payload_left: usize,
    resets: Budget,
    empty: Budget,
}

impl FrameCounter {
    pub(crate) fn new(preface_bytes: usize) -> Self {
        Self {
            head: [0; FRAME_HEAD_BYTES],
            head_bytes: 0,
            payload_left: preface_bytes,
            resets: RESETS,
            empty: EMPTY,
        }
    }

    /// Takes bytes as they come from the socket.
    pub(crate) fn count(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::Nothing;
        while !bytes.is_empty() {
            let skipped = bytes.len().min(self.payload_left);
            self.payload_left -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(FRAME_HEAD_BYTES - self.head_bytes);
            self.head[self.head_bytes..self.head_bytes + taken].copy_from_slice(&bytes[..taken]);
            self.head_bytes += taken;
            bytes = &bytes[taken..];
            if self.head_bytes == FRAME_HEAD_BYTES {
                self.head_bytes = 0;
                match self.take_head() {
                    Seen::Flood => return Seen::Flood,
                    Seen::Pong => seen = Seen::Pong,
                    Seen::Nothing => {}
                }
            }
        }
        seen
    }

    fn take_head(&mut self) -> Seen {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.payload_left = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let within = match kind {
            RST_STREAM => self.resets.take(),
            DATA | HEADERS | CONTINUATION if self.payload_left > 0 => return Seen::Nothing,
            // The end of a body whose length was not known: one for each request at most.
            DATA if flags & END_STREAM != 0 => return Seen::Nothing,
            // As many as the client takes of responses.
            WINDOW_UPDATE => return Seen::Nothing,
            PING if flags & ACK != 0 => return Seen::Pong,
            _ => self.empty.take(),
        };
        if within { Seen::Nothing } else { Seen::Flood }
    }
}

/// So many at once, and so many more each second.
#[derive(Debug)]
struct Budget {
    most: u32,
    per_second: u32,
    left: u32,
    filled: Option<Instant>,
}

impl Budget {
    const fn new(most: u32, per_second: u32) -> Self {
        Self { most, per_second, left: most, filled: None }
    }

    fn take(&mut self) -> bool {
        self.take_at(Instant::now)
    }

    /// The clock is asked only when the budget runs out.
    fn take_at(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            let now = now();
            let since = self.filled.map_or(1.0, |filled| (now - filled).as_secs_f64());
            let more = (since * f64::from(self.per_second)) as u32;
            if more == 0 {
                return false;
            }
            self.left = more.min(self.most);
            self.filled = Some(now);
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_are_told_apart_in_every_division() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for _ in 0..3 {
            bytes.extend(frame(DATA, 0, &[PING; 30]));
            bytes.extend(frame(RST_STREAM, 0, &[0; 4]));
            bytes.extend(frame(PING, 0, &[0; 8]));
        }
        bytes.extend(frame(PING, ACK, &[0; 8]));
        for cut in 0..bytes.len() {
            let mut counter = FrameCounter::new(24);
            let seen = [counter.count(&bytes[..cut]), counter.count(&bytes[cut..])];
            assert!(seen.contains(&Seen::Pong), "cut at {cut}");
            assert_eq!(counter.resets.left, RESETS.left - 3, "cut at {cut}");
            assert_eq!(counter.empty.left, EMPTY.left - 3, "cut at {cut}");
        }
    }

    #[test]
    fn floods_are_noticed_and_busy_clients_are_not() {
        let check = |one: &[u8], many: usize, expected: Seen| {
            let mut counter = FrameCounter::new(0);
            let flood = (0..many).any(|_| counter.count(one) == Seen::Flood);
            assert_eq!(flood, expected == Seen::Flood, "{many} of {one:?}");
        };
        check(&frame(RST_STREAM, 0, &[0; 4]), 200, Seen::Nothing);
        check(&frame(RST_STREAM, 0, &[0; 4]), 1_000, Seen::Flood);
        check(&frame(4, 0, &[]), 10_000, Seen::Nothing);
        check(&frame(4, 0, &[]), 100_000, Seen::Flood);
        check(&frame(PING, 0, &[0; 8]), 100_000, Seen::Flood);
        check(&frame(CONTINUATION, 0, &[]), 100_000, Seen::Flood);
        check(&frame(2, 0, &[0; 5]), 100_000, Seen::Flood);
        check(&frame(DATA, 0, &[]), 100_000, Seen::Flood);
        check(&frame(DATA, 0, &[1]), 100_000, Seen::Nothing);
        // As the end of each request whose length was not known.
        check(&frame(DATA, END_STREAM, &[]), 100_000, Seen::Nothing);
        check(&frame(WINDOW_UPDATE, 0, &[0; 4]), 100_000, Seen::Nothing);
    }

    #[test]
    fn a_budget_fills_again_with_time() {
        let start = Instant::now();
        let mut budget = Budget::new(10, 5);
        let mut take = |after_s: u64, many: usize| {
            let at = start + Duration::from_secs(after_s);
            (0..many).filter(|_| budget.take_at(|| at)).count()
        };
        assert_eq!(take(0, 100), 15);
        assert_eq!(take(1, 100), 5);
        assert_eq!(take(100, 100), 10);
        assert_eq!(take(100, 1), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_counted_without_panic(bytes: Vec<u8>, cut in 0usize..64) {
            let cut = cut.min(bytes.len());
            let mut counter = FrameCounter::new(24);
            counter.count(&bytes[..cut]);
            counter.count(&bytes[cut..]);
        }
    }
}
