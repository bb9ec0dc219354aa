//! What a specifier means: a file, a built-in module of the runtime, or nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxc_resolver::{
    ModuleType, PackageJson, Resolution, ResolveContext, ResolveError, ResolveOptions, Resolver,
    SideEffects, TsConfig, TsconfigDiscovery,
};

use crate::built_in;
use crate::module::RequestKind;
use crate::path::{extension, in_package, relative};
use crate::runtime;

/// A file that answers a specifier.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) side_effects: bool,
    /// `.mjs`, `.mts`, or below a `package.json` with `"type": "module"`.
    pub(crate) node_module: bool,
}

pub(crate) enum Resolved {
    File(Found),
    /// A file of the bundler itself: what the transformed code calls, or an empty module.
    Virtual(String),
    External(String),
    Failed(Failure),
}

pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

const CONDITIONS_IMPORT: [&str; 4] = ["worker", "browser", "import", "default"];
const CONDITIONS_REQUIRE: [&str; 4] = ["worker", "browser", "require", "default"];

/// In a project TypeScript comes first; a package is run as it was built.
const PROJECT_EXTENSIONS: [&str; 9] =
    [".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs", ".json"];
const PACKAGE_EXTENSIONS: [&str; 9] =
    [".js", ".mjs", ".cjs", ".jsx", ".json", ".ts", ".tsx", ".mts", ".cts"];

/// Who asks decides which endings are tried.
#[derive(Debug, Clone, Copy)]
enum Importer {
    TypeScript,
    JavaScript,
    Package,
}

pub(crate) struct Modules {
    root: PathBuf,
    /// By [`Importer`], then for `import` and for `require`. They share one cache.
    resolvers: [[Resolver; 2]; 3],
    /// The `package.json` and `tsconfig.json` files that had a say.
    pub(crate) configuration: BTreeSet<PathBuf>,
}

impl Modules {
    pub(crate) fn new(root: &Path) -> Self {
        let first = Resolver::new(options(Importer::TypeScript, RequestKind::Static));
        let resolvers = [Importer::TypeScript, Importer::JavaScript, Importer::Package].map(|by| {
            [RequestKind::Static, RequestKind::Require]
                .map(|kind| first.clone_with_options(options(by, kind)))
        });
        Self { root: root.to_owned(), resolvers, configuration: BTreeSet::new() }
    }

    /// The `tsconfig.json` that covers a file; never one for a file of a package.
    pub(crate) fn tsconfig(&mut self, path: &Path) -> Result<Option<Arc<TsConfig>>, Failure> {
        if in_package(path) {
            return Ok(None);
        }
        let resolver = &self.resolvers[0][0];
        // A file that its `include` leaves out (a `.jsx` file, as a rule) takes the nearest one.
        let config = match resolver.find_tsconfig(path) {
            Ok(None) => match self.nearest_tsconfig(path) {
                Some(file) => resolver.resolve_tsconfig(file).map(Some),
                None => return Ok(None),
            },
            config => config,
        };
        match config {
            Ok(Some(config)) => {
                self.configuration.insert(config.path().to_owned());
                Ok(Some(config))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.failure(&error, "tsconfig.json", path)),
        }
    }

    fn nearest_tsconfig(&self, path: &Path) -> Option<PathBuf> {
        path.ancestors()
            .skip(1)
            .take_while(|folder| folder.starts_with(&self.root))
            .map(|folder| folder.join("tsconfig.json"))
            .find(|file| file.is_file())
    }

