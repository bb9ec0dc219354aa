//! A file of frames that one process appends to.
//!
//! ```text
//! "squall usage 1\n\0"
//! frame*: length of payload (4 bytes LE), checksum (8 bytes), payload
//! ```
//!
//! The checksum is the start of BLAKE3 over length and payload. A frame counts only
//! when it is whole: reading stops at the first that is not, which is where a crash or
//! a full disk cut the file. A live segment is locked (flock) by its writer, and the
//! kernel lets go when the writer dies, so a segment that can be locked is closed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::batch;
use super::totals::Totals;

const MAGIC: &[u8; 16] = b"squall usage 1\n\0";
const FRAME_HEAD_BYTES: usize = 12;

/// Appends a frame around `payload`.
pub(super) fn put_frame(out: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a batch is bounded far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, payload));
    out.extend_from_slice(payload);
}

fn checksum(length: u32, payload: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&length.to_le_bytes()).update(payload);
    let mut out = [0; 8];
    out.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    out
}

/// A segment that this process writes.
pub(super) struct Writer {
    file: File,
    /// Everything below is on the disk.
    bytes: u64,
}

impl Writer {
    /// Creates the file and locks it. The caller holds the folder's lock, so that nobody
    /// takes the new file for a closed one before it is locked.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let made = file.lock().and_then(|()| file.write_all_at(MAGIC, 0));
        if let Err(error) = made {
            // Nothing is in it, and the next attempt wants the name again.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { file, bytes: MAGIC.len() as u64 })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes whole frames and waits until they are on the disk. After an error nothing
    /// counts as written: the next call overwrites what this one may have left.
    pub(super) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let written =
            self.file.write_all_at(frames, self.bytes).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.bytes += frames.len() as u64;
                Ok(())
            }
            Err(error) => {
                let _ = self.file.set_len(self.bytes);
                Err(error)
            }
        }
    }
}

/// What a segment holds.
pub(super) struct Contents {
    pub(super) totals: Totals,
    /// Behind the last whole frame.
    pub(super) torn_bytes: u64,
}

/// Reads all whole frames.
///
/// # Errors
/// Fails when the file can not be read or was written by another version; never counts
/// a part of a frame.
pub(super) fn read(path: &Path) -> io::Result<Contents> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    read_frames(BufReader::with_capacity(256 << 10, file), size).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!(
                "usage segment {} can not be read: {error}; restore it, or move it out of the folder to go on without it",
                path.display()
            ),
        )
    })
}

fn read_frames(mut input: impl Read, size: u64) -> io::Result<Contents> {
    let mut contents = Contents { totals: Totals::new(), torn_bytes: size };
    let mut magic = [0; 16];
    if size < magic.len() as u64 {
        return Ok(contents);
    }
    input.read_exact(&mut magic)?;
    if magic == [0; 16] {
        // The size reached the disk and the data did not: a power cut.
        return Ok(contents);
    }
    if &magic != MAGIC {
        return Err(unknown_format());
    }
    contents.torn_bytes -= magic.len() as u64;
    let mut payload = Vec::new();
    while contents.torn_bytes >= FRAME_HEAD_BYTES as u64 {
        let mut head = [0; FRAME_HEAD_BYTES];
        input.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let frame_bytes = FRAME_HEAD_BYTES as u64 + u64::from(length);
        if frame_bytes > contents.torn_bytes {
            break;
        }
        payload.resize(length as usize, 0);
        input.read_exact(&mut payload)?;
        if checksum(length, &payload) != head[4..] {
            break;
        }
        batch::decode(&payload, &mut contents.totals).ok_or_else(unknown_format)?;
        contents.torn_bytes -= frame_bytes;
    }
    Ok(contents)
}

fn unknown_format() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its format is not known to this version")
}
