//! A file of records, written from its beginning to its end and removed as a whole.
//!
//! A segment that is full is sealed: a list of what is in it is written behind the records,
//! with a checksum, so that a start need not read them. Without a good list the records are
//! read one after the other, up to the first that is not whole.

use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::list::{List, Listed};
use super::record::{FIXED_BYTES, REMOVED, RecordHead, Salt, padded, short};
use crate::store::index::Place;

/// Mark and version of the form of segments and records. Other versions are discarded.
const MAGIC: [u8; 12] = *b"squallcache\x02";
const HEADER_BYTES: usize = 48;
const LIST_MAGIC: [u8; 8] = *b"SQLISTED";
const TRAILER_BYTES: usize = 32;
/// Key and head of a record take no more.
pub(super) const META_BYTES_MAX: usize = 16 << 20;
/// Read in one go while records are looked through.
const READ_AHEAD: usize = 64 << 10;

pub(super) struct Segment {
    pub(super) id: NonZeroU32,
    path: PathBuf,
    file: File,
    pub(super) salt: Salt,
    /// Where the records end.
    end: AtomicU64,
    /// What the list will take or takes.
    list_bytes: AtomicU64,
    /// Records that the index points to. Changed by the writer only, and at the start.
    pub(super) live: AtomicU64,
}

/// What is at the place of a record.
pub(in crate::store) enum Read {
    Record(RecordHead, Bytes),
    /// It was removed.
    Struck,
    Damaged,
}

impl Segment {
    pub(super) fn create(dir: &Path, id: NonZeroU32) -> io::Result<Segment> {
        let path = dir.join(file_name(id));
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        let mut salt = Salt::default();
        getrandom::fill(&mut salt).map_err(io::Error::other)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&id.get().to_le_bytes());
        header.extend_from_slice(&salt);
        let sum = short(blake3::hash(&header));
        header.extend_from_slice(&sum);
        let segment = Segment::of(id, path, file, salt, HEADER_BYTES as u64);
        if let Err(error) = segment.file.write_all_at(&header, 0) {
            segment.remove();
            return Err(error);
        }
        Ok(segment)
    }

    /// None if the file is no segment of this version.
    pub(super) fn open(dir: &Path, id: NonZeroU32) -> io::Result<Option<Segment>> {
        let path = dir.join(file_name(id));
        let file = File::options().read(true).write(true).open(&path)?;
        let mut header = [0; HEADER_BYTES];
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let mut salt = Salt::default();
        salt.copy_from_slice(&header[16..32]);
        let good = header[..12] == MAGIC
            && header[12..16] == id.get().to_le_bytes()
            && header[32..] == short(blake3::hash(&header[..32]));
        Ok(good.then(|| Segment::of(id, path, file, salt, HEADER_BYTES as u64)))
    }

    fn of(id: NonZeroU32, path: PathBuf, file: File, salt: Salt, end: u64) -> Segment {
        let (end, list_bytes) = (AtomicU64::new(end), AtomicU64::new(TRAILER_BYTES as u64));
        Segment { id, path, file, salt, end, list_bytes, live: AtomicU64::new(0) }
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.end() == HEADER_BYTES as u64
    }

    /// What the file takes, or will when it is sealed.
    pub(super) fn bytes(&self) -> u64 {
        self.end() + self.list_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)
    }

    /// Records were written up to here; the list will grow by so much.
    pub(super) fn extend(&self, end: u64, list_bytes: u64) {
        self.end.store(end, Ordering::Relaxed);
        self.list_bytes.fetch_add(list_bytes, Ordering::Relaxed);
    }

    /// Cuts off what is behind the records, to write there again.
    pub(super) fn reopen(&self) -> io::Result<()> {
        self.file.set_len(self.end())
    }

    pub(super) fn seal(&self, list: &List) -> io::Result<()> {
        let mut bytes = list.encode();
        let list_bytes = bytes.len() as u64;
        let sum = list_sum(&self.salt, self.end(), &bytes);
        bytes.extend_from_slice(&LIST_MAGIC);
        bytes.extend_from_slice(&list_bytes.to_le_bytes());
        bytes.extend_from_slice(&sum);
        self.file.write_all_at(&bytes, self.end())?;
        self.file.set_len(self.end() + bytes.len() as u64)?;
        self.list_bytes.store(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// A whole record, with its head checked and its body not.
    pub(super) fn read(&self, place: Place) -> io::Result<Read> {
        let mut record = vec![0; place.bytes as usize];
        self.file.read_exact_at(&mut record, u64::from(place.offset))?;
        let record = Bytes::from(record);
        let head = RecordHead::read(&self.salt, u64::from(place.offset), record.clone());
        Ok(match head.filter(|head| head.bytes() == u64::from(place.bytes)) {
            None => Read::Damaged,
            Some(head) if !head.live => Read::Struck,
            Some(head) => {
                let body = record.slice(FIXED_BYTES + head.meta.len()..);
                Read::Record(head, body)
            }
        })
    }

    /// The head of a record.
    pub(super) fn read_head(&self, place: Place) -> io::Result<Option<RecordHead>> {
        let head = self.head_at(u64::from(place.offset), &mut ReadAhead::default())?;
        Ok(head.filter(|head| head.bytes() == u64::from(place.bytes) && head.live))
    }

    /// Makes a record unreadable.
    pub(super) fn strike(&self, place: Place) -> io::Result<()> {
        self.file.write_all_at(&REMOVED, u64::from(place.offset))
    }

    /// Removes the file. Whoever reads from it still can.
    pub(super) fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %self.path.display(), %error, "a file of the cache can not be removed; remove it");
        }
    }

    /// What is in it. Sets where its records end, and seals it there if it was not.
    pub(super) fn list(&self) -> io::Result<List> {
        let length = self.file.metadata()?.len();
        if let Some((list, end)) = self.sealed_list(length)? {
            self.end.store(end, Ordering::Relaxed);
            self.list_bytes.store(length - end, Ordering::Relaxed);
            return Ok(list);
        }
        let list = self.scan(length)?;
        self.seal(&list)?;
        Ok(list)
    }

    fn sealed_list(&self, length: u64) -> io::Result<Option<(List, u64)>> {
        let begin = HEADER_BYTES as u64;
        let Some(trailer_at) = length.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= begin)
        else {
            return Ok(None);
        };
        let mut trailer = [0; TRAILER_BYTES];
        self.file.read_exact_at(&mut trailer, trailer_at)?;
        let mut list_bytes = [0; 8];
        list_bytes.copy_from_slice(&trailer[8..16]);
        let list_bytes = u64::from_le_bytes(list_bytes);
        let end = trailer_at.checked_sub(list_bytes).filter(|end| *end >= begin);
        let Some(end) = end.filter(|_| trailer[..8] == LIST_MAGIC) else { return Ok(None) };
        let mut bytes = vec![0; list_bytes as usize];
        self.file.read_exact_at(&mut bytes, end)?;
        if list_sum(&self.salt, end, &bytes) != trailer[16..] {
            return Ok(None);
        }
        Ok(List::decode(bytes.into()).map(|list| (list, end)))
    }

    fn scan(&self, length: u64) -> io::Result<List> {
        let mut list = List::default();
        let mut at = HEADER_BYTES as u64;
        let mut ahead = ReadAhead::default();
        while at < length {
            let Some(head) = self.head_at(at, &mut ahead)? else { break };
            let after = at + head.bytes();
            let (Ok(offset), Ok(bytes)) = (u32::try_from(at), u32::try_from(head.bytes())) else {
                break;
            };
            if after > length {
                break;
            }
            if head.live
                && let Some(entry) = head.entry_without_body()
            {
                let place = Place { segment: self.id, offset, bytes };
                let listed = Listed {
                    key: entry.key.hash(),
                    variant: entry.head.variant,
                    sequence: entry.sequence,
                    received_at_ms: entry.head.received_at_ms,
                    place,
                    app: list.apps.number(&entry.key.space.app),
                    vary: list.varies.number(&entry.head.vary),
                };
                list.add(&listed);
            }
            at = padded(after);
        }
        self.end.store(at.min(padded(length)), Ordering::Relaxed);
        Ok(list)
    }

    /// Reads the head of a record at an offset. None if there is none, or a damaged one.
    fn head_at(&self, at: u64, ahead: &mut ReadAhead) -> io::Result<Option<RecordHead>> {
        let Some(fixed) = ahead.get(&self.file, at, FIXED_BYTES)? else { return Ok(None) };
        let fixed = fixed.first_chunk::<FIXED_BYTES>();
        let meta_bytes = fixed.and_then(RecordHead::meta_bytes);
        let Some(meta_bytes) = meta_bytes.filter(|bytes| *bytes <= META_BYTES_MAX) else {
            return Ok(None);
        };
        let head = ahead.get(&self.file, at, FIXED_BYTES + meta_bytes)?;
        Ok(head.and_then(|head| RecordHead::read(&self.salt, at, head)))
    }
}

