//! The purges on disk. A purge has returned when it is here.
//!
//! The file has its full size from the beginning, with zeros behind the last purge: a purge
//! changes nothing but its bytes, so it is one quick `fdatasync`, and works on a full disk. Purges
//! that come together are written together.
//!
//! A journal that is not whole in every byte says nothing about what was purged. Who finds it
//! so discards all responses on disk: too much is forgotten, and nothing wrong is answered.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use squall_types::AppName;

use super::Covered;
use super::coding::{Decoder, Encoder};
use super::marks::{Mark, Marks};
use crate::Sequence;

/// Mark and version of the form.
const MAGIC: [u8; 12] = *b"squallpurge\x01";
const HEADER_BYTES: usize = 56;
/// Length and checksum before a purge.
const FIXED_BYTES: usize = 20;
const CAPACITY_MIN: u64 = 1 << 20;

/// A purge as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purged {
    pub(super) app: AppName,
    pub(super) what: Covered,
    pub(super) mark: Mark,
}

pub(super) struct Journal {
    dir: PathBuf,
    queue: Mutex<Queue>,
    written: Condvar,
}

struct Queue {
    /// Purges that wait while others are written.
    batch: Arc<Batch>,
    waiting: Vec<Purged>,
    /// Away while somebody writes.
    file: Option<JournalFile>,
}

/// Purges that are written together.
#[derive(Default)]
struct Batch {
    /// What went wrong, if anything.
    outcome: OnceLock<Result<(), (io::ErrorKind, String)>>,
}

struct JournalFile {
    file: File,
    salt: [u8; 16],
    capacity: u64,
    end: u64,
    /// It may lack a purge that is a mark, so the next one writes it anew.
    broken: bool,
}

