//! What every import and every exported name stands for in the end, through all re-exports.

use oxc_span::Span;
use oxc_syntax::symbol::SymbolId;
use rustc_hash::FxHashMap;

use crate::diagnostic::Diagnostic;
use crate::module::{
    Export, Graph, Import, ImportName, Module, ModuleId, RequestKind, Target, Use,
};

/// Where a value lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binding {
    /// A variable in the scope of an ES module.
    Symbol(ModuleId, SymbolId),
    /// The default export of an ES module that has no name.
    Anonymous(ModuleId),
    /// All exports of an ES module as an object.
    Namespace(ModuleId),
    /// A property of an ES module's namespace that is only known when the program runs: it passes
    /// on everything of a `CommonJS` or built-in module.
    Dynamic(ModuleId, String),
    /// A property of a JSON file.
    Json(ModuleId, String),
    /// A property of `module.exports`.
    CommonJs(ModuleId, String),
    /// What `import x from` gives for a `CommonJS` module, by the rules of Node.js or of bundlers.
    CommonJsDefault(ModuleId, Interop),
    CommonJsNamespace(ModuleId, Interop),
    External(String, String),
    ExternalNamespace(String),
    /// A type that TypeScript could not tell from a value, or a property that does not exist.
    Undefined,
}

/// How a `CommonJS` module looks to an ES module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interop {
    /// The default export is `module.exports`, as in Node.js.
    Strict,
    /// `__esModule` says that `module.exports.default` is the default export.
    Loose,
}

pub(crate) struct Links {
    /// What the imported names of a module stand for.
    pub(crate) imports: Vec<FxHashMap<SymbolId, Binding>>,
    /// Every name that an ES module exports, with those of `export * from`; sorted.
    pub(crate) exports: Vec<Vec<(String, Binding)>>,
    /// Modules whose exports are not all known: `export * from` a `CommonJS` or built-in module.
    pub(crate) open: Vec<bool>,
}

impl Links {
    /// What `namespace.property` stands for, when that is known.
    pub(crate) fn property(
        &self,
        graph: &Graph<'_>,
        namespace: &Binding,
        property: &str,
    ) -> Option<Binding> {
        match namespace {
            Binding::Namespace(target) => {
                let exports = &self.exports[*target];
                let json = graph.modules[*target].json_keys.as_ref();
                Some(match exports.binary_search_by(|(name, _)| name.as_str().cmp(property)) {
                    Ok(index) => exports[index].1.clone(),
                    Err(_) if json.is_some_and(|keys| keys.contains(property)) => {
                        Binding::Json(*target, property.to_owned())
                    }
                    // `toString` and its like are not exports.
                    Err(_) if self.open[*target] => return None,
                    Err(_) => Binding::Undefined,
                })
            }
            Binding::CommonJsNamespace(target, interop) => Some(if property == "default" {
                Binding::CommonJsDefault(*target, *interop)
            } else {
                Binding::CommonJs(*target, property.to_owned())
            }),
            _ => None,
        }
    }

    pub(crate) fn interop(module: &Module<'_>) -> Interop {
        if module.strict_interop { Interop::Strict } else { Interop::Loose }
    }
}

pub(crate) fn link(graph: &Graph<'_>) -> Result<Links, Vec<Diagnostic>> {
    let open = open_modules(graph);
    let mut linker = Linker { graph, open: &open, known: FxHashMap::default() };
    let mut errors = Vec::new();

    let mut imports = Vec::with_capacity(graph.modules.len());
    for (id, module) in graph.modules.iter().enumerate() {
        let mut bindings = FxHashMap::default();
        let mut ordered: Vec<(&SymbolId, &Import)> = module.imports.iter().collect();
        ordered.sort_by_key(|(symbol, _)| **symbol);
        for (&symbol, import) in ordered {
            let binding = match linker.import(id, import, &mut Vec::new()) {
                Outcome::Found(binding) => binding,
                _ if module.typescript && !is_used(module, symbol) => Binding::Undefined,
                outcome => {
                    errors.push(linker.explain(id, import, &outcome));
                    Binding::Undefined
                }
            };
            bindings.insert(symbol, binding);
        }
        imports.push(bindings);
    }

    let mut exports = Vec::with_capacity(graph.modules.len());
    for (id, module) in graph.modules.iter().enumerate() {
        for (_, export) in &module.exports {
            // An import that is passed on by name was explained above, where it stands.
            let Export::From(import) = export else { continue };
            let outcome = linker.import(id, import, &mut Vec::new());
            let explained = module.imports.values().any(|known| known.span == import.span);
            if !matches!(outcome, Outcome::Found(_)) && !module.typescript && !explained {
                errors.push(linker.explain(id, import, &outcome));
            }
        }
        exports.push(if module.is_es_module() { linker.all_exports(id) } else { Vec::new() });
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Links { imports, exports, open })
}

