//! Names for everything that shares the one scope of the output.
//!
//! A variable keeps its name when nobody had it before. Names that the bundler makes up are ones
//! that no file uses anywhere, so that they cannot be captured by a variable of an inner scope.

use std::collections::BTreeMap;

use oxc_syntax::keyword::is_reserved_keyword;
use oxc_syntax::symbol::SymbolId;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::link::{Binding, Interop, Links};
use crate::module::{Graph, Module, ModuleId, Use};
use crate::order::Plan;
use crate::shake::Live;

pub(crate) struct Names {
    pub(crate) modules: Vec<ModuleNames>,
    externals: BTreeMap<(String, String), String>,
    external_namespaces: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub(crate) struct ModuleNames {
    /// Variables of the module that are called something else in the output.
    pub(crate) renamed: FxHashMap<SymbolId, String>,
    /// The default export that has no name of its own.
    pub(crate) anonymous: String,
    /// The object of all exports of an ES module.
    pub(crate) namespace: String,
    /// The function that runs a wrapped ES module.
    pub(crate) run: String,
    /// The function that answers `require`.
    pub(crate) require: String,
    /// Where the result of `require` of an ES module is kept.
    pub(crate) required: String,
    /// The functions that answer `import()`, loose and strict.
    pub(crate) import: [String; 2],
    /// `module.exports`.
    pub(crate) exports: String,
    /// What has the default export of a `CommonJS` module as a property.
    pub(crate) default_of: String,
    /// A `CommonJS` module as a namespace, loose and strict.
    pub(crate) namespace_of: [String; 2],
}

/// A value in the words of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'n> {
    Name(&'n str),
    Property(&'n str, &'n str),
    Undefined,
}

impl Names {
    pub(crate) fn value<'n>(&'n self, graph: &'n Graph<'_>, binding: &'n Binding) -> Value<'n> {
        match binding {
            Binding::Symbol(id, symbol) => Value::Name(self.symbol(graph, *id, *symbol)),
            Binding::Anonymous(id) => Value::Name(&self.modules[*id].anonymous),
            Binding::Namespace(id) => Value::Name(&self.modules[*id].namespace),
            Binding::Dynamic(id, name) => Value::Property(&self.modules[*id].namespace, name),
            Binding::Json(id, name) => Value::Property(&self.modules[*id].anonymous, name),
            Binding::CommonJs(id, name) => Value::Property(&self.modules[*id].exports, name),
            Binding::CommonJsDefault(id, Interop::Strict) => {
                Value::Name(&self.modules[*id].exports)
            }
            Binding::CommonJsDefault(id, Interop::Loose) => {
                Value::Property(&self.modules[*id].default_of, "default")
            }
            Binding::CommonJsNamespace(id, interop) => Value::Name(
                &self.modules[*id].namespace_of[usize::from(*interop == Interop::Strict)],
            ),
            Binding::External(specifier, name) => {
                match self.externals.get(&(specifier.clone(), name.clone())) {
                    Some(name) => Value::Name(name),
                    None => Value::Undefined,
                }
            }
            Binding::ExternalNamespace(specifier) => {
                match self.external_namespaces.get(specifier) {
                    Some(name) => Value::Name(name),
                    None => Value::Undefined,
                }
            }
            Binding::Undefined => Value::Undefined,
        }
    }

    pub(crate) fn symbol<'n>(
        &'n self,
        graph: &'n Graph<'_>,
        id: ModuleId,
        symbol: SymbolId,
    ) -> &'n str {
        match self.modules[id].renamed.get(&symbol) {
            Some(name) => name,
            None => graph.modules[id].scoping.symbol_name(symbol),
        }
    }

    pub(crate) fn external(&self, specifier: &str, name: &str) -> &str {
        self.externals
            .get(&(specifier.to_owned(), name.to_owned()))
            .map_or("undefined", String::as_str)
    }

    pub(crate) fn external_namespace(&self, specifier: &str) -> &str {
        self.external_namespaces.get(specifier).map_or("undefined", String::as_str)
    }
}

