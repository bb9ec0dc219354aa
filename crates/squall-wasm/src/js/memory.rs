//! The linear memories of JavaScript instances.
//!
//! An instance is kept and serves one request after the other; what makes it new each
//! time is its memory, which is put back here. The base image (the engine with the web
//! layer, booted) is mapped privately from one file that all instances share, so a page
//! that nobody wrote to costs nothing. The kernel says which pages have become private;
//! those are overwritten with what they were, and so are those where the function's own
//! snapshot differs from the base. Neither asks the kernel for anything but that list:
//! unmapping pages would cost an interrupt on every core and a fault for each later write.
//! And the list stays what it is for as long as nothing faults: a page becomes private by
//! the fault of the first write to it, and by nothing else.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::OnceLock;

use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

use super::image::{BaseImage, Snapshot};

pub(crate) const PAGE_BYTES: usize = 4096;

/// Private pages that an instance keeps at most; beyond, its memory goes back to the
/// system and is faulted in anew.
const KEEP_PAGES: usize = 1024;

/// Makes anonymous memories that never move, so that `Instance` may map over them.
pub(crate) struct Creator;

// SAFETY: `new_memory` returns zeroed memory that stays where it is until it is dropped,
// followed by the guard that was asked for.
unsafe impl MemoryCreator for Creator {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        maximum: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let capacity = reserved.or(maximum).unwrap_or(minimum).max(minimum);
        let capacity = capacity.next_multiple_of(PAGE_BYTES);
        let mut region = Region::reserve(capacity, guard)
            .map_err(|error| format!("no address space for a memory: {error}"))?;
        region.grow(minimum).map_err(|error| format!("no room for a memory: {error}"))?;
        Ok(Box::new(region))
    }
}

/// Reserved address space whose first `accessible` bytes may be used.
struct Region {
    start: NonNull<u8>,
    accessible: usize,
    capacity: usize,
    reserved: usize,
}

// SAFETY: a region owns its addresses as a box owns its contents.
unsafe impl Send for Region {}
// SAFETY: nothing can be changed through a shared reference.
unsafe impl Sync for Region {}

impl Region {
    fn reserve(capacity: usize, guard: usize) -> io::Result<Self> {
        let reserved = capacity + guard.next_multiple_of(PAGE_BYTES);
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                reserved,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start: NonNull<u8> = NonNull::new(start.cast()).expect("mmap never chooses address 0");
        // A huge page would make 512 pages private with one write. Kernels without huge
        // pages refuse, and need no advice.
        // SAFETY: advice about a mapping that is ours.
        unsafe { libc::madvise(start.as_ptr().cast(), reserved, libc::MADV_NOHUGEPAGE) };
        Ok(Self { start, accessible: 0, capacity, reserved })
    }

    fn grow(&mut self, to: usize) -> io::Result<()> {
        let to = to.next_multiple_of(PAGE_BYTES);
        if to > self.capacity {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        if to > self.accessible {
            // SAFETY: both ends lie within the reservation.
            let done = unsafe {
                libc::mprotect(
                    self.start.as_ptr().add(self.accessible).cast(),
                    to - self.accessible,
                    libc::PROT_READ | libc::PROT_WRITE,
                )
            };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
            self.accessible = to;
        }
        Ok(())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: nobody can refer to the memory of an instance that is gone.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.reserved) };
    }
}

