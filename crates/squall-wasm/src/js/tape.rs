//! Recording what crosses the boundary of an instance, and playing it back: see
//! `squall_js::recording` for what that is good for.

use std::sync::Arc;

use squall_js::recording::{Entry, Recording};
use squall_types::state::FunctionSpec;

/// Takes recordings of instances that served one request. Called on a request core: it
/// must not block.
pub trait RecordingSink: Send + Sync + 'static {
    fn recorded(&self, function: &Arc<FunctionSpec>, recording: Recording);
}

/// Where a replayed program did something else than what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {at} of the recording: {what}")]
pub struct Divergence {
    /// Counted from 0.
    pub at: usize,
    pub what: String,
}

/// What an instance does with what crosses.
#[derive(Default)]
pub(crate) enum Tape {
    #[default]
    Off,
    Recording(Vec<Entry>),
    Replaying {
        entries: Vec<Entry>,
        at: usize,
    },
}

impl Tape {
    pub(crate) fn record(&mut self, entry: impl FnOnce() -> Entry) {
        if let Tape::Recording(entries) = self {
            entries.push(entry());
        }
    }

    /// What the host makes happen next, in a replay. # Errors
    /// Fails when the program was recorded to do more first.
    pub(crate) fn next_of_the_host(&mut self) -> Result<Option<Entry>, Divergence> {
        let Tape::Replaying { entries, at } = self else { return Ok(None) };
        match entries.get(*at) {
            None => Ok(None),
            Some(entry) if entry.is_of_the_host() => {
                *at += 1;
                Ok(Some(entry.clone()))
            }
            Some(entry) => {
                let what = format!("the program did not go on with {}", name(entry));
                Err(Divergence { at: *at, what })
            }
        }
    }

    /// The recorded reply to a call, in a replay. # Errors
    /// Fails when this is not the call that was recorded.
    pub(crate) fn reply_to_call(
        &mut self,
        op: u32,
        arguments: &[u8],
    ) -> Result<Option<(bool, &[u8])>, Divergence> {
        let Tape::Replaying { entries, at } = self else { return Ok(None) };
        match entries.get(*at) {
            Some(Entry::Call { op: recorded, arguments: same, refused, reply })
                if *recorded == op && same == arguments =>
            {
                *at += 1;
                Ok(Some((*refused, reply)))
            }
            other => Err(differs(*at, &format!("called operation {op}"), other, arguments)),
        }
    }

    /// The recorded number of something that is started, in a replay. # Errors
    /// Fails when this is not the start that was recorded.
    pub(crate) fn number_of_start(
        &mut self,
        op: u32,
        arguments: &[u8],
    ) -> Result<Option<u32>, Divergence> {
        let Tape::Replaying { entries, at } = self else { return Ok(None) };
        match entries.get(*at) {
            Some(Entry::Start { op: recorded, arguments: same, operation })
                if *recorded == op && same == arguments =>
            {
                *at += 1;
                Ok(Some(*operation))
            }
            other => Err(differs(*at, &format!("started operation {op}"), other, arguments)),
        }
    }

    /// Whether this is a replay, in which nothing is cancelled. # Errors
    /// Fails when this is not what was recorded.
    pub(crate) fn expects_cancel(&mut self, operation: u32) -> Result<bool, Divergence> {
        let Tape::Replaying { entries, at } = self else { return Ok(false) };
        match entries.get(*at) {
            Some(Entry::Cancel { operation: recorded }) if *recorded == operation => {
                *at += 1;
                Ok(true)
            }
            other => Err(differs(*at, &format!("cancelled {operation}"), other, &[])),
        }
    }
}

fn name(entry: &Entry) -> String {
    match entry {
        Entry::Event { .. } => "an event".to_owned(),
        Entry::Completion { operation, .. } => format!("the completion of {operation}"),
        Entry::Call { op, .. } => format!("a call of operation {op}"),
        Entry::Start { op, .. } => format!("a start of operation {op}"),
        Entry::Cancel { operation } => format!("the cancelling of {operation}"),
    }
}

fn differs(at: usize, did: &str, recorded: Option<&Entry>, arguments: &[u8]) -> Divergence {
    let what = match recorded {
        None => format!("the program {did} behind the end"),
        Some(Entry::Call { arguments: before, .. } | Entry::Start { arguments: before, .. }) => {
            let same = before.iter().zip(arguments).take_while(|(one, other)| one == other).count();
            let recorded = recorded.map(name).unwrap_or_default();
            format!(
                "the program {did} with {} bytes of arguments, recorded is {recorded} with {}; the first {same} are equal",
                arguments.len(),
                before.len()
            )
        }
        Some(other) => format!("the program {did}, recorded is {}", name(other)),
    };
    Divergence { at, what }
}
