//! Which requests have a line in the access log.

use squall_types::gateway::AccessLog;
use squall_types::trace::TraceContext;

/// The random part of a trace id (W3C Trace Context, level 2, section 2.2.4.1).
const RANDOM_BITS: u32 = 56;

/// Logs a part of the traces. The same trace id decides the same everywhere, and a trace
/// that is among few is also among many.
pub(crate) struct LogSampling {
    /// Traces whose random part is below are logged.
    below: u64,
    errors: bool,
}

impl LogSampling {
    pub(crate) fn compile(settings: Option<&AccessLog>) -> Self {
        let everything = AccessLog { sample: 1.0, errors: true };
        let settings = settings.unwrap_or(&everything);
        let all = (1u64 << RANDOM_BITS) as f64;
        Self { below: (settings.sample.clamp(0.0, 1.0) * all) as u64, errors: settings.errors }
    }

    pub(crate) fn keeps(&self, trace: &TraceContext, status: u16) -> bool {
        let random = trace.trace_id[9..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        random < self.below || (self.errors && status >= 500)
    }
}

#[cfg(test)]
mod tests {
    use squall_types::trace::random;

    use super::*;

    fn kept(sample: f64, errors: bool, status: u16, of: usize) -> usize {
        let sampling = LogSampling::compile(Some(&AccessLog { sample, errors }));
        (0..of).filter(|_| sampling.keeps(&TraceContext::from_random(random()), status)).count()
    }

    #[test]
    fn a_part_of_all_traces_is_kept_and_every_error() {
        assert_eq!(kept(1.0, true, 200, 1_000), 1_000);
        assert_eq!(kept(0.0, true, 200, 1_000), 0);
        assert_eq!(kept(0.0, true, 500, 1_000), 1_000);
        assert_eq!(kept(0.0, false, 500, 1_000), 0);
        assert!((800..1_200).contains(&kept(0.1, true, 404, 10_000)));
        let usual = LogSampling::compile(None);
        assert!(usual.keeps(&TraceContext::from_random([255; 24]), 200));
    }

    #[test]
    fn a_trace_is_logged_whole() {
        let [few, many] = [0.2, 0.5]
            .map(|sample| LogSampling::compile(Some(&AccessLog { sample, errors: true })));
        for _ in 0..1_000 {
            let trace = TraceContext::from_random(random());
            let next = trace.child(random());
            assert_eq!(few.keeps(&trace, 200), few.keeps(&next, 200));
            assert!(!few.keeps(&trace, 200) || many.keeps(&next, 200));
        }
    }
}