// SAFETY: what is accessible is mapped readable and writable, and the start never moves.
unsafe impl LinearMemory for Region {
    fn byte_size(&self) -> usize {
        self.accessible
    }
    fn byte_capacity(&self) -> usize {
        self.capacity
    }
    fn grow_to(&mut self, new_size: usize) -> wasmtime::Result<()> {
        self.grow(new_size).map_err(wasmtime::Error::from)
    }
    fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

/// The accessible part of one instance's memory, as the host sees it between turns.
pub(crate) struct Memory<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Memory<'a> {
    /// `bytes` must be the whole of a memory that `Creator` made.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Self {
        debug_assert_eq!(bytes.as_ptr() as usize % PAGE_BYTES, 0);
        debug_assert_eq!(bytes.len() % PAGE_BYTES, 0);
        Self { bytes }
    }

    /// Maps the base image over the front. Everything behind it must be zero still.
    pub(crate) fn attach(&mut self, base: &BaseImage) -> io::Result<()> {
        assert!(base.bytes().len() <= self.bytes.len(), "the base image is larger than a memory");
        // SAFETY: replaces pages of a private mapping that `bytes` borrows whole; they stay
        // readable and writable.
        let mapped = unsafe {
            libc::mmap(
                self.bytes.as_mut_ptr().cast(),
                base.bytes().len(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE,
                base.file().as_raw_fd(),
                0,
            )
        };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes the memory what it was when `snapshot` was taken, whatever was written to it
    /// since. Returns how many pages had become private, of which `private` has the list.
    pub(crate) fn restore(
        &mut self,
        base: &BaseImage,
        snapshot: &Snapshot,
        private: &mut PrivatePages,
    ) -> io::Result<usize> {
        // Before the pages are looked at: what faults from here on makes the list old.
        let faults = faults_of_process();
        let known = private.as_of == Some(faults) || private.find(self.bytes).is_ok();
        let runs = &mut private.runs;
        let count: usize = runs.iter().map(Range::len).sum();
        if !known || count > KEEP_PAGES {
            // Private pages of a mapping read as their file again, or as zeros.
            // SAFETY: nobody holds a reference into the memory between turns.
            let dropped = unsafe {
                libc::madvise(self.bytes.as_mut_ptr().cast(), self.bytes.len(), libc::MADV_DONTNEED)
            };
            if dropped != 0 {
                return Err(io::Error::last_os_error());
            }
            runs.clear();
        }
        let mut differing = snapshot.pages().peekable();
        let mut beside = false;
        for page in runs.iter().cloned().flatten() {
            while let Some((earlier, bytes)) = differing.next_if(|(other, _)| *other < page) {
                self.page_mut(earlier).copy_from_slice(bytes);
                beside = true;
            }
            match differing.next_if(|(other, _)| *other == page) {
                Some((_, bytes)) => self.page_mut(page).copy_from_slice(bytes),
                None => match base.page(page) {
                    Some(bytes) => self.page_mut(page).copy_from_slice(bytes),
                    None => self.page_mut(page).fill(0),
                },
            }
        }
        for (page, bytes) in differing {
            self.page_mut(page).copy_from_slice(bytes);
            beside = true;
        }
        private.as_of = (!beside).then_some(faults);
        Ok(count)
    }

    fn page_mut(&mut self, page: usize) -> &mut [u8] {
        &mut self.bytes[page * PAGE_BYTES..][..PAGE_BYTES]
    }
}

/// `struct pm_scan_arg` and `struct page_region` of linux/fs.h.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FoundRun {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`
const PAGEMAP_SCAN: libc::Ioctl = 0xc060_6610_u32 as libc::Ioctl;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// The private pages of one memory, as far as they are known.
#[derive(Default)]
pub(crate) struct PrivatePages {
    runs: Vec<Range<usize>>,
    /// The faults of the process when the list was whole.
    as_of: Option<u64>,
}

impl PrivatePages {
    /// The pages of a private mapping that are no longer those of its file, or no longer
    /// the zero page: whatever was written to is among them. Fails before Linux 6.7.
    fn find(&mut self, memory: &[u8]) -> io::Result<()> {
        static PAGEMAP: OnceLock<Option<File>> = OnceLock::new();
        let runs = &mut self.runs;
        runs.clear();
        let pagemap = PAGEMAP.get_or_init(|| File::open("/proc/self/pagemap").ok());
        let Some(pagemap) = pagemap else { return Err(io::ErrorKind::Unsupported.into()) };
        let first = memory.as_ptr() as u64;
        let end = first + memory.len() as u64;
        let mut found = [FoundRun::default(); 128];
        let mut start = first;
        while start < end {
            let mut argument = ScanArgument {
                size: size_of::<ScanArgument>() as u64,
                flags: 0,
                start,
                end,
                walk_end: 0,
                vec: found.as_mut_ptr() as u64,
                vec_len: found.len() as u64,
                max_pages: 0,
                category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
                // One that was swapped out is as private as one that is here.
                category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
                return_mask: PAGE_IS_FILE,
            };
            // SAFETY: the kernel writes `walk_end` and at most `vec_len` entries of `found`.
            let count =
                unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut argument) };
            let Ok(count) = usize::try_from(count) else { return Err(io::Error::last_os_error()) };
            let page = |address: u64| (address - first) as usize / PAGE_BYTES;
            runs.extend(found[..count].iter().map(|run| page(run.start)..page(run.end)));
            start = argument.walk_end;
        }
        Ok(())
    }
}

