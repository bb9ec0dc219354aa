//! Stored files, named by their content. A file is there whole or not at all: written
//! beside, flushed, renamed, and its folder flushed.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use squall_types::state::BlobId;

/// Of the data directory.
pub(crate) const FOLDER: &str = "blobs";
const COPY_BYTES: usize = 128 << 10;

/// Where a blob lies below the folder of blobs.
pub(crate) fn path_in(folder: &Path, id: &BlobId) -> PathBuf {
    let name = id.to_string();
    folder.join(&name[..2]).join(name)
}

#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    folder: PathBuf,
    staging: PathBuf,
}

/// A file that was taken in but does not belong to the store yet.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) id: BlobId,
    pub(crate) bytes: u64,
    path: PathBuf,
}

impl Blobs {
    /// Makes the folders and empties what an interrupted upload left.
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let blobs = Self { folder: data_dir.join(FOLDER), staging: data_dir.join("staging") };
        std::fs::create_dir_all(&blobs.folder)?;
        std::fs::create_dir_all(&blobs.staging)?;
        Ok(blobs)
    }

    /// Only for the one server process of a data directory: another's uploads would go.
    pub(crate) fn clear_staging(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.staging)? {
            let path = entry?.path();
            if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
        }
        Ok(())
    }

    pub(crate) fn path(&self, id: &BlobId) -> PathBuf {
        path_in(&self.folder, id)
    }

    /// A folder of its own for one upload; gone with what it still holds when dropped.
    pub(crate) fn new_upload(&self) -> io::Result<Upload> {
        let folder = self.staging.join(ulid::Ulid::new().to_string());
        std::fs::create_dir(&folder)?;
        Ok(Upload { folder, files: 0 })
    }

    /// Takes a staged file into the store.
    pub(crate) fn adopt(&self, staged: &Staged) -> io::Result<()> {
        let path = self.path(&staged.id);
        if std::fs::metadata(&path).is_ok_and(|there| there.len() == staged.bytes) {
            return Ok(());
        }
        let folder = path.parent().expect("a blob lies in a folder");
        if !folder.exists() {
            std::fs::create_dir_all(folder)?;
            File::open(&self.folder)?.sync_all()?;
        }
        std::fs::rename(&staged.path, &path)?;
        File::open(folder)?.sync_all()
    }

    /// Removes blobs that nothing needs. Returns how many.
    pub(crate) fn sweep(&self, needed: &HashSet<BlobId>) -> io::Result<usize> {
        let mut removed = 0;
        for folder in std::fs::read_dir(&self.folder)? {
            for entry in std::fs::read_dir(folder?.path())? {
                let entry = entry?;
                let id = entry.file_name().to_str().and_then(BlobId::parse);
                if id.is_some_and(|id| !needed.contains(&id)) {
                    std::fs::remove_file(entry.path())?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}

pub(crate) struct Upload {
    folder: PathBuf,
    files: u32,
}

impl Upload {
    /// Writes a file of at most `bytes_max` and flushes it. Larger ones fail with
    /// `FileTooLarge`.
    pub(crate) fn stage(&mut self, source: &mut impl Read, bytes_max: u64) -> io::Result<Staged> {
        self.files += 1;
        let path = self.folder.join(self.files.to_string());
        let mut file = File::create_new(&path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; COPY_BYTES];
        let mut bytes = 0;
        loop {
            let read = match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            bytes += read as u64;
            if bytes > bytes_max {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            hasher.update(&buffer[..read]);
            file.write_all(&buffer[..read])?;
        }
        file.sync_all()?;
        Ok(Staged { id: hasher.finalize().into(), bytes, path })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!("an upload's folder could not be removed: {error}");
        }
    }
}
