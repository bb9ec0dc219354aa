//! The payload of a frame: a batch of records with a dictionary of what they are about,
//! or sums where memory did not suffice for the records.
//!
//! Integers are LEB128, texts have their length in front. A batch is
//!
//! ```text
//! 3  base (µs since 1970)
//!    origins: count, then for each
//!      app, kind of target (1 byte: 1 function, 2 upstream), its name, revision,
//!      trigger (1 byte), client (empty for none)
//!    records: count, then for each
//!      origin (index), start (zigzag µs from base), wall ns, cpu ns, memory bytes,
//!      bytes in, bytes out, status, error code or 0, flags (1 byte), trace id (16 bytes)
//! 5  rows: count, then for each
//!      day, origin, the eleven totals in the order of UsageTotals
//! ```
//!
//! Frames of kind 4 are those of before there was a cache: the same, but for the last of
//! the totals. Frames of kind 1 and 2 are those of before there were clients and upstreams:
//! as 3 and 4, but for their origins, which are app, function, revision, trigger. They are
//! read for ever and not written any more.
//!
//! Decoding never trusts a count: each element is read or the whole payload is refused.

use std::collections::HashMap;
use std::sync::Arc;

use squall_types::calendar::{Day, unix_micros};
use squall_types::invoke::Trigger;
use squall_types::usage::{UsageRecord, UsageSubject, UsageTotals};

use super::totals::{Origin, RowKey, Target, Totals, trigger_of};

const KIND_RECORDS_OF_FUNCTIONS: u8 = 1;
const KIND_SUMS_OF_FUNCTIONS: u8 = 2;
const KIND_RECORDS: u8 = 3;
const KIND_SUMS_WITHOUT_CACHE: u8 = 4;
const KIND_SUMS: u8 = 5;

const TARGET_FUNCTION: u8 = 1;
const TARGET_UPSTREAM: u8 = 2;

const FLAG_ESTIMATED: u8 = 1;
const FLAG_COLD: u8 = 2;
const FLAG_ABORTED: u8 = 4;
const FLAG_CACHE_HIT: u8 = 8;

/// Collects records into one payload and sums them on the way.
#[derive(Default)]
pub(super) struct Batch {
    index: HashMap<Place, u64>,
    origins: Vec<OriginSums>,
    last: Option<(Place, u64)>,
    base_us: u64,
    records: Vec<u8>,
    count: u64,
}

/// An origin as the batch finds it again: by addresses, which `origins` keeps in use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    target: usize,
    trigger: u8,
    client: Option<usize>,
}

struct OriginSums {
    subject: UsageSubject,
    trigger: Trigger,
    /// Few: nearly all records of a batch began on the same day.
    days: Vec<(Day, UsageTotals)>,
}

impl Batch {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn push(&mut self, record: UsageRecord) {
        let started_us = unix_micros(record.started);
        if self.count == 0 {
            self.base_us = started_us;
        }
        self.count += 1;
        let index = self.index_of(&record);
        self.origins[index as usize].totals(Day::of_micros(started_us)).add(&record);

        let out = &mut self.records;
        put(out, index);
        put(out, zigzag(started_us.wrapping_sub(self.base_us) as i64));
        put(out, record.wall_ns);
        put(out, record.cpu_ns);
        put(out, record.memory_bytes);
        put(out, record.bytes_in);
        put(out, record.bytes_out);
        put(out, record.status.into());
        put(out, record.code.map_or(0, |code| code as u64));
        out.push(
            (u8::from(record.estimated) * FLAG_ESTIMATED)
                | (u8::from(record.cold) * FLAG_COLD)
                | (u8::from(record.aborted) * FLAG_ABORTED)
                | (u8::from(record.cache_hit) * FLAG_CACHE_HIT),
        );
        out.extend_from_slice(&record.trace_id);
    }

