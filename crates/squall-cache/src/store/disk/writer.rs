//! The one thread that changes what is on disk.
//!
//! It gathers small records and writes them together, makes room by removing the oldest
//! segment, and keeps on while the disk fails: then nothing is written, and after a while one
//! response tries again.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Disk;

use super::list::{List, Listed, listed_bytes_max};
use super::queue::{Job, Next};
use super::record::{RecordHead, padded};
use super::segment::{META_BYTES_MAX, Read, Segment};
use crate::store::coding::pieces;
use crate::store::index::{Place, Serial, Slot};
use crate::store::marks::Judged;
use crate::store::stats::count;
use crate::store::{Shared, State};
use crate::{Entry, KeyHash};

/// Records are written when they are so much together, or when nothing else waits.
const BATCH_BYTES: usize = 256 << 10;
/// Larger bodies are written without copying them.
const COPIED_BYTES_MAX: u64 = 64 << 10;
/// How long nothing is written after a write has failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Responses that were asked for are written again when their segment goes, up to this part
/// of it: so every removal makes room.
const SECOND_CHANCE_PART: u64 = 2;

/// Does what the queue says until it is closed.
pub(in crate::store) fn run(shared: &Shared, disk: &Disk) {
    let last_id = disk.segments().keys().next_back().map_or(0, |id| id.get());
    let mut writer = Writer { shared, disk, active: None, last_id, retry_at: None };
    writer.begin();
    loop {
        match disk.queue.next(writer.is_flushed()) {
            Next::Job(job) => writer.work(job),
            Next::Idle => writer.flush_or_fail(),
            Next::Closed => return writer.end(),
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    disk: &'a Disk,
    active: Option<Active>,
    /// Of the last segment that was made, or could not be: a number is not used again.
    last_id: u32,
    /// Set while the disk fails.
    retry_at: Option<Instant>,
}

/// The segment that is written to.
struct Active {
    segment: Arc<Segment>,
    /// Where the buffer will be written.
    at: u64,
    buffer: Vec<u8>,
    staged: Vec<Staged>,
    /// What the list will grow by when they are written.
    list_bytes: u64,
}

/// A response whose record is not written yet.
struct Staged {
    key: KeyHash,
    serial: Serial,
    place: Place,
    /// Where its record is that gets a second chance.
    from: Option<Place>,
}

impl Active {
    fn new(segment: Arc<Segment>) -> Active {
        let at = segment.end();
        Active { segment, at, buffer: Vec::new(), staged: Vec::new(), list_bytes: 0 }
    }

    fn end(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.disk.queue.end();
    }
}

impl Writer<'_> {
    /// Goes on with the last segment, if it has room, and keeps to a budget that may have
    /// become smaller.
    fn begin(&mut self) {
        let last = self.disk.segments().values().next_back().cloned();
        if let Some(last) = last.filter(|last| last.end() < self.disk.segment_bytes / 2) {
            match last.reopen() {
                Ok(()) => self.active = Some(Active::new(last)),
                Err(error) => self.fail(&error),
            }
        }
        if let Err(error) = self.make_room(0) {
            self.fail(&error);
        }
        let segments: Vec<_> = self.disk.segments().values().cloned().collect();
        segments.iter().for_each(|segment| self.remove_if_dead(segment));
    }

    fn end(&mut self) {
        self.flush_or_fail();
        if let Some(active) = self.active.take()
            && let Err(error) = self.seal(&active.segment)
        {
            self.fail(&error);
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Write(resident) => {
                let (key, serial) = (resident.key, resident.serial);
                match self.write(&resident.entry, key, serial) {
                    Ok(()) => {}
                    Err(Refused::Gone) => _ = self.disk.queue.settle(serial),
                    Err(Refused::Unfit) => self.give_up(key, serial),
                    Err(Refused::Failed(error)) => {
                        self.give_up(key, serial);
                        self.fail(&error);
                    }
                }
            }
            Job::Strike(place) => self.strike(place),
            Job::Release(place) => self.release(place),
            Job::Flush(done) => {
                self.flush_or_fail();
                // Who waited may have gone.
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, entry: &Entry, key: KeyHash, serial: Serial) -> Result<(), Refused> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err(Refused::Unfit);
        }
        if self.shared.index.shard(&key).find(&key, serial).is_none() {
            return Err(Refused::Gone);
        }
        let head = RecordHead::of(entry)
            .filter(|head| head.bytes() <= self.disk.entry_bytes_max)
            .filter(|head| head.meta.len() <= META_BYTES_MAX)
            .ok_or(Refused::Unfit)?;
        let list_bytes = listed_bytes_max(&entry.key.space.app, &entry.head.vary);
        self.make_room(padded(head.bytes()) + list_bytes)?;
        let body = pieces(&entry.body);
        self.append(&head, body, Staged::of(key, serial, None), list_bytes)?;
        Ok(())
    }

    fn append<'b>(
        &mut self,
        head: &RecordHead,
        body: impl Iterator<Item = &'b Bytes>,
        staged: Staged,
        list_bytes: u64,
    ) -> io::Result<()> {
        let active = self.active_for(head.bytes())?;
        let offset = active.end();
        let place = Place {
            segment: active.segment.id,
            offset: u32::try_from(offset).map_err(io::Error::other)?,
            bytes: u32::try_from(head.bytes()).map_err(io::Error::other)?,
        };
        head.write(&active.segment.salt, offset, &mut active.buffer);
        if u64::from(head.body_bytes) <= COPIED_BYTES_MAX {
            body.for_each(|piece| active.buffer.extend_from_slice(piece));
        } else {
            active.segment.write(&active.buffer, active.at)?;
            active.at += active.buffer.len() as u64;
            active.buffer.clear();
            for piece in body {
                active.segment.write(piece, active.at)?;
                active.at += piece.len() as u64;
            }
        }
        let end = padded(active.end());
        active.buffer.resize((end - active.at) as usize, 0);
        active.staged.push(Staged { place, ..staged });
        active.list_bytes += list_bytes;
        if active.buffer.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// The segment that takes a record of so many bytes.
    fn active_for(&mut self, bytes: u64) -> io::Result<&mut Active> {
        let full = |active: &Active| {
            let begun = !active.segment.is_empty() || active.end() > active.segment.end();
            begun && active.end() + bytes > self.disk.segment_bytes
        };
        if self.active.as_ref().is_some_and(full) {
            self.flush()?;
            if let Some(active) = self.active.take() {
                self.seal(&active.segment)?;
                self.remove_if_dead(&active.segment);
            }
        }
        if self.active.is_none() {
            let id = NonZeroU32::MIN.checked_add(self.last_id);
            let id = id.ok_or_else(|| io::Error::other("the numbers of segments are used up"))?;
            self.last_id = id.get();
            let segment = Arc::new(Segment::create(&self.disk.dir, id)?);
            self.disk.insert(segment.clone());
            self.active = Some(Active::new(segment));
        }
        self.active.as_mut().ok_or_else(|| io::Error::other("there is no segment"))
    }

    fn is_flushed(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.staged.is_empty())
    }

    fn flush_or_fail(&mut self) {
        if let Err(error) = self.flush() {
            self.fail(&error);
        }
    }

    /// Writes what was gathered, and shows it to lookups.
    fn flush(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_mut().filter(|active| !active.staged.is_empty()) else {
            return Ok(());
        };
        active.segment.write(&active.buffer, active.at)?;
        active.at = active.end();
        active.buffer.clear();
        active.segment.extend(active.at, std::mem::take(&mut active.list_bytes));
        let segment = active.segment.clone();
        for staged in std::mem::take(&mut active.staged) {
            segment.live.fetch_add(1, Ordering::Relaxed);
            if !self.attach(&staged) {
                self.strike(staged.place);
            }
            if staged.from.is_none() {
                count(&self.shared.counters.disk_writes);
                self.disk.queue.settle(staged.serial);
            }
        }
        self.works();
        Ok(())
    }

    /// Points the index to a record, unless its response is gone or elsewhere by now.
    fn attach(&self, staged: &Staged) -> bool {
        let mut shard = self.shared.index.shard(&staged.key);
        let slot = shard.find(&staged.key, staged.serial);
        let Some(slot) = slot.filter(|slot| slot.place == staged.from) else { return false };
        slot.place = Some(staged.place);
        slot.pending = false;
        slot.hit = false;
        if let Some(from) = staged.from {
            self.disk.uncount(from);
        }
        true
    }

    /// Removes segments, oldest first, until there is room for so many bytes and for the
    /// second chances of the next segment that goes.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let second_chances = self.disk.segment_bytes / SECOND_CHANCE_PART;
        let bytes_max = self.disk.bytes_max.saturating_sub(second_chances);
        loop {
            let staged = self
                .active
                .as_ref()
                .map_or(0, |active| active.end() - active.segment.end() + active.list_bytes);
            if self.disk.bytes() + staged + bytes <= bytes_max {
                return Ok(());
            }
            let oldest = self.disk.segments().values().next().cloned();
            let Some(oldest) = oldest else { return Ok(()) };
            if self.active.as_ref().is_some_and(|active| active.segment.id == oldest.id) {
                self.flush()?;
                self.active = None;
            }
            self.evict(&oldest)?;
        }
    }

    fn evict(&mut self, segment: &Segment) -> io::Result<()> {
        let mut candidates = Vec::new();
        self.shared.index.scan(|slot| {
            if let Some(place) = slot.place.filter(|place| place.segment == segment.id) {
                candidates.push((slot.key, slot.serial, place, slot.hit));
            }
        });
        let mut room = self.disk.segment_bytes.min(segment.end()) / SECOND_CHANCE_PART;
        let mut outcome = Ok(());
        for (key, serial, place, hit) in candidates {
            let bytes = padded(u64::from(place.bytes));
            if hit && bytes <= room && outcome.is_ok() && self.retry_at.is_none() {
                let staged = Staged { key, serial, place, from: Some(place) };
                match self.save(segment, staged) {
                    Ok(Some(list_bytes)) => {
                        room = room.saturating_sub(bytes + list_bytes);
                        count(&self.shared.counters.disk_second_chances);
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => outcome = Err(error),
                }
            }
            self.lose(&key, serial, place);
        }
        let outcome = outcome.and_then(|()| self.flush());
        // In any case: what is not in the index must not come back with a restart.
        self.disk.remove(segment.id);
        outcome
    }

    /// Writes a record again, if it is good and not purged. Says by how much the list grows.
    fn save(&mut self, segment: &Segment, staged: Staged) -> io::Result<Option<u64>> {
        // What can not be read is lost as if it had not been asked for.
        let Ok(Read::Record(head, body)) = segment.read(staged.place) else { return Ok(None) };
        let Some(entry) = head.entry_without_body() else { return Ok(None) };
        let marks = self.shared.marks.app(&entry.key.space.app);
        if marks.judge(&entry, &Judged::default()) == State::Purged {
            return Ok(None);
        }
        let list_bytes = listed_bytes_max(&entry.key.space.app, &entry.head.vary);
        self.append(&head, std::iter::once(&body), staged, list_bytes)?;
        Ok(Some(list_bytes))
    }

    /// A record goes with its segment. Its response stays if it is in memory.
    fn lose(&self, key: &KeyHash, serial: Serial, place: Place) {
        let mut shard = self.shared.index.shard(key);
        let slot = shard.find(key, serial).filter(|slot| slot.place == Some(place));
        let Some(slot) = slot else { return };
        slot.place = None;
        self.disk.uncount(place);
        count(&self.shared.counters.disk_evictions);
        if self.shared.memory.peek(slot).is_none() {
            shard.remove(key, serial);
        }
    }

    /// A response will not be on disk.
    fn give_up(&self, key: KeyHash, serial: Serial) {
        if !self.disk.queue.settle(serial) {
            return;
        }
        count(&self.shared.counters.disk_writes_dropped);
        let mut shard = self.shared.index.shard(&key);
        if let Some(slot) = shard.find(&key, serial) {
            slot.pending = false;
            if self.shared.memory.peek(slot).is_none() {
                shard.remove(&key, serial);
            }
        }
    }

    fn seal(&self, segment: &Segment) -> io::Result<()> {
        let mut list = List::default();
        let apps = self.shared.marks.all();
        self.shared.index.scan(|slot| {
            if let Some(place) = slot.place.filter(|place| place.segment == segment.id) {
                let app = list.apps.number(&apps[slot.app.0 as usize].app);
                let vary = list.varies.number(&slot.vary_names().into());
                let Slot { key, variant, sequence, received_at_ms, .. } = *slot;
                list.add(&Listed { key, variant, sequence, received_at_ms, place, app, vary });
            }
        });
        segment.seal(&list)
    }

    fn strike(&self, place: Place) {
        let Some(segment) = self.disk.segment(place.segment) else { return };
        if let Err(error) = segment.strike(place) {
            // A restart would bring it back: then rather nothing of the whole segment.
            tracing::warn!(%error, "a removed response can not be struck from the cache on disk; its file is removed");
            self.disk.remove(place.segment);
        }
        self.release(place);
    }

    fn release(&self, place: Place) {
        if let Some(segment) = self.disk.segment(place.segment) {
            self.disk.uncount(place);
            self.remove_if_dead(&segment);
        }
    }

    fn remove_if_dead(&self, segment: &Segment) {
        let active = self.active.as_ref().is_some_and(|active| active.segment.id == segment.id);
        if !active && segment.live.load(Ordering::Relaxed) == 0 {
            self.disk.remove(segment.id);
        }
    }

    /// Turns writing off for a while.
    fn fail(&mut self, error: &io::Error) {
        count(&self.shared.counters.disk_failures);
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        if self.disk.on.swap(false, Ordering::Relaxed) {
            let dir = self.disk.dir.display();
            tracing::warn!(%dir, %error, "the cache can not write to its disk: nothing new is kept there until it works again; look for room and permissions");
        }
        let Some(active) = self.active.take() else { return };
        for Staged { key, serial, from, .. } in active.staged {
            match from {
                None => self.give_up(key, serial),
                Some(place) => self.lose(&key, serial, place),
            }
        }
        // What was written before stays, without half of a record behind it.
        let _ = active.segment.reopen();
        self.remove_if_dead(&active.segment);
    }

    fn works(&mut self) {
        self.retry_at = None;
        if !self.disk.on.swap(true, Ordering::Relaxed) {
            tracing::info!(dir = %self.disk.dir.display(), "the cache writes to its disk again");
        }
    }
}

impl Staged {
    fn of(key: KeyHash, serial: Serial, from: Option<Place>) -> Staged {
        let nowhere = Place { segment: NonZeroU32::MIN, offset: 0, bytes: 0 };
        Staged { key, serial, place: nowhere, from }
    }
}

/// Why a response was not written.
enum Refused {
    /// It was replaced or removed meanwhile.
    Gone,
    /// It is too large, or the disk failed a moment ago.
    Unfit,
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Failed(error)
    }
}
