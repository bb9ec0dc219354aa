//! The data directory: private, of a version that we know, and ours alone.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use squall_types::ErrorCode;

use crate::error::UpError;

/// The layout that this version writes.
const VERSION: u32 = 1;
const VERSION_FILE: &str = "version";

/// A data directory that this process has locked.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens or creates a data directory and locks it until the end of this process.
    pub(crate) fn open(path: &Path) -> Result<Self, UpError> {
        make_private(path)?;
        let path = path.canonicalize().map_err(|error| storage(path, &error))?;
        check_version(&path)?;
        let lock = lock(&path)?;
        for folder in ["artifacts", "crashes"] {
            std::fs::create_dir_all(path.join(folder)).map_err(|error| storage(&path, &error))?;
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn storage(path: &Path, error: &io::Error) -> UpError {
    if error.kind() == io::ErrorKind::StorageFull {
        return UpError::new(
            ErrorCode::StorageFull,
            format!("the disk of {} is full; free some space", path.display()),
        );
    }
    UpError::new(
        ErrorCode::StorageFailed,
        format!("the data directory {} can not be used: {error}", path.display()),
    )
}

fn make_private(path: &Path) -> Result<(), UpError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| storage(path, &error))?;
    let found = std::fs::metadata(path).map_err(|error| storage(path, &error))?;
    let unsafe_because = |why: String| {
        let path = path.display();
        UpError::new(
            ErrorCode::DataDirUnsafe,
            format!("{path} {why}: compiled code in it is trusted; run `chmod 700 {path}`"),
        )
    };
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        return Err(unsafe_because(format!("is open to others (mode {mode:o})")));
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(unsafe_because("belongs to another user".to_owned()));
    }
    Ok(())
}

fn check_version(path: &Path) -> Result<(), UpError> {
    let file = path.join(VERSION_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(version) if version <= VERSION => Ok(()),
            Ok(version) => Err(UpError::new(
                ErrorCode::DataDirTooNew,
                format!(
                    "{} has layout {version}, and this version of Squall knows up to {VERSION}; start the version that wrote it, or a newer one",
                    path.display()
                ),
            )),
            Err(_) => Err(UpError::new(
                ErrorCode::StorageFailed,
                format!("{} does not hold a number", file.display()),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_atomically(&file, format!("{VERSION}\n").as_bytes())
                .map_err(|error| storage(path, &error))
        }
        Err(error) => Err(storage(path, &error)),
    }
}

fn lock(path: &Path) -> Result<File, UpError> {
    let file = path.join("lock");
    let open = || {
        File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(&file)
    };
    let mut lock = open().map_err(|error| storage(path, &error))?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let owner = std::fs::read_to_string(&file).unwrap_or_default();
            let owner = owner.trim();
            let owner = if owner.is_empty() { "another process" } else { owner };
            return Err(UpError::new(
                ErrorCode::DataDirLocked,
                format!(
                    "a node runs on {} already (process {owner}); use it, give another --data-dir, or run `squall upgrade` to replace it without a pause",
                    path.display()
                ),
            ));
        }
        Err(error) => return Err(storage(path, &error.into())),
    }
    let written = lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(|error| storage(path, &error))?;
    Ok(lock)
}

/// The node's key, made when it is missing. It encrypts the secrets.
pub(crate) fn node_key(data_dir: &Path) -> io::Result<[u8; 32]> {
    let path = data_dir.join("node.key");
    match std::fs::read(&path) {
        Ok(bytes) => bytes.as_slice().try_into().map_err(|_| {
            let why = format!("{} must hold 32 bytes", path.display());
            io::Error::new(io::ErrorKind::InvalidData, why)
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key: [u8; 32] = squall_types::trace::random();
            write_atomically(&path, &key)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

/// Replaces a private file whole: written beside, flushed, renamed, folder flushed.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a file lies in a folder");
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || {
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
