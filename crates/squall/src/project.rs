//! An app's folder on the developer's machine: its manifest, its build commands and the
//! files that a deployment is made of.

mod bundling;
mod dev_vars;
mod document;
mod wrangler;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use squall_types::ErrorCode;
use squall_types::manifest::{Code, Function, Manifest};

use self::document::{Wrong, position};
use crate::cli::FolderOptions;
use crate::failure::{Exit, Failure};
use crate::output;

pub(crate) const MANIFEST: &str = "squall.toml";

/// Folders and files that belong to tools, not to a site.
const NEVER_ASSETS: &[&str] = &[
    ".git",
    ".squall",
    ".DS_Store",
    "node_modules",
    "wrangler.json",
    "wrangler.jsonc",
    "wrangler.toml",
    ".wrangler",
];

#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) manifest: Manifest,
    /// What the manifest was read from.
    file: PathBuf,
    origin: Origin,
    environment: Option<String>,
    /// What a person should know before they deploy.
    pub(crate) warnings: Vec<String>,
    /// Secrets that the project says it needs.
    pub(crate) secrets: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// `squall.toml`.
    Manifest,
    /// The configuration of a Workers project.
    Workers,
}

/// What a deployment is made of.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) files: Vec<SourceFile>,
    /// The files that were read to make bundles.
    pub(crate) inputs: Vec<PathBuf>,
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

/// The variables of a developer's machine, from a file that is never deployed.
#[derive(Debug)]
pub(crate) struct DevVars {
    /// The file's name.
    pub(crate) file: String,
    pub(crate) values: BTreeMap<String, String>,
}

impl Project {
    /// Reads and checks the manifest of a folder, or the configuration of a Workers
    /// project where there is no manifest.
    pub(crate) fn open(folder: &FolderOptions) -> Result<Self, Failure> {
        let (dir, environment) = (folder.dir.as_path(), folder.environment.as_deref());
        let names = || std::iter::once(MANIFEST).chain(wrangler::FILES);
        let named = names().find(|name| dir.ends_with(name) && dir.is_file());
        let root = match dir.parent() {
            Some(parent) if named.is_some() => parent,
            _ => dir,
        };
        let root = if root.as_os_str().is_empty() { Path::new(".") } else { root };
        let mut there = names().filter(|name| root.join(name).is_file());
        let used = named.or_else(|| there.next()).unwrap_or(MANIFEST);
        let others: Vec<&str> = there.filter(|name| *name != used).collect();

        let file = root.join(used);
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        let mut project = match used {
            MANIFEST => Self::of_manifest(root, file, &text, environment)?,
            _ => Self::of_workers(root, file, &text, environment)?,
        };
        if !others.is_empty() {
            let verb = if others.len() == 1 { "is" } else { "are" };
            project.warnings.push(format!("{used} is used; {} {verb} not read", others.join(", ")));
        }
        Ok(project)
    }

    fn of_manifest(
        root: &Path,
        file: PathBuf,
        text: &str,
        environment: Option<&str>,
    ) -> Result<Self, Failure> {
        if let Some(environment) = environment {
            let why = format!(
                "it has no environments, so --env {environment} chooses nothing; deploy another app with other variables instead"
            );
            return Err(Failure::invalid(shown(&file), why));
        }
        let manifest = Manifest::parse(text).map_err(|error| {
            let place = match error.position {
                Some((line, column)) => format!("{}:{line}:{column}", shown(&file)),
                None => shown(&file),
            };
            Failure::invalid(place, error.message).code(ErrorCode::InvalidManifest)
        })?;
        Ok(Self {
            root: root.to_owned(),
            manifest,
            file,
            origin: Origin::Manifest,
            environment: None,
            warnings: Vec::new(),
            secrets: Vec::new(),
        })
    }

    fn of_workers(
        root: &Path,
        file: PathBuf,
        text: &str,
        environment: Option<&str>,
    ) -> Result<Self, Failure> {
        let is_toml = file.extension().is_some_and(|extension| extension == "toml");
        let parse = if is_toml { document::parse_toml } else { document::parse_jsonc };
        let translation = parse(text)
            .and_then(|document| wrangler::translate(&document, environment))
            .map_err(|wrong| misread(&file, text, wrong).code(ErrorCode::InvalidManifest))?;
        let mut ignored = translation.ignored;
        if let Some(assets) = &translation.manifest.assets {
            ignored.extend(rule_files(root, &assets.dir));
        }
        let mut warnings = Vec::new();
        if !ignored.is_empty() {
            let (file, ignored) = (shown(&file), ignored.join("\n  "));
            warnings.push(format!("not everything in {file} has a meaning here:\n  {ignored}"));
        }
        Ok(Self {
            root: root.to_owned(),
            manifest: translation.manifest,
            file,
            origin: Origin::Workers,
            environment: environment.map(str::to_owned),
            warnings,
            secrets: translation.secrets,
        })
    }

