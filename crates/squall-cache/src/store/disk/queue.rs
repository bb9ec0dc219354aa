//! What the writer has to do. Responses wait here until they are written; those for which
//! there is no room are not, and removals always are.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::store::index::{Place, Serial};
use crate::store::memory::Resident;

pub(super) enum Job {
    Write(Arc<Resident>),
    /// A record that nothing points to any more, and that a restart must not bring back.
    Strike(Place),
    /// A record that nothing points to any more; marks see to it that it stays so.
    Release(Place),
    /// Says when everything before it is done.
    Flush(Sender<()>),
}

pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    bytes_max: u64,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// What is to be written or being written, to be found when it is not in memory.
    pending: HashMap<Serial, Arc<Resident>>,
    pending_bytes: u64,
    /// No more responses are taken.
    closed: bool,
    /// Nobody does what is asked for any more.
    ended: bool,
}

pub(super) enum Next {
    Job(Job),
    /// Nothing to do at present.
    Idle,
    /// Nothing to do any more.
    Closed,
}

impl Queue {
    pub(super) fn new(bytes_max: u64) -> Queue {
        Queue { state: Mutex::default(), ready: Condvar::new(), bytes_max }
    }

    /// Whether a response will be written. One alone may be larger than the room for many.
    pub(super) fn write(&self, resident: &Arc<Resident>) -> bool {
        let mut state = self.lock();
        let bytes = state.pending_bytes + resident.weight();
        if state.closed || (bytes > self.bytes_max && !state.pending.is_empty()) {
            return false;
        }
        state.pending_bytes = bytes;
        state.pending.insert(resident.serial, resident.clone());
        state.jobs.push_back(Job::Write(resident.clone()));
        drop(state);
        self.ready.notify_one();
        true
    }

    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        if !state.ended {
            state.jobs.push_back(job);
        }
        drop(state);
        self.ready.notify_one();
    }

    pub(super) fn pending(&self, serial: Serial) -> Option<Arc<Resident>> {
        self.lock().pending.get(&serial).cloned()
    }

    /// A response is on disk, or will not be. False if that was known.
    pub(super) fn settle(&self, serial: Serial) -> bool {
        let mut state = self.lock();
        let resident = state.pending.remove(&serial);
        state.pending_bytes -= resident.as_ref().map_or(0, |resident| resident.weight());
        resident.is_some()
    }

    /// The next job. Waits for one if `wait` is set.
    pub(super) fn next(&self, wait: bool) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Next::Job(job);
            }
            if state.closed {
                return Next::Closed;
            }
            if !wait {
                return Next::Idle;
            }
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more responses; what waits is done yet.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    /// The writer has ended, by itself or by a panic: nobody waits for it any more.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        (state.closed, state.ended) = (true, true);
        state.jobs.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
