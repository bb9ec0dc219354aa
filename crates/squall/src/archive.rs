//! A deployment as a tar stream. Only names, sizes and contents are in it: no times, no
//! owners, no modes, so that the same files always make the same bytes.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::project::{Content, SourceFile};

/// Writes the files one after the other. `on_bytes` hears how many bytes of content have
/// been written since it heard last.
pub(crate) fn write(
    files: &[SourceFile],
    output: impl Write,
    mut on_bytes: impl FnMut(u64),
) -> io::Result<()> {
    let mut archive = tar::Builder::new(output);
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(file.bytes);
        header.set_mode(0o644);
        header.set_mtime(0);
        let source: Box<dyn Read> = match &file.content {
            Content::OnDisk(path) => Box::new(File::open(path)?),
            Content::Made(bytes) => Box::new(&bytes[..]),
        };
        let mut content = Counted { source, left: file.bytes, on_bytes: &mut on_bytes };
        archive
            .append_data(&mut header, &file.name, &mut content)
            .map_err(|error| named(file, &error))?;
        if content.changed()? {
            return Err(named(file, &io::Error::other("it changed while it was read")));
        }
    }
    archive.into_inner()?.flush()
}

fn named(file: &SourceFile, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", file.name))
}

/// Exactly as many bytes of a file as its header promised.
struct Counted<'a, F> {
    source: Box<dyn Read + 'a>,
    left: u64,
    on_bytes: &'a mut F,
}

impl<F> Counted<'_, F> {
    /// The file is shorter or longer than when its size was taken.
    fn changed(&mut self) -> io::Result<bool> {
        Ok(self.left > 0 || self.source.read(&mut [0])? > 0)
    }
}

impl<F: FnMut(u64)> Read for Counted<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.source.read(&mut buffer[..wanted])?;
        self.left -= read as u64;
        (self.on_bytes)(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> SourceFile {
        let path = folder.path().join(name.replace('/', "_").chars().take(200).collect::<String>());
        std::fs::write(&path, content).unwrap();
        let bytes = content.len() as u64;
        SourceFile { name: name.to_owned(), content: Content::OnDisk(path), bytes }
    }

    #[test]
    fn the_same_files_make_the_same_bytes_and_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("public/{}/page.html", "deep/".repeat(30).trim_end_matches('/'));
        let files = [
            file(&folder, "squall.toml", b"name = \"x\""),
            file(&folder, "api.wasm", &[7; 100_000]),
            file(&folder, &long, b""),
        ];
        let mut counted = 0;
        let mut first = Vec::new();
        write(&files, &mut first, |bytes| counted += bytes).unwrap();
        assert_eq!(counted, 100_010);
        // Times on disk do not matter.
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        let Content::OnDisk(path) = &files[0].content else { unreachable!() };
        File::options().append(true).open(path).unwrap().set_modified(later).unwrap();
        let mut second = Vec::new();
        write(&files, &mut second, |_| {}).unwrap();
        assert!(first == second);

        let mut archive = tar::Archive::new(&first[..]);
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.mtime().unwrap(), header.mode().unwrap()), (0, 0o644));
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((name, content.len() as u64));
        }
        let expected: Vec<_> = files.iter().map(|file| (file.name.clone(), file.bytes)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_file_that_changes_its_size_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [2, 4] {
            let mut one = file(&folder, "one", b"abc");
            one.bytes = bytes;
            let error = write(&[one], Vec::new(), |_| {}).unwrap_err();
            assert!(error.to_string().contains("one: it changed"), "{error}");
        }
    }
}