    /// Says what a person should know.
    pub(crate) fn warn(&self) {
        for warning in &self.warnings {
            output::note(&format!("warning: {warning}"));
        }
    }

    /// The file with variables of this machine, where there is one: that of the chosen
    /// environment, or the one for all.
    pub(crate) fn dev_vars_file(&self) -> Option<String> {
        let of_environment = self
            .environment
            .as_ref()
            .map(|environment| format!("{}.{environment}", dev_vars::FILE));
        let names = of_environment.into_iter().chain([dev_vars::FILE.to_owned()]);
        names.into_iter().find(|name| self.root.join(name).is_file())
    }

    pub(crate) fn dev_vars(&self) -> Result<Option<DevVars>, Failure> {
        let Some(name) = self.dev_vars_file() else { return Ok(None) };
        let file = self.root.join(&name);
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, &error))?;
        let values = dev_vars::parse(&text).map_err(|wrong| misread(&file, &text, wrong))?;
        Ok(Some(DevVars { file: name, values }))
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
    pub(crate) fn contents(&self) -> Result<Contents, Failure> {
        let mut files = vec![self.manifest_file()?];
        let mut inputs = Vec::new();
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
                Code::Source(_) => {
                    let (file, read) = bundling::bundle(&self.root, code)?;
                    inputs.extend(read);
                    file
                }
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
        Ok(Contents { files, inputs })
    }

    fn manifest_file(&self) -> Result<SourceFile, Failure> {
        match self.origin {
            Origin::Manifest => source_file(MANIFEST.to_owned(), self.file.clone()),
            Origin::Workers => {
                let text = toml::to_string(&self.manifest)
                    .map_err(|error| Failure::failed(shown(&self.file), error))?;
                Ok(made_file(MANIFEST.to_owned(), text))
            }
        }
    }

    /// What a node says of the sources, with the line that it speaks of.
    pub(crate) fn locate(&self, failure: Failure) -> Failure {
        bundling::locate(&self.root, failure)
    }

    fn missing_code(&self, name: &str, function: &Function) -> Failure {
        let path = function.code().path();
        let key = match self.origin {
            Origin::Manifest => function.code().key(),
            Origin::Workers => "main",
        };
        let why = match (&function.build, function.code()) {
            (Some(command), _) => format!(
                "functions.{name}: there is no file {path} after its build command ({command}) has run; correct {key} or build"
            ),
            (None, Code::Component(_)) => format!(
                "functions.{name}: there is no file {path}; build it first, or add build = \"COMMAND\" to [functions.{name}] so that squall builds it"
            ),
            (None, Code::Source(_)) => {
                format!("functions.{name}: there is no file {path}; correct {key}")
            }
        };
        Failure::invalid(shown(&self.file), why).code(ErrorCode::MissingFile)
    }

    fn walk_assets(&self, dir: &str, found: &mut Vec<SourceFile>) -> Result<(), Failure> {
        let path = self.root.join(dir);
        let entries = std::fs::read_dir(&path).map_err(|error| {
            let why = format!("assets: the folder {} can not be read: {error}", path.display());
            Failure::invalid(shown(&self.file), why).code(ErrorCode::MissingFile)
        })?;
        for entry in entries {
            let entry = entry.map_err(|error| Failure::failed(shown(&path), error))?;
            let Ok(file_name) = entry.file_name().into_string() else {
                let why = format!("the name {:?} is not UTF-8; rename it", entry.file_name());
                return Err(Failure::invalid(shown(&path), why));
            };
            // Secrets of a developer's machine must not be served to anybody.
            if NEVER_ASSETS.contains(&file_name.as_str()) || file_name.starts_with(dev_vars::FILE) {
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

/// Files that Wrangler takes out of the assets and acts on.
fn rule_files(root: &Path, dir: &str) -> Vec<String> {
    let names = ["_headers", "_redirects", ".assetsignore"].map(|name| format!("{dir}/{name}"));
    let there =
        names.into_iter().map(|name| normal(&name)).filter(|name| root.join(name).is_file());
    there.map(|name| format!("{name}: served like any file; its rules are not applied")).collect()
}

fn source_file(name: String, path: PathBuf) -> Result<SourceFile, Failure> {
    let bytes = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
    Ok(SourceFile { name, content: Content::OnDisk(path), bytes })
}

fn made_file(name: String, text: String) -> SourceFile {
    let bytes = text.len() as u64;
    SourceFile { name, content: Content::Made(text.into_bytes().into()), bytes }
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
            .next("squall new NAME --template ts, or name the folder with squall.toml");
    }
    failure
}

/// What is wrong in a file, with its place.
fn misread(file: &Path, text: &str, wrong: Wrong) -> Failure {
    let (line, column) = position(text, wrong.at);
    Failure::invalid(format!("{}:{line}:{column}", shown(file)), wrong.message)
}

/// A path without a leading `./`, as a person would write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests;
