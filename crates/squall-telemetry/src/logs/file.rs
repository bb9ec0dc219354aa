//! An append-only file that rotates by size: `name`, `name.1` and so on.
//!
//! Two server processes write to it during an upgrade: each writes whole lines with
//! O_APPEND, notices when the other has rotated, and rotates under a lock.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) struct RotatingFile {
    path: PathBuf,
    lock_path: PathBuf,
    max_bytes: u64,
    files: usize,
    file: File,
    /// The last write stopped within a line.
    torn: bool,
}

impl RotatingFile {
    pub(super) fn open(
        folder: &Path,
        name: &str,
        max_bytes: u64,
        files: usize,
    ) -> io::Result<Self> {
        let path = folder.join(name);
        let file = open_append(&path)?;
        let torn = !ends_with_newline(&path)?;
        Ok(Self {
            path,
            lock_path: folder.join("lock"),
            max_bytes,
            files: files.max(1),
            file,
            torn,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends whole lines.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.is_current() {
            self.file = open_append(&self.path)?;
            self.torn = false;
        }
        let size = self.file.metadata()?.len();
        if size > 0 && size + lines.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        if self.torn {
            self.file.write_all(b"\n")?;
        }
        let written = self.file.write_all(lines);
        self.torn = written.is_err();
        written
    }

    /// The last whole lines of this and older files, at most `max_bytes`.
    pub(super) fn tail(&self, max_bytes: u64) -> io::Result<Vec<u8>> {
        let mut tail = Vec::new();
        for age in 0..self.files {
            let wanted = max_bytes - tail.len() as u64;
            let mut file = match File::open(self.aged(age)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let size = file.metadata()?.len();
            let mut lines = Vec::new();
            file.seek(SeekFrom::Start(size.saturating_sub(wanted)))?;
            file.take(wanted).read_to_end(&mut lines)?;
            if lines.last().is_some_and(|last| *last != b'\n') {
                lines.push(b'\n');
            }
            lines.append(&mut tail);
            tail = lines;
            if size >= wanted {
                // The first line may be cut: what is before its end is left out.
                let first = tail.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                if size > wanted {
                    tail.drain(..first);
                }
                break;
            }
        }
        Ok(tail)
    }

    /// Whether the open file still is the one at the path.
    fn is_current(&self) -> bool {
        match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.lock_path)?;
        lock.lock()?;
        // The other process may have done it while this one waited.
        if self.is_current() {
            for age in (1..self.files).rev() {
                match fs::rename(self.aged(age - 1), self.aged(age)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            if self.files == 1 {
                fs::remove_file(&self.path)?;
            }
        }
        self.file = open_append(&self.path)?;
        self.torn = false;
        Ok(())
    }

    fn aged(&self, age: usize) -> PathBuf {
        if age == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{age}"));
        name.into()
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(|error| {
        io::Error::new(error.kind(), format!("can not open log file {}: {error}", path.display()))
    })
}

fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
