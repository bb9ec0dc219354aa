//! Sums by day, target, trigger and API client.

use std::collections::BTreeMap;

use squall_types::calendar::Day;
use squall_types::invoke::Trigger;
use squall_types::usage::{UsageRow, UsageSubject, UsageTarget, UsageTotals};

/// What a row of usage is a sum for, in the order in which rows are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub(super) day: Day,
    pub(super) origin: Origin,
}

/// Whose usage it is, as the ledger writes it down.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) app: String,
    pub(super) target: Target,
    pub(super) revision: String,
    /// The `Trigger` as its number.
    pub(super) trigger: u8,
    pub(super) client: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Function(String),
    Upstream(String),
}

impl Origin {
    pub(super) fn new(subject: &UsageSubject, trigger: Trigger) -> Self {
        Self {
            app: subject.target.app().to_string(),
            target: match &subject.target {
                UsageTarget::Function(spec) => Target::Function(spec.key.function.to_string()),
                UsageTarget::Upstream(key) => Target::Upstream(key.upstream.clone()),
            },
            revision: subject.target.revision().to_string(),
            trigger: trigger as u8,
            client: subject.client.as_ref().map(|client| client.id.clone()),
        }
    }
}

pub(super) type Totals = BTreeMap<RowKey, UsageTotals>;

pub(super) fn merge(into: &mut Totals, from: &Totals) {
    for (key, totals) in from {
        into.entry(key.clone()).or_default().merge(totals);
    }
}

pub(super) fn trigger_of(number: u8) -> Option<Trigger> {
    Trigger::ALL.into_iter().find(|trigger| *trigger as u8 == number)
}

pub(super) fn row_of(key: &RowKey, totals: &UsageTotals) -> Option<UsageRow> {
    let Origin { app, target, revision, trigger, client } = &key.origin;
    let (function, upstream) = match target.clone() {
        Target::Function(name) => (Some(name), None),
        Target::Upstream(name) => (None, Some(name)),
    };
    Some(UsageRow {
        day: key.day.to_string(),
        app: app.clone(),
        function,
        upstream,
        revision: revision.clone(),
        trigger: trigger_of(*trigger)?,
        client: client.clone(),
        totals: totals.clone(),
    })
}

pub(super) fn key_of(row: &UsageRow) -> Option<RowKey> {
    let target = match (&row.function, &row.upstream) {
        (Some(name), None) => Target::Function(name.clone()),
        (None, Some(name)) => Target::Upstream(name.clone()),
        _ => return None,
    };
    Some(RowKey {
        day: Day::parse(&row.day)?,
        origin: Origin {
            app: row.app.clone(),
            target,
            revision: row.revision.clone(),
            trigger: row.trigger as u8,
            client: row.client.clone(),
        },
    })
}
