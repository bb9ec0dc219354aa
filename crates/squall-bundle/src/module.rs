//! What is known of the files of a bundle and of the imports between them.

use std::path::PathBuf;

use oxc_ast::ast::Program;
use oxc_semantic::Scoping;
use oxc_span::Span;
use oxc_syntax::symbol::SymbolId;
use rustc_hash::{FxHashMap, FxHashSet};

/// A module's place in [`Graph::modules`].
pub(crate) type ModuleId = usize;

/// All modules in the order in which they were found; the entry is the first.
pub(crate) struct Graph<'a> {
    pub(crate) modules: Vec<Module<'a>>,
    pub(crate) inputs: Vec<PathBuf>,
}

pub(crate) const ENTRY: ModuleId = 0;

pub(crate) struct Module<'a> {
    /// The name that people see, relative to the root of the project.
    pub(crate) name: String,
    pub(crate) format: Format,
    /// What the properties of a JSON module are called: its only binding is the default export.
    pub(crate) json_keys: Option<FxHashSet<String>>,
    /// Node.js would run this file as an ES module: the default import of a `CommonJS` module is
    /// then its `module.exports`, whatever `__esModule` says.
    pub(crate) strict_interop: bool,
    pub(crate) typescript: bool,
    /// False when `package.json` says that a module nobody imports from may be left out.
    pub(crate) side_effects: bool,
    pub(crate) source: &'a str,
    pub(crate) program: Program<'a>,
    pub(crate) scoping: Scoping,
    pub(crate) requests: Vec<Request>,
    /// Local names that stand for something of another module.
    pub(crate) imports: FxHashMap<SymbolId, Import>,
    pub(crate) exports: Vec<(String, Export)>,
    pub(crate) export_index: FxHashMap<String, usize>,
    /// `export * from`, as indices of requests.
    pub(crate) stars: Vec<usize>,
    /// One for each statement of the program.
    pub(crate) parts: Vec<Part>,
    pub(crate) has_top_level_await: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    EsModule,
    CommonJs,
}

/// One specifier of a module: what is asked for, how, and what answers.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) specifier: String,
    pub(crate) span: Span,
    pub(crate) kind: RequestKind,
    /// `with { type: "text" }`.
    pub(crate) text: bool,
    /// The program is prepared for the module not to be there: a `require` or `import()` inside
    /// `try`, or an `import()` with a rejection handler.
    pub(crate) guarded: bool,
    pub(crate) target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// `import` and `export from`.
    Static,
    /// `import()`.
    Dynamic,
    Require,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Module(ModuleId),
    /// A built-in module of the runtime, by its full name.
    External(String),
    /// Nothing: the code that asks for it throws when it is reached.
    Missing,
}

/// What a local name of an import stands for, in the words of the importing file.
#[derive(Debug, Clone)]
pub(crate) struct Import {
    pub(crate) request: usize,
    pub(crate) name: ImportName,
    pub(crate) span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImportName {
    Named(String),
    Namespace,
}

/// What an exported name stands for, in the words of the exporting file.
#[derive(Debug, Clone)]
pub(crate) enum Export {
    Local(SymbolId),
    /// `export default` of an expression, or of something without a name.
    Anonymous,
    From(Import),
}

/// One statement of a module, for finding out whether the output needs it.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) declares: Vec<SymbolId>,
    pub(crate) anonymous_default: bool,
    pub(crate) uses: Vec<Use>,
    /// `require` and `import()` in this statement, as indices of requests.
    pub(crate) requests: Vec<usize>,
    pub(crate) side_effects: bool,
}

/// A name that a statement mentions: one of the module's own scope, or an import.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    Symbol(SymbolId),
    /// `namespace.property`.
    Property(SymbolId, String),
}

impl Module<'_> {
    pub(crate) fn export(&self, name: &str) -> Option<&Export> {
        self.export_index.get(name).map(|&index| &self.exports[index].1)
    }

    pub(crate) fn is_es_module(&self) -> bool {
        self.format == Format::EsModule
    }

    /// The modules that `import` and `export from` name, in source order.
    pub(crate) fn static_targets(&self) -> impl Iterator<Item = ModuleId> {
        self.requests.iter().filter(|request| request.kind == RequestKind::Static).filter_map(
            |request| match request.target {
                Target::Module(target) => Some(target),
                Target::External(_) | Target::Missing => None,
            },
        )
    }
}
