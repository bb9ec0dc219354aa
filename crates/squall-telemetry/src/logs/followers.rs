//! Live tails. A slow follower loses entries, is told how many, and slows nobody.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use squall_types::log::{LogEntry, LogEvent, LogFilter};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::entry::Stored;
use crate::lock;

/// Events that wait for one follower.
pub(super) const FOLLOWER_QUEUE: usize = 1_000;

#[derive(Default)]
pub(super) struct Followers {
    list: Mutex<Vec<Follower>>,
    count: AtomicUsize,
    dropped_total: AtomicU64,
}

struct Follower {
    filter: LogFilter,
    sender: mpsc::Sender<LogEvent>,
    /// Not delivered, and the follower does not know it yet.
    dropped: u64,
}

impl Followers {
    pub(super) fn add(&self, filter: LogFilter) -> mpsc::Receiver<LogEvent> {
        let (sender, receiver) = mpsc::channel(FOLLOWER_QUEUE);
        let mut list = lock(&self.list);
        list.retain(|follower| !follower.sender.is_closed());
        list.push(Follower { filter, sender, dropped: 0 });
        self.count.store(list.len(), Ordering::Relaxed);
        receiver
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn dropped_total(&self) -> u64 {
        self.dropped_total.load(Ordering::Relaxed)
    }

    /// Whether a follower waits to be told what it missed.
    pub(super) fn owe(&self) -> bool {
        self.count() > 0 && lock(&self.list).iter().any(|follower| follower.dropped > 0)
    }

    /// Sends each line to whoever wants it.
    pub(super) fn send<'a>(&self, lines: impl Iterator<Item = &'a [u8]>) {
        if self.count() == 0 {
            return;
        }
        let mut list = lock(&self.list);
        for line in lines {
            let Some(stored) = Stored::read(line) else { continue };
            let mut wanted =
                list.iter_mut().filter(|follower| stored.matches(&follower.filter)).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let Some(entry) = stored.entry(line).map(Arc::new) else { continue };
            for follower in wanted {
                if !follower.send(entry.clone()) {
                    self.dropped_total.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        for follower in list.iter_mut() {
            follower.tell();
        }
        list.retain(|follower| !follower.sender.is_closed());
        self.count.store(list.len(), Ordering::Relaxed);
    }
}

impl Follower {
    fn send(&mut self, entry: Arc<LogEntry>) -> bool {
        // The gap is told where it is: before the first entry behind it.
        let sent = self.tell() && self.sender.try_send(LogEvent::Entry(entry)).is_ok();
        self.dropped += u64::from(!sent);
        sent
    }

    /// Says how many were dropped, if any were and there is room.
    fn tell(&mut self) -> bool {
        if self.dropped == 0 {
            return true;
        }
        match self.sender.try_send(LogEvent::Dropped(self.dropped)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {
                self.dropped = 0;
                true
            }
            Err(TrySendError::Full(_)) => false,
        }
    }
}
