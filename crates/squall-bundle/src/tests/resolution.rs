//! Which file a specifier means.

use super::{Project, bundle_of, code_of};

/// The entry imports the specifier for its effects; the file that is found says its name.
fn check(files: &[(&str, &str)], expected: &str) {
    let code = code_of(files);
    assert!(code.contains(&format!("found({expected:?})")), "{code}");
}

#[test]
fn endings_and_index_files_are_tried() {
    check(&[("main.js", "import './a';"), ("a.ts", "found('a.ts');")], "a.ts");
    check(&[("main.js", "import './a';"), ("a/index.tsx", "found('index');")], "index");
    check(&[("main.ts", "import './a.js';"), ("a.ts", "found('a.ts');"), ("a.js", "")], "a.ts");
    check(&[("main.mts", "import './a.mjs';"), ("a.mts", "found('a.mts');")], "a.mts");
    check(&[("main.js", "import './a.js';"), ("a.js", "found('a.js');"), ("a.ts", "")], "a.js");
}

#[test]
fn conditions_choose_the_file_of_a_package() {
    let exports = r#"{ "exports": { ".": {
        "node": "./node.js",
        "worker": { "import": "./worker.mjs", "require": "./worker.cjs" },
        "default": "./default.js"
    } } }"#;
    let package = ("node_modules/p/package.json", exports);
    let import = ("node_modules/p/worker.mjs", "found('import');");
    let require = ("node_modules/p/worker.cjs", "found('require');");
    check(&[("main.js", "import 'p';"), package, import, require], "import");
    check(&[("main.cjs", "require('p');"), package, import, require], "require");
}

#[test]
fn fields_of_older_packages_are_read() {
    let main = ("node_modules/p/main.js", "found('main');");
    let module = ("node_modules/p/module.js", "found('module');");
    let browser = ("node_modules/p/browser.js", "found('browser');");
    let package = |text| ("node_modules/p/package.json", text);
    let import = ("main.js", "import 'p';");
    check(&[import, package(r#"{ "main": "./main" }"#), main], "main");
    check(
        &[import, package(r#"{ "main": "./main", "module": "./module.js" }"#), main, module],
        "module",
    );
    check(
        &[
            import,
            package(r#"{ "main": "./main.js", "browser": { "./main.js": "./browser.js" } }"#),
            main,
            browser,
        ],
        "browser",
    );
    let code = code_of(&[
        import,
        package(r#"{ "main": "./main.js", "browser": { "fs": false } }"#),
        ("node_modules/p/main.js", "module.exports = require('fs');"),
    ]);
    assert!(code.contains("module.exports = {};"), "{code}");
}

#[test]
fn the_paths_of_the_tsconfig_are_followed() {
    let files = [
        ("src/main.ts", "import '@/a';"),
        ("src/deep/a.ts", "found('a');"),
        ("tsconfig.json", "{ \"extends\": \"./base.json\" }"),
        (
            "base.json",
            "{ // with comments\n \"compilerOptions\": { \"paths\": { \"@/*\": [\"./src/deep/*\"] } } }",
        ),
    ];
    check(&files, "a");
    let inputs = Project::new(&files).bundle("src/main.ts").unwrap().inputs;
    let names: Vec<_> =
        inputs.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a.ts", "main.ts", "tsconfig.json"]);
}

#[test]
#[cfg(unix)]
fn linked_packages_may_lie_outside_of_the_project() {
    let outside =
        Project::new(&[("package.json", r#"{ "main": "a.js" }"#), ("a.js", "found('linked');")]);
    let project = Project::new(&[("main.js", "import 'linked';"), ("node_modules/.keep", "")]);
    std::os::unix::fs::symlink(outside.path(), project.path().join("node_modules/linked")).unwrap();
    let bundle = project.bundle("main.js").unwrap();
    assert!(bundle.code.contains("found(\"linked\")"), "{}", bundle.code);
}

#[test]
fn the_output_does_not_depend_on_where_the_project_is() {
    let files = [
        (
            "main.ts",
            "import { a } from './lib/a';\nimport p from 'p';\nexport default [a, p, import.meta.url];",
        ),
        ("lib/a.ts", "export const a: number = 1;"),
        ("node_modules/p/package.json", r#"{ "main": "p.js" }"#),
        ("node_modules/p/p.js", "module.exports = __filename;"),
    ];
    let (one, other) = (bundle_of(&files), bundle_of(&files));
    assert_eq!((&one.code, &one.map), (&other.code, &other.map));
    let folder = std::env::temp_dir().display().to_string();
    assert!(!one.code.contains(&folder) && !one.map.contains(&folder), "{}", one.map);
}