/// Some bytes of a file, of which the next ones that are asked for are often a part.
#[derive(Default)]
struct ReadAhead {
    at: u64,
    bytes: Bytes,
}

impl ReadAhead {
    /// None if the file ends before.
    fn get(&mut self, file: &File, at: u64, bytes: usize) -> io::Result<Option<Bytes>> {
        let slice = |ahead: &ReadAhead| {
            let begin = usize::try_from(at.checked_sub(ahead.at)?).ok()?;
            let end = begin.checked_add(bytes)?;
            (end <= ahead.bytes.len()).then(|| ahead.bytes.slice(begin..end))
        };
        if let Some(there) = slice(self) {
            return Ok(Some(there));
        }
        let mut buffer = vec![0; bytes.max(READ_AHEAD)];
        let mut filled = 0;
        while filled < buffer.len() {
            match file.read_at(&mut buffer[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.truncate(filled);
        *self = ReadAhead { at, bytes: buffer.into() };
        Ok(slice(self))
    }
}

pub(super) fn file_name(id: NonZeroU32) -> String {
    format!("{id:010}.segment")
}

/// The number of a segment from the name of its file.
pub(super) fn id_of(file_name: &str) -> Option<NonZeroU32> {
    let id = file_name.strip_suffix(".segment")?.parse().ok()?;
    (self::file_name(id) == file_name).then_some(id)
}

fn list_sum(salt: &Salt, end: u64, list: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(salt).update(&end.to_le_bytes()).update(list);
    short(hasher.finalize())
}
