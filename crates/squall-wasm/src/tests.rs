//! Engines, compiling and the judgement of components. What guests do at run time is
//! tested end to end, with guests that real toolchains made.

use squall_types::ErrorCode;
use squall_types::build::{BuildError, BuildJob, BuildOutput, Target};
use squall_types::manifest::InstanceMode;
use squall_types::state::{BlobId, HandlerWorld};
use wasmtime::component::Component;

use crate::build::compile;
use crate::engine::{EngineOptions, Engines, Kind, key_of};
use crate::host::OFFERED;

fn small() -> EngineOptions {
    EngineOptions { instance_slots: 10, ..EngineOptions::default() }
}

fn try_compile(bytes: &[u8], mode: InstanceMode) -> Result<BuildOutput, BuildError> {
    let dir = tempfile::tempdir().unwrap();
    let code_path = dir.path().join("component");
    std::fs::write(&code_path, bytes).unwrap();
    let code = BlobId::from(blake3::hash(bytes));
    let job = BuildJob {
        label: "app/api".into(),
        code,
        code_path,
        target: Target::Component { mode },
        secrets: Vec::new(),
    };
    let output = dir.path().join("out.cwasm");
    let built = compile(&job, mode, &small(), &output);
    assert_eq!(output.exists(), built.is_ok(), "an artifact is there exactly when it was built");
    built
}

#[test]
fn what_the_build_engine_compiles_is_for_the_pooled_engine_of_its_mode() {
    let engines = Engines::new(&small()).unwrap();
    for kind in Kind::ALL {
        let build = Engines::for_build(kind, &small()).unwrap();
        let pooled = engines.engine(kind);
        assert_eq!(
            key_of(std::slice::from_ref(&build)),
            key_of(std::slice::from_ref(pooled)),
            "{kind:?}"
        );
        let compiled = Component::new(&build, squall_testkit::HELLO).unwrap().serialize().unwrap();
        // SAFETY: these bytes come from the line above.
        unsafe { Component::deserialize(pooled, compiled) }.unwrap();
    }
    let keys = [InstanceMode::PerRequest, InstanceMode::Shared].map(|mode| engines.key(mode));
    assert_ne!(keys[0], keys[1]);
    let other = EngineOptions { memory_bytes_max: 1 << 29, ..small() };
    let of =
        |options: &EngineOptions| key_of(&[Engines::for_build(Kind::ALL[0], options).unwrap()]);
    assert_ne!(of(&other), of(&small()), "the cap on memory is compiled in");
}

#[test]
fn guests_of_real_toolchains_compile_for_both_modes() {
    for guest in [squall_testkit::HELLO, squall_testkit::PROBE] {
        for mode in [InstanceMode::PerRequest, InstanceMode::Shared] {
            let built = try_compile(guest, mode).unwrap();
            assert_eq!(built.world, HandlerWorld::Http02);
        }
    }
}

#[track_caller]
fn check_refused(bytes: &[u8], code: ErrorCode, says: &[&str]) {
    let refused = try_compile(bytes, InstanceMode::PerRequest).unwrap_err();
    assert_eq!(refused.code, code, "{refused}");
    for part in says {
        assert!(refused.message.contains(part), "{refused} does not say {part}");
    }
}

#[test]
fn what_can_not_run_is_refused_with_the_reason() {
    check_refused(b"", ErrorCode::NotAComponent, &["empty"]);
    check_refused(b"plain text", ErrorCode::NotAComponent, &["WebAssembly"]);
    check_refused(b"\0asm\x01\0\0\0", ErrorCode::NotAComponent, &["core module", "wasm32-wasip2"]);
    let half = &squall_testkit::HELLO[..squall_testkit::HELLO.len() / 2];
    check_refused(half, ErrorCode::NotAComponent, &["truncated"]);
    let wat = |text: &str| wat::parse_str(text).unwrap();
    check_refused(&wat("(component)"), ErrorCode::NoHandler, &["wasi:http/incoming-handler"]);
    let unknown = wat("(component (import \"acme:rocket/launch@1.0.0\" (instance)))");
    check_refused(&unknown, ErrorCode::UnknownImport, &["acme:rocket/launch", "wasi:io/streams"]);
    let newer = wat("(component (import \"wasi:http/types@0.9.0\" (instance)))");
    check_refused(&newer, ErrorCode::UnknownImport, &["wasi:http/types@0.9.0", "0.2 and 0.3"]);
    let wrong_shape = wat(
        "(component (import \"wasi:random/random@0.2.0\" (instance (export \"roll\" (func)))))",
    );
    check_refused(&wrong_shape, ErrorCode::NoHandler, &[]);
}

#[test]
fn the_list_of_interfaces_is_in_order_and_whole() {
    let names: Vec<&str> = OFFERED.iter().map(|(name, _)| *name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), names.len(), "an interface is listed twice");
    // Everything that our own guests import is in it, or they would not compile.
    for name in ["wasi:io/poll", "wasi:http/types", "wasi:cli/environment", "wasi:config/store"] {
        assert!(names.contains(&name), "{name}");
    }
}
