//! From an entry file and everything that it imports to one ES module.
//!
//! The life of a bundle reads top to bottom in [`bundle`]: load the files (`load`, with `resolve`
//! for what a specifier means and `transform` for TypeScript and JSX), decide which modules run
//! when (`order`), find out what every import stands for (`link`), keep what is used (`shake`),
//! give everything that ends up in one scope a name of its own (`name`), and print it (`rewrite`
//! for one module, `emit` for the whole).
//!
//! ES modules are hoisted into the one scope of the output, so that an import costs no more than a
//! variable. `CommonJS` modules, and ES modules that run late or never (by `import()` or `require`),
//! become functions.
//!
//! This crate never runs JavaScript, never touches the network, and puts no path of the machine
//! and no time into its output: the same files give the same bytes.

mod load;
mod order;

mod link;
mod shake;

mod emit;
mod name;
mod rewrite;

mod built_in;
mod define;
mod diagnostic;
mod hoist;
mod inline_map;
mod module;
mod path;
mod resolve;
mod runtime;
mod scan;
mod stack;
mod transform;

use std::path::PathBuf;

use oxc_allocator::Allocator;

pub use diagnostic::Diagnostic;
pub use inline_map::{join_map, split_map};
pub use stack::map_stack;

/// What to bundle.
#[derive(Debug, Clone)]
pub struct Options {
    /// The project: names in errors and in the source map are relative to it.
    pub root: PathBuf,
    /// The entry file, relative to `root` or absolute.
    pub entry: PathBuf,
    /// The value of `process.env.NODE_ENV`.
    pub mode: String,
    /// The largest output, in bytes. A single input may not be larger either.
    pub max_bytes: usize,
}

impl Options {
    /// Production mode and 10 MiB at most.
    pub fn new(root: impl Into<PathBuf>, entry: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            entry: entry.into(),
            mode: "production".to_owned(),
            max_bytes: 10 << 20,
        }
    }
}

/// One ES module that needs nothing but the built-in modules of the runtime.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The source text of the module.
    pub code: String,
    /// Its source map, version 3, as JSON. Sources are relative to the root of the project.
    pub map: String,
    /// Every file that was read: sources, `package.json` and `tsconfig.json` files. Sorted.
    pub inputs: Vec<PathBuf>,
}

/// Turns the entry file and its imports into one module.
///
/// # Errors
///
/// Everything that is wrong with the sources, in the order in which the files are imported.
pub fn bundle(options: &Options) -> Result<Bundle, Vec<Diagnostic>> {
    let allocator = Allocator::default();
    let mut graph = load::load(options, &allocator)?;
    let plan = order::plan(&graph)?;
    let links = link::link(&graph)?;
    let live = shake::shake(&graph, &links);
    built_in::check(&graph, &live)?;
    let names = name::assign(&graph, &plan, &links, &live);
    let output = emit::emit(&allocator, &mut graph, &plan, &links, &live, &names);

    if output.code.len() > options.max_bytes {
        return Err(vec![emit::too_large(&graph, &output, options.max_bytes)]);
    }
    Ok(Bundle { code: output.code, map: output.map, inputs: graph.inputs })
}

#[cfg(test)]
mod tests;
