//! A request that is at a target: counted while it lasts, and judged when it has ended.

use std::sync::atomic::Ordering;

use squall_types::shard::Local;

use super::circuit::Passage;
use super::pool::UpstreamPool;
use super::target::Target;

/// A request's place in an upstream, from before the first try to the end of the response.
pub(crate) struct Admission {
    pub(super) pool: Local<UpstreamPool>,
    pub(super) passage: Passage,
    pub(super) counted: bool,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.pool.leave(self.passage, self.counted);
    }
}

impl Admission {
    /// A probe's response has begun, which decides: others need not wait for its end.
    fn decided(&mut self) {
        if let Passage::Probe(_) = self.passage {
            self.pool.leave(self.passage, false);
            self.passage = Passage::Usual;
        }
    }
}

/// One try.
pub(crate) struct Flight {
    target: AtTarget,
    admission: Admission,
    judged: bool,
}

/// Counted while it lasts.
struct AtTarget {
    target: Local<Target>,
    /// It has answered well, as far as is known.
    well: bool,
}

/// How a try failed, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Connect,
    Timeout,
    Broken,
    Malformed,
}

impl Flight {
    pub(crate) fn begin(target: Local<Target>, admission: Admission) -> Self {
        target.traffic().in_flight.fetch_add(1, Ordering::Relaxed);
        Self { target: AtTarget { target, well: false }, admission, judged: false }
    }

    pub(crate) fn target(&self) -> &Local<Target> {
        &self.target.target
    }

    /// For another try.
    pub(crate) fn into_admission(self) -> Admission {
        self.admission
    }

    /// A head has come. The target is judged by it; the body may still break off.
    pub(crate) fn answered(&mut self, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.target().traffic().answered[class].fetch_add(1, Ordering::Relaxed);
        self.judged = status >= 500;
        self.judge(self.judged);
        self.target.well = !self.judged;
        if self.target.well {
            self.admission.decided();
        }
    }

    pub(crate) fn failed(&mut self, fault: Fault) {
        self.count(fault);
        self.judge(true);
    }

    fn count(&mut self, fault: Fault) {
        let counters = &self.target().counters;
        let counter = match fault {
            Fault::Connect => &counters.connect_failures,
            Fault::Timeout => &counters.timeouts,
            Fault::Broken => &counters.broken,
            Fault::Malformed => &counters.malformed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.judged = true;
        self.target.well = false;
    }

    /// The body did not reach its end.
    pub(crate) fn broke_off(&mut self) {
        if !self.judged {
            self.count(Fault::Broken);
            self.admission.pool.broke_off(self.target());
        }
    }

    /// The body reached its end.
    pub(crate) fn land(&mut self) {
        self.judged = true;
    }

    fn judge(&self, failed: bool) {
        self.admission.pool.judge(self.target(), self.admission.passage, failed);
    }
}

impl Drop for AtTarget {
    fn drop(&mut self) {
        self.target.traffic().in_flight.fetch_sub(1, Ordering::Relaxed);
        // Not before: a body that breaks off is a failure like those before it.
        if self.well {
            self.target.health.succeeded();
        }
    }
}
