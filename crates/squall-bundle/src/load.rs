//! Reads the entry and everything that it imports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use oxc_allocator::Allocator;
use oxc_resolver::TsConfig;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Options;
use crate::built_in;
use crate::define::define;
use crate::diagnostic::Diagnostic;
use crate::module::{Graph, Module, ModuleId, Request, RequestKind, Target};
use crate::path::{extension, in_package, relative};
use crate::resolve::{Found, Modules, Resolved};
use crate::scan::{Scan, scan};
use crate::transform::{self, Script};

/// What the content of a file is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Loader {
    Script,
    Json,
    Text,
}

/// A file that somebody asked for and that is read when its turn comes.
struct Pending {
    origin: Origin,
    loader: Loader,
    side_effects: bool,
    strict_interop: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Origin {
    File(PathBuf),
    Virtual(String),
}

struct Loading<'a, 'o> {
    allocator: &'a Allocator,
    options: &'o Options,
    root: PathBuf,
    resolver: Modules,
    pending: Vec<Pending>,
    known: FxHashMap<(Origin, Loader), ModuleId>,
    /// Data that is `require`d is its own `module.exports`.
    required: FxHashSet<ModuleId>,
    errors: Vec<Diagnostic>,
}

pub(crate) fn load<'a>(
    options: &Options,
    allocator: &'a Allocator,
) -> Result<Graph<'a>, Vec<Diagnostic>> {
    let missing_root = |_| {
        vec![Diagnostic::of_file(
            options.root.display().to_string(),
            "The folder of the project does not exist",
        )]
    };
    let root = options.root.canonicalize().map_err(missing_root)?;
    let resolver = Modules::new(&root);
    let mut loading = Loading {
        allocator,
        options,
        root,
        resolver,
        pending: Vec::new(),
        known: FxHashMap::default(),
        required: FxHashSet::default(),
        errors: Vec::new(),
    };
    loading.entry().map_err(|error| vec![error])?;

    let mut modules: Vec<Module<'a>> = Vec::new();
    while modules.len() < loading.pending.len() {
        match loading.module(modules.len()) {
            Ok(module) => modules.push(module),
            Err(errors) => {
                loading.errors.extend(errors);
                modules.push(loading.stand_in(modules.len()));
            }
        }
    }
    for id in loading.required.iter().copied().collect::<Vec<_>>() {
        if loading.pending[id].loader != Loader::Script {
            match loading.data(id, true) {
                Ok(module) => modules[id] = module,
                Err(_) => debug_assert!(!loading.errors.is_empty(), "it failed before"),
            }
        }
    }
    if !loading.errors.is_empty() {
        return Err(loading.errors);
    }

    let mut inputs: Vec<PathBuf> = loading
        .pending
        .iter()
        .filter_map(|pending| match &pending.origin {
            Origin::File(path) => Some(path.clone()),
            Origin::Virtual(_) => None,
        })
        .chain(loading.resolver.configuration)
        .collect();
    inputs.sort();
    inputs.dedup();
    Ok(Graph { modules, inputs })
}

