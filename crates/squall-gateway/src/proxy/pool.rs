//! One upstream: its targets, who may go to them, and what is learned from what they do.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use squall_types::dial::Dial;
use squall_types::gateway::{CircuitState, Upstream};
use squall_types::log::{AppLine, Level, LogSink};
use squall_types::outbound::{OutboundError, OutboundErrorKind};
use squall_types::shard::{Local, Spread};
use squall_types::{AppName, ErrorCode, InvokeError};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::balance::TargetSet;
use super::circuit::{Circuit, Passage, Turn};
use super::flight::Admission;
use super::target::{Origin, Target};
use super::window::Window;
use super::{discovery, health};
use crate::rejection::Rejection;

/// Retries of the last so many milliseconds are counted together.
const BUDGET_WINDOW_MS: u64 = 10_000;
/// So many retries in a window are always allowed.
const BUDGET_LEAST: u64 = 10;
/// Lines about failed requests; the others are counted.
const LOG_INTERVAL_MS: u64 = 1_000;

/// Whether the names of an upstream have ever meant something.
#[derive(Debug, Clone)]
pub(crate) enum Resolution {
    Pending,
    Done,
    Failed(OutboundError),
}

pub(crate) struct UpstreamPool {
    pub(crate) app: AppName,
    pub(crate) name: Spread<str>,
    pub(crate) settings: Upstream,
    pub(super) dial: Arc<dyn Dial>,
    logs: Arc<dyn LogSink>,
    pub(crate) origins: Vec<Arc<Origin>>,
    pub(super) set: ArcSwap<TargetSet>,
    pub(super) resolution: watch::Sender<Resolution>,
    /// Once it is so, it stays so.
    pub(super) has_targets: AtomicBool,
    /// Names should be looked up again before it is time.
    pub(super) resolve_soon: Arc<Notify>,
    pub(crate) counters: Counters,
    circuit: Option<Circuit>,
    budget: Window,
    in_flight: AtomicU32,
    begun: Instant,
    tasks: OnceLock<Vec<AbortHandle>>,
    /// A revision that gets traffic leads here; otherwise only who asks for an earlier one does.
    is_current: AtomicBool,
    logged_ms: AtomicU64,
    unlogged: AtomicU64,
}

/// Of the upstream as a whole; a target counts for itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) retries: AtomicU64,
    pub(crate) retries_over_budget: AtomicU64,
    /// Requests that went to an ejected target because no other was left.
    pub(crate) panics: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) circuit_opened: AtomicU64,
    pub(crate) tunnels: AtomicU32,
    pub(crate) resolve_failures: AtomicU64,
}

/// By what a name came to nothing: a way that is closed is not a name that is unknown.
pub(super) fn code_of(failure: &OutboundError) -> ErrorCode {
    match failure.kind {
        OutboundErrorKind::Denied => ErrorCode::UpstreamUnavailable,
        _ => ErrorCode::UpstreamUnresolved,
    }
}

/// The owner's business: a caller learns the code only.
pub(super) fn refuse(code: ErrorCode, message: impl Into<String>) -> Rejection {
    Rejection::from(InvokeError::new(code, message))
}

impl UpstreamPool {
    pub(crate) fn new(
        app: AppName,
        name: &str,
        settings: &Upstream,
        dial: Arc<dyn Dial>,
        logs: Arc<dyn LogSink>,
    ) -> Self {
        // The manifest was checked: every URL can be taken apart.
        let origins = settings.targets.iter().filter_map(|target| Origin::new(target, settings));
        Self {
            app,
            name: Arc::<str>::from(name).into(),
            dial,
            logs,
            origins: origins.map(Arc::new).collect(),
            set: ArcSwap::from_pointee(TargetSet::new(Vec::new(), settings.balance)),
            resolution: watch::Sender::new(Resolution::Pending),
            has_targets: AtomicBool::new(false),
            resolve_soon: Arc::default(),
            counters: Counters::default(),
            circuit: settings.circuit_breaker.clone().map(Circuit::new),
            budget: Window::new(BUDGET_WINDOW_MS),
            in_flight: AtomicU32::new(0),
            begun: Instant::now(),
            tasks: OnceLock::new(),
            is_current: AtomicBool::new(true),
            logged_ms: AtomicU64::new(0),
            unlogged: AtomicU64::new(0),
            settings: settings.clone(),
        }
    }

    /// Begins to resolve names and to check targets, once. Ends when the pool is dropped.
    pub(crate) fn start(self: &Arc<Self>, runtime: &Handle) {
        self.tasks.get_or_init(|| {
            let keeper = runtime.spawn(discovery::keep(Arc::downgrade(self)));
            let mut tasks = vec![keeper.abort_handle()];
            if let Some(check) = &self.settings.health {
                let checks = health::watch(Arc::downgrade(self), check.clone());
                tasks.push(runtime.spawn(checks).abort_handle());
            }
            tasks
        });
    }

