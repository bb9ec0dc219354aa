//! What one function may use. Every limit has a default that suits a small API
//! and a node-wide cap that the operator sets; a manifest asks, the node decides.

use serde::{Deserialize, Serialize};

/// Limits of one function, all of them enforced, none of them optional once merged
/// with the defaults. Units are the last word of each name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// All linear memories and tables of an instance together.
    pub memory_bytes: u64,
    /// From acceptance to the end of the response body.
    pub wall_time_ms: u64,
    /// CPU time of one invocation.
    pub cpu_time_ms: u64,
    pub request_body_bytes: u64,
    pub response_body_bytes: u64,
    /// Invocations running at once on this node.
    pub concurrency: u32,
    /// Invocations that may wait for a place beyond `concurrency`.
    pub queue: u32,
    /// Longest wait in that queue.
    pub queue_time_ms: u64,
    /// Log output of one invocation; what is beyond is dropped, and the log says so.
    pub log_bytes: u64,
    /// Outbound HTTP requests of one invocation.
    pub outbound_requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            wall_time_ms: 30_000,
            cpu_time_ms: 10_000,
            request_body_bytes: 100 << 20,
            response_body_bytes: 1 << 30,
            concurrency: 500,
            queue: 1_000,
            queue_time_ms: 5_000,
            log_bytes: 256 << 10,
            outbound_requests: 50,
        }
    }
}

impl Limits {
    /// The most that any function may ask for, unless the operator says otherwise.
    pub fn node_caps() -> Self {
        Self {
            memory_bytes: 1 << 30,
            wall_time_ms: 15 * 60_000,
            cpu_time_ms: 5 * 60_000,
            request_body_bytes: 5 << 30,
            response_body_bytes: 50 << 30,
            concurrency: 1_000,
            queue: 20_000,
            queue_time_ms: 60_000,
            log_bytes: 16 << 20,
            outbound_requests: 1_000,
        }
    }

    /// Every limit lowered to `caps` where it is above.
    #[must_use]
    pub fn capped(&self, caps: &Limits) -> Self {
        Self {
            memory_bytes: self.memory_bytes.min(caps.memory_bytes),
            wall_time_ms: self.wall_time_ms.min(caps.wall_time_ms),
            cpu_time_ms: self.cpu_time_ms.min(caps.cpu_time_ms),
            request_body_bytes: self.request_body_bytes.min(caps.request_body_bytes),
            response_body_bytes: self.response_body_bytes.min(caps.response_body_bytes),
            concurrency: self.concurrency.min(caps.concurrency),
            queue: self.queue.min(caps.queue),
            queue_time_ms: self.queue_time_ms.min(caps.queue_time_ms),
            log_bytes: self.log_bytes.min(caps.log_bytes),
            outbound_requests: self.outbound_requests.min(caps.outbound_requests),
        }
    }

    /// The names of the limits in `self` that are above `caps`.
    pub fn above<'a>(&self, caps: &Limits) -> Vec<&'a str> {
        let pairs = [
            ("memory_bytes", self.memory_bytes, caps.memory_bytes),
            ("wall_time_ms", self.wall_time_ms, caps.wall_time_ms),
            ("cpu_time_ms", self.cpu_time_ms, caps.cpu_time_ms),
            ("request_body_bytes", self.request_body_bytes, caps.request_body_bytes),
            ("response_body_bytes", self.response_body_bytes, caps.response_body_bytes),
            ("concurrency", self.concurrency.into(), caps.concurrency.into()),
            ("queue", self.queue.into(), caps.queue.into()),
            ("queue_time_ms", self.queue_time_ms, caps.queue_time_ms),
            ("log_bytes", self.log_bytes, caps.log_bytes),
            ("outbound_requests", self.outbound_requests.into(), caps.outbound_requests.into()),
        ];
        pairs.iter().filter(|(_, asked, cap)| asked > cap).map(|(name, ..)| *name).collect()
    }
}
