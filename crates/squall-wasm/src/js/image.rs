//! Images of memory: the base that all JavaScript functions share, and what one function's
//! top-level code made of it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _};
use std::path::Path;
use std::ptr::NonNull;

use super::memory::PAGE_BYTES;

/// Where the engine keeps what the host reaches without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// The input buffer that messages up to `input_capacity` bytes go to.
    pub(crate) input: u32,
    pub(crate) input_capacity: u32,
    /// A byte that interrupts the program when it is not 0.
    pub(crate) interrupt: u32,
    /// Pointer and length of what the engine says about a failure.
    pub(crate) failure: u32,
    pub(crate) stack_pointer: u32,
    /// Size of the memory that the base image is the front of.
    pub(crate) memory_bytes: u32,
}

/// The engine's memory after the web layer was evaluated, in a file without a name that
/// every instance maps.
pub(crate) struct BaseImage {
    file: File,
    mapped: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is only read, and nobody can write to the file.
unsafe impl Send for BaseImage {}
// SAFETY: as above.
unsafe impl Sync for BaseImage {}

impl BaseImage {
    /// `bytes` are padded with zeros to whole pages. # Errors
    /// Fails when the system has no memory for it.
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Self> {
        let length = bytes.len().next_multiple_of(PAGE_BYTES).max(PAGE_BYTES);
        // SAFETY: the name is a string with its end, and the descriptor is ours.
        let mut file = unsafe {
            let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
            let descriptor = libc::memfd_create(c"squall-js-base".as_ptr(), flags);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(descriptor)
        };
        file.set_len(length as u64)?;
        file.write_all(bytes)?;
        // Nobody changes it any more, not even this process by mistake. There is no mapping that
        // could write, so forbidding future ones is enough; F_SEAL_WRITE also waits for everybody
        // who looks at the pages in this moment, and gives up with EBUSY.
        let seals = libc::F_SEAL_FUTURE_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;
        // SAFETY: a command for a descriptor that is ours.
        if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new mapping at an address that the kernel chooses.
        let mapped = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_POPULATE,
                file.as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapped = NonNull::new(mapped.cast()).expect("mmap never chooses address 0");
        Ok(Self { file, mapped, length })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whole pages.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as `self` lives, and sealed.
        unsafe { std::slice::from_raw_parts(self.mapped.as_ptr(), self.length) }
    }

