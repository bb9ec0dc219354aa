//! The responses on disk: a log of segments, each a file that is written to its end and goes as
//! a whole.
//!
//! One thread writes, in the order in which responses were put (`writer.rs`). Reading needs no
//! lock but for finding the file. What is read is checked whole, so whatever a crash, a disk
//! or a person did to the files is a miss. `docs/adr` says why it is not a library.

mod list;
mod queue;
mod record;
mod segment;
mod writer;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use self::list::List;
use self::queue::{Job, Queue};
use self::record::RecordHead;
pub(super) use self::segment::Read;
use self::segment::Segment;
pub(super) use self::writer::run as write;
use super::index::{Dropped, Index, Place, Serial, Slot, VaryNames};
use super::journal::Journal;
use super::marks::{AppMarks, Marks};
use super::memory::Resident;
use super::{DiskSettings, Settings};
use crate::{Entry, Sequence};

pub(super) struct Disk {
    dir: PathBuf,
    /// What the files may take together.
    bytes_max: u64,
    /// A segment is full with so much. Only one with a single larger response has more.
    segment_bytes: u64,
    /// Larger responses are not written.
    entry_bytes_max: u64,
    segments: RwLock<BTreeMap<NonZeroU32, Arc<Segment>>>,
    pub(super) journal: Journal,
    queue: Queue,
    /// Whether writing works.
    on: AtomicBool,
    /// Held as long as the folder is used.
    _lock: File,
}

/// Segments of a full disk: enough that the oldest is a small part of what is stored.
const SEGMENTS: u64 = 128;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// No response takes more than this part of the disk.
const ENTRY_PART: u64 = 8;
/// What waits to be written takes this part of the memory's budget, beside it.
const WAITING_PART: u64 = 8;
const WAITING_BYTES_MIN: u64 = 4 << 20;
/// Offsets are 32 bits.
const ENTRY_BYTES_MAX: u64 = 2 << 30;

/// What a start fills from disk.
pub(super) struct Opening<'a> {
    pub(super) settings: &'a Settings,
    pub(super) index: &'a Index,
    pub(super) marks: &'a Marks,
    /// The next one.
    pub(super) serial: Serial,
    /// No later one was found.
    pub(super) newest: Sequence,
}

impl Disk {
    /// Opens a folder and puts what is in it into the index. Fails only if the folder can not
    /// be used at all; files that are not as they were left are not used.
    pub(super) fn open(settings: &DiskSettings, opening: &mut Opening<'_>) -> io::Result<Disk> {
        let dir = settings.dir.clone();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        std::fs::set_permissions(&dir, Permissions::from_mode(0o700))?;
        let lock = lock(&dir)?;
        let marks = opening.marks;
        let journal = match Journal::open(&dir)? {
            Some((journal, purges)) => {
                for purged in purges {
                    opening.newest = opening.newest.max(purged.mark.hard).max(purged.mark.soft);
                    marks.app(&purged.app).restore(&purged.what, purged.mark);
                }
                journal
            }
            None => {
                // Nobody knows what was purged.
                ids(&dir)?.into_iter().for_each(|id| discard(&dir, id));
                Journal::begin(&dir, marks)?
            }
        };
        let segment_bytes = (settings.bytes / SEGMENTS)
            .clamp(SEGMENT_BYTES_MIN.min(settings.bytes / ENTRY_PART), SEGMENT_BYTES_MAX);
        let Settings { memory_bytes, entry_bytes_max, .. } = *opening.settings;
        let entry_bytes_max = entry_bytes_max.min(settings.bytes / ENTRY_PART).min(ENTRY_BYTES_MAX);
        let disk = Disk {
            dir,
            bytes_max: settings.bytes,
            segment_bytes,
            entry_bytes_max,
            segments: RwLock::default(),
            journal,
            queue: Queue::new((memory_bytes / WAITING_PART).max(WAITING_BYTES_MIN)),
            on: AtomicBool::new(true),
            _lock: lock,
        };
        for id in ids(&disk.dir)? {
            match Segment::open(&disk.dir, id).and_then(|segment| match segment {
                Some(segment) => segment.list().map(|list| Some((segment, list))),
                None => Ok(None),
            }) {
                Ok(Some((segment, list))) => {
                    disk.insert(Arc::new(segment));
                    disk.restore(id, &list, opening);
                }
                Ok(None) => discard(&disk.dir, id),
                Err(error) => {
                    let file = disk.dir.display();
                    tracing::warn!(dir = %file, segment = id, %error, "a file of the cache can not be read and is removed");
                    discard(&disk.dir, id);
                }
            }
        }
        Ok(disk)
    }

