//! What is said about sources that cannot be bundled.

use super::{Project, code_of, errors_of};
use crate::{Options, bundle};

fn check(files: &[(&str, &str)], expected: &[&str]) {
    let errors: Vec<String> = errors_of(files).iter().map(ToString::to_string).collect();
    assert_eq!(errors, expected);
}

#[test]
fn syntax_errors_point_at_the_source() {
    let errors = errors_of(&[("main.ts", "const ä = 1;\nconst b: = 2;\n")]);
    let error = &errors[0];
    assert_eq!((error.file.as_str(), error.line, error.column), ("main.ts", 2, 10));
    assert_eq!(error.excerpt, "const b: = 2;");
}

#[test]
fn all_errors_are_reported_together() {
    check(
        &[
            ("main.ts", "import { usr } from './lib';\nimport './a';\nimport x from 'not-installed/sub';\nimport './logo.png';\nf(x, usr);"),
            ("lib.ts", "export const user = 1;\nimport './libb';"),
            ("logo.png", ""),
        ],
        &[
            "main.ts:2:8: Cannot find module \"./a\"
  import './a';
  Looked for a, a{.ts,.tsx,.mts,.cts,.js,.jsx,.mjs,.cjs,.json} and a/index.*.",
            "main.ts:3:15: Cannot find module \"not-installed/sub\"
  import x from 'not-installed/sub';
  Looked in node_modules. Is it installed? Try: npm install not-installed",
            "main.ts:4:8: Cannot bundle logo.png: there is no loader for .png files
  import './logo.png';
  Import it as text with `with { type: \"text\" }`, or serve it as a static asset.",
            "lib.ts:2:8: Cannot find module \"./libb\"
  import './libb';
  Looked for libb, libb{.ts,.tsx,.mts,.cts,.js,.jsx,.mjs,.cjs,.json} and libb/index.*. Did you mean lib.ts?",
        ],
    );
}

#[test]
fn missing_exports_come_with_a_suggestion() {
    check(
        &[
            (
                "main.ts",
                "import { usr } from './lib';\nimport lib from './lib';\nimport { other } from './lib';\nf(usr, lib, other);",
            ),
            ("lib.ts", "export const user = 1, id = 2;"),
        ],
        &[
            "main.ts:1:10: lib.ts has no export \"usr\"
  import { usr } from './lib';
  Did you mean \"user\"?",
            "main.ts:2:8: lib.ts has no export \"default\"
  import lib from './lib';
  It has no default export; import by name: import { id, user }",
            "main.ts:3:10: lib.ts has no export \"other\"
  import { other } from './lib';",
        ],
    );
}

#[test]
fn ambiguous_and_undeclared_exports_are_errors() {
    check(
        &[
            ("main.js", "import { x } from './both.js';\nf(x);"),
            ("both.js", "export * from './a.js';\nexport * from './b.js';"),
            ("a.js", "export const x = 1;"),
            ("b.js", "export const x = 2;"),
        ],
        &["main.js:1:10: both.js exports \"x\" more than once, by different `export *`
  import { x } from './both.js';"],
    );
    let errors = errors_of(&[("main.js", "export { nothing };")]);
    assert_eq!((errors[0].line, errors[0].column), (1, 10), "{errors:?}");
}

#[test]
fn a_subpath_that_a_package_does_not_export_is_named() {
    check(
        &[
            ("main.js", "import 'p/inner';"),
            ("node_modules/p/package.json", r#"{ "exports": "./a.js" }"#),
        ],
        &["main.js:1:8: Cannot find module \"p/inner\"
  import 'p/inner';
  node_modules/p is installed, but its \"exports\" have no \"./inner\" for the conditions worker, browser, import, default."],
    );
}

#[test]
fn modules_of_node_js_that_are_not_there_are_named() {
    check(
        &[("main.js", "import fs from 'fs';\nfs();")],
        &["main.js:1:16: Cannot find module \"fs\"
  import fs from 'fs';
  \"fs\" is a module of Node.js that the runtime does not have; it has node:assert, node:assert/strict, node:async_hooks, node:buffer, node:events, node:path, node:path/posix, node:process, node:util, node:util/types."],
    );
    for specifier in ["node:fs/promises", "cloudflare:sockets"] {
        let errors = errors_of(&[("main.js", &format!("import '{specifier}';"))]);
        assert_eq!(errors[0].message, format!("Cannot find module \"{specifier}\""));
        assert_eq!((errors[0].line, errors[0].column), (1, 8));
        assert_eq!(errors[0].hint.is_some(), specifier.starts_with("node:"));
    }
    // Nobody needs it: a package may have more than what is used of it.
    let package = r#"{ "type": "module", "sideEffects": false }"#;
    let code = code_of(&[
        ("main.js", "import { a } from 'p';\nexport default a;"),
        ("node_modules/p/package.json", package),
        ("node_modules/p/index.js", "export const a = 1;\nexport { b } from './b.js';"),
        ("node_modules/p/b.js", "import fs from 'node:fs';\nexport const b = fs;"),
    ]);
    assert!(!code.contains("node:fs"), "{code}");
}

#[test]
fn require_cannot_wait() {
    check(
        &[
            ("main.js", "import './a.cjs';"),
            ("a.cjs", "require('./b.js');"),
            ("b.js", "import './c.js';\nexport const b = 1;"),
            ("c.js", "await 1;"),
        ],
        &["a.cjs:1:9: b.js cannot be required: it, or a module that it imports, uses top-level await
  require('./b.js');
  Use `await import()` instead of `require()`."],
    );
}

#[test]
fn invalid_json_is_an_error_in_its_file() {
    check(
        &[("main.js", "import './a.json';"), ("a.json", "{\n  \"a\": 1,\n}")],
        &["a.json:3:1: Invalid JSON: trailing comma\n  }"],
    );
}

#[test]
fn too_large_bundles_name_their_largest_modules() {
    let text = "x".repeat(500);
    let project = Project::new(&[
        ("main.js", "import text from './a.js';\nexport default text;"),
        ("a.js", &format!("export default '{text}' + f('{text}');")),
    ]);
    let limit = |max_bytes| Options { max_bytes, ..Options::new(project.path(), "main.js") };
    assert!(bundle(&limit(5_000)).is_ok());

    let errors = bundle(&limit(1_050)).unwrap_err();
    assert!(errors[0].message.ends_with("1050 are allowed"), "{errors:?}");
    assert!(
        errors[0].hint.as_ref().unwrap().starts_with("The largest modules are a.js ("),
        "{errors:?}"
    );

    let errors = bundle(&limit(100)).unwrap_err();
    assert_eq!(errors[0].message, "The file has 1026 bytes; a whole bundle may have 100");
}

#[test]
fn the_entry_must_be_a_script() {
    check(
        &[("main.css", "")],
        &[
            "main.css: The entry file is not a script\n  An entry ends in .js, .mjs, .cjs, .ts, .mts, .jsx or .tsx.",
        ],
    );
    let errors = Project::new(&[]).bundle("src/none.ts").unwrap_err();
    assert_eq!(errors[0].to_string(), "src/none.ts: The entry file does not exist");
}