    pub(crate) fn resolve(
        &mut self,
        importer: &Path,
        tsconfig: Option<&TsConfig>,
        specifier: &str,
        kind: RequestKind,
    ) -> Resolved {
        if let Some(name) = built_in::full_name(specifier) {
            return Resolved::External(name);
        }
        if runtime::helper(specifier).is_some() {
            return Resolved::Virtual(specifier.to_owned());
        }
        let by = if in_package(importer) {
            Importer::Package
        } else if matches!(extension(importer).as_str(), "ts" | "tsx" | "mts" | "cts") {
            Importer::TypeScript
        } else {
            Importer::JavaScript
        };
        let resolver = &self.resolvers[by as usize][usize::from(kind == RequestKind::Require)];
        let directory = importer.parent().unwrap_or(&self.root);
        let mut context = ResolveContext::default();
        match resolver.resolve_with_context(directory, specifier, tsconfig, &mut context) {
            Ok(resolution) => Resolved::File(self.found(&resolution)),
            Err(ResolveError::Ignored(_)) => Resolved::Virtual(runtime::EMPTY_MODULE.to_owned()),
            Err(error) => Resolved::Failed(self.failure(&error, specifier, importer)),
        }
    }

    fn found(&mut self, resolution: &Resolution) -> Found {
        let path = resolution.path().to_owned();
        let package = resolution.package_json();
        if let Some(package) = package {
            self.configuration.insert(package.realpath().to_owned());
        }
        Found {
            side_effects: package.is_none_or(|package| has_side_effects(package, &path)),
            node_module: match extension(&path).as_str() {
                "mjs" | "mts" => true,
                "cjs" | "cts" => false,
                _ => match resolution.module_type() {
                    Some(module_type) => module_type == ModuleType::Module,
                    // The resolver has an opinion on JavaScript only.
                    None => package.is_some_and(|package| {
                        package.r#type() == Some(oxc_resolver::PackageType::Module)
                    }),
                },
            },
            path,
        }
    }

    fn failure(&self, error: &ResolveError, specifier: &str, importer: &Path) -> Failure {
        match error {
            ResolveError::PackagePathNotExported { subpath, package_path, conditions, .. } => {
                Failure {
                    message: format!("Cannot find module \"{specifier}\""),
                    hint: Some(format!(
                        "{} is installed, but its \"exports\" have no \"{subpath}\" for the conditions {}.",
                        relative(&self.root, package_path),
                        conditions.names().join(", "),
                    )),
                }
            }
            ResolveError::NotFound(_)
            | ResolveError::MatchedAliasNotFound(..)
            | ResolveError::ExtensionAlias(..)
            | ResolveError::PackageImportNotDefined(..) => Failure {
                message: format!("Cannot find module \"{specifier}\""),
                hint: Some(self.not_found_hint(specifier, importer)),
            },
            ResolveError::Json(error) => Failure {
                message: format!(
                    "{} is not valid JSON: {} (line {}, column {})",
                    relative(&self.root, &error.path),
                    error.message,
                    error.line,
                    error.column,
                ),
                hint: None,
            },
            other => {
                // The resolver's messages hold absolute paths.
                let root = format!("{}/", self.root.display());
                Failure {
                    message: format!(
                        "Cannot resolve \"{specifier}\": {}",
                        other.to_string().replace(&root, "")
                    ),
                    hint: None,
                }
            }
        }
    }

    fn not_found_hint(&self, specifier: &str, importer: &Path) -> String {
        if specifier.starts_with('.') || specifier.starts_with('/') {
            return self.missing_file_hint(specifier, importer);
        }
        if let Some(hint) = built_in::missing_hint(specifier) {
            return hint;
        }
        if specifier.starts_with('#') {
            return "Looked in the \"imports\" of the nearest package.json.".to_owned();
        }
        let folders: Vec<String> = importer
            .ancestors()
            .skip(1)
            .filter(|folder| folder.starts_with(&self.root))
            .map(|folder| relative(&self.root, &folder.join("node_modules")))
            .collect();
        format!(
            "Looked in {}. Is it installed? Try: npm install {}",
            if folders.is_empty() { "node_modules".to_owned() } else { folders.join(", ") },
            package_name(specifier),
        )
    }

