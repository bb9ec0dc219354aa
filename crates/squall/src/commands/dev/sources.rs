//! Which files an app is made from, and whether their content has changed. Times decide
//! only whether a file is read again, never whether it counts as changed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use squall_types::manifest::{Code, Manifest};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::project::normal;

/// Folders of tools: their content follows from sources, or is nobody's source.
const NEVER_SOURCES: &[&str] = &[".git", ".hg", ".jj", ".squall", "node_modules", "target"];

/// A file that was written this recently may be written again without another time.
const RECENT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Print {
    bytes: u64,
    modified: Option<SystemTime>,
    hash: blake3::Hash,
}

/// Files that package managers write last: packages that were missing may be there now.
const INSTALLED: &[&str] = &[
    "node_modules/.package-lock.json",
    "node_modules/.modules.yaml",
    "node_modules/.yarn-state.yml",
    "node_modules/.yarn-integrity",
];

/// Where to look for sources.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Folders with everything below them.
    trees: BTreeSet<PathBuf>,
    /// Folders without what is below them.
    folders: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Scope {
    /// Everything below a folder.
    pub(super) fn whole(root: &Path) -> Self {
        Self { trees: BTreeSet::from([root.to_owned()]), ..Self::default() }
    }

    /// Of an app: the folders of its entry files and assets, and what configures it. A
    /// build command, or a component that is made elsewhere, may depend on any file.
    pub(super) fn of(manifest: &Manifest, root: &Path) -> Self {
        let mut scope = Self::default();
        for function in manifest.functions.values() {
            match (function.code(), &function.build) {
                (Code::Source(source), None) => {
                    let entry = root.join(normal(source));
                    scope.trees.insert(entry.parent().unwrap_or(root).to_owned());
                }
                _ => return Self::whole(root),
            }
        }
        scope.trees.extend(manifest.assets.iter().map(|assets| root.join(normal(&assets.dir))));
        scope.folders.insert(root.to_owned());
        scope.files.extend(INSTALLED.iter().map(|file| root.join(file)));
        scope
    }

    /// With files that may be anywhere, such as those of packages.
    pub(super) fn with_files(mut self, files: &[PathBuf]) -> Self {
        self.files.extend(files.iter().cloned());
        self
    }
}

/// The files that an app is made of.
pub(super) struct Sources {
    root: PathBuf,
    data_dir: PathBuf,
    scope: Scope,
    products: BTreeSet<PathBuf>,
    /// As they were at the newest scan.
    now: BTreeMap<PathBuf, Print>,
    /// As they were when a build last began.
    taken: BTreeMap<PathBuf, blake3::Hash>,
}