/// Whether a statement mentions the name, other than to export it.
fn is_used(module: &Module<'_>, symbol: SymbolId) -> bool {
    module.parts.iter().flat_map(|part| &part.uses).any(|used| match used {
        Use::Symbol(used) | Use::Property(used, _) => *used == symbol,
    })
}

fn open_modules(graph: &Graph<'_>) -> Vec<bool> {
    let mut open = vec![false; graph.modules.len()];
    loop {
        let mut changed = false;
        for (id, module) in graph.modules.iter().enumerate() {
            let is_open = module.stars.iter().any(|&star| match module.requests[star].target {
                Target::Module(target) => !graph.modules[target].is_es_module() || open[target],
                Target::External(_) => true,
                Target::Missing => false,
            });
            changed |= is_open && !open[id];
            open[id] |= is_open;
        }
        if !changed {
            return open;
        }
    }
}

#[derive(Debug, Clone)]
enum Outcome {
    Found(Binding),
    NotFound,
    /// Two `export * from` give the name different values.
    Ambiguous,
}

struct Linker<'g, 'a> {
    graph: &'g Graph<'a>,
    open: &'g [bool],
    known: FxHashMap<(ModuleId, String), Outcome>,
}

impl Linker<'_, '_> {
    fn import(
        &mut self,
        importer: ModuleId,
        import: &Import,
        path: &mut Vec<(ModuleId, String)>,
    ) -> Outcome {
        let module = &self.graph.modules[importer];
        let target = match &module.requests[import.request].target {
            Target::Module(target) => *target,
            Target::External(specifier) => {
                return Outcome::Found(match &import.name {
                    ImportName::Named(name) => Binding::External(specifier.clone(), name.clone()),
                    ImportName::Namespace => Binding::ExternalNamespace(specifier.clone()),
                });
            }
            Target::Missing => return Outcome::NotFound,
        };
        let interop = Links::interop(module);
        let is_es_module = self.graph.modules[target].is_es_module();
        match &import.name {
            ImportName::Namespace if is_es_module => Outcome::Found(Binding::Namespace(target)),
            ImportName::Namespace => Outcome::Found(Binding::CommonJsNamespace(target, interop)),
            ImportName::Named(name) if is_es_module => match self.export(target, name, path) {
                Outcome::NotFound if self.has_json_key(target, name) => {
                    Outcome::Found(Binding::Json(target, name.clone()))
                }
                Outcome::NotFound if self.open[target] && name != "default" => {
                    Outcome::Found(Binding::Dynamic(target, name.clone()))
                }
                outcome => outcome,
            },
            ImportName::Named(name) if name == "default" => {
                Outcome::Found(Binding::CommonJsDefault(target, interop))
            }
            ImportName::Named(name) => Outcome::Found(Binding::CommonJs(target, name.clone())),
        }
    }

    fn has_json_key(&self, target: ModuleId, name: &str) -> bool {
        self.graph.modules[target].json_keys.as_ref().is_some_and(|keys| keys.contains(name))
    }

    /// `ResolveExport` (ECMA-262, 16.2.1.7.2.2).
    fn export(&mut self, id: ModuleId, name: &str, path: &mut Vec<(ModuleId, String)>) -> Outcome {
        let key = (id, name.to_owned());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        if path.contains(&key) {
            return Outcome::NotFound;
        }
        let in_cycle = !path.is_empty();
        path.push(key.clone());
        let outcome = self.look_up(id, name, path);
        path.pop();
        // Inside of a cycle the answer may depend on where the question started.
        if !in_cycle || matches!(outcome, Outcome::Found(_)) {
            self.known.insert(key, outcome.clone());
        }
        outcome
    }