    fn missing_file_hint(&self, specifier: &str, importer: &Path) -> String {
        let folder = importer.parent().unwrap_or(&self.root);
        let wanted = normalize(&folder.join(specifier));
        let shown = relative(&self.root, &wanted);
        let looked = format!(
            "Looked for {shown}, {shown}{{{}}} and {shown}/index.*",
            PROJECT_EXTENSIONS.join(",")
        );
        match closest_file(&wanted) {
            Some(close) => {
                format!("{looked}. Did you mean {}?", relative(&self.root, &close))
            }
            None => format!("{looked}."),
        }
    }
}

fn options(importer: Importer, kind: RequestKind) -> ResolveOptions {
    let required = kind == RequestKind::Require;
    let aliases: &[(&str, &[&str])] = match importer {
        // TypeScript writes the name of the file that the compiler would make.
        Importer::TypeScript => &[
            (".js", &[".ts", ".tsx", ".js", ".jsx"]),
            (".jsx", &[".tsx", ".jsx"]),
            (".mjs", &[".mts", ".mjs"]),
            (".cjs", &[".cts", ".cjs"]),
        ],
        Importer::JavaScript => &[
            (".js", &[".js", ".ts", ".tsx", ".jsx"]),
            (".jsx", &[".jsx", ".tsx"]),
            (".mjs", &[".mjs", ".mts"]),
            (".cjs", &[".cjs", ".cts"]),
        ],
        Importer::Package => &[],
    };
    let extensions =
        if matches!(importer, Importer::Package) { PACKAGE_EXTENSIONS } else { PROJECT_EXTENSIONS };
    ResolveOptions {
        condition_names: strings(if required { &CONDITIONS_REQUIRE } else { &CONDITIONS_IMPORT }),
        main_fields: strings(if required {
            &["browser", "main", "module"]
        } else {
            &["browser", "module", "main"]
        }),
        alias_fields: vec![vec!["browser".to_owned()]],
        extensions: strings(&extensions),
        extension_alias: aliases
            .iter()
            .map(|(ending, files)| ((*ending).to_owned(), strings(files)))
            .collect(),
        tsconfig: Some(TsconfigDiscovery::Auto),
        // What lies outside the project and its packages must not change the output.
        node_path: false,
        module_type: true,
        ..ResolveOptions::default()
    }
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn package_name(specifier: &str) -> String {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    specifier.split('/').take(parts).collect::<Vec<_>>().join("/")
}

/// Reads `sideEffects` of a `package.json`, whose patterns are webpack's: one without a slash
/// matches a file's name in any folder.
fn has_side_effects(package: &PackageJson, path: &Path) -> bool {
    let matches = |pattern: &str| {
        let pattern = pattern.trim_start_matches("./");
        let file = relative(package.realpath().parent().unwrap_or(Path::new("")), path);
        if pattern.contains('/') {
            fast_glob::glob_match(pattern, &file)
        } else {
            fast_glob::glob_match(format!("**/{pattern}"), &file)
        }
    };
    match package.side_effects() {
        None => true,
        Some(SideEffects::Bool(any)) => any,
        Some(SideEffects::String(pattern)) => matches(pattern),
        Some(SideEffects::Array(patterns)) => patterns.into_iter().any(matches),
    }
}

/// Resolves `.` and `..` by name alone: the file does not exist.
fn normalize(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                result.pop();
            }
            std::path::Component::CurDir => {}
            other => result.push(other),
        }
    }
    result
}

/// A file of the same folder whose name is nearly the one that was asked for.
fn closest_file(wanted: &Path) -> Option<PathBuf> {
    let stem = |path: &Path| {
        path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let wanted_stem = stem(wanted);
    let mut files: Vec<PathBuf> = std::fs::read_dir(wanted.parent()?)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| PROJECT_EXTENSIONS.contains(&format!(".{}", extension(path)).as_str()))
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (strsim::damerau_levenshtein(&wanted_stem, &stem(&path)), path))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, path)| path)
}
