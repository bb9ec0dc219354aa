//! Which modules run at once, which run late, and in what order.
//!
//! Modules that the entry imports statically run when the bundle is loaded, in the order of
//! ECMA-262 (dependencies first, each once). An ES module that somebody `require`s, or that only
//! `import()` reaches, is wrapped into a function, together with what it imports: it runs when it
//! is first asked for.

use rustc_hash::FxHashSet;

use crate::diagnostic::Diagnostic;
use crate::module::{ENTRY, Graph, ModuleId, RequestKind, Target};

pub(crate) struct Plan {
    /// What happens when the bundle is loaded.
    pub(crate) steps: Vec<ModuleId>,
    /// ES modules that are functions.
    pub(crate) wrapped: Vec<bool>,
    /// Wrapped modules that have to be awaited.
    pub(crate) asynchronous: Vec<bool>,
}

pub(crate) fn plan(graph: &Graph<'_>) -> Result<Plan, Vec<Diagnostic>> {
    let wrapped = wrapped(graph);
    let asynchronous = asynchronous(graph, &wrapped);

    let mut errors = Vec::new();
    for module in &graph.modules {
        for request in &module.requests {
            if request.kind == RequestKind::Require
                && let Target::Module(target) = request.target
                && asynchronous[target]
            {
                errors.push(
                    Diagnostic::at(
                        &module.name,
                        module.source,
                        request.span.start as usize,
                        format!(
                            "{} cannot be required: it, or a module that it imports, uses top-level await",
                            graph.modules[target].name
                        ),
                    )
                    .with_hint("Use `await import()` instead of `require()`."),
                );
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Plan { steps: steps(graph, &wrapped), wrapped, asynchronous })
}

fn wrapped(graph: &Graph<'_>) -> Vec<bool> {
    let mut wrapped = vec![false; graph.modules.len()];
    let targets_of = |kind: RequestKind| {
        graph.modules.iter().flat_map(move |module| {
            module.requests.iter().filter(move |request| request.kind == kind).filter_map(
                |request| match request.target {
                    Target::Module(target) => Some(target),
                    Target::External(_) | Target::Missing => None,
                },
            )
        })
    };

    let required: Vec<ModuleId> = targets_of(RequestKind::Require).collect();
    let everything = |_: ModuleId| true;
    for target in required {
        mark(graph, target, &mut wrapped, &everything);
    }

    // Nothing of an `import()` can run before the modules that are loaded at once have run, unless
    // one of them waits.
    let loaded_at_once: FxHashSet<ModuleId> = steps(graph, &wrapped).into_iter().collect();
    let waits = loaded_at_once.iter().any(|&id| graph.modules[id].has_top_level_await);
    let late = |id: ModuleId| waits || !loaded_at_once.contains(&id);
    let dynamic: Vec<ModuleId> = targets_of(RequestKind::Dynamic).collect();
    for target in dynamic {
        mark(graph, target, &mut wrapped, &late);
    }
    wrapped
}

/// Marks an ES module, and the ES modules that it imports.
fn mark(
    graph: &Graph<'_>,
    start: ModuleId,
    wrapped: &mut [bool],
    applies: &dyn Fn(ModuleId) -> bool,
) {
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        if wrapped[id] || !graph.modules[id].is_es_module() || !applies(id) {
            continue;
        }
        wrapped[id] = true;
        open.extend(graph.modules[id].static_targets());
    }
}

fn asynchronous(graph: &Graph<'_>, wrapped: &[bool]) -> Vec<bool> {
    let mut asynchronous: Vec<bool> = graph
        .modules
        .iter()
        .zip(wrapped)
        .map(|(module, &wrapped)| wrapped && module.has_top_level_await)
        .collect();
    // Cycles make this a fixed point; it is reached after a few rounds.
    loop {
        let mut changed = false;
        for (id, module) in graph.modules.iter().enumerate() {
            if wrapped[id]
                && !asynchronous[id]
                && module.is_es_module()
                && module.static_targets().any(|target| asynchronous[target])
            {
                asynchronous[id] = true;
                changed = true;
            }
        }
        if !changed {
            return asynchronous;
        }
    }
}

/// The modules that the entry reaches statically, dependencies first. Functions (`CommonJS` and
/// wrapped modules) stand where they are called first; what they need is their own affair.
fn steps(graph: &Graph<'_>, wrapped: &[bool]) -> Vec<ModuleId> {
    let mut steps = Vec::new();
    let mut seen = vec![false; graph.modules.len()];
    seen[ENTRY] = true;
    // A stack of its own: chains of imports may be deeper than the stack of a thread.
    let mut open: Vec<(ModuleId, Vec<ModuleId>)> = vec![(ENTRY, targets(graph, wrapped, ENTRY))];
    while let Some((id, targets_left)) = open.last_mut() {
        match targets_left.pop() {
            Some(target) if !seen[target] => {
                seen[target] = true;
                open.push((target, targets(graph, wrapped, target)));
            }
            Some(_) => {}
            None => {
                steps.push(*id);
                open.pop();
            }
        }
    }
    steps
}

/// In reverse, so that they can be popped.
fn targets(graph: &Graph<'_>, wrapped: &[bool], id: ModuleId) -> Vec<ModuleId> {
    let module = &graph.modules[id];
    if wrapped[id] || !module.is_es_module() {
        return Vec::new();
    }
    let mut targets: Vec<ModuleId> = module.static_targets().collect();
    targets.reverse();
    targets
}
