//! What of the modules ends up in the output.
//!
//! A statement stays when it does something besides giving values to names, or when something that
//! stays uses one of its names. Modules of packages that say `"sideEffects": false` are left out
//! until somebody uses one of their names. `CommonJS` modules stay whole.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use oxc_syntax::symbol::SymbolId;
use rustc_hash::FxHashMap;

use crate::link::{Binding, Interop, Links};
use crate::module::{ENTRY, Graph, ModuleId, RequestKind, Target, Use};

pub(crate) struct Live {
    /// Modules that run.
    pub(crate) modules: Vec<bool>,
    /// Statements of ES modules that are printed.
    pub(crate) parts: Vec<Vec<bool>>,
    /// ES modules that are needed as an object.
    pub(crate) namespaces: Vec<bool>,
    /// ES modules that are `require`d.
    pub(crate) required: Vec<bool>,
    /// What is needed of `CommonJS` modules.
    pub(crate) common_js: Vec<CommonJsUse>,
    /// Modules that `import()` names, by the rules that make a `CommonJS` module look like an ES
    /// module.
    pub(crate) dynamic: BTreeSet<(ModuleId, bool)>,
    pub(crate) externals: BTreeMap<String, ExternalUse>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct CommonJsUse {
    pub(crate) exports: bool,
    pub(crate) loose_default: bool,
    pub(crate) strict_namespace: bool,
    pub(crate) loose_namespace: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ExternalUse {
    pub(crate) names: BTreeSet<String>,
    pub(crate) namespace: bool,
}

pub(crate) fn shake(graph: &Graph<'_>, links: &Links) -> Live {
    let count = graph.modules.len();
    let mut shaker = Shaker {
        graph,
        links,
        live: Live {
            modules: vec![false; count],
            parts: graph.modules.iter().map(|module| vec![false; module.parts.len()]).collect(),
            namespaces: vec![false; count],
            required: vec![false; count],
            common_js: vec![CommonJsUse::default(); count],
            dynamic: BTreeSet::new(),
            externals: BTreeMap::new(),
        },
        declared_in: graph.modules.iter().map(|_| None).collect(),
        open: Vec::new(),
    };
    shaker.module(ENTRY);
    if graph.modules[ENTRY].is_es_module() {
        for (_, binding) in &links.exports[ENTRY] {
            shaker.binding(binding);
        }
    } else {
        shaker.binding(&Binding::CommonJsDefault(ENTRY, Interop::Loose));
    }
    while let Some((id, part)) = shaker.open.pop() {
        shaker.part(id, part);
    }
    shaker.live
}

struct Shaker<'g, 'a> {
    graph: &'g Graph<'a>,
    links: &'g Links,
    live: Live,
    /// The statements that declare a name: more than one for `var` and for functions.
    declared_in: Vec<Option<FxHashMap<SymbolId, Vec<usize>>>>,
    /// Statements that stay and whose needs have not been looked at.
    open: Vec<(ModuleId, usize)>,
}

impl Shaker<'_, '_> {
    fn module(&mut self, id: ModuleId) {
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            if std::mem::replace(&mut self.live.modules[id], true) {
                continue;
            }
            let module = &self.graph.modules[id];
            for (index, part) in module.parts.iter().enumerate() {
                if part.side_effects || !module.is_es_module() {
                    self.keep(id, index);
                }
            }
            for request in &module.requests {
                match &request.target {
                    Target::Module(target)
                        if request.kind == RequestKind::Static
                            && self.graph.modules[*target].side_effects =>
                    {
                        next.push(*target);
                    }
                    Target::External(name) if request.kind == RequestKind::Static => {
                        self.live.externals.entry(name.clone()).or_default();
                    }
                    _ => {}
                }
            }
        }
    }

    fn keep(&mut self, id: ModuleId, part: usize) {
        if !std::mem::replace(&mut self.live.parts[id][part], true) {
            self.open.push((id, part));
        }
    }

    fn part(&mut self, id: ModuleId, index: usize) {
        let graph = self.graph;
        let module = &graph.modules[id];
        let part = &module.parts[index];
        for used in &part.uses {
            match used {
                Use::Symbol(symbol) => match self.links.imports[id].get(symbol) {
                    Some(binding) => self.binding(binding),
                    None => self.symbol(id, *symbol),
                },
                Use::Property(symbol, property) => {
                    let namespace = &self.links.imports[id][symbol];
                    match self.links.property(graph, namespace, property) {
                        Some(binding) => self.binding(&binding),
                        None => self.binding(namespace),
                    }
                }
            }
        }
        // A `var` that is declared again, and functions that the names of a statement need.
        for &symbol in &part.declares {
            self.symbol(id, symbol);
        }
        for &request in &part.requests {
            self.lazy(id, request);
        }
    }

    fn lazy(&mut self, id: ModuleId, request: usize) {
        let module = &self.graph.modules[id];
        let request = &module.requests[request];
        let required = request.kind == RequestKind::Require;
        match &request.target {
            Target::Module(target) => {
                let target = *target;
                self.module(target);
                let interop = Links::interop(module);
                if self.graph.modules[target].is_es_module() {
                    self.live.required[target] |= required;
                    self.binding(&Binding::Namespace(target));
                }
                if !required {
                    let strict =
                        interop == Interop::Strict && !self.graph.modules[target].is_es_module();
                    self.live.dynamic.insert((target, strict));
                }
            }
            Target::External(specifier) if required => {
                self.binding(&Binding::External(specifier.clone(), "default".to_owned()));
            }
            Target::External(_) | Target::Missing => {}
        }
    }

    fn symbol(&mut self, id: ModuleId, symbol: SymbolId) {
        self.module(id);
        let module = &self.graph.modules[id];
        let declared_in = self.declared_in[id].get_or_insert_with(|| {
            let mut parts: FxHashMap<SymbolId, Vec<usize>> = FxHashMap::default();
            for (index, part) in module.parts.iter().enumerate() {
                for &symbol in &part.declares {
                    parts.entry(symbol).or_default().push(index);
                }
            }
            parts
        });
        for part in declared_in.get(&symbol).cloned().unwrap_or_default() {
            self.keep(id, part);
        }
    }

    fn binding(&mut self, binding: &Binding) {
        match binding {
            Binding::Symbol(id, symbol) => self.symbol(*id, *symbol),
            Binding::Anonymous(id) | Binding::Json(id, _) => {
                self.module(*id);
                let parts = &self.graph.modules[*id].parts;
                if let Some(part) = parts.iter().position(|part| part.anonymous_default) {
                    self.keep(*id, part);
                }
            }
            Binding::Namespace(id) | Binding::Dynamic(id, _) => self.namespace(*id),
            Binding::CommonJs(id, _) => {
                self.module(*id);
                self.live.common_js[*id].exports = true;
            }
            Binding::CommonJsDefault(id, interop) => {
                self.module(*id);
                let used = &mut self.live.common_js[*id];
                used.exports = true;
                used.loose_default |= *interop == Interop::Loose;
            }
            Binding::CommonJsNamespace(id, interop) => {
                self.module(*id);
                let used = &mut self.live.common_js[*id];
                used.exports = true;
                used.loose_namespace |= *interop == Interop::Loose;
                used.strict_namespace |= *interop == Interop::Strict;
            }
            Binding::External(specifier, name) => {
                let external = self.live.externals.entry(specifier.clone()).or_default();
                external.names.insert(name.clone());
            }
            Binding::ExternalNamespace(specifier) => {
                self.live.externals.entry(specifier.clone()).or_default().namespace = true;
            }
            Binding::Undefined => {}
        }
    }

    fn namespace(&mut self, id: ModuleId) {
        if std::mem::replace(&mut self.live.namespaces[id], true) {
            return;
        }
        self.module(id);
        let links = self.links;
        for (_, binding) in &links.exports[id] {
            self.binding(binding);
        }
        let module = &self.graph.modules[id];
        for &star in &module.stars {
            match &module.requests[star].target {
                Target::Module(target) if !self.graph.modules[*target].is_es_module() => {
                    self.binding(&Binding::CommonJs(*target, String::new()));
                }
                Target::Module(target) if links.open[*target] => self.namespace(*target),
                Target::External(specifier) => {
                    self.binding(&Binding::ExternalNamespace(specifier.clone()));
                }
                Target::Module(_) | Target::Missing => {}
            }
        }
    }
}
