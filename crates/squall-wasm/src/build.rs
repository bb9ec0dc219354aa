//! Compiling a component at deploy. Runs in a child process; see the node's builder.

use std::path::Path;
use std::time::Instant;

use squall_types::ErrorCode;
use squall_types::build::{BuildError, BuildJob, BuildOutput};
use squall_types::manifest::InstanceMode;
use squall_types::state::HandlerWorld;
use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::engine::{EngineOptions, Engines, Kind};
use crate::host::{OFFERED, linker};

/// Checks and compiles the component of `job` and writes the artifact to `output`,
/// whole or not at all.
///
/// # Errors
/// Says what is wrong with the component, or that the disk did not take the artifact.
pub fn compile(
    job: &BuildJob,
    mode: InstanceMode,
    options: &EngineOptions,
    output: &Path,
) -> Result<BuildOutput, BuildError> {
    let began = Instant::now();
    let bytes = std::fs::read(&job.code_path).map_err(|error| {
        fail(ErrorCode::StorageFailed, format!("the component can not be read: {error}"))
    })?;
    check_preamble(&job.label, &bytes)?;
    // Which engine it is for is known for certain only when it has been parsed; a wrong
    // guess costs a second compilation and nothing else.
    let guess = guess_world(&bytes);
    let (component, world) = match compile_for(job, mode, options, &bytes, guess)? {
        (_, other) if other != guess => compile_for(job, mode, options, &bytes, other)?,
        fits => fits,
    };
    let compiled = component.serialize().map_err(|error| {
        fail(ErrorCode::BuildFailed, format!("{} can not be stored: {error:#}", job.label))
    })?;
    write(output, &compiled).map_err(|error| {
        let full = error.kind() == std::io::ErrorKind::StorageFull;
        let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageFailed };
        fail(code, format!("the compiled code can not be written: {error}"))
    })?;
    Ok(BuildOutput {
        world,
        artifact_bytes: compiled.len() as u64,
        compile_ms: began.elapsed().as_millis() as u64,
        warnings: Vec::new(),
    })
}

/// An export's name lies in a component as it is written.
fn guess_world(bytes: &[u8]) -> HandlerWorld {
    const NEW: &[u8] = b"wasi:http/handler@0.3";
    const OLD: &[u8] = b"wasi:http/incoming-handler@0.2";
    let holds = |name: &[u8]| bytes.windows(name.len()).any(|part| part == name);
    if holds(NEW) && !holds(OLD) { HandlerWorld::Http03 } else { HandlerWorld::Http02 }
}

/// Compiles for the engine of `guess` and says which world the component really has.
/// Links it when that is the same.
fn compile_for(
    job: &BuildJob,
    mode: InstanceMode,
    options: &EngineOptions,
    bytes: &[u8],
    guess: HandlerWorld,
) -> Result<(Component, HandlerWorld), BuildError> {
    let kind = Kind { mode, world: guess };
    let engine = Engines::for_build(kind, options).map_err(|error| {
        fail(ErrorCode::BuildFailed, format!("the compiler does not start: {error:#}"))
    })?;
    let component = Component::new(&engine, bytes).map_err(|error| {
        let length = bytes.len();
        fail(
            ErrorCode::NotAComponent,
            format!(
                "{} ({length} bytes) is not a WebAssembly component that can be compiled: {error:#}; it may be truncated, or use features that are not standard yet",
                job.label
            ),
        )
    })?;
    check_imports(&job.label, &engine, &component)?;
    let world = find_world(&job.label, &engine, &component)?;
    if world == guess {
        link(&job.label, &engine, &component, world)?;
    }
    Ok((component, world))
}

fn fail(code: ErrorCode, message: String) -> BuildError {
    BuildError { code, message }
}

fn check_preamble(label: &str, bytes: &[u8]) -> Result<(), BuildError> {
    let what = match bytes {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            "is a core module, not a component; make a component of it with `wasm-tools component new` or `jco new`, or build for wasm32-wasip2"
        }
        [] => "is an empty file",
        _ => "does not begin like a WebAssembly file",
    };
    Err(fail(
        ErrorCode::NotAComponent,
        format!("{label} is not a WebAssembly component: it {what}"),
    ))
}

/// `wasi:http/types@0.2.3` as its name and `0.2`.
fn split_version(import: &str) -> (&str, Option<&str>) {
    let Some((name, version)) = import.split_once('@') else { return (import, None) };
    let minor = version.match_indices('.').nth(1).map_or(version, |(at, _)| &version[..at]);
    (name, Some(minor))
}

fn check_imports(label: &str, engine: &Engine, component: &Component) -> Result<(), BuildError> {
    for (import, _) in component.component_type().imports(engine) {
        let (name, version) = split_version(import);
        let known = OFFERED.iter().find(|(offered, _)| *offered == name);
        let good = known.is_some_and(|(_, versions)| {
            version.is_some_and(|version| versions.contains(&version))
        });
        if good {
            continue;
        }
        let offered = match known {
            Some((_, versions)) => format!("this node offers it in {}", versions.join(" and ")),
            None => {
                let names: Vec<&str> = OFFERED.iter().map(|(offered, _)| *offered).collect();
                format!("this node offers {}", names.join(", "))
            }
        };
        return Err(fail(
            ErrorCode::UnknownImport,
            format!("{label} imports {import}, which this node does not offer; {offered}"),
        ));
    }
    Ok(())
}

fn find_world(
    label: &str,
    engine: &Engine,
    component: &Component,
) -> Result<HandlerWorld, BuildError> {
    let mut exports = Vec::new();
    for (export, _) in component.component_type().exports(engine) {
        match split_version(export) {
            ("wasi:http/incoming-handler", Some("0.2")) => return Ok(HandlerWorld::Http02),
            ("wasi:http/handler", Some("0.3")) => return Ok(HandlerWorld::Http03),
            _ => exports.push(export.to_owned()),
        }
    }
    let found = match exports.len() {
        0 => "it exports nothing".to_owned(),
        _ => format!("it exports {}", exports.join(", ")),
    };
    Err(fail(
        ErrorCode::NoHandler,
        format!(
            "{label} exports no HTTP handler; export wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3 ({found})"
        ),
    ))
}

/// Every single function of every import must fit, not only the interfaces' names.
fn link(
    label: &str,
    engine: &Engine,
    component: &Component,
    world: HandlerWorld,
) -> Result<(), BuildError> {
    let linked = linker(engine, world).and_then(|linker| {
        let pre = linker.instantiate_pre(component)?;
        match world {
            HandlerWorld::Http02 => ProxyPre::new(pre).map(drop),
            HandlerWorld::Http03 => ServicePre::new(pre).map(drop),
            HandlerWorld::JavaScript => unreachable!("a component has a handler of wasi:http"),
        }
    });
    linked.map_err(|error| {
        fail(
            ErrorCode::UnknownImport,
            format!("{label} does not fit the interfaces of this node: {error:#}"),
        )
    })
}

pub(crate) fn write(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let beside = output.with_extension(format!("tmp-{}", std::process::id()));
    let written = (|| {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, output)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}