    fn index_of(&mut self, record: &UsageRecord) -> u64 {
        let UsageSubject { target, client } = &record.subject;
        let place = Place {
            target: target.address(),
            trigger: record.trigger as u8,
            client: client.as_ref().map(|client| Arc::as_ptr(client) as usize),
        };
        // Most records of a batch are like the one before.
        if let Some((last, index)) = self.last
            && last == place
        {
            return index;
        }
        let origins = &mut self.origins;
        let index = *self.index.entry(place).or_insert_with(|| {
            let subject = record.subject.clone();
            origins.push(OriginSums { subject, trigger: record.trigger, days: Vec::new() });
            origins.len() as u64 - 1
        });
        self.last = Some((place, index));
        index
    }

    /// The payload of a frame.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.records.len() + 32 + 64 * self.origins.len());
        out.push(KIND_RECORDS);
        put(&mut out, self.base_us);
        put(&mut out, self.origins.len() as u64);
        for origin in &self.origins {
            put_origin(&mut out, &Origin::new(&origin.subject, origin.trigger));
        }
        put(&mut out, self.count);
        out.extend_from_slice(&self.records);
        out
    }

    pub(super) fn merge_into(&self, totals: &mut Totals) {
        for known in &self.origins {
            let origin = Origin::new(&known.subject, known.trigger);
            for (day, sum) in &known.days {
                let key = RowKey { day: *day, origin: origin.clone() };
                totals.entry(key).or_default().merge(sum);
            }
        }
    }
}

impl OriginSums {
    fn totals(&mut self, day: Day) -> &mut UsageTotals {
        let place = self.days.iter().position(|(known, _)| *known == day).unwrap_or_else(|| {
            self.days.push((day, UsageTotals::default()));
            self.days.len() - 1
        });
        &mut self.days[place].1
    }
}

/// The payload of a frame that holds sums.
pub(super) fn encode_sums(totals: &Totals) -> Vec<u8> {
    let mut out = vec![KIND_SUMS];
    put(&mut out, totals.len() as u64);
    for (key, sum) in totals {
        put(&mut out, key.day.0.into());
        put_origin(&mut out, &key.origin);
        for number in [
            sum.invocations,
            sum.failed,
            sum.aborted,
            sum.cold,
            sum.wall_ns,
            sum.cpu_ns,
            sum.cpu_estimated_ns,
            sum.memory_byte_ms,
            sum.bytes_in,
            sum.bytes_out,
            sum.cache_hits,
        ] {
            put(&mut out, number);
        }
    }
    out
}

/// Adds everything that a payload holds to `totals`. On `None`, which a payload with a
/// good checksum gives only when another version wrote it, `totals` is unchanged.
pub(super) fn decode(payload: &[u8], totals: &mut Totals) -> Option<()> {
    let mut sums = Totals::new();
    let (kind, rest) = payload.split_first()?;
    let mut input = Input(rest);
    match *kind {
        KIND_RECORDS => decode_records(&mut input, Input::origin, &mut sums)?,
        KIND_SUMS => decode_sums(&mut input, Input::origin, true, &mut sums)?,
        KIND_SUMS_WITHOUT_CACHE => decode_sums(&mut input, Input::origin, false, &mut sums)?,
        KIND_RECORDS_OF_FUNCTIONS => decode_records(&mut input, Input::function, &mut sums)?,
        KIND_SUMS_OF_FUNCTIONS => decode_sums(&mut input, Input::function, false, &mut sums)?,
        _ => return None,
    }
    if !input.0.is_empty() {
        return None;
    }
    super::totals::merge(totals, &sums);
    Some(())
}

/// Reads an origin in the way of one kind of frame.
type ReadOrigin<'a> = fn(&mut Input<'a>) -> Option<Origin>;