    fn look_up(&mut self, id: ModuleId, name: &str, path: &mut Vec<(ModuleId, String)>) -> Outcome {
        let graph = self.graph;
        let module = &graph.modules[id];
        match module.export(name) {
            Some(Export::Local(symbol)) => return Outcome::Found(Binding::Symbol(id, *symbol)),
            Some(Export::Anonymous) => return Outcome::Found(Binding::Anonymous(id)),
            Some(Export::From(import)) => return self.import(id, import, path),
            None => {}
        }
        if name == "default" {
            return Outcome::NotFound;
        }
        let mut found = Outcome::NotFound;
        for &star in &module.stars {
            let Target::Module(target) = module.requests[star].target else { continue };
            if !graph.modules[target].is_es_module() {
                continue;
            }
            found = match (found, self.export(target, name, path)) {
                (found, Outcome::NotFound) => found,
                (_, Outcome::Ambiguous) => Outcome::Ambiguous,
                (Outcome::Found(one), Outcome::Found(other)) if one != other => Outcome::Ambiguous,
                (_, found) => found,
            };
            if matches!(found, Outcome::Ambiguous) {
                return found;
            }
        }
        found
    }

    fn all_exports(&mut self, id: ModuleId) -> Vec<(String, Binding)> {
        let mut names = Vec::new();
        self.export_names(id, &mut names, &mut Vec::new());
        names.sort();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| match self.export(id, &name, &mut Vec::new()) {
                Outcome::Found(Binding::Undefined) | Outcome::NotFound | Outcome::Ambiguous => None,
                Outcome::Found(binding) => Some((name, binding)),
            })
            .collect()
    }

    fn export_names(&self, id: ModuleId, names: &mut Vec<String>, seen: &mut Vec<ModuleId>) {
        if seen.contains(&id) {
            return;
        }
        let is_start = seen.is_empty();
        seen.push(id);
        let module = &self.graph.modules[id];
        names.extend(
            module
                .exports
                .iter()
                .map(|(name, _)| name)
                .filter(|name| is_start || *name != "default")
                .cloned(),
        );
        for &star in &module.stars {
            if let Target::Module(target) = module.requests[star].target {
                self.export_names(target, names, seen);
            }
        }
    }

    fn explain(&self, importer: ModuleId, import: &Import, outcome: &Outcome) -> Diagnostic {
        let module = &self.graph.modules[importer];
        let request = &module.requests[import.request];
        debug_assert_eq!(request.kind, RequestKind::Static, "only static imports have names");
        let name = match &import.name {
            ImportName::Named(name) => name.as_str(),
            ImportName::Namespace => "*",
        };
        let error = |message: String, span: Span| {
            Diagnostic::at(&module.name, module.source, span.start as usize, message)
        };
        let Target::Module(target) = request.target else {
            return error(format!("Cannot find module \"{}\"", request.specifier), request.span);
        };
        let file = &self.graph.modules[target].name;
        if matches!(outcome, Outcome::Ambiguous) {
            return error(
                format!("{file} exports \"{name}\" more than once, by different `export *`"),
                import.span,
            );
        }
        let error = error(format!("{file} has no export \"{name}\""), import.span);
        let mut names = Vec::new();
        self.export_names(target, &mut names, &mut Vec::new());
        names.sort();
        names.dedup();
        match suggestion(name, &names) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

fn suggestion(wanted: &str, names: &[String]) -> Option<String> {
    let lower = wanted.to_lowercase();
    let close = names
        .iter()
        .filter(|name| *name != "default")
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= (wanted.len() / 3).max(1))
        .min();
    if let Some((_, name)) = close {
        return Some(format!("Did you mean \"{name}\"?"));
    }
    if names.is_empty() {
        return Some("It exports nothing.".to_owned());
    }
    if wanted == "default" {
        let first: Vec<&str> = names.iter().take(5).map(String::as_str).collect();
        let more = if names.len() > 5 { ", ..." } else { "" };
        return Some(format!(
            "It has no default export; import by name: import {{ {}{more} }}",
            first.join(", ")
        ));
    }
    if names.iter().any(|name| name == "default") {
        return Some(format!("It has a default export; did you mean: import {wanted} from ...?"));
    }
    None
}