pub(crate) fn assign(graph: &Graph<'_>, plan: &Plan, links: &Links, live: &Live) -> Names {
    let mut scope = Scope::of(graph, live);
    let mut names = Names {
        modules: graph.modules.iter().map(|_| ModuleNames::default()).collect(),
        externals: BTreeMap::new(),
        external_namespaces: BTreeMap::new(),
    };
    for (id, module) in graph.modules.iter().enumerate() {
        if live.modules[id] {
            made_up_names(&mut names.modules[id], &mut scope, id, module, plan, live);
            if module.is_es_module() {
                own_names(&mut names.modules[id], &mut scope, module, &live.parts[id]);
            }
        }
    }
    for (specifier, external) in &live.externals {
        let base = identifier(specifier.rsplit(':').next().unwrap_or(specifier));
        for name in &external.names {
            let given = if name == "default" { scope.fresh(&base) } else { scope.keep(name) };
            names.externals.insert((specifier.clone(), name.clone()), given);
        }
        if external.namespace {
            names.external_namespaces.insert(specifier.clone(), scope.fresh(&base));
        }
    }
    for id in 0..graph.modules.len() {
        if live.modules[id] && graph.modules[id].is_es_module() {
            let captured = captured_names(graph, links, live, &names, id);
            names.modules[id]
                .renamed
                .extend(captured.into_iter().map(|(symbol, name)| (symbol, scope.fresh(&name))));
        }
    }
    names
}

struct Scope<'g> {
    /// Every name that occurs in a file, however deep.
    everywhere: FxHashSet<&'g str>,
    /// Names of the platform that some file uses.
    globals: FxHashSet<&'g str>,
    taken: FxHashSet<String>,
    counters: FxHashMap<String, u32>,
}

impl<'g> Scope<'g> {
    fn of(graph: &'g Graph<'_>, live: &Live) -> Self {
        let mut scope = Self {
            everywhere: FxHashSet::default(),
            globals: FxHashSet::default(),
            taken: crate::runtime::FUNCTIONS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            counters: FxHashMap::default(),
        };
        for (id, module) in graph.modules.iter().enumerate() {
            if live.modules[id] {
                let unresolved = module.scoping.root_unresolved_references().keys();
                scope.globals.extend(unresolved.map(|name| name.as_str()));
                scope.everywhere.extend(module.scoping.symbol_names());
            }
        }
        // What rewritten code mentions besides.
        scope.globals.extend(["globalThis", "undefined", "JSON", "Promise", "exports", "module"]);
        scope.everywhere.extend(&scope.globals);
        scope
    }

    /// This name, when nobody has it.
    fn keep(&mut self, name: &str) -> String {
        if !self.globals.contains(name) && is_identifier(name) && !self.taken.contains(name) {
            self.taken.insert(name.to_owned());
            return name.to_owned();
        }
        self.fresh(name)
    }

    /// A name that occurs nowhere.
    fn fresh(&mut self, base: &str) -> String {
        let base = if is_identifier(base) { base.to_owned() } else { identifier(base) };
        if !self.everywhere.contains(base.as_str()) && self.taken.insert(base.clone()) {
            return base;
        }
        let mut counter = self.counters.get(&base).copied().unwrap_or(0);
        loop {
            counter += 1;
            let candidate = format!("{base}${counter}");
            if !self.everywhere.contains(candidate.as_str()) && self.taken.insert(candidate.clone())
            {
                self.counters.insert(base, counter);
                return candidate;
            }
        }
    }
}

