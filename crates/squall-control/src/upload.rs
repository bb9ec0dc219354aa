//! Reading an upload: a tar archive, streamed to disk entry by entry, never held in
//! memory. What it may contain is decided here; what it means is `deploy`'s.

use std::collections::BTreeMap;
use std::io::{self, Read};

use squall_types::ErrorCode;

use crate::api::problem::Problem;
use crate::blobs::{Blobs, Staged, Upload};

/// Largest `squall.toml`.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;
const FILES_MAX: usize = 20_000;
const PATH_MAX_BYTES: usize = 1_024;

/// The files of an upload, on disk.
pub(crate) struct Uploaded {
    pub(crate) manifest: String,
    /// By path relative to the manifest, with forward slashes.
    pub(crate) files: BTreeMap<String, Staged>,
    pub(crate) bytes: u64,
    /// Keeps the folder of what was not adopted.
    pub(crate) _upload: Upload,
}

/// Reads an archive to its end. Blocking.
pub(crate) fn receive(
    blobs: &Blobs,
    archive: impl Read,
    bytes_max: u64,
) -> Result<Uploaded, Problem> {
    let mut upload =
        blobs.new_upload().map_err(|error| Problem::storage("start an upload", &error))?;
    let mut counted = Counted { inner: archive, bytes: 0 };
    let mut archive = tar::Archive::new(&mut counted);
    let mut manifest = None;
    let mut files = BTreeMap::new();
    let mut left_bytes = bytes_max;
    let entries = archive.entries().map_err(|error| truncated(&error))?;
    for entry in entries {
        let mut entry = entry.map_err(|error| truncated(&error))?;
        let kind = entry.header().entry_type();
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let path = checked_path(&entry)?;
        if !kind.is_file() {
            return Err(Problem::new(
                ErrorCode::InvalidRequest,
                format!("{path} is a link or a special file; an upload holds plain files only"),
            ));
        }
        if path == "squall.toml" {
            manifest = Some(read_manifest(&mut entry)?);
            continue;
        }
        if files.len() >= FILES_MAX {
            return Err(Problem::new(
                ErrorCode::UploadTooLarge,
                format!("the upload holds more than {FILES_MAX} files"),
            ));
        }
        let size = entry.size();
        let staged = upload.stage(&mut entry, left_bytes).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => Problem::new(
                ErrorCode::UploadTooLarge,
                format!(
                    "the upload is larger than {bytes_max} bytes; raise admin.upload_bytes_max in server.toml"
                ),
            ),
            io::ErrorKind::StorageFull => Problem::storage("store the upload", &error),
            _ => truncated(&error),
        })?;
        if staged.bytes != size {
            return Err(truncated(&io::ErrorKind::UnexpectedEof.into()));
        }
        left_bytes -= staged.bytes;
        files.insert(path, staged);
    }
    let Some(manifest) = manifest else {
        return Err(Problem::new(
            ErrorCode::MissingFile,
            "the upload holds no squall.toml at its root",
        ));
    };
    // What follows the end of the archive belongs to the request still.
    let _ = io::copy(&mut counted, &mut io::sink());
    Ok(Uploaded { manifest, files, bytes: counted.bytes, _upload: upload })
}

fn truncated(error: &io::Error) -> Problem {
    Problem::new(
        ErrorCode::TruncatedUpload,
        format!("the upload ended early or is not a tar archive: {error}"),
    )
}

fn read_manifest(entry: &mut impl Read) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let read = entry.take(MANIFEST_MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| truncated(&error))?;
    if bytes.len() as u64 > MANIFEST_MAX_BYTES {
        return Err(Problem::new(
            ErrorCode::InvalidManifest,
            format!("squall.toml is larger than {MANIFEST_MAX_BYTES} bytes"),
        ));
    }
    String::from_utf8(bytes)
        .map_err(|_| Problem::new(ErrorCode::InvalidManifest, "squall.toml is not UTF-8"))
}

fn checked_path<R: Read>(entry: &tar::Entry<'_, R>) -> Result<String, Problem> {
    let bytes = entry.path_bytes();
    let refuse = |why: &str| {
        let path = String::from_utf8_lossy(&bytes).into_owned();
        Err(Problem::new(ErrorCode::InvalidRequest, format!("the path {path:?} {why}")))
    };
    let Ok(path) = std::str::from_utf8(&bytes) else { return refuse("is not UTF-8") };
    let path = path.strip_prefix("./").unwrap_or(path);
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.len() > PATH_MAX_BYTES || path.split('/').any(bad) || path.contains(['\\', '\0']) {
        return refuse("must be relative, without . and .. and backslashes");
    }
    Ok(path.to_owned())
}

struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}