/// Page faults of all threads since the process began, those that had to read a file among
/// them (getrusage(2)). Of all, because a request may go on on another thread.
fn faults_of_process() -> u64 {
    // SAFETY: the structure is plain numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    (usage.ru_minflt + usage.ru_majflt) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Base of 8 pages, memory of 64; the snapshot differs in pages 2, 9 and 63.
    fn images() -> (BaseImage, Snapshot) {
        let mut base = vec![0; 8 * PAGE_BYTES];
        base.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 1000) as u8);
        let base = BaseImage::new(&base).unwrap();
        let mut memory = base.bytes().to_vec();
        memory.resize(64 * PAGE_BYTES, 0);
        for page in [2, 9, 63] {
            memory[page * PAGE_BYTES + 7] = 0xee;
        }
        let snapshot = Snapshot::difference(&base, &memory);
        (base, snapshot)
    }

    fn expected(base: &BaseImage, snapshot: &Snapshot) -> Vec<u8> {
        let mut memory = base.bytes().to_vec();
        memory.resize(64 * PAGE_BYTES, 0);
        for (page, bytes) in snapshot.pages() {
            memory[page * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(bytes);
        }
        memory
    }

    fn region() -> Region {
        let mut region = Region::reserve(1 << 20, PAGE_BYTES).unwrap();
        region.grow(64 * PAGE_BYTES).unwrap();
        region
    }

    fn bytes(region: &mut Region) -> &mut [u8] {
        // SAFETY: it is accessible and borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(region.as_ptr(), region.byte_size()) }
    }

    #[test]
    fn a_memory_becomes_the_snapshot_whatever_was_written() {
        let (base, snapshot) = images();
        let nothing = Snapshot::difference(&base, base.bytes());
        let mut region = region();
        Memory::new(bytes(&mut region)).attach(&base).unwrap();
        let mut private = PrivatePages::default();
        for round in 0..20_usize {
            let to = if round % 3 == 0 { &nothing } else { &snapshot };
            Memory::new(bytes(&mut region)).restore(&base, to, &mut private).unwrap();
            assert!(bytes(&mut region) == expected(&base, to), "round {round}");
            for page in (0..64).filter(|page| (page * 7 + round) % 5 == 0) {
                bytes(&mut region)[page * PAGE_BYTES + round] ^= 0x55;
            }
        }
    }

    #[test]
    fn only_pages_that_were_written_to_become_private() {
        let (base, _) = images();
        let nothing = Snapshot::difference(&base, base.bytes());
        let mut region = region();
        Memory::new(bytes(&mut region)).attach(&base).unwrap();
        // Reading makes nothing private, of the file or of the zeros behind it.
        assert_eq!(bytes(&mut region).iter().step_by(512).filter(|byte| **byte == 0xff).count(), 0);
        let memory = bytes(&mut region);
        let mut private = PrivatePages::default();
        if private.find(memory).is_err() {
            return; // before Linux 6.7 everything is dropped instead
        }
        assert!(private.runs.is_empty(), "{:?}", private.runs);
        memory[3 * PAGE_BYTES] = 1;
        memory[4 * PAGE_BYTES] = 1;
        memory[40 * PAGE_BYTES] = 1;
        private.find(memory).unwrap();
        assert_eq!(private.runs, [3..5, 40..41]);
        let mut private = PrivatePages::default();
        let restored = Memory::new(memory).restore(&base, &nothing, &mut private).unwrap();
        assert_eq!(restored, 3);
    }

    #[test]
    fn a_memory_with_many_private_pages_gives_them_back() {
        let base = BaseImage::new(&[1; PAGE_BYTES]).unwrap();
        let nothing = Snapshot::difference(&base, base.bytes());
        let mut region = Region::reserve(64 << 20, PAGE_BYTES).unwrap();
        region.grow(32 << 20).unwrap();
        Memory::new(bytes(&mut region)).attach(&base).unwrap();
        bytes(&mut region)[PAGE_BYTES..].fill(9);
        let mut private = PrivatePages::default();
        Memory::new(bytes(&mut region)).restore(&base, &nothing, &mut private).unwrap();
        assert!(bytes(&mut region)[PAGE_BYTES..].iter().all(|byte| *byte == 0));
        if private.find(bytes(&mut region)).is_ok() {
            assert!(private.runs.is_empty(), "{:?}", private.runs);
        }
    }

    /// The list is used again only while nothing has become private, on whatever thread.
    #[test]
    fn a_first_write_on_another_thread_is_found() {
        let (base, snapshot) = images();
        let mut region = region();
        Memory::new(bytes(&mut region)).attach(&base).unwrap();
        let mut private = PrivatePages::default();
        for page in 0..64_usize {
            // The first of the two writes the pages in which the snapshot differs.
            for _ in 0..2 {
                Memory::new(bytes(&mut region)).restore(&base, &snapshot, &mut private).unwrap();
                assert!(bytes(&mut region) == expected(&base, &snapshot), "page {page}");
            }
            let memory = bytes(&mut region);
            std::thread::scope(|scope| {
                scope.spawn(|| memory[page * PAGE_BYTES + 9] ^= 0x55);
            });
        }
    }
}