fn made_up_names(
    names: &mut ModuleNames,
    scope: &mut Scope<'_>,
    id: ModuleId,
    module: &Module<'_>,
    plan: &Plan,
    live: &Live,
) {
    let base = file_identifier(&module.name);
    if module.is_es_module() {
        if module.parts.iter().any(|part| part.anonymous_default) {
            names.anonymous = scope.fresh(&format!("{base}_default"));
        }
        if live.namespaces[id] {
            names.namespace = scope.fresh(&format!("{base}_namespace"));
        }
        if plan.wrapped[id] {
            names.run = scope.fresh(&format!("run_{base}"));
        }
        if live.required[id] {
            names.require = scope.fresh(&format!("require_{base}"));
            names.required = scope.fresh(&format!("{base}_required"));
        }
    } else {
        let used = &live.common_js[id];
        names.require = scope.fresh(&format!("require_{base}"));
        if used.exports {
            names.exports = scope.fresh(&format!("{base}_exports"));
        }
        if used.loose_default {
            names.default_of = scope.fresh(&format!("{base}_module"));
        }
        if used.loose_namespace {
            names.namespace_of[0] = scope.fresh(&format!("{base}_namespace"));
        }
        if used.strict_namespace {
            names.namespace_of[1] = scope.fresh(&format!("{base}_namespace"));
        }
    }
    for strict in [false, true] {
        if live.dynamic.contains(&(id, strict)) {
            names.import[usize::from(strict)] = scope.fresh(&format!("import_{base}"));
        }
    }
}

/// The variables of a module's own scope, as far as their statements are printed.
fn own_names(names: &mut ModuleNames, scope: &mut Scope<'_>, module: &Module<'_>, parts: &[bool]) {
    let mut named = FxHashSet::default();
    for (part, _) in module.parts.iter().zip(parts).filter(|(_, live)| **live) {
        for &symbol in part.declares.iter().filter(|symbol| named.insert(**symbol)) {
            let name = module.scoping.symbol_name(symbol);
            let given = scope.keep(name);
            if given != name {
                names.renamed.insert(symbol, given);
            }
        }
    }
}

/// Variables of inner scopes that have a name by which this module now reaches another module.
fn captured_names(
    graph: &Graph<'_>,
    links: &Links,
    live: &Live,
    names: &Names,
    id: ModuleId,
) -> Vec<(SymbolId, String)> {
    let module = &graph.modules[id];
    let scoping = &module.scoping;
    let mut reached: FxHashSet<&str> = FxHashSet::default();
    for (&symbol, binding) in &links.imports[id] {
        if let Value::Name(name) = names.value(graph, binding)
            && name != scoping.symbol_name(symbol)
        {
            reached.insert(name);
        }
    }
    let properties: Vec<Binding> = module
        .parts
        .iter()
        .zip(&live.parts[id])
        .filter(|(_, live)| **live)
        .flat_map(|(part, _)| &part.uses)
        .filter_map(|used| match used {
            Use::Property(symbol, property) => {
                links.property(graph, &links.imports[id][symbol], property)
            }
            Use::Symbol(_) => None,
        })
        .collect();
    for binding in &properties {
        if let Value::Name(name) = names.value(graph, binding) {
            reached.insert(name);
        }
    }
    if reached.is_empty() {
        return Vec::new();
    }
    scoping
        .symbol_ids()
        .filter(|&symbol| scoping.symbol_scope_id(symbol) != scoping.root_scope_id())
        .map(|symbol| (symbol, scoping.symbol_name(symbol)))
        .filter(|(_, name)| reached.contains(name))
        .map(|(symbol, name)| (symbol, name.to_owned()))
        .collect()
}

pub(crate) fn is_identifier(name: &str) -> bool {
    oxc_syntax::identifier::is_identifier_name(name)
        && !is_reserved_keyword(name)
        && !matches!(name, "await" | "yield" | "let" | "static" | "eval" | "arguments")
}

/// An identifier that looks like this text.
fn identifier(text: &str) -> String {
    let mut name: String = text
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
        .collect();
    if !is_identifier(&name) {
        name.insert(0, '_');
    }
    name
}

/// An identifier that looks like the name of a file; of its folder for `index.js`.
fn file_identifier(name: &str) -> String {
    let mut parts = name.rsplit('/');
    let file = parts.next().unwrap_or(name);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let word = if stem == "index" { parts.next().unwrap_or(stem) } else { stem };
    identifier(word)
}