    /// `None` behind its end, where a memory is zero.
    pub(crate) fn page(&self, page: usize) -> Option<&[u8]> {
        self.bytes().get(page * PAGE_BYTES..)?.get(..PAGE_BYTES)
    }
}

impl Drop for BaseImage {
    fn drop(&mut self) {
        // SAFETY: `bytes` borrows `self`, so nobody refers to it.
        unsafe { libc::munmap(self.mapped.as_ptr().cast(), self.length) };
    }
}

/// The base image as a file: `MAGIC`, the places, then the memory, compressed.
const BASE_MAGIC: &[u8; 8] = b"sqjsbas1";

pub(crate) fn encode_base(places: &Places, memory: &[u8]) -> Vec<u8> {
    let used = memory.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut out = BASE_MAGIC.to_vec();
    let fields = [
        places.input,
        places.input_capacity,
        places.interrupt,
        places.failure,
        places.stack_pointer,
        places.memory_bytes,
    ];
    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
    out.extend_from_slice(&lz4_flex::compress_prepend_size(&memory[..used]));
    out
}

pub(crate) fn read_base(path: &Path) -> io::Result<(Places, BaseImage)> {
    let file = std::fs::read(path)?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the base image is damaged");
    let rest = file.strip_prefix(BASE_MAGIC).ok_or_else(damaged)?;
    let (fields, compressed) = rest.split_first_chunk::<24>().ok_or_else(damaged)?;
    let field = |index: usize| {
        let bytes = &fields[index * 4..][..4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let places = Places {
        input: field(0),
        input_capacity: field(1),
        interrupt: field(2),
        failure: field(3),
        stack_pointer: field(4),
        memory_bytes: field(5),
    };
    let memory = lz4_flex::decompress_size_prepended(compressed).map_err(|_| damaged())?;
    Ok((places, BaseImage::new(&memory)?))
}

/// The pages in which a function's memory, after its top-level code ran, differs from the
/// base.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Size of the memory, in bytes.
    memory_bytes: usize,
    numbers: Vec<u32>,
    contents: Vec<u8>,
}

const SNAPSHOT_MAGIC: &[u8; 8] = b"sqjssnp1";

impl Snapshot {
    /// `memory` is whole pages.
    pub(crate) fn difference(base: &BaseImage, memory: &[u8]) -> Self {
        let mut numbers = Vec::new();
        let mut contents = Vec::new();
        for (number, page) in memory.chunks_exact(PAGE_BYTES).enumerate() {
            let same = match base.page(number) {
                Some(before) => before == page,
                None => page.iter().all(|byte| *byte == 0),
            };
            if !same {
                numbers.push(u32::try_from(number).expect("a memory has 2^20 pages at most"));
                contents.extend_from_slice(page);
            }
        }
        Self { memory_bytes: memory.len(), numbers, contents }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// In ascending order.
    pub(crate) fn pages(&self) -> impl ExactSizeIterator<Item = (usize, &[u8])> {
        let numbers = self.numbers.iter().map(|number| *number as usize);
        numbers.zip(self.contents.chunks_exact(PAGE_BYTES))
    }

    /// Tells it from every other one.
    pub(crate) fn identity(&self) -> [u8; 32] {
        *blake3::hash(&self.raw()).as_bytes()
    }

    fn raw(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.contents.len() + self.numbers.len() * 4 + 16);
        raw.extend_from_slice(&(self.memory_bytes as u64).to_le_bytes());
        raw.extend_from_slice(&(self.numbers.len() as u64).to_le_bytes());
        self.numbers.iter().for_each(|number| raw.extend_from_slice(&number.to_le_bytes()));
        raw.extend_from_slice(&self.contents);
        raw
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let raw = self.raw();
        let mut out = SNAPSHOT_MAGIC.to_vec();
        // The hash is of what is unpacked: it proves the unpacking, too.
        out.extend_from_slice(blake3::hash(&raw).as_bytes());
        out.extend_from_slice(&lz4_flex::compress_prepend_size(&raw));
        out
    }

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut file = Vec::new();
        File::open(path)?.read_to_end(&mut file)?;
        Self::decode(&file)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the snapshot is damaged"))
    }

    fn decode(file: &[u8]) -> Option<Self> {
        let (hash, compressed) = file.strip_prefix(SNAPSHOT_MAGIC)?.split_first_chunk::<32>()?;
        let mut raw = lz4_flex::decompress_size_prepended(compressed).ok()?;
        if blake3::hash(&raw) != *hash {
            return None;
        }
        let number = |range: Range<usize>| {
            raw.get(range)?.try_into().ok().map(u64::from_le_bytes).map(|value| value as usize)
        };
        let (memory_bytes, count) = (number(0..8)?, number(8..16)?);
        let numbers_end = count.checked_mul(4)?.checked_add(16)?;
        let numbers: Vec<u32> = raw
            .get(16..numbers_end)?
            .chunks_exact(4)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let ascending = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = numbers.last().is_none_or(|last| {
            (*last as usize + 1).checked_mul(PAGE_BYTES).is_some_and(|end| end <= memory_bytes)
        });
        let contents = raw.split_off(numbers_end);
        let whole = Some(contents.len()) == count.checked_mul(PAGE_BYTES);
        (ascending && inside && whole).then_some(Self { memory_bytes, numbers, contents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let base = BaseImage::new(&[7; 3 * PAGE_BYTES + 5]).unwrap();
        let mut memory = base.bytes().to_vec();
        memory.resize(32 * PAGE_BYTES, 0);
        memory[PAGE_BYTES] = 1;
        memory[31 * PAGE_BYTES + 4095] = 2;
        let snapshot = Snapshot::difference(&base, &memory);
        assert_eq!(snapshot.pages().map(|(page, _)| page).collect::<Vec<_>>(), [1, 31]);
        let written = snapshot.encode();
        let read = Snapshot::decode(&written).unwrap();
        assert_eq!(read.memory_bytes(), memory.len());
        assert!(read.pages().eq(snapshot.pages()));
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 1;
            // The compression can say the same in several ways.
            let found = Snapshot::decode(&damaged);
            assert!(found.is_none_or(|found| found.pages().eq(snapshot.pages())), "byte {at}");
            assert!(Snapshot::decode(&written[..at]).is_none());
        }
    }

    #[test]
    fn a_base_image_is_read_as_it_was_written() {
        let places = Places {
            input: 1,
            input_capacity: 2,
            interrupt: 3,
            failure: 4,
            stack_pointer: 5,
            memory_bytes: 6,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base");
        let mut memory = vec![0; 5 * PAGE_BYTES];
        memory[2 * PAGE_BYTES] = 9;
        std::fs::write(&path, encode_base(&places, &memory)).unwrap();
        let (read, base) = read_base(&path).unwrap();
        assert_eq!(read, places);
        assert_eq!(base.bytes(), &memory[..3 * PAGE_BYTES]);
        std::fs::write(&path, b"sqjsbas1 and then nothing").unwrap();
        assert!(read_base(&path).is_err());
    }
}
