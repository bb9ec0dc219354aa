//! An app's folder on the developer's machine: its manifest, its build commands and the
//! files that a deployment is made of.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use squall_types::ErrorCode;
use squall_types::manifest::{Code, Function, Manifest};

use crate::failure::{Exit, Failure};
use crate::output;

pub(crate) const MANIFEST: &str = "squall.toml";

/// Folders and files that belong to tools, not to a site.
const NEVER_ASSETS: &[&str] = &[".git", ".squall", ".DS_Store", "node_modules"];

#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) manifest: Manifest,
}

/// A file of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    /// Path inside the deployment, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) content: Content,
    pub(crate) bytes: u64,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    OnDisk(PathBuf),
    /// Made of other files for the deployment.
    Made(std::sync::Arc<[u8]>),
}

impl Project {
    /// Reads and checks the manifest of a folder.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let named_file = dir.file_name().is_some_and(|name| name == MANIFEST);
        let root = match dir.parent() {
            Some(parent) if named_file && dir.is_file() => parent,
            _ => dir,
        };
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        let file = root.join(MANIFEST);
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        let manifest = Manifest::parse(&text).map_err(|error| {
            let place = match error.position {
                Some((line, column)) => format!("{}:{line}:{column}", shown(&file)),
                None => shown(&file),
            };
            Failure::invalid(place, error.message).code(ErrorCode::InvalidManifest)
        })?;
        Ok(Self { root: root.to_owned(), manifest })
    }

    /// Each build command once, with the functions that it is for.
    pub(crate) fn builds(&self) -> Vec<(String, String)> {
        let mut builds: Vec<(String, String)> = Vec::new();
        for (name, function) in &self.manifest.functions {
            let Some(command) = &function.build else { continue };
            match builds.iter_mut().find(|(_, known)| known == command) {
                Some((names, _)) => {
                    names.push_str(", ");
                    names.push_str(name.as_str());
                }
                None => builds.push((name.to_string(), command.clone())),
            }
        }
        builds
    }

    /// Runs the build commands one after the other. Their output goes to standard error.
    pub(crate) async fn build(&self) -> Result<(), Failure> {
        for (functions, command) in self.builds() {
            output::note(&format!("Building {functions}: {command}"));
            let what = format!("building {functions}");
            // Standard output is for data: scripts read the URL from it.
            let stderr = std::io::stderr().as_fd().try_clone_to_owned();
            let stderr = stderr.map_err(|error| Failure::failed(&what, error))?;
            let status = tokio::process::Command::new("sh")
                .arg("-c")
                .arg(&command)
                .current_dir(&self.root)
                .stdin(std::process::Stdio::null())
                .stdout(stderr)
                .kill_on_drop(true)
                .status()
                .await
                .map_err(|error| Failure::failed(&what, format!("sh did not start: {error}")))?;
            if !status.success() {
                let why = format!("the command ended with {status}");
                return Err(Failure::failed(what, why)
                    .next(format!("cd {} && {command}", self.root.display())));
            }
        }
        Ok(())
    }

    /// Everything a deployment is made of: the manifest first, then the code of functions,
    /// then assets, each group by name, so that the same folder always makes the same
    /// upload. Sources are bundled: what is uploaded under their name is one module.
    pub(crate) fn files(&self) -> Result<Vec<SourceFile>, Failure> {
        let mut files = vec![source_file(MANIFEST.to_owned(), self.root.join(MANIFEST))?];
        let mut codes = BTreeMap::new();
        for (name, function) in &self.manifest.functions {
            codes.insert(normal(function.code().path()), (name, function));
        }
        for (code, (name, function)) in &codes {
            let path = self.root.join(code);
            if !path.is_file() {
                return Err(self.missing_code(name.as_str(), function));
            }
            files.push(match function.code() {
                Code::Component(_) => source_file(code.clone(), path)?,
                Code::Source(_) => self.bundled(code)?,
            });
        }
        if let Some(assets) = &self.manifest.assets {
            let dir = normal(&assets.dir);
            let mut found = Vec::new();
            self.walk_assets(&dir, &mut found)?;
            found.sort_by(|a, b| a.name.cmp(&b.name));
            // Code inside the assets folder is in the list already.
            found.retain(|file| file.name != MANIFEST && !codes.contains_key(&file.name));
            files.extend(found);
        }
        Ok(files)
    }

    /// The module that an entry file and its imports become, with its source map.
    fn bundled(&self, entry: &str) -> Result<SourceFile, Failure> {
        let options = squall_bundle::Options::new(&self.root, entry);
        let bundle = squall_bundle::bundle(&options).map_err(|errors| {
            let why: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Failure::invalid(format!("bundling {entry}"), why.join("\n"))
                .code(ErrorCode::InvalidSource)
        })?;
        let text = squall_bundle::join_map(&bundle.code, &bundle.map);
        let bytes = text.len() as u64;
        let content = Content::Made(text.into_bytes().into());
        Ok(SourceFile { name: entry.to_owned(), content, bytes })
    }

    fn missing_code(&self, name: &str, function: &Function) -> Failure {
        let (key, path) = (function.code().key(), function.code().path());
        let why = match (&function.build, function.code()) {
            (Some(command), _) => format!(
                "functions.{name}: there is no file {path} after its build command ({command}) has run; correct {key} or build"
            ),
            (None, Code::Component(_)) => format!(
                "functions.{name}: there is no file {path}; build it first, or add build = \"COMMAND\" to [functions.{name}] so that squall builds it"
            ),
            (None, Code::Source(_)) => {
                format!("functions.{name}: there is no file {path}; correct source")
            }
        };
        Failure::invalid(shown(&self.root.join(MANIFEST)), why).code(ErrorCode::MissingFile)
    }

    fn walk_assets(&self, dir: &str, found: &mut Vec<SourceFile>) -> Result<(), Failure> {
        let path = self.root.join(dir);
        let entries = std::fs::read_dir(&path).map_err(|error| {
            let why = format!("assets: the folder {} can not be read: {error}", path.display());
            Failure::invalid(shown(&self.root.join(MANIFEST)), why).code(ErrorCode::MissingFile)
        })?;
        for entry in entries {
            let entry = entry.map_err(|error| Failure::failed(shown(&path), error))?;
            let Ok(file_name) = entry.file_name().into_string() else {
                let why = format!("the name {:?} is not UTF-8; rename it", entry.file_name());
                return Err(Failure::invalid(shown(&path), why));
            };
            if NEVER_ASSETS.contains(&file_name.as_str()) {
                continue;
            }
            let name = if dir.is_empty() { file_name } else { format!("{dir}/{file_name}") };
            let path = entry.path();
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link && !self.contains(&path) {
                let why =
                    "the link leads nowhere or out of the app's folder; copy what it points to";
                return Err(Failure::invalid(shown(&path), why));
            }
            if path.is_dir() {
                // A link to a folder could lead back to where it is; and a folder with a
                // node's keys in it is never a part of a site.
                if !is_link && !path.join("admin.token").exists() {
                    self.walk_assets(&name, found)?;
                }
            } else if path.is_file() {
                found.push(source_file(name, path)?);
            } else {
                return Err(Failure::invalid(shown(&path), "it is neither a file nor a folder"));
            }
        }
        Ok(())
    }

    /// Whether a path, with links followed, is inside the app's folder.
    fn contains(&self, path: &Path) -> bool {
        match (path.canonicalize(), self.root.canonicalize()) {
            (Ok(path), Ok(root)) => path.starts_with(root),
            _ => false,
        }
    }
}

fn source_file(name: String, path: PathBuf) -> Result<SourceFile, Failure> {
    let bytes = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
    Ok(SourceFile { name, content: Content::OnDisk(path), bytes })
}

/// A relative path without `.` parts and doubled slashes.
pub(crate) fn normal(path: &str) -> String {
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    parts.join("/")
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::invalid(format!("reading {}", shown(file)), error);
    let is_manifest = file.file_name().is_some_and(|name| name == MANIFEST);
    if is_manifest && error.kind() == std::io::ErrorKind::NotFound {
        let why = "there is no app in this folder";
        return Failure::new(Exit::Invalid, failure.what, why)
            .next("squall new NAME, or name the folder with squall.toml");
    }
    failure
}

/// A path without a leading `./`, as a person would write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests;
