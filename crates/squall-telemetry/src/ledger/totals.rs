//! Sums by day, function and trigger.

use std::collections::BTreeMap;

use squall_types::invoke::Trigger;
use squall_types::state::FunctionKey;
use squall_types::usage::{UsageRow, UsageTotals};

use crate::day::Day;

/// What a row of usage is a sum for, in the order in which rows are listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub(super) day: Day,
    pub(super) app: String,
    pub(super) function: String,
    pub(super) revision: String,
    /// The `Trigger` as its number.
    pub(super) trigger: u8,
}

impl RowKey {
    pub(super) fn new(day: Day, function: &FunctionKey, trigger: Trigger) -> Self {
        Self {
            day,
            app: function.app.to_string(),
            function: function.function.to_string(),
            revision: function.revision.to_string(),
            trigger: trigger as u8,
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
    Some(UsageRow {
        day: key.day.to_string(),
        app: key.app.clone(),
        function: key.function.clone(),
        revision: key.revision.clone(),
        trigger: trigger_of(key.trigger)?,
        totals: totals.clone(),
    })
}

pub(super) fn key_of(row: &UsageRow) -> Option<RowKey> {
    Some(RowKey {
        day: Day::parse(&row.day)?,
        app: row.app.clone(),
        function: row.function.clone(),
        revision: row.revision.clone(),
        trigger: row.trigger as u8,
    })
}
