//! The host's operations, by number.

use std::borrow::Cow;

use futures_util::future::BoxFuture;
use squall_js::{Value, Writer, op};
use squall_types::log::Level;

use super::build::MODULE_NAME;
use super::caches;
use super::compute::{self, Computed};
use super::fetch;
use super::host::{Denied, Host, Refusal, reader};
use super::respond;
use bytes::Bytes;

/// What became of an operation that was started.
pub(crate) enum Outcome {
    Value(Result<Value, Refusal>),
    /// The head of a response; its body gets a handle.
    Fetched(Box<fetch::Fetched>),
    /// Of another thread, with the CPU time that it took there.
    Computed(Computed, u64),
}

pub(crate) struct Completion {
    pub(crate) operation: u32,
    /// The request that started it.
    pub(crate) request: u32,
    pub(crate) outcome: Outcome,
}

impl Completion {
    /// CPU time that other threads spent on it. Its meter has it already.
    pub(crate) fn cpu_ns_elsewhere(&self) -> u64 {
        match &self.outcome {
            Outcome::Computed(_, cpu_ns) => *cpu_ns,
            Outcome::Value(_) | Outcome::Fetched(_) => 0,
        }
    }
}

pub(crate) type OperationFuture = BoxFuture<'static, Outcome>;

pub(crate) fn refused(refusal: Refusal) -> OperationFuture {
    Box::pin(std::future::ready(Outcome::Value(Err(refusal))))
}

fn done(value: impl Future<Output = Result<Value, Refusal>> + Send + 'static) -> OperationFuture {
    Box::pin(async move { Outcome::Value(value.await) })
}

/// Most bytes of randomness at once; `crypto.getRandomValues` gives 65,536.
const RANDOM_MAX: i32 = 65_536;
/// Longest line of a console; the log cuts it further.
const LOG_TEXT_MAX: usize = 64 << 10;

/// A synchronous operation. Its result goes to `reply`, which is empty.
pub(crate) fn perform(
    host: &mut Host,
    operation: u32,
    message: &[u8],
    reply: &mut Vec<u8>,
) -> Result<(), Denied> {
    let mut arguments = reader(message)?;
    let mut answer = Writer { out: reply };
    match operation {
        op::RESPOND => respond::respond(host, &mut arguments, false)?,
        op::RESPOND_AND_END => respond::respond(host, &mut arguments, true)?,
        op::RESPONSE_END => respond::end_body(host, &mut arguments)?,
        op::FAIL => respond::fail(host, &mut arguments)?,
        op::END => respond::end(host, &mut arguments)?,
        op::BODY_CANCEL => {
            let handle = arguments.int()?;
            host.bodies.remove(handle as u32);
        }
        op::BODY_TAKE => {
            let handle = arguments.int()? as u32;
            let as_text = arguments.bool()?;
            match host.bodies.take_now(handle, host.limiter.limit_bytes).transpose()? {
                None => answer.null(),
                Some(whole) if as_text => answer.str(&text(&whole)),
                Some(whole) => answer.bytes(&whole),
            }
            return Ok(());
        }
        op::WALL_CLOCK => {
            answer.float(host.wall_clock_ms());
            return Ok(());
        }
        op::MONOTONIC_CLOCK => {
            answer.float(host.monotonic_ms());
            return Ok(());
        }
        op::RANDOM_BYTES => {
            let length = arguments.int()?;
            if !(0..=RANDOM_MAX).contains(&length) {
                return Err(Refusal::new("QuotaExceededError", "too many random bytes").into());
            }
            let mut bytes = vec![0; length as usize];
            random(&mut bytes)?;
            answer.bytes(&bytes);
            return Ok(());
        }
        op::ENV => {
            match (&host.world, &host.load) {
                (Some(world), _) => answer.out.extend_from_slice(&world.env),
                (None, Some(load)) => answer.out.extend_from_slice(&load.env),
                (None, None) => answer.array(0),
            }
            return Ok(());
        }
        op::LOG => {
            let level = match arguments.str()? {
                "debug" => Level::Debug,
                "warn" => Level::Warn,
                "error" => Level::Error,
                _ => Level::Info,
            };
            log(host, level, arguments.str()?);
        }
        op::HEED_CLIENT => {
            let id = arguments.int()? as u32;
            if let Some(request) = host.requests.get_mut(&id) {
                request.heeds_client = true;
            }
        }
        op::FETCH_END => fetch::end_body(host, &mut arguments)?,
        _ => {
            compute::perform(host, operation, message)?.encode(answer.out);
            return Ok(());
        }
    }
    answer.null();
    Ok(())
}

pub(crate) fn random(bytes: &mut [u8]) -> Result<(), Refusal> {
    getrandom::fill(bytes)
        .map_err(|error| Refusal::new("OperationError", format!("no randomness: {error}")))
}

fn log(host: &mut Host, level: Level, text: &str) {
    let mut end = text.len().min(LOG_TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    if let Some(load) = &mut host.load {
        load.log.push((level, text.to_owned()));
        return;
    }
    let (Some(log), Some(world)) = (host.log(), &host.world) else { return };
    let mapping = text.contains(MODULE_NAME).then(|| world.mapping());
    log.console(level, text, mapping);
}

/// An operation that takes time. `number` is what the program knows it by.
pub(crate) fn begin(
    host: &mut Host,
    number: u32,
    operation: u32,
    message: &[u8],
) -> Result<OperationFuture, Denied> {
    let mut arguments = reader(message)?;
    Ok(match operation {
        op::SLEEP => {
            let milliseconds = arguments.number()?.clamp(0.0, f64::from(i32::MAX));
            let duration = std::time::Duration::from_secs_f64(milliseconds / 1000.0);
            done(async move {
                tokio::time::sleep(duration).await;
                Ok(Value::Null)
            })
        }
        op::RESPONSE_WRITE => {
            let request = arguments.int()? as u32;
            let piece = Bytes::copy_from_slice(arguments.bytes()?);
            let writer = host.requests.get(&request).and_then(|request| request.body.clone());
            let writer =
                writer.ok_or_else(|| Refusal::type_error("the response has ended already"))?;
            done(async move { writer.write(piece).await.map(|()| Value::Null) })
        }
        op::BODY_READ => {
            let body = host.bodies.get(arguments.int()? as u32)?;
            let largest = arguments.int()?.max(1) as usize;
            done(async move {
                Ok(match body.lock().await.read(largest).await? {
                    Some(piece) => Value::Bytes(piece.into()),
                    None => Value::Null,
                })
            })
        }
        op::BODY_READ_ALL => {
            let handle = arguments.int()? as u32;
            let as_text = arguments.bool()?;
            let body = host.bodies.get(handle)?;
            host.bodies.remove(handle);
            let largest = host.limiter.limit_bytes;
            done(async move {
                let whole = body.lock().await.read_all(largest).await?;
                Ok(if as_text {
                    Value::String(text(&whole).into_owned())
                } else {
                    Value::Bytes(whole.into())
                })
            })
        }
        op::FETCH => fetch::begin(host, number, &mut arguments)?,
        op::FETCH_WRITE => fetch::write(host, &mut arguments)?,
        op::CACHE_FIND => caches::find(host, &mut arguments)?,
        op::CACHE_PUT => caches::put(host, number, &mut arguments)?,
        op::CACHE_DELETE => caches::delete(host, &mut arguments)?,
        _ => compute::begin(host, operation, message)?,
    })
}

/// UTF-8 decode of the Encoding standard: without a byte order mark, and malformed input
/// replaced.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}
