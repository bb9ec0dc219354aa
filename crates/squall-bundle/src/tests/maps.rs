//! From the output back to the sources.

use super::bundle_of;
use crate::map_stack;

/// Where a piece of the output comes from, by a stack trace that points at it.
fn origin(files: &[(&str, &str)], piece: &str) -> String {
    let bundle = bundle_of(files);
    let offset = bundle.code.find(piece).unwrap_or_else(|| panic!("{piece}: {}", bundle.code));
    let line = bundle.code[..offset].matches('\n').count() + 1;
    let column = offset - bundle.code[..offset].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    map_stack(&format!("    at f (bundle.js:{line}:{column})\n"), "bundle.js", &bundle.map)
}

#[test]
fn positions_of_every_kind_of_module_are_mapped() {
    let files = [
        (
            "main.ts",
            "import './src/b.cjs';\n\ninterface A {}\nexport const load = () => import('./c');\nfail('main');",
        ),
        ("src/b.cjs", "exports.x = () => {\n\tfail('b');\n};"),
        ("c.tsx", "type X = 1;\nfail('c');\nexport function f(x: X) {\n  fail('f');\n}"),
    ];
    assert_eq!(origin(&files, "fail(\"main\")"), "    at f (main.ts:5:1)\n");
    assert_eq!(origin(&files, "fail(\"b\")"), "    at f (src/b.cjs:2:2)\n");
    assert_eq!(origin(&files, "fail(\"c\")"), "    at f (c.tsx:2:1)\n");
    assert_eq!(origin(&files, "fail(\"f\")"), "    at f (c.tsx:4:3)\n");
}

#[test]
fn what_is_not_of_the_bundle_stays() {
    let bundle = bundle_of(&[("main.js", "\n\nfail();")]);
    let line = bundle.code.lines().position(|line| line == "fail();").unwrap() + 1;
    let stack = format!(
        "Error: in bundle.js: it failed\n    at <anonymous> (bundle.js:{line}:5)\n    at bundle.js:{line}\n    at native\n    at x (other-bundle.js:1:1)\n    at y (bundle.js:9999:1)"
    );
    assert_eq!(
        map_stack(&stack, "bundle.js", &bundle.map),
        "Error: in bundle.js: it failed\n    at <anonymous> (main.js:3:1)\n    at main.js:3:1\n    at native\n    at x (other-bundle.js:1:1)\n    at y (bundle.js:9999:1)"
    );
    assert_eq!(map_stack(&stack, "bundle.js", "not a map"), stack);
}

#[test]
fn the_map_holds_names_of_files_and_not_their_text() {
    let bundle = bundle_of(&[("src/main.ts", "export const secret: string = 'text';")]);
    assert!(bundle.map.contains("\"sources\":[\"src/main.ts\"]"), "{}", bundle.map);
    assert!(!bundle.map.contains("secret"), "{}", bundle.map);
}