fn decode_records<'a>(
    input: &mut Input<'a>,
    read_origin: ReadOrigin<'a>,
    sums: &mut Totals,
) -> Option<()> {
    let base_us = input.number()?;
    let mut rows: Vec<(RowKey, UsageTotals)> = Vec::new();
    for _ in 0..input.number()? {
        let key = RowKey { day: Day(0), origin: read_origin(input)? };
        rows.push((key, UsageTotals::default()));
    }
    for _ in 0..input.number()? {
        let (key, sum) = rows.get_mut(usize::try_from(input.number()?).ok()?)?;
        let started_us = base_us.wrapping_add(unzigzag(input.number()?) as u64);
        let day = Day::of_micros(started_us);
        if day != key.day {
            if !sum.is_empty() {
                sums.entry(key.clone()).or_default().merge(sum);
            }
            key.day = day;
            *sum = UsageTotals::default();
        }
        let (wall_ns, cpu_ns, memory_bytes) = (input.number()?, input.number()?, input.number()?);
        let (bytes_in, bytes_out) = (input.number()?, input.number()?);
        let (status, code) = (input.number()?, input.number()?);
        let flags = input.bytes(1)?[0];
        input.bytes(16)?;
        // The same arithmetic as UsageTotals::add, which wants a whole record; a test
        // holds the two together.
        if flags & FLAG_CACHE_HIT != 0 {
            sum.merge(&UsageTotals {
                cache_hits: 1,
                bytes_in,
                bytes_out,
                ..UsageTotals::default()
            });
            continue;
        }
        let byte_ms = u128::from(memory_bytes) * u128::from(wall_ns) / 1_000_000;
        sum.merge(&UsageTotals {
            invocations: 1,
            failed: u64::from(status >= 500 || code != 0),
            aborted: u64::from(flags & FLAG_ABORTED != 0),
            cold: u64::from(flags & FLAG_COLD != 0),
            wall_ns,
            cpu_ns,
            cpu_estimated_ns: if flags & FLAG_ESTIMATED != 0 { cpu_ns } else { 0 },
            memory_byte_ms: u64::try_from(byte_ms).unwrap_or(u64::MAX),
            bytes_in,
            bytes_out,
            cache_hits: 0,
        });
    }
    for (key, sum) in rows {
        if !sum.is_empty() {
            sums.entry(key).or_default().merge(&sum);
        }
    }
    Some(())
}

fn decode_sums<'a>(
    input: &mut Input<'a>,
    read_origin: ReadOrigin<'a>,
    has_cache: bool,
    sums: &mut Totals,
) -> Option<()> {
    for _ in 0..input.number()? {
        let day = Day(u32::try_from(input.number()?).ok()?);
        let key = RowKey { day, origin: read_origin(input)? };
        let sum = UsageTotals {
            invocations: input.number()?,
            failed: input.number()?,
            aborted: input.number()?,
            cold: input.number()?,
            wall_ns: input.number()?,
            cpu_ns: input.number()?,
            cpu_estimated_ns: input.number()?,
            memory_byte_ms: input.number()?,
            bytes_in: input.number()?,
            bytes_out: input.number()?,
            cache_hits: if has_cache { input.number()? } else { 0 },
        };
        sums.entry(key).or_default().merge(&sum);
    }
    Some(())
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return None;
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        String::from_utf8(self.bytes(length)?.to_vec()).ok()
    }

    fn origin(&mut self) -> Option<Origin> {
        let app = self.text()?;
        let kind = self.bytes(1)?[0];
        let name = self.text()?;
        let target = match kind {
            TARGET_FUNCTION => Target::Function(name),
            TARGET_UPSTREAM => Target::Upstream(name),
            _ => return None,
        };
        let (revision, trigger) = (self.text()?, self.trigger()?);
        let client = Some(self.text()?).filter(|client| !client.is_empty());
        Some(Origin { app, target, revision, trigger, client })
    }

    fn function(&mut self) -> Option<Origin> {
        let (app, function, revision) = (self.text()?, self.text()?, self.text()?);
        let (target, trigger) = (Target::Function(function), self.trigger()?);
        Some(Origin { app, target, revision, trigger, client: None })
    }

    fn trigger(&mut self) -> Option<u8> {
        let number = self.bytes(1)?[0];
        trigger_of(number).map(|_| number)
    }
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    put_text(out, &origin.app);
    let (kind, name) = match &origin.target {
        Target::Function(name) => (TARGET_FUNCTION, name),
        Target::Upstream(name) => (TARGET_UPSTREAM, name),
    };
    out.push(kind);
    put_text(out, name);
    put_text(out, &origin.revision);
    out.push(origin.trigger);
    put_text(out, origin.client.as_deref().unwrap_or_default());
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