impl<'a> Loading<'a, '_> {
    fn entry(&mut self) -> Result<(), Diagnostic> {
        let path = self.root.join(&self.options.entry);
        let shown = self.options.entry.display().to_string();
        if !path.is_file() {
            return Err(Diagnostic::of_file(shown, "The entry file does not exist"));
        }
        let specifier = path.display().to_string();
        match self.resolver.resolve(&path, None, &specifier, RequestKind::Static) {
            Resolved::File(found) => {
                let loader = loader(&found.path).filter(|loader| *loader == Loader::Script);
                let Some(loader) = loader else {
                    return Err(Diagnostic::of_file(shown, "The entry file is not a script")
                        .with_hint("An entry ends in .js, .mjs, .cjs, .ts, .mts, .jsx or .tsx."));
                };
                self.file(found, loader);
                Ok(())
            }
            Resolved::Failed(failure) => Err(Diagnostic::of_file(shown, failure.message)),
            Resolved::External(_) | Resolved::Virtual(_) => {
                Err(Diagnostic::of_file(shown, "The entry file does not exist"))
            }
        }
    }

    fn module(&mut self, id: ModuleId) -> Result<Module<'a>, Vec<Diagnostic>> {
        if self.pending[id].loader == Loader::Script {
            self.script(id)
        } else {
            self.data(id, false)
        }
    }

    fn script(&mut self, id: ModuleId) -> Result<Module<'a>, Vec<Diagnostic>> {
        let name = self.name(id);
        let source = self.read(id, &name).map_err(|error| vec![error])?;
        let path = match &self.pending[id].origin {
            Origin::File(path) => path.clone(),
            Origin::Virtual(name) => PathBuf::from(format!("{name}.js")),
        };
        let tsconfig = self
            .resolver
            .tsconfig(&path)
            .map_err(|failure| vec![Diagnostic::of_file(&name, failure.message)])?;

        let module_package = self.pending[id].strict_interop;
        let mut script = transform::parse(
            self.allocator,
            source,
            &path,
            &name,
            tsconfig.as_deref(),
            module_package,
        )?;
        define(self.allocator, &mut script.program, &script.scoping, &self.options.mode);
        let mut scan = scan(&script.program, &script.scoping);
        let mistakes: Vec<Diagnostic> = scan
            .mistakes
            .drain(..)
            .map(|mistake| {
                let start = mistake.span.start as usize;
                let mut error = Diagnostic::at(&name, source, start, mistake.message);
                error.hint = mistake.hint.map(str::to_owned);
                error
            })
            .collect();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }

        for index in 0..scan.requests.len() {
            self.answer(&mut scan.requests[index], &path, &name, source, tsconfig.as_ref());
        }
        Ok(self.finish(id, name, source, script, scan))
    }

    /// A module whose only export is the content of a file.
    fn data(&mut self, id: ModuleId, required: bool) -> Result<Module<'a>, Vec<Diagnostic>> {
        let name = self.name(id);
        let text = self.read(id, &name).map_err(|error| vec![error])?;
        let literal = serde_json::Value::from(text).to_string();
        let mut keys = None;
        let value = if self.pending[id].loader == Loader::Json {
            keys = Some(json_keys(&name, text).map_err(|error| vec![error])?);
            format!("/* @__PURE__ */ JSON.parse({literal})")
        } else {
            literal
        };
        let code = if required {
            format!("module.exports = {value};\n")
        } else {
            format!("export default {value};\n")
        };
        let code: &'a str = self.allocator.alloc_str(&code);
        let path = Path::new(if required { "data.cjs" } else { "data.mjs" });
        let script = transform::parse(self.allocator, code, path, &name, None, false)?;
        let scan = scan(&script.program, &script.scoping);
        let mut module = self.finish(id, name, "", script, scan);
        module.json_keys = keys;
        module.side_effects = false;
        Ok(module)
    }

    fn finish(
        &self,
        id: ModuleId,
        name: String,
        source: &'a str,
        script: Script<'a>,
        scan: Scan,
    ) -> Module<'a> {
        let export_index = scan
            .exports
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (name.clone(), index))
            .collect();
        let pending = &self.pending[id];
        Module {
            typescript: matches!(&pending.origin, Origin::File(path)
                if matches!(extension(path).as_str(), "ts" | "mts" | "cts" | "tsx")),
            name,
            format: script.format,
            json_keys: None,
            strict_interop: pending.strict_interop,
            side_effects: pending.side_effects,
            source,
            program: script.program,
            scoping: script.scoping,
            requests: scan.requests,
            imports: scan.imports,
            exports: scan.exports,
            export_index,
            stars: scan.stars,
            parts: scan.parts,
            has_top_level_await: scan.has_top_level_await,
        }
    }

    /// Keeps the places of the other modules when one cannot be read.
    fn stand_in(&self, id: ModuleId) -> Module<'a> {
        let script = transform::parse(self.allocator, "", Path::new("none.mjs"), "", None, true)
            .unwrap_or_else(|_| unreachable!("an empty file has no mistakes"));
        let scan = scan(&script.program, &script.scoping);
        self.finish(id, String::new(), "", script, scan)
    }

    /// Finds out what a specifier stands for, and queues the file.
    fn answer(
        &mut self,
        request: &mut Request,
        importer: &Path,
        name: &str,
        source: &str,
        tsconfig: Option<&Arc<TsConfig>>,
    ) {
        let error =
            |message: String| Diagnostic::at(name, source, request.span.start as usize, message);
        let specifier = request.specifier.as_str();
        let kind = request.kind;
        let required = kind == RequestKind::Require;
        let config = tsconfig.map(Arc::as_ref);
        request.target = match self.resolver.resolve(importer, config, specifier, kind) {
            Resolved::External(external) => {
                if required && !built_in::is_provided(&external) {
                    Target::Missing
                } else {
                    Target::External(external)
                }
            }
            Resolved::Virtual(name) => {
                let found = Found { path: PathBuf::new(), side_effects: false, node_module: false };
                Target::Module(self.queue(Origin::Virtual(name), found, Loader::Script))
            }
            Resolved::File(found) => {
                let loader = if request.text { Some(Loader::Text) } else { loader(&found.path) };
                let Some(loader) = loader else {
                    self.errors.push(
                        error(format!(
                            "Cannot bundle {}: there is no loader for .{} files",
                            relative(&self.root, &found.path),
                            extension(&found.path),
                        ))
                        .with_hint(
                            "Import it as text with `with { type: \"text\" }`, or serve it as a static asset.",
                        ),
                    );
                    return;
                };
                let target = self.file(found, loader);
                if required {
                    self.required.insert(target);
                }
                Target::Module(target)
            }
            Resolved::Failed(failure) => {
                // Packages try what may not be there, and ask for modules of Node.js in functions
                // that nobody calls.
                let optional = request.guarded || (required && built_in::is_node_module(specifier));
                if !optional {
                    let mut error = error(failure.message);
                    error.hint = failure.hint;
                    self.errors.push(error);
                }
                Target::Missing
            }
        };
    }

    fn file(&mut self, found: Found, loader: Loader) -> ModuleId {
        self.queue(Origin::File(found.path.clone()), found, loader)
    }

    fn queue(&mut self, origin: Origin, found: Found, loader: Loader) -> ModuleId {
        let next = self.pending.len();
        let id = *self.known.entry((origin.clone(), loader)).or_insert(next);
        if id == next {
            self.pending.push(Pending {
                origin,
                loader,
                side_effects: found.side_effects,
                strict_interop: found.node_module,
            });
        }
        id
    }

    fn name(&self, id: ModuleId) -> String {
        match &self.pending[id].origin {
            Origin::File(path) => relative(&self.root, path),
            Origin::Virtual(name) => name.clone(),
        }
    }

    fn read(&self, id: ModuleId, name: &str) -> Result<&'a str, Diagnostic> {
        let path = match &self.pending[id].origin {
            Origin::File(path) => path,
            Origin::Virtual(name) => {
                return Ok(crate::runtime::helper(name).unwrap_or_default());
            }
        };
        let unreadable = |error: std::io::Error| {
            Diagnostic::of_file(name, format!("The file cannot be read: {error}"))
        };
        let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
        if bytes > self.options.max_bytes as u64 {
            return Err(Diagnostic::of_file(
                name,
                format!(
                    "The file has {bytes} bytes; a whole bundle may have {}",
                    self.options.max_bytes
                ),
            ));
        }
        let content = std::fs::read(path).map_err(unreadable)?;
        let text = std::str::from_utf8(&content).map_err(|error| {
            let good = String::from_utf8_lossy(&content[..error.valid_up_to()]).into_owned();
            Diagnostic::at(name, &good, good.len(), "The file is not UTF-8 text")
        })?;
        Ok(self.allocator.alloc_str(text.strip_prefix('\u{feff}').unwrap_or(text)))
    }
}

fn loader(path: &Path) -> Option<Loader> {
    match extension(path).as_str() {
        "js" | "mjs" | "cjs" | "jsx" | "ts" | "mts" | "cts" | "tsx" => Some(Loader::Script),
        "json" => Some(Loader::Json),
        "txt" | "html" | "sql" => Some(Loader::Text),
        // Packages have scripts without an ending.
        "" if in_package(path) => Some(Loader::Script),
        _ => None,
    }
}

fn json_keys(name: &str, text: &str) -> Result<FxHashSet<String>, Diagnostic> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(object)) => {
            Ok(object.into_iter().map(|(key, _)| key).collect())
        }
        Ok(_) => Ok(FxHashSet::default()),
        Err(error) => {
            let line_start: usize =
                text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
            let offset = line_start + error.column().saturating_sub(1);
            let message = error.to_string();
            // serde_json ends its messages with the position that is shown before them.
            let message = message.split(" at line ").next().unwrap_or(&message);
            Err(Diagnostic::at(name, text, offset, format!("Invalid JSON: {message}")))
        }
    }
}
