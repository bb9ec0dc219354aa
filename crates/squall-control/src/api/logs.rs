//! Logs: the newest, and what comes, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt as _};
use squall_types::ErrorCode;
use squall_types::log::{Level, LogEntry, LogEvent, LogFilter};

use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Page, Query};
use crate::tokens::Scope;

const LIMIT_MAX: usize = 10_000;

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Wanted {
    app: Option<String>,
    function: Option<String>,
    level: Option<Level>,
    status: Option<String>,
    trace_id: Option<String>,
    limit: Option<usize>,
    tail: Option<usize>,
}

impl Wanted {
    fn filter(&self) -> Answer<LogFilter> {
        if let Some(status) = &self.status {
            let bytes = status.as_bytes();
            let class = bytes.len() == 3 && bytes[0].is_ascii_digit() && &bytes[1..] == b"xx";
            if !class && status.parse::<u16>().is_err() {
                let why =
                    format!("status = {status:?} is neither a status (404) nor a class (5xx)");
                return Err(Problem::new(ErrorCode::InvalidRequest, why));
            }
        }
        Ok(LogFilter {
            app: self.app.clone(),
            function: self.function.clone(),
            level: self.level,
            status: self.status.clone(),
            trace_id: self.trace_id.clone(),
        })
    }
}

fn check_limit(limit: usize) -> Answer<usize> {
    if limit > LIMIT_MAX {
        let why = format!("{limit} lines are too many; at most {LIMIT_MAX} are kept at hand");
        return Err(Problem::new(ErrorCode::InvalidRequest, why));
    }
    Ok(limit)
}

pub(crate) async fn recent(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<Page<Arc<LogEntry>>>> {
    caller.needs(Scope::Read)?;
    let filter = wanted.filter()?;
    let limit = check_limit(wanted.limit.unwrap_or(100))?;
    crate::blocking(move || {
        let items = inner.options.logs.recent(&filter, limit);
        if let (Some(app), true) = (&filter.app, items.is_empty()) {
            inner.expect_app(app)?;
        }
        Ok(Json(Page { items, next: None }))
    })
    .await
}

pub(crate) async fn stream(
    State(inner): Api,
    caller: Caller,
    Query(wanted): Query<Wanted>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    caller.needs(Scope::Read)?;
    let filter = wanted.filter()?;
    let tail = check_limit(wanted.tail.unwrap_or(0))?;
    // Followed first, read back after: an entry may come twice, none is missed.
    let follower = inner.options.logs.follow(filter.clone());
    let older = match tail {
        0 => Vec::new(),
        _ => {
            let inner = inner.clone();
            crate::blocking(move || Ok(inner.options.logs.recent(&filter, tail))).await?
        }
    };
    let older = stream::iter(older.into_iter().map(LogEvent::Entry));
    let ending = inner.ending.subscribe();
    let gone = Box::pin(caller.gone(inner.clone()));
    let state = (follower, ending, gone);
    let newer = stream::unfold(state, |(mut follower, mut ending, mut gone)| async move {
        let event = tokio::select! {
            event = follower.recv() => event?,
            _ = ending.wait_for(|ending| *ending) => return None,
            () = &mut gone => return None,
        };
        Some((event, (follower, ending, gone)))
    });
    let events = older.chain(newer).map(|event| {
        let event = match event {
            LogEvent::Entry(entry) => Event::default()
                .event("entry")
                .data(serde_json::to_string(&*entry).unwrap_or_default()),
            LogEvent::Dropped(count) => {
                Event::default().event("dropped").data(format!("{{\"count\":{count}}}"))
            }
        };
        Ok(event)
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(10))))
}
