//! The usage folder: segments, the sums of each day, and the step from one to the other.
//!
//! ```text
//! <ulid>.seg            written by a live process, or not rolled up yet
//! days/YYYY-MM-DD.json  rows of a day and the names of the segments they contain
//! raw/<ulid>.seg        rolled up; kept for recomputation
//! lock                  held while the above change places
//! ```
//!
//! A day's file names the segments that it contains and is replaced whole. So a segment
//! counts for a day either through that file or by itself, whatever step a crash cut off,
//! and rolling up again is harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use squall_types::calendar::Day;
use squall_types::usage::UsageRow;

use super::segment;
use super::totals::{self, Totals};
use super::{Recomputed, Retain};

const SEGMENT_SUFFIX: &str = ".seg";

/// Sums of one day, as stored.
#[derive(Default, Serialize, Deserialize)]
struct DayFile {
    /// Names of the segments that `rows` contain.
    segments: BTreeSet<String>,
    rows: Vec<UsageRow>,
}

/// Called between the steps of a roll-up, so that a test can cut it off there.
pub(super) type Checkpoint<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

pub(super) struct Folder {
    path: PathBuf,
}

/// Held while it lives.
pub(super) struct FolderLock(#[allow(dead_code, reason = "closing the file unlocks it")] File);

impl Folder {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        for folder in [path.clone(), path.join("days"), path.join("raw")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("can not create usage folder {}: {error}", folder.display()),
                )
            })?;
        }
        Ok(Self { path })
    }

    /// Keeps roll-ups out; readers share it.
    pub(super) fn lock_shared(&self) -> io::Result<FolderLock> {
        let file = self.lock_file()?;
        file.lock_shared()?;
        Ok(FolderLock(file))
    }

    fn lock_exclusive(&self) -> io::Result<FolderLock> {
        let file = self.lock_file()?;
        file.lock()?;
        Ok(FolderLock(file))
    }

    fn lock_file(&self) -> io::Result<File> {
        let path = self.path.join("lock");
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
    }

    /// Creates the segment `name` for writing.
    pub(super) fn create_segment(&self, name: &str) -> io::Result<segment::Writer> {
        let _lock = self.lock_shared()?;
        let writer = segment::Writer::create(&self.segment_path(name))?;
        sync_folder(&self.path)?;
        Ok(writer)
    }

    fn segment_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{SEGMENT_SUFFIX}"))
    }

    fn raw_path(&self, name: &str) -> PathBuf {
        self.path.join("raw").join(format!("{name}{SEGMENT_SUFFIX}"))
    }

    fn day_path(&self, day: Day) -> PathBuf {
        self.path.join("days").join(format!("{day}.json"))
    }

    /// Names of the segments that are not rolled up, oldest first.
    pub(super) fn segments(&self) -> io::Result<Vec<String>> {
        names(&self.path, SEGMENT_SUFFIX)
    }

    /// Adds up the days from `from` to `to` and `segments` where they are not in their
    /// day's sums yet. The caller holds the lock.
    pub(super) fn read(
        &self,
        segments: &[String],
        from: Option<Day>,
        to: Option<Day>,
    ) -> io::Result<Totals> {
        let wanted =
            |day: Day| from.is_none_or(|from| from <= day) && to.is_none_or(|to| day <= to);
        let mut sums = Totals::new();
        let mut contained: BTreeMap<Day, BTreeSet<String>> = BTreeMap::new();
        for day in self.days()?.into_iter().filter(|day| wanted(*day)) {
            let file = self.read_day(day)?;
            totals::merge(&mut sums, &file.totals(&self.day_path(day))?);
            contained.insert(day, file.segments);
        }
        for name in segments {
            let mut part = segment::read(&self.segment_path(name))?.totals;
            part.retain(|key, _| {
                wanted(key.day)
                    && !contained.get(&key.day).is_some_and(|segments| segments.contains(name))
            });
            totals::merge(&mut sums, &part);
        }
        Ok(sums)
    }

    /// Adds every closed segment to the sums of its days and moves it to `raw`, then
    /// deletes raw segments beyond `retain`. Returns how many were rolled up.
    pub(super) fn roll_up(&self, retain: &Retain, checkpoint: Checkpoint<'_>) -> io::Result<usize> {
        let _lock = self.lock_exclusive()?;
        let mut rolled_up = 0;
        for name in self.segments()? {
            let path = self.segment_path(&name);
            let file = File::open(&path)?;
            if file.try_lock().is_err() {
                // Its writer lives.
                continue;
            }
            let contents = match segment::read(&path) {
                Ok(contents) => contents,
                Err(error) => {
                    // It stays where it is, and the others need not wait for it.
                    tracing::error!(%error, "a usage segment is left out of the sums");
                    continue;
                }
            };
            if contents.torn_bytes > 0 {
                tracing::warn!(
                    segment = %path.display(),
                    bytes = contents.torn_bytes,
                    "the end of a usage segment was never completed and is left out; this is what a crash leaves"
                );
            }
            self.add_to_days(&name, contents.totals, checkpoint)?;
            checkpoint("before the move to raw")?;
            fs::rename(&path, self.raw_path(&name))?;
            checkpoint("before the folders are synced")?;
            sync_folder(&self.path.join("raw"))?;
            sync_folder(&self.path)?;
            rolled_up += 1;
        }
        self.enforce(retain)?;
        Ok(rolled_up)
    }

    fn add_to_days(&self, name: &str, sums: Totals, checkpoint: Checkpoint<'_>) -> io::Result<()> {
        for (day, part) in by_day(sums) {
            let path = self.day_path(day);
            let mut file = self.read_day(day)?;
            if !file.segments.insert(name.to_owned()) {
                continue;
            }
            let mut sums = file.totals(&path)?;
            totals::merge(&mut sums, &part);
            file.set(&sums);
            checkpoint("before a day is written")?;
            self.write_day(day, &file)?;
            checkpoint("after a day is written")?;
        }
        Ok(())
    }

    /// Makes the days' sums again from raw segments, where all of them are still there.
    pub(super) fn recompute(&self) -> io::Result<Recomputed> {
        let _lock = self.lock_exclusive()?;
        let raw: BTreeSet<String> =
            names(&self.path.join("raw"), SEGMENT_SUFFIX)?.into_iter().collect();
        let mut outcome = Recomputed::default();
        let mut days: BTreeMap<Day, (DayFile, Totals)> = BTreeMap::new();
        for day in self.days()? {
            let file = self.read_day(day)?;
            if file.segments.iter().all(|name| raw.contains(name)) {
                days.insert(day, (file, Totals::new()));
            } else {
                outcome.kept.push(day.to_string());
            }
        }
        for name in &raw {
            let path = self.raw_path(name);
            for (day, part) in by_day(segment::read(&path)?.totals) {
                if let Some((file, sums)) = days.get_mut(&day)
                    && file.segments.contains(name)
                {
                    totals::merge(sums, &part);
                }
            }
        }
        for (day, (mut file, sums)) in days {
            // A damaged sum is what this is for, so failing to read it counts as a difference.
            let same = file.totals(&self.day_path(day)).is_ok_and(|known| known == sums);
            if !same {
                file.set(&sums);
                self.write_day(day, &file)?;
                outcome.mended.push(day.to_string());
            }
            outcome.recomputed.push(day.to_string());
        }
        Ok(outcome)
    }

    fn days(&self) -> io::Result<Vec<Day>> {
        let names = names(&self.path.join("days"), ".json")?;
        Ok(names.iter().filter_map(|name| Day::parse(name)).collect())
    }

    fn read_day(&self, day: Day) -> io::Result<DayFile> {
        let path = self.day_path(day);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DayFile::default()),
            Err(error) => return Err(error),
        };
        serde_json::from_slice(&bytes).map_err(|error| damaged(&path, error))
    }

    fn write_day(&self, day: Day, file: &DayFile) -> io::Result<()> {
        let path = self.day_path(day);
        let temporary = path.with_extension("tmp");
        let mut out = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        out.write_all(&serde_json::to_vec(file)?)?;
        out.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_folder(&self.path.join("days"))
    }

    /// Deletes the oldest raw segments, by age and then by size.
    fn enforce(&self, retain: &Retain) -> io::Result<()> {
        let horizon = SystemTime::now().checked_sub(Duration::from_secs(retain.days * 86_400));
        let mut kept_bytes = 0;
        let raw = self.path.join("raw");
        for name in names(&raw, SEGMENT_SUFFIX)?.iter().rev() {
            let path = self.raw_path(name);
            let metadata = fs::metadata(&path)?;
            kept_bytes += metadata.len();
            let old = horizon.is_some_and(|horizon| {
                metadata.modified().is_ok_and(|modified| modified < horizon)
            });
            if old || kept_bytes > retain.bytes {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

impl DayFile {
    fn totals(&self, path: &Path) -> io::Result<Totals> {
        let mut sums = Totals::new();
        for row in &self.rows {
            let key = totals::key_of(row)
                .ok_or_else(|| damaged(path, "a row has no valid day or no target"))?;
            sums.entry(key).or_default().merge(&row.totals);
        }
        Ok(sums)
    }

    fn set(&mut self, sums: &Totals) {
        self.rows = sums.iter().filter_map(|(key, sum)| totals::row_of(key, sum)).collect();
    }
}

fn damaged(path: &Path, reason: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "usage sums {} are damaged: {reason}; restore the file from a backup",
            path.display()
        ),
    )
}

fn by_day(sums: Totals) -> BTreeMap<Day, Totals> {
    let mut days: BTreeMap<Day, Totals> = BTreeMap::new();
    for (key, sum) in sums {
        days.entry(key.day).or_default().insert(key, sum);
    }
    days
}

/// Names of the files in `folder` that end in `suffix`, without it, sorted.
fn names(folder: &Path, suffix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Some(name) = entry?.file_name().to_str().and_then(|name| name.strip_suffix(suffix)) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
