//! ES modules in one scope.

use super::{bundle_of, check, check_lines, code_of};

#[test]
fn imports_become_variables() {
    check(
        &[
            ("main.js", "import { count, add } from './counter.js';\nadd();\nexport { count };"),
            ("counter.js", "export let count = 0;\nexport function add() { count++; }"),
        ],
        "let count = 0;
        function add() {
            count++;
        }
        add();
        export { count };",
    );
}

#[test]
fn equal_names_are_told_apart() {
    check(
        &[
            (
                "main.js",
                "import { x as y } from './a.js';\nimport { x } from './b.js';\nexport default x + y + URL;",
            ),
            ("a.js", "export const x = 1;"),
            ("b.js", "const URL = 3;\nexport const x = URL;"),
        ],
        "const x = 1;
        const URL$1 = 3;
        const x$1 = URL$1;
        const main_default = x$1 + x + URL;
        export { main_default as default };",
    );
}

#[test]
fn inner_variables_do_not_capture_imports() {
    check_lines(
        &[
            ("main.js", "import { a as b } from './a.js';\nexport const f = (a) => [a, b];"),
            ("a.js", "export const a = 1;"),
        ],
        &["const a = 1;", "const f = (a$1) => [a$1, a];"],
    );
}

#[test]
fn members_of_a_namespace_are_variables_too() {
    let code = code_of(&[
        ("main.js", "import { all } from './all.js';\nexport const value = all.used() + all.none;"),
        ("all.js", "export * as all from './a.js';"),
        ("a.js", "export const used = () => 1;\nexport const unused = 2;"),
    ]);
    assert!(code.contains("const value = used() + void 0;"), "{code}");
    assert!(!code.contains("unused"), "{code}");
    assert!(!code.contains("namespace"), "{code}");
}

#[test]
fn a_namespace_that_is_passed_on_is_an_object_with_getters() {
    check_lines(
        &[
            ("main.js", "import * as all from './a.js';\nexport default Object.keys(all);"),
            ("a.js", "export let one = 1;\nexport { one as 'not-a-name', one as __proto__ };"),
        ],
        &[
            "const a_namespace = __squall_namespace({",
            "[\"__proto__\"]: () => one,",
            "\"not-a-name\": () => one,",
            "one: () => one,",
            "let one = 1;",
        ],
    );
}

#[test]
fn stars_pass_on_names_but_not_the_default() {
    let bundle = bundle_of(&[
        ("main.js", "export * from './a.js';\nexport * from './b.js';"),
        ("a.js", "export const a = 1, both = 1;\nexport default 2;"),
        ("b.js", "export const b = 2, both = 2;\nexport * from './main.js';"),
    ]);
    assert!(bundle.code.ends_with("export { a, b };\n"), "{}", bundle.code);
}

#[test]
fn modules_run_in_the_order_of_the_standard() {
    check(
        &[
            ("main.js", "import './a.js';\nimport './b.cjs';\nimport './c.js';\nf('main');"),
            ("a.js", "import './d.js';\nimport './main.js';\nf('a');"),
            ("b.cjs", "f('b');"),
            ("c.js", "f('c');"),
            ("d.js", "f('d');"),
        ],
        "function __squall_commonjs(body) {
            let module;
            return () => {
                if (module === undefined) {
                    module = { exports: {} };
                    try {
                        body.call(module.exports, module.exports, module);
                    } catch (error) {
                        module = undefined;
                        throw error;
                    }
                }
                return module.exports;
            };
        }
        const require_b = __squall_commonjs(function(exports, module) {
            f(\"b\");
        });
        f(\"d\");
        f(\"a\");
        require_b();
        f(\"c\");
        f(\"main\");",
    );
}

#[test]
fn unused_statements_without_effects_are_dropped() {
    check(
        &[
            ("main.js", "import { used } from './a.js';\nused();"),
            (
                "a.js",
                "export function used() { return helper; }
                const helper = {}, data = /* @__PURE__ */ make();
                export const unused = () => data;
                class Unused {}
                effect();",
            ),
        ],
        "function used() {
            return helper;
        }
        const helper = {}, data = make();
        effect();
        used();",
    );
}

#[test]
fn modules_without_side_effects_are_left_out() {
    let package =
        ("node_modules/p/package.json", r#"{ "module": "i.js", "sideEffects": ["*.keep.js"] }"#);
    let code = code_of(&[
        ("main.js", "import { used } from 'p';\nused();"),
        package,
        (
            "node_modules/p/i.js",
            "export * from './used.js';\nexport { other } from './other.js';\nimport './a.keep.js';\nbarrel();",
        ),
        ("node_modules/p/used.js", "export const used = () => 1;\neffect();"),
        ("node_modules/p/other.js", "export const other = 1;\nnever();"),
        ("node_modules/p/a.keep.js", "kept();"),
    ]);
    assert!(code.contains("effect()"), "a module that is used runs as a whole: {code}");
    assert!(!code.contains("never()") && !code.contains("barrel()"), "{code}");
}

#[test]
fn a_module_of_import_runs_late() {
    check_lines(
        &[
            ("main.js", "export const load = () => import('./late.js');"),
            (
                "late.js",
                "export function f() { return [a, C]; }\nexport const { a, b: [c = 1] } = g();\nexport class C {}\nfor (var i = 0; i < 1; i++);",
            ),
        ],
        &[
            "const late_namespace = __squall_namespace({",
            "function f() {",
            "var C, a, c, i;",
            "const run_late = __squall_module(() => {",
            "({a: a, b: [c = 1]} = g());",
            "C = class C {};",
            "for (i = 0; i < 1; i++);",
            "async function import_late() { run_late(); return late_namespace; }",
            "const load = () => import_late();",
        ],
    );
}

#[test]
fn a_module_that_runs_anyway_is_not_wrapped_for_import() {
    let code = code_of(&[
        (
            "main.js",
            "import { a } from './a.js';\nexport const load = () => [a, import('./a.js')];",
        ),
        ("a.js", "export const a = 1;"),
    ]);
    assert!(code.contains("async function import_a() { return a_namespace; }"), "{code}");
    assert!(!code.contains("run_a"), "{code}");
}

#[test]
fn top_level_await_makes_late_modules_asynchronous() {
    check_lines(
        &[
            ("main.js", "const m = await import('./a.js');\nexport { m };"),
            ("a.js", "import './b.js';\nexport default 1;"),
            ("b.js", "await f();"),
        ],
        &[
            "const run_a = __squall_module_async(async () => {",
            "await run_b();",
            "async function import_a() { await run_a(); return a_namespace; }",
        ],
    );
}

#[test]
fn a_renamed_variable_keeps_its_property() {
    check_lines(
        &[
            ("main.js", "import './a.js';\nlet key;\n({ key = 1 } = f({ key }));"),
            ("a.js", "let key;\n({ key } = f({ key }));"),
        ],
        &["({key: key$1} = f({ key: key$1 }));", "({key = 1} = f({ key }));"],
    );
}

#[test]
fn the_place_of_a_module_is_one_in_the_project() {
    check_lines(
        &[("src/main.js", "f(import.meta.url, import.meta.dirname, import.meta.main);")],
        &["f(\"file:///src/main.js\", \"/src\", true);"],
    );
}
