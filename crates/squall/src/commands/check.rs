//! `check`: what can be said of an app's folder without a build and without a node.

use std::io::Read;

use serde_json::json;
use squall_types::manifest::{Code, InstanceMode};
use squall_types::{ErrorCode, Limits};

use crate::cli::{FolderOptions, Global};
use crate::failure::Failure;
use crate::output;
use crate::project::{Project, normal};

pub(super) fn run(global: &Global, options: &FolderOptions) -> Result<(), Failure> {
    let project = Project::open(options)?;
    let mut warnings = project.warnings.clone();
    warnings.extend(check(&project)?);
    warnings.extend(super::gateway::warnings(&project.manifest));
    let manifest = &project.manifest;
    if global.json {
        output::json(&json!({
            "ok": true,
            "app": manifest.name,
            "functions": manifest.functions.keys().collect::<Vec<_>>(),
            "assets": manifest.assets.as_ref().map(|assets| &assets.dir),
            "warnings": warnings,
        }));
        return Ok(());
    }
    for warning in &warnings {
        output::note(&format!("warning: {warning}"));
    }
    let gateway = super::gateway::summary(manifest);
    let functions = manifest.functions.len();
    let functions =
        (functions > 0 || gateway.is_empty()).then(|| output::plural(functions, "function"));
    let assets = manifest.assets.as_ref().map(|assets| format!("assets from {}", assets.dir));
    let parts: Vec<String> = functions.into_iter().chain(assets).chain(gateway).collect();
    output::line(&format!("{}: {}: ok", manifest.name, parts.join(", ")));
    Ok(())
}

/// Errors that a deploy would meet, and warnings about what it would put up with.
fn check(project: &Project) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let caps = Limits::node_caps();
    let mut to_build = false;
    for (name, function) in &project.manifest.functions {
        let code = function.code();
        let path = project.root.join(normal(code.path()));
        if !path.is_file() && function.build.is_some() {
            to_build = true;
            warnings.push(format!(
                "functions.{name}: {} is not there yet; its build command makes it",
                code.path()
            ));
        } else if path.is_file() && matches!(code, Code::Component(_)) {
            check_component(name.as_str(), &path)?;
        }
        let above = function.limits.above(&caps);
        if !above.is_empty() {
            warnings.push(format!(
                "functions.{name}.limits: {} above what a node allows unless its operator raised it",
                above.join(", ")
            ));
        }
        if function.allow_private {
            warnings.push(format!(
                "functions.{name}.allow_private lets outbound requests reach private addresses; for development only"
            ));
        }
        let defaults = squall_types::manifest::SharedInstances::default();
        if function.instances == InstanceMode::PerRequest && function.shared != defaults {
            warnings.push(format!(
                "functions.{name}.shared has no effect without instances = \"shared\""
            ));
        }
    }
    if project.manifest.assets.is_none()
        && project.manifest.functions.values().any(|function| function.fall_through)
    {
        warnings.push("fall_through has no effect without [assets]".to_owned());
    }
    // Missing files are errors unless a build is going to make them.
    if !to_build {
        project.contents()?;
    }
    Ok(warnings)
}

/// Looks at the first eight bytes (component model, Binary.md: magic, version, layer).
fn check_component(name: &str, path: &std::path::Path) -> Result<(), Failure> {
    let what = format!("checking functions.{name}");
    let shown = path.display();
    let mut preamble = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(8).read_to_end(&mut preamble))
        .map_err(|error| Failure::invalid(&what, format!("reading {shown}: {error}")))?;
    let wrong = |why: String| Err(Failure::invalid(&what, why).code(ErrorCode::NotAComponent));
    match preamble.as_slice() {
        [0, b'a', b's', b'm', _, _, 1, 0] => Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0] => wrong(format!(
            "{shown} is a core module, not a component; build it for wasm32-wasip2, or turn it into one with wasm-tools component new"
        )),
        _ => wrong(format!("{shown} is not a WebAssembly component")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(settings: &str, component: &[u8]) -> Result<Vec<String>, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "name = \"x\"\n[functions.api]\ncomponent = \"api.wasm\"\nroutes = [\"/*\"]\n{settings}"
        );
        std::fs::write(folder.path().join("squall.toml"), text).unwrap();
        if !component.is_empty() {
            std::fs::write(folder.path().join("api.wasm"), component).unwrap();
        }
        let options = FolderOptions { dir: folder.path().to_owned(), environment: None };
        check(&Project::open(&options).unwrap())
    }

    #[test]
    fn components_are_told_from_modules_and_text() {
        assert_eq!(check_text("", b"\0asm\x0d\0\x01\0").unwrap(), Vec::<String>::new());
        let module = check_text("", b"\0asm\x01\0\0\0").unwrap_err();
        assert!(module.to_string().contains("core module"), "{module}");
        let other = check_text("", b"plain").unwrap_err();
        assert_eq!(other.code.as_deref(), Some("SQ0301"));
        assert_eq!(check_text("", b"").unwrap_err().code.as_deref(), Some("SQ0313"));
    }

    #[test]
    fn what_would_be_put_up_with_is_a_warning() {
        let settings = "build = \"make\"\nallow_private = true\nfall_through = true\nlimits.queue = 30000\nshared.idle_ms = 5\n";
        let warnings = check_text(settings, b"").unwrap().join("\n");
        for part in ["not there yet", "queue above", "allow_private", "fall_through", "no effect"] {
            assert!(warnings.contains(part), "{warnings}");
        }
    }
}