    /// Puts what is in a segment into the index, in place of what older segments have.
    fn restore(&self, id: NonZeroU32, list: &List, opening: &mut Opening<'_>) {
        let Opening { settings, index, marks, .. } = *opening;
        let Some(segment) = self.segment(id) else { return };
        let apps: Vec<Arc<AppMarks>> = list.apps.items.iter().map(|app| marks.app(app)).collect();
        let floors: Vec<Sequence> = apps.iter().map(|app| app.floor()).collect();
        let varies: Vec<Option<VaryNames>> =
            list.varies.items.iter().map(|names| index.vary(names)).collect();
        for listed in list.records(id) {
            opening.newest = opening.newest.max(listed.sequence);
            let place = listed.place;
            let end = u64::from(place.offset) + u64::from(place.bytes);
            if listed.sequence < floors[listed.app as usize] || end > segment.end() {
                continue;
            }
            let mut slot = Slot::new(listed.key, opening.serial, apps[listed.app as usize].id);
            opening.serial.0 += 1;
            slot.variant = listed.variant;
            slot.sequence = listed.sequence;
            slot.received_at_ms = listed.received_at_ms;
            slot.vary = varies[listed.vary as usize].clone();
            slot.place = Some(place);
            // Struck before a crash, or was to be: it must not come back when this one goes.
            let replaced =
                |dropped: Dropped| dropped.place.into_iter().for_each(|p| self.strike(p));
            let mut shard = index.shard(&listed.key);
            if shard.insert(slot, settings.variants_max, replaced).is_ok() {
                segment.live.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether a response will be written.
    pub(super) fn enqueue(&self, resident: &Arc<Resident>) -> bool {
        self.queue.write(resident)
    }

    /// A response that is not written yet.
    pub(super) fn pending(&self, serial: Serial) -> Option<Arc<Resident>> {
        self.queue.pending(serial)
    }

    /// Nothing points to a record any more, and a restart must not bring it back.
    pub(super) fn strike(&self, place: Place) {
        self.queue.push(Job::Strike(place));
    }

    /// Nothing points to a record any more, and marks see to it that it stays so.
    pub(super) fn release(&self, place: Place) {
        self.queue.push(Job::Release(place));
    }

    /// Waits until everything that was put or removed is on disk, or has failed.
    pub(super) fn flush(&self) {
        let (done, wait) = mpsc::channel();
        self.queue.push(Job::Flush(done));
        // Nobody answers if the writer has ended.
        let _ = wait.recv();
    }

    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// Reads a record whole. `Err` also where its segment is gone.
    pub(super) fn read(&self, place: Place) -> io::Result<Read> {
        self.segment_of(place)?.read(place)
    }

    /// What is known of a response without its body, and how large that is.
    pub(super) fn read_head(&self, place: Place) -> io::Result<Option<(Entry, u64)>> {
        let head = self.segment_of(place)?.read_head(place)?;
        let entry = |head: RecordHead| Some((head.entry_without_body()?, head.body_bytes.into()));
        Ok(head.and_then(entry))
    }

    pub(super) fn entries(&self) -> u64 {
        self.segments().values().map(|segment| segment.live.load(Ordering::Relaxed)).sum()
    }

    /// What the files take.
    pub(super) fn bytes(&self) -> u64 {
        self.segments().values().map(|segment| segment.bytes()).sum()
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn segments(&self) -> RwLockReadGuard<'_, BTreeMap<NonZeroU32, Arc<Segment>>> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, id: NonZeroU32) -> Option<Arc<Segment>> {
        self.segments().get(&id).cloned()
    }

    fn segment_of(&self, place: Place) -> io::Result<Arc<Segment>> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the segment was evicted");
        self.segment(place.segment).ok_or_else(gone)
    }

    fn insert(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.id, segment);
    }

    fn remove(&self, id: NonZeroU32) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let segment = segments.remove(&id);
        drop(segments);
        if let Some(segment) = segment {
            segment.remove();
        }
    }

    /// A record is not pointed to any more. True if it was the last of its segment.
    fn uncount(&self, place: Place) -> bool {
        let Some(segment) = self.segment(place.segment) else { return false };
        segment.live.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// The segments of a folder, oldest first. Other files are left alone.
fn ids(dir: &Path) -> io::Result<Vec<NonZeroU32>> {
    let mut ids = Vec::new();
    for file in std::fs::read_dir(dir)? {
        ids.extend(file?.file_name().to_str().and_then(segment::id_of));
    }
    ids.sort_unstable();
    Ok(ids)
}

fn discard(dir: &Path, id: NonZeroU32) {
    let file = dir.join(segment::file_name(id));
    if let Err(error) = std::fs::remove_file(&file) {
        tracing::warn!(file = %file.display(), %error, "a file of the cache can not be removed; remove it");
    }
}

fn lock(dir: &Path) -> io::Result<File> {
    let mut options = File::options();
    let lock =
        options.create(true).truncate(false).write(true).mode(0o600).open(dir.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("another process uses the cache in {}", dir.display()),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}