impl Sources {
    pub(super) fn new(root: PathBuf, data_dir: PathBuf) -> Self {
        // The bundler names the files that it read by their whole paths.
        let root = root.canonicalize().unwrap_or(root);
        Self {
            scope: Scope::whole(&root),
            root,
            data_dir,
            products: BTreeSet::new(),
            now: BTreeMap::new(),
            taken: BTreeMap::new(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Looks elsewhere from now on. What comes into sight by that, or goes out of it, has
    /// not changed.
    pub(super) fn look_at(&mut self, scope: Scope) {
        if self.scope == scope {
            return;
        }
        let seen = std::mem::take(&mut self.now);
        self.scope = scope;
        self.scan();
        if self.taken.is_empty() {
            return;
        }
        self.taken.retain(|path, _| self.now.contains_key(path) || !path.exists());
        for (path, print) in &self.now {
            if !seen.contains_key(path) {
                self.taken.insert(path.clone(), print.hash);
            }
        }
    }

    /// A path that is made by a build.
    pub(super) fn ignore(&mut self, product: PathBuf) {
        self.products.insert(product);
    }

    /// Looks at every file; returns the folders that hold them.
    pub(super) fn scan(&mut self) -> Vec<PathBuf> {
        let data_dir = self.data_dir.canonicalize().ok();
        let mut prints = BTreeMap::new();
        let mut folders: Vec<PathBuf> = self.scope.trees.iter().cloned().collect();
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            for (path, is_folder) in self.entries(&folder) {
                if !is_folder {
                    prints.extend(self.print(&path).map(|print| (path, print)));
                } else if data_dir.is_none() || path.canonicalize().ok() != data_dir {
                    folders.push(path);
                }
            }
        }
        for folder in &self.scope.folders {
            let files = self.entries(folder).into_iter().filter(|(_, is_folder)| !is_folder);
            prints.extend(files.filter_map(|(path, _)| Some((path.clone(), self.print(&path)?))));
            folders.push(folder.clone());
        }
        for path in &self.scope.files {
            prints.extend(self.print(path).map(|print| (path.clone(), print)));
            folders.extend(path.parent().filter(|folder| folder.is_dir()).map(Path::to_owned));
        }
        self.now = prints;
        folders
    }

    /// What is in a folder and may be a source: paths, and whether they are folders.
    fn entries(&self, folder: &Path) -> Vec<(PathBuf, bool)> {
        // A folder that is gone again has no files.
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let wanted = entries.flatten().filter_map(|entry| {
            let (path, name) = (entry.path(), entry.file_name());
            let never = NEVER_SOURCES.iter().any(|never| name == *never);
            if never || self.products.contains(&path) {
                return None;
            }
            Some((path, entry.file_type().ok()?.is_dir()))
        });
        wanted.collect()
    }

    /// `None` for what is no file, or not one that can be read now.
    fn print(&self, path: &Path) -> Option<Print> {
        let facts = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let (bytes, modified) = (facts.len(), facts.modified().ok());
        let settled =
            modified.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > RECENT);
        if let Some(known) = self.now.get(path)
            && settled
            && (known.bytes, known.modified) == (bytes, modified)
        {
            return Some(known.clone());
        }
        let mut hasher = blake3::Hasher::new();
        std::io::copy(&mut std::fs::File::open(path).ok()?, &mut hasher).ok()?;
        Some(Print { bytes, modified, hash: hasher.finalize() })
    }

    /// Files that were added, changed or removed since `take`.
    pub(super) fn changes(&self) -> BTreeSet<PathBuf> {
        let differs = |path: &&PathBuf| {
            let now = self.now.get(*path).map(|print| &print.hash);
            now != self.taken.get(*path) && !self.products.contains(*path)
        };
        self.now.keys().chain(self.taken.keys()).filter(differs).cloned().collect()
    }

    /// A build begins with the files as they were at the newest scan.
    pub(super) fn take(&mut self) {
        self.taken = self.now.iter().map(|(path, print)| (path.clone(), print.hash)).collect();
    }
}

/// Hears that something happened in a set of folders.
pub(super) struct Watcher {
    watcher: RecommendedWatcher,
    watched: HashSet<PathBuf>,
    events: mpsc::UnboundedReceiver<()>,
}

impl Watcher {
    pub(super) fn start() -> Result<Self, Failure> {
        let (sender, events) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event, too; our own scans must not wake us. An error
            // means that events may be missing, so it is a reason to look.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            let _ = sender.send(());
        });
        let watcher = watcher.map_err(|error| Failure::failed("watching files", error))?;
        Ok(Self { watcher, watched: HashSet::new(), events })
    }

    /// Watches these folders from now on, and no others. Each one by itself: what is
    /// ignored below them costs no watches.
    pub(super) fn watch(&mut self, folders: Vec<PathBuf>) -> Result<(), Failure> {
        let folders: HashSet<PathBuf> = folders.into_iter().collect();
        for gone in self.watched.difference(&folders) {
            // The system forgets a folder that was deleted by itself.
            let _ = self.watcher.unwatch(gone);
        }
        for new in folders.difference(&self.watched) {
            match self.watcher.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => {}
                // It was deleted since it was found.
                Err(_) if !new.exists() => {}
                Err(error) => {
                    return Err(Failure::failed(format!("watching {}", new.display()), error)
                        .next("sysctl fs.inotify.max_user_watches=524288"));
                }
            }
        }
        self.watched = folders;
        Ok(())
    }

    /// Waits for an event; returns when it came.
    pub(super) async fn changed(&mut self) -> Instant {
        if self.events.recv().await.is_none() {
            // The sender lives inside the watcher, which lives here.
            std::future::pending::<()>().await;
        }
        Instant::now()
    }

    /// Waits until nothing has happened for `quiet`, at most `longest`.
    pub(super) async fn settle(&mut self, quiet: Duration, longest: Duration) {
        let deadline = tokio::time::Instant::now() + longest;
        loop {
            let next = tokio::time::timeout(quiet, self.events.recv());
            match tokio::time::timeout_at(deadline, next).await {
                Ok(Ok(Some(()))) => {}
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &Sources) -> Vec<String> {
        let name = |path: PathBuf| path.strip_prefix(&sources.root).unwrap().display().to_string();
        sources.changes().into_iter().map(name).collect()
    }

    #[test]
    fn content_decides_and_folders_of_tools_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write("squall.toml", "1");
        write("src/lib.rs", "1");
        write("out/api.wasm", "1");
        write("target/x", "1");
        write("node_modules/m/x", "1");
        write("state/node.json", "1");
        let mut sources = Sources::new(folder.path().to_owned(), folder.path().join("state"));
        sources.ignore(folder.path().join("out/api.wasm"));
        let folders = sources.scan();
        assert_eq!(folders.len(), 3, "{folders:?}");
        assert_eq!(names(&sources), ["squall.toml", "src/lib.rs"]);
        sources.take();
        assert!(names(&sources).is_empty());

        // The same content again is no change; other content is, and so is absence.
        write("src/lib.rs", "1");
        write("out/api.wasm", "2");
        sources.scan();
        assert!(names(&sources).is_empty());
        write("src/lib.rs", "2");
        write("src/new.rs", "1");
        std::fs::remove_file(folder.path().join("squall.toml")).unwrap();
        sources.scan();
        assert_eq!(names(&sources), ["squall.toml", "src/lib.rs", "src/new.rs"]);
    }

    #[test]
    fn what_comes_into_sight_has_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let text = "name = \"x\"\n[functions.api]\nsource = \"src/index.ts\"\nroutes = [\"/*\"]\n";
        write("squall.toml", text);
        write("src/index.ts", "1");
        write("docs/a.md", "1");
        write("node_modules/m/index.js", "1");
        let mut sources = Sources::new(folder.path().to_owned(), folder.path().join("state"));
        let root = sources.root().to_owned();
        let manifest = Manifest::parse(text).unwrap();
        let inputs = [root.join("src/index.ts"), root.join("node_modules/m/index.js")];
        let narrow = || Scope::of(&manifest, &root).with_files(&inputs);
        sources.look_at(Scope::of(&manifest, &root));
        sources.scan();
        assert_eq!(names(&sources), ["squall.toml", "src/index.ts"]);
        sources.take();

        sources.look_at(narrow());
        assert!(names(&sources).is_empty());
        write("docs/a.md", "2");
        write("node_modules/m/index.js", "2");
        sources.scan();
        assert_eq!(names(&sources), ["node_modules/m/index.js"]);
        sources.take();

        // A bundle failed: what it lacks may come to be anywhere.
        sources.look_at(Scope::whole(&root));
        assert!(names(&sources).is_empty());
        write("docs/b.ts", "1");
        sources.scan();
        assert_eq!(names(&sources), ["docs/b.ts"]);
        // A change is not lost when the view becomes narrow again.
        write("src/index.ts", "2");
        sources.look_at(narrow());
        assert_eq!(names(&sources), ["src/index.ts"]);
        std::fs::remove_file(root.join("src/index.ts")).unwrap();
        sources.look_at(Scope::of(&manifest, &root));
        assert_eq!(names(&sources), ["src/index.ts"]);
    }

    #[tokio::test]
    async fn writing_wakes_and_reading_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "1").unwrap();
        let mut watcher = Watcher::start().unwrap();
        watcher.watch(vec![folder.path().to_owned()]).unwrap();
        std::fs::read(&file).unwrap();
        let quiet = tokio::time::timeout(Duration::from_millis(100), watcher.changed()).await;
        assert!(quiet.is_err(), "reading is no change");
        std::fs::write(&file, "2").unwrap();
        let woken = tokio::time::timeout(Duration::from_secs(10), watcher.changed()).await;
        assert!(woken.is_ok());
        watcher.settle(QUIET, QUIET * 10).await;
    }

    const QUIET: Duration = Duration::from_millis(20);
}
