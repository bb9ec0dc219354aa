//! Puts the modules together: one text and one source map.
//!
//! The output has, in this order: imports of built-in modules, functions of the bundler, the
//! objects of exports, modules that are functions, modules that run at once, and the exports of the
//! entry. Everything that somebody may call before it is reached stands before all that runs.

use std::fmt::Write as _;
use std::path::PathBuf;

use oxc_allocator::{Allocator, ArenaVec, TakeIn};
use oxc_ast::ast::{Program, Statement};
use oxc_codegen::{Codegen, CodegenOptions, CommentOptions, IndentChar};
use oxc_sourcemap::{ConcatSourceMapBuilder, SourceMap};

use crate::diagnostic::Diagnostic;
use crate::hoist::hoist;
use crate::link::{Binding, Interop, Links};
use crate::module::{ENTRY, Graph, ModuleId, Target};
use crate::name::{Names, Value, is_identifier};
use crate::order::Plan;
use crate::rewrite::rewrite;
use crate::runtime;
use crate::shake::Live;

pub(crate) struct Output {
    pub(crate) code: String,
    pub(crate) map: String,
    /// Bytes of the output by module.
    sizes: Vec<usize>,
}

pub(crate) fn emit<'a>(
    allocator: &'a Allocator,
    graph: &mut Graph<'a>,
    plan: &Plan,
    links: &Links,
    live: &Live,
    names: &Names,
) -> Output {
    let programs: Vec<Program<'a>> =
        graph.modules.iter_mut().map(|module| module.program.take_in(&allocator)).collect();
    let mut emitter = Emitter {
        allocator,
        graph,
        plan,
        links,
        live,
        names,
        programs,
        text: Text::default(),
        sizes: vec![0; graph.modules.len()],
    };

    emitter.objects();
    for id in 0..graph.modules.len() {
        if live.modules[id] && (plan.wrapped[id] || !graph.modules[id].is_es_module()) {
            emitter.function(id);
        }
    }
    for &id in &plan.steps {
        if live.modules[id] {
            emitter.step(id);
        }
    }
    emitter.exports();
    let head = emitter.head();
    let Emitter { text, sizes, .. } = emitter;
    text.finish(&head, sizes)
}

/// Names the modules that make a bundle too large.
pub(crate) fn too_large(graph: &Graph<'_>, output: &Output, max_bytes: usize) -> Diagnostic {
    let mut sizes: Vec<(usize, &str)> = graph
        .modules
        .iter()
        .zip(&output.sizes)
        .map(|(module, &size)| (size, module.name.as_str()))
        .collect();
    sizes.sort_by(|one, other| other.cmp(one));
    let largest: Vec<String> = sizes
        .iter()
        .take(3)
        .filter(|(size, _)| *size > 0)
        .map(|(size, name)| format!("{name} ({size})"))
        .collect();
    Diagnostic::of_file(
        graph.modules[ENTRY].name.clone(),
        format!("The bundle has {} bytes; {max_bytes} are allowed", output.code.len()),
    )
    .with_hint(format!(
        "The largest modules are {}. Data that is not code belongs into static assets or storage.",
        largest.join(", ")
    ))
}

#[derive(Default)]
struct Text<'a> {
    code: String,
    lines: u32,
    maps: Vec<(SourceMap<'a>, u32)>,
}

impl<'a> Text<'a> {
    fn push(&mut self, text: &str) {
        self.lines +=
            u32::try_from(text.bytes().filter(|&byte| byte == b'\n').count()).unwrap_or(u32::MAX);
        self.code.push_str(text);
    }

    fn finish(self, head: &str, sizes: Vec<usize>) -> Output {
        let offset =
            u32::try_from(head.bytes().filter(|&byte| byte == b'\n').count()).unwrap_or(u32::MAX);
        let maps = self.maps.into_iter().map(|(map, line)| (map, line + offset)).collect();
        let mut map = ConcatSourceMapBuilder::from_owned_sourcemaps(maps).into_sourcemap();
        // The sources are kept with the function; a second copy would only fill disks.
        map.set_source_contents(Vec::new());
        Output { code: format!("{head}{}", self.code), map: map.to_json_string(), sizes }
    }
}

struct Emitter<'a, 'g> {
    allocator: &'a Allocator,
    graph: &'g Graph<'a>,
    plan: &'g Plan,
    links: &'g Links,
    live: &'g Live,
    names: &'g Names,
    programs: Vec<Program<'a>>,
    text: Text<'a>,
    sizes: Vec<usize>,
}