    pub(super) fn is_current(&self) -> bool {
        self.is_current.load(Ordering::Relaxed)
    }

    pub(super) fn set_current(&self, is_current: bool) {
        self.is_current.store(is_current, Ordering::Relaxed);
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.ms_at(Instant::now())
    }

    pub(super) fn ms_at(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_millis() as u64
    }

    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        self.set.load().targets.iter().map(|target| target.shared().clone()).collect()
    }

    pub(crate) fn circuit_state(&self) -> Option<CircuitState> {
        self.circuit.as_ref().map(|circuit| circuit.state(self.now_ms()))
    }

    pub(crate) fn is_circuit_open(&self) -> bool {
        self.circuit.as_ref().is_some_and(Circuit::is_open)
    }

    pub(super) fn is_resolved(&self) -> bool {
        self.has_targets.load(Ordering::Acquire)
    }

    /// Waits for the names to be resolved the first time, at most until `total`.
    pub(super) async fn resolved(&self, total: Option<Instant>) -> Result<(), Rejection> {
        let longest = Duration::from_millis(self.settings.timeouts.connect_ms);
        let left = total.map(|total| total.saturating_duration_since(Instant::now()));
        let longest = left.map_or(longest, |left| left.min(longest));
        let mut resolution = self.resolution.subscribe();
        let known = resolution.wait_for(|now| !matches!(now, Resolution::Pending));
        let failure = match tokio::time::timeout(longest, known).await {
            Ok(Ok(known)) => match &*known {
                Resolution::Failed(failure) => {
                    // Somebody wants to know again.
                    self.resolve_soon.notify_one();
                    failure.clone()
                }
                _ => return Ok(()),
            },
            _ => {
                let message = format!("no answer within {} ms", longest.as_millis());
                OutboundError::new(OutboundErrorKind::DnsTimeout, message)
            }
        };
        let code = code_of(&failure);
        self.log(code, &failure.message);
        Err(refuse(code, format!("{}: {}", self.name, failure.message)))
    }

    /// Lets a request in, for as long as what is returned lives.
    pub(super) fn admit(pool: &Local<Self>, now: Instant) -> Result<Admission, Rejection> {
        let now_ms = pool.ms_at(now);
        let passage = match &pool.circuit {
            None => Passage::Usual,
            Some(circuit) => circuit.pass(now_ms).map_err(|wait_ms| {
                pool.counters.refused.fetch_add(1, Ordering::Relaxed);
                let message = format!("{} is given rest: too much of it failed", pool.name);
                let mut rejection = refuse(ErrorCode::CircuitOpen, message);
                let seconds = wait_ms.div_ceil(1_000);
                rejection.retry_after_s = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
                rejection
            })?,
        };
        let most = pool.settings.circuit_breaker.as_ref().and_then(|breaker| breaker.max_requests);
        let admission = Admission { pool: pool.clone(), passage, counted: most.is_some() };
        if let Some(most) = most {
            // Counted before it is compared, and taken back by the admission's end.
            let before = pool.in_flight.fetch_add(1, Ordering::Relaxed);
            if before >= most {
                pool.counters.refused.fetch_add(1, Ordering::Relaxed);
                let message = format!("{most} requests are at {} already", pool.name);
                let mut rejection = refuse(ErrorCode::UpstreamOverloaded, message);
                rejection.retry_after_s = Some(1);
                return Err(rejection);
            }
        }
        pool.budget.count_request(now_ms);
        Ok(admission)
    }

    pub(super) fn leave(&self, passage: Passage, counted: bool) {
        if counted {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        if let (Passage::Probe(since), Some(circuit)) = (passage, &self.circuit) {
            circuit.probe_is_over(since);
        }
    }

    /// The target for a try. Another than those of earlier tries, while there is one that
    /// is well; ejected ones only when nobody else is left; never one that fails its
    /// checks.
    pub(super) fn choose(
        &self,
        key: Option<u64>,
        now: Instant,
        tried: &[Local<Target>],
    ) -> Option<Local<Target>> {
        let now_ms = self.ms_at(now);
        let set = self.set.load();
        let is_new = |target: &Target| is_new(target, tried);
        let checked = |target: &Target| target.health.passes_checks();
        let well = |target: &Target| checked(target) && !target.health.is_ejected(now_ms);
        if let Some(target) = set.choose(key, |target| well(target) && is_new(target)) {
            return Some(target.own());
        }
        if let Some(target) = set.choose(key, well).filter(|_| !tried.is_empty()) {
            return Some(target.own());
        }
        let last = set
            .choose(key, |target| checked(target) && is_new(target))
            .or_else(|| set.choose(key, checked))?;
        self.counters.panics.fetch_add(1, Ordering::Relaxed);
        Some(last.own())
    }

    /// Whether a try could go to a target that has not been tried and is well.
    pub(super) fn has_another(&self, now: Instant, tried: &[Local<Target>], last: &Target) -> bool {
        let now_ms = self.ms_at(now);
        self.set.load().targets.iter().any(|target| {
            !std::ptr::eq(&**target, last)
                && is_new(target, tried)
                && target.health.passes_checks()
                && !target.health.is_ejected(now_ms)
        })
    }

    /// Whether one more retry fits into the budget; it is counted if so.
    pub(super) fn may_retry(&self, now: Instant) -> bool {
        let now_ms = self.ms_at(now);
        let sums = self.budget.sums(now_ms, 0);
        let percent = u64::from(self.settings.retry.budget_percent);
        let fits = sums.marked < (sums.requests * percent / 100).max(BUDGET_LEAST);
        if fits {
            self.budget.mark(now_ms);
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
        } else {
            self.counters.retries_over_budget.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Learns from the end of a try.
    pub(super) fn judge(&self, target: &Target, passage: Passage, failed: bool) {
        if let Some(circuit) = &self.circuit {
            self.turned(circuit.ended(passage, failed, self.now_ms()));
        }
        if failed {
            self.blame(target);
        }
    }

    /// A response whose head was judged already has no end.
    pub(super) fn broke_off(&self, target: &Target) {
        if let Some(circuit) = &self.circuit {
            self.turned(circuit.broke_off(self.now_ms()));
        }
        self.blame(target);
    }

    fn turned(&self, turn: Option<Turn>) {
        match turn {
            Some(Turn::Opened) => {
                self.counters.circuit_opened.fetch_add(1, Ordering::Relaxed);
                let rest_ms = self.settings.circuit_breaker.as_ref().map_or(0, |it| it.open_ms);
                let message = format!("most requests fail: none are sent for {rest_ms} ms");
                self.say(Level::Warn, None, &message);
            }
            Some(Turn::Closed) => self.say(Level::Info, None, "requests are sent again"),
            None => {}
        }
    }

    fn blame(&self, target: &Target) {
        if target.health.failed(&self.settings.outliers) {
            self.eject(target);
        }
    }

    fn eject(&self, target: &Target) {
        let settings = &self.settings.outliers;
        let now_ms = self.now_ms();
        let set = self.set.load();
        let out = set.targets.iter().filter(|one| one.health.is_ejected(now_ms)).count() + 1;
        if out * 100 > settings.max_ejected_percent as usize * set.targets.len() {
            return;
        }
        if let Some(lasts_ms) = target.health.eject(settings, now_ms) {
            target.counters.ejections.fetch_add(1, Ordering::Relaxed);
            let target = &target.label;
            let message = format!("{target} is ejected for {lasts_ms} ms after failures in a row");
            self.say(Level::Warn, None, &message);
        }
    }

    /// Ends ejections and closes connections whose time is over.
    pub(super) fn tidy(&self) {
        let (now, now_ms) = (Instant::now(), self.now_ms());
        let keeps_for = Duration::from_millis(self.settings.keep_alive_ms);
        for target in &self.set.load().targets {
            target.sweep(now, keeps_for);
            if target.health.readmit(&self.settings.outliers, now_ms) {
                self.say(Level::Info, None, &format!("{} is used again", target.label));
            }
        }
    }

    /// Tells the operator and the app's owner.
    pub(super) fn say(&self, level: Level, code: Option<ErrorCode>, message: &str) {
        let (app, upstream) = (&self.app, &self.name);
        if level >= Level::Warn {
            tracing::warn!(%app, %upstream, "{message}");
        } else {
            tracing::info!(%app, %upstream, "{message}");
        }
        self.logs.app_line(AppLine {
            at: SystemTime::now(),
            app: app.clone(),
            level,
            message: format!("upstream {upstream}: {message}"),
            code,
        });
    }

    /// Says why a request failed, without a line for each of a thousand.
    pub(super) fn log(&self, code: ErrorCode, message: &str) {
        let now_ms = self.now_ms() + LOG_INTERVAL_MS;
        let last = self.logged_ms.load(Ordering::Relaxed);
        let taken = now_ms.saturating_sub(last) >= LOG_INTERVAL_MS
            && self
                .logged_ms
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !taken {
            self.unlogged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let more = match self.unlogged.swap(0, Ordering::Relaxed) {
            0 => String::new(),
            count => format!(" ({count} more failed since the last line)"),
        };
        self.say(Level::Warn, Some(code), &format!("{message}{more}"));
    }
}

fn is_new(target: &Target, tried: &[Local<Target>]) -> bool {
    !tried.iter().any(|one| std::ptr::eq(&**one, target))
}

impl Drop for UpstreamPool {
    fn drop(&mut self) {
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
    }
}
