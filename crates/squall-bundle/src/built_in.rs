//! The modules of the runtime itself, which stay imports in the output, and those of Node.js
//! that it does not have.

use crate::diagnostic::Diagnostic;
use crate::module::{Graph, RequestKind, Target};
use crate::shake::Live;

/// What the engine registers.
const BUILT_INS: [&str; 11] = [
    "cloudflare:workers",
    "node:assert",
    "node:assert/strict",
    "node:async_hooks",
    "node:buffer",
    "node:events",
    "node:path",
    "node:path/posix",
    "node:process",
    "node:util",
    "node:util/types",
];

/// What Node.js has besides: said in the hint when such a module cannot be found.
const OTHER_NODE_MODULES: [&str; 25] = [
    "child_process",
    "cluster",
    "crypto",
    "dgram",
    "dns",
    "domain",
    "fs",
    "http",
    "http2",
    "https",
    "inspector",
    "module",
    "net",
    "os",
    "perf_hooks",
    "querystring",
    "readline",
    "stream",
    "string_decoder",
    "tls",
    "tty",
    "url",
    "v8",
    "vm",
    "zlib",
];

/// The full name of what a specifier asks of the runtime. Node.js has its modules under bare
/// names, too.
pub(crate) fn full_name(specifier: &str) -> Option<String> {
    let by_scheme =
        ["node:", "cloudflare:", "squall:"].iter().any(|scheme| specifier.starts_with(scheme));
    if by_scheme {
        return Some(specifier.to_owned());
    }
    is_provided_bare(specifier).then(|| format!("node:{specifier}"))
}

/// Whether the runtime has what Node.js has under this bare name.
fn is_provided_bare(specifier: &str) -> bool {
    is_provided(&format!("node:{specifier}"))
}

/// Whether the runtime has this module: `require` of another one must fail when it is reached and
/// not keep the whole bundle from linking.
pub(crate) fn is_provided(external: &str) -> bool {
    BUILT_INS.contains(&external)
}

/// Whether Node.js has a module of this name.
pub(crate) fn is_node_module(specifier: &str) -> bool {
    OTHER_NODE_MODULES.contains(&first_part(specifier)) || is_provided_bare(specifier)
}

/// What to say of a module of Node.js that the runtime does not have.
pub(crate) fn missing_hint(specifier: &str) -> Option<String> {
    let name = specifier.strip_prefix("node:").unwrap_or(specifier);
    let is_of_node = name.len() < specifier.len() || is_node_module(name);
    is_of_node.then(|| {
        let provided: Vec<&str> =
            BUILT_INS.into_iter().filter(|name| name.starts_with("node:")).collect();
        format!(
            "\"{specifier}\" is a module of Node.js that the runtime does not have; it has {}.",
            provided.join(", ")
        )
    })
}

/// Imports in the output that nothing answers. A module that is left out may ask for anything.
pub(crate) fn check(graph: &Graph<'_>, live: &Live) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let modules = graph.modules.iter().zip(&live.modules);
    for (module, _) in modules.filter(|(_, is_live)| **is_live) {
        for request in &module.requests {
            let Target::External(name) = &request.target else { continue };
            let is_used = live.externals.contains_key(name);
            if request.kind != RequestKind::Static || is_provided(name) || !is_used {
                continue;
            }
            let message = format!("Cannot find module \"{}\"", request.specifier);
            let at = request.span.start as usize;
            let mut error = Diagnostic::at(&module.name, module.source, at, message);
            error.hint = missing_hint(&request.specifier);
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn first_part(specifier: &str) -> &str {
    specifier.split('/').next().unwrap_or(specifier)
}