impl<'a> Emitter<'a, '_> {
    /// Imports and functions, as far as the rest needs them: so they are written last.
    fn head(&self) -> String {
        let mut head = String::new();
        for (specifier, external) in &self.live.externals {
            let source = quote(specifier);
            let named: Vec<String> = external
                .names
                .iter()
                .map(|name| {
                    let local = self.names.external(specifier, name);
                    if name == local { name.clone() } else { format!("{} as {local}", key(name)) }
                })
                .collect();
            if external.namespace {
                let local = self.names.external_namespace(specifier);
                _ = writeln!(head, "import * as {local} from {source};");
            }
            if !named.is_empty() {
                _ = writeln!(head, "import {{ {} }} from {source};", named.join(", "));
            } else if !external.namespace {
                _ = writeln!(head, "import {source};");
            }
        }
        for (name, source) in runtime::FUNCTIONS {
            if self.text.code.contains(name) {
                head.push_str(source);
            }
        }
        head
    }

    /// Variables that hold what a module gives to others as an object.
    fn objects(&mut self) {
        let mut text = String::new();
        let mut variables: Vec<&str> = Vec::new();
        for (id, names) in self.names.modules.iter().enumerate() {
            if !self.live.modules[id] {
                continue;
            }
            let held = [&names.exports, &names.default_of, &names.required];
            variables.extend(
                held.into_iter()
                    .chain(&names.namespace_of)
                    .map(String::as_str)
                    .filter(|name| !name.is_empty()),
            );
            if self.live.namespaces[id] {
                _ = writeln!(text, "const {} = {}({{", names.namespace, runtime::NAMESPACE);
                for (name, binding) in &self.links.exports[id] {
                    let value = self.value(binding);
                    _ = writeln!(text, "\t{}: () => {value},", property_key(name));
                }
                text.push_str("});\n");
            }
        }
        if !variables.is_empty() {
            _ = writeln!(text, "var {};", variables.join(", "));
        }
        self.text.push(&text);
    }

    fn value(&self, binding: &Binding) -> String {
        match self.names.value(self.graph, binding) {
            Value::Name(name) => name.to_owned(),
            Value::Property(object, property) if is_identifier(property) => {
                format!("{object}.{property}")
            }
            Value::Property(object, property) => format!("{object}[{}]", quote(property)),
            Value::Undefined => "undefined".to_owned(),
        }
    }

    /// A module that others call: `CommonJS`, or an ES module that runs late.
    fn function(&mut self, id: ModuleId) {
        let names = &self.names.modules[id];
        if self.graph.modules[id].is_es_module() {
            self.late_module(id);
        } else {
            let statements = self.rewrite(id);
            self.text.push(&format!(
                "const {} = {}(function(exports, module) {{\n",
                names.require,
                runtime::COMMON_JS
            ));
            self.print(id, statements);
            self.text.push("});\n");
        }
        self.answers(id);
    }

    fn late_module(&mut self, id: ModuleId) {
        let names = &self.names.modules[id];
        let statements = self.rewrite(id);
        let hoisted = hoist(self.allocator, statements);
        self.print(id, hoisted.functions);
        let mut head = String::new();
        if !hoisted.variables.is_empty() {
            _ = writeln!(head, "var {};", hoisted.variables.join(", "));
        }
        let (function, arrow) = if self.plan.asynchronous[id] {
            (runtime::ES_MODULE_ASYNC, "async () =>")
        } else {
            (runtime::ES_MODULE, "() =>")
        };
        _ = writeln!(head, "const {} = {function}({arrow} {{", names.run);
        let mut seen = Vec::new();
        for target in self.graph.modules[id].static_targets() {
            if self.live.modules[target] && !seen.contains(&target) {
                seen.push(target);
                self.first_use(target, &mut head);
            }
        }
        self.re_exports(id, &mut head);
        self.text.push(&head);
        self.print(id, hoisted.body);
        self.text.push("});\n");
    }

    /// The functions by which others reach a module late.
    fn answers(&mut self, id: ModuleId) {
        let names = &self.names.modules[id];
        let is_es_module = self.graph.modules[id].is_es_module();
        let run = |wait: &str| {
            if self.plan.wrapped[id] { format!("{wait}{}(); ", names.run) } else { String::new() }
        };
        let mut text = String::new();
        if is_es_module && self.live.required[id] {
            _ = writeln!(
                text,
                "function {}() {{ {}return {required} ??= {}({}); }}",
                names.require,
                run(""),
                runtime::EXPORTS_OF,
                names.namespace,
                required = names.required,
            );
        }
        for strict in [false, true] {
            if !self.live.dynamic.contains(&(id, strict)) {
                continue;
            }
            let function = &names.import[usize::from(strict)];
            if is_es_module {
                let wait = if self.plan.asynchronous[id] { "await " } else { "" };
                let run = run(wait);
                _ = writeln!(
                    text,
                    "async function {function}() {{ {run}return {}; }}",
                    names.namespace
                );
            } else {
                _ = writeln!(
                    text,
                    "async function {function}() {{ return {}({}(), {strict}); }}",
                    runtime::NAMESPACE_OF,
                    names.require
                );
            }
        }
        self.text.push(&text);
    }

    /// What happens when the load of the bundle reaches a module.
    fn step(&mut self, id: ModuleId) {
        let mut head = String::new();
        if self.plan.wrapped[id] || !self.graph.modules[id].is_es_module() {
            self.first_use(id, &mut head);
            self.text.push(&head);
            return;
        }
        self.re_exports(id, &mut head);
        self.text.push(&head);
        let statements = self.rewrite(id);
        self.print(id, statements);
        if self.live.dynamic.contains(&(id, false)) {
            self.answers(id);
        }
    }

    /// Runs a module that is a function, and keeps what its importers need of it.
    fn first_use(&self, id: ModuleId, text: &mut String) {
        let names = &self.names.modules[id];
        if self.graph.modules[id].is_es_module() {
            if self.plan.wrapped[id] {
                let wait = if self.plan.asynchronous[id] { "await " } else { "" };
                _ = writeln!(text, "{wait}{}();", names.run);
            }
            return;
        }
        if names.exports.is_empty() {
            _ = writeln!(text, "{}();", names.require);
            return;
        }
        let exports = &names.exports;
        _ = writeln!(text, "{exports} = {}();", names.require);
        if !names.default_of.is_empty() {
            _ = writeln!(text, "{} = {}({exports});", names.default_of, runtime::DEFAULT_OF);
        }
        for (strict, namespace) in [(false, &names.namespace_of[0]), (true, &names.namespace_of[1])]
        {
            if !namespace.is_empty() {
                let function = runtime::NAMESPACE_OF;
                _ = writeln!(text, "{namespace} ??= {function}({exports}, {strict});");
            }
        }
    }

    /// `export * from` a module whose exports are not known.
    fn re_exports(&self, id: ModuleId, text: &mut String) {
        if !self.live.namespaces[id] || !self.links.open[id] {
            return;
        }
        let module = &self.graph.modules[id];
        let namespace = &self.names.modules[id].namespace;
        for &star in &module.stars {
            let source = match &module.requests[star].target {
                Target::Module(target) if !self.graph.modules[*target].is_es_module() => {
                    self.names.modules[*target].exports.as_str()
                }
                Target::Module(target) if self.links.open[*target] => {
                    self.names.modules[*target].namespace.as_str()
                }
                Target::External(specifier) => self.names.external_namespace(specifier),
                Target::Module(_) | Target::Missing => continue,
            };
            _ = writeln!(text, "{}({namespace}, {source});", runtime::RE_EXPORT);
        }
    }

    fn exports(&mut self) {
        let mut text = String::new();
        let mut exported = Vec::new();
        let default;
        let exports: &[(String, Binding)] = if self.graph.modules[ENTRY].is_es_module() {
            &self.links.exports[ENTRY]
        } else {
            let binding = Binding::CommonJsDefault(ENTRY, Interop::Loose);
            default = [("default".to_owned(), binding)];
            &default
        };
        for (index, (name, binding)) in exports.iter().enumerate() {
            match self.names.value(self.graph, binding) {
                Value::Name(local) if local == name => exported.push(name.clone()),
                Value::Name(local) => exported.push(format!("{local} as {}", key(name))),
                Value::Property(..) | Value::Undefined => {
                    let local = format!("__squall_export_{index}");
                    _ = writeln!(text, "const {local} = {};", self.value(binding));
                    exported.push(format!("{local} as {}", key(name)));
                }
            }
        }
        let module = &self.graph.modules[ENTRY];
        for &star in &module.stars {
            if let Target::External(specifier) = &module.requests[star].target {
                _ = writeln!(text, "export * from {};", quote(specifier));
            }
        }
        if !exported.is_empty() {
            _ = writeln!(text, "export {{ {} }};", exported.join(", "));
        }
        self.text.push(&text);
    }

    fn rewrite(&mut self, id: ModuleId) -> ArenaVec<'a, Statement<'a>> {
        let mut program = self.programs[id].take_in(&self.allocator);
        let parts = &self.live.parts[id];
        let statements =
            rewrite(self.allocator, self.graph, self.links, self.names, id, parts, &mut program);
        self.programs[id] = program;
        statements
    }

    fn print(&mut self, id: ModuleId, statements: ArenaVec<'a, Statement<'a>>) {
        if statements.is_empty() {
            return;
        }
        let module = &self.graph.modules[id];
        let mut program = self.programs[id].take_in(&self.allocator);
        program.source_text = module.source;
        program.body = statements;
        program.directives.clear();
        program.comments.clear();
        program.hashbang = None;
        let printed = Codegen::new()
            .with_options(CodegenOptions {
                comments: CommentOptions::disabled(),
                // Data has no source that an error could point at.
                source_map_path: (!module.source.is_empty()).then(|| PathBuf::from(&module.name)),
                indent_char: IndentChar::Tab,
                indent_width: 1,
                ..CodegenOptions::default()
            })
            .build(&program);
        self.sizes[id] += printed.code.len();
        if let Some(map) = printed.map {
            self.text.maps.push((map, self.text.lines));
        }
        self.text.push(&printed.code);
    }
}

/// A string literal.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A name in `import` and `export` lists.
fn key(name: &str) -> String {
    if oxc_syntax::identifier::is_identifier_name(name) { name.to_owned() } else { quote(name) }
}

/// A name in an object literal, where `__proto__` means something else.
fn property_key(name: &str) -> String {
    if name == "__proto__" { format!("[{}]", quote(name)) } else { key(name) }
}