impl Journal {
    /// Opens the journal of a folder and tells everything that was purged. None if there is
    /// none, or it is damaged or of another version.
    pub(super) fn open(dir: &Path) -> io::Result<Option<(Journal, Vec<Purged>)>> {
        let file = match File::options().read(true).write(true).open(dir.join(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        (&file).read_to_end(&mut bytes)?;
        let Some(Contents { purges, salt, end }) = Contents::of(&bytes) else { return Ok(None) };
        let capacity = bytes.len() as u64;
        let file = JournalFile { file, salt, capacity, end, broken: false };
        Ok(Some((Journal::of(dir, file), purges)))
    }

    /// Begins a new journal, with the marks that there are.
    pub(super) fn begin(dir: &Path, marks: &Marks) -> io::Result<Journal> {
        Ok(Journal::of(dir, JournalFile::replace(dir, marks)?))
    }

    fn of(dir: &Path, file: JournalFile) -> Journal {
        let queue = Queue { batch: Arc::default(), waiting: Vec::new(), file: Some(file) };
        Journal { dir: dir.to_owned(), queue: Mutex::new(queue), written: Condvar::new() }
    }

    /// Returns when a purge, which is a mark already, is on disk.
    pub(super) fn commit(&self, purged: Purged, marks: &Marks) -> io::Result<()> {
        let mut queue = self.lock();
        queue.waiting.push(purged);
        let batch = queue.batch.clone();
        loop {
            if let Some(outcome) = batch.outcome.get() {
                return outcome.clone().map_err(|(kind, text)| io::Error::new(kind, text));
            }
            let Some(mut file) = queue.file.take() else {
                queue = self.written.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // Nobody writes: this one does, for all that wait.
            let purges = std::mem::take(&mut queue.waiting);
            let batch = std::mem::take(&mut queue.batch);
            drop(queue);
            let outcome = file.append(&purges, &self.dir, marks);
            let outcome = outcome.map_err(|error| (error.kind(), error.to_string()));
            queue = self.lock();
            queue.file = Some(file);
            // Set once: the batch was taken from the queue.
            let _ = batch.outcome.set(outcome);
            self.written.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NAME: &str = "purges";

impl JournalFile {
    fn append(&mut self, purges: &[Purged], dir: &Path, marks: &Marks) -> io::Result<()> {
        let bytes = self.encode(purges, self.end);
        if self.broken || self.end + bytes.len() as u64 > self.capacity {
            // All marks are in memory, those of these purges among them.
            self.broken = true;
            *self = JournalFile::replace(dir, marks)?;
            return Ok(());
        }
        let written = self.file.write_all_at(&bytes, self.end);
        let written = written.and_then(|()| self.file.sync_data());
        self.end += bytes.len() as u64;
        self.broken = written.is_err();
        written
    }

    /// Writes all marks into a new file and puts it in place of the old one.
    fn replace(dir: &Path, marks: &Marks) -> io::Result<JournalFile> {
        let new = dir.join("purges.new");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&new)?;
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let mut journal = JournalFile { file, salt, capacity: 0, end: 0, broken: false };
        let purges = all_of(marks);
        let records = journal.encode(&purges, HEADER_BYTES as u64);
        journal.end = (HEADER_BYTES + records.len()) as u64;
        // Room for as much again, so that this is rare.
        journal.capacity = (journal.end * 2).max(CAPACITY_MIN);
        let mut bytes = header(journal.capacity, &salt);
        bytes.extend_from_slice(&records);
        bytes.resize(journal.capacity as usize, 0);
        journal.file.write_all_at(&bytes, 0)?;
        journal.file.sync_all()?;
        std::fs::rename(&new, dir.join(NAME))?;
        File::open(dir)?.sync_all()?;
        Ok(journal)
    }

    fn encode(&self, purges: &[Purged], begin: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Purged { app, what, mark } in purges {
            let mut purge = Encoder::default();
            purge.number(mark.hard.0.to_le_bytes());
            purge.number(mark.soft.0.to_le_bytes());
            purge.bytes(app.as_str().as_bytes());
            let (kind, value) = match what {
                Covered::All => (0, ""),
                Covered::Url(url) => (1, &**url),
                Covered::Prefix(prefix) => (2, &**prefix),
                Covered::Tag(tag) => (3, &**tag),
            };
            purge.number([kind]);
            purge.bytes(value.as_bytes());
            let at = begin + bytes.len() as u64;
            let sum = sum_of(&self.salt, at, &purge.0);
            bytes.extend_from_slice(&(purge.0.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&sum);
            bytes.extend_from_slice(&purge.0);
        }
        bytes
    }
}

fn all_of(marks: &Marks) -> Vec<Purged> {
    let of = |app: &super::marks::AppMarks| {
        let name = app.app.clone();
        let purged = move |(what, mark)| Purged { app: name.clone(), what, mark };
        app.export().into_iter().map(purged).collect::<Vec<_>>()
    };
    marks.all().iter().flat_map(|app| of(app)).collect()
}

fn header(capacity: u64, salt: &[u8; 16]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity as usize);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&capacity.to_le_bytes());
    bytes.extend_from_slice(salt);
    let sum = sum_of(salt, 0, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

struct Contents {
    purges: Vec<Purged>,
    salt: [u8; 16],
    end: u64,
}

impl Contents {
    /// Everything in a journal, or nothing if a single byte of it is not as it was written.
    fn of(journal: &[u8]) -> Option<Contents> {
        let (head, mut rest) = journal.split_first_chunk::<HEADER_BYTES>()?;
        let capacity = u64::from_le_bytes(*head[16..].first_chunk()?);
        let salt = *head[24..].first_chunk()?;
        let good = head[..12] == MAGIC && head[40..] == sum_of(&salt, 0, &head[..40]);
        if !good || capacity != journal.len() as u64 {
            return None;
        }
        let mut purges = Vec::new();
        loop {
            let end = (journal.len() - rest.len()) as u64;
            let begun = rest.split_first_chunk::<FIXED_BYTES>();
            let Some((fixed, after)) = begun.filter(|(fixed, _)| fixed[..4] != [0; 4]) else {
                let zeros = rest.iter().all(|byte| *byte == 0);
                return zeros.then_some(Contents { purges, salt, end });
            };
            let purge_bytes = u32::from_le_bytes(*fixed.first_chunk()?) as usize;
            let (purge, after) = after.split_at_checked(purge_bytes)?;
            if fixed[4..] != sum_of(&salt, end, purge) {
                return None;
            }
            purges.push(decode(Bytes::copy_from_slice(purge))?);
            rest = after;
        }
    }
}

fn decode(purge: Bytes) -> Option<Purged> {
    let mut from = Decoder(purge);
    let (hard, soft) = (Sequence(from.u64()?), Sequence(from.u64()?));
    let app = from.app()?;
    let [kind] = from.number()?;
    let value = from.text()?;
    let what = match kind {
        0 => Covered::All,
        1 => Covered::Url(value),
        2 => Covered::Prefix(value),
        3 => Covered::Tag(value),
        _ => return None,
    };
    from.0.is_empty().then_some(Purged { app, what, mark: Mark { hard, soft } })
}

fn sum_of(salt: &[u8; 16], at: u64, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt).update(&at.to_le_bytes()).update(bytes);
    let mut sum = [0; 16];
    sum.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    sum
}
