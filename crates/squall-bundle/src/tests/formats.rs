//! What is not an ES module in plain JavaScript: TypeScript, JSX, `CommonJS` and data.

use super::{check, check_lines, code_of};

#[test]
fn types_are_stripped() {
    check(
        &[
            (
                "main.ts",
                "import { type T, make } from './types';
                import { Only } from './types';
                export { Only };
                enum E { A = 1, B }
                export class P { constructor(private x: T) {} declare y: number; }
                export const value = make<T>(E.B) satisfies unknown;",
            ),
            (
                "types.ts",
                "export type T = number;\nexport interface Only {}\nexport function make<T>(x: T): T { return x; }",
            ),
        ],
        "function make(x) {
            return x;
        }
        var E = function(E) {
            E[E[\"A\"] = 1] = \"A\";
            E[E[\"B\"] = 2] = \"B\";
            return E;
        }(E || {});
        class P {
            x;
            constructor(x) {
                this.x = x;
            }
        }
        const value = make(E.B);
        export { P, value };",
    );
}

#[test]
fn decorators_of_typescript_are_lowered() {
    check_lines(
        &[
            ("main.ts", "@sealed class A { @log m() {} }\nexport { A };"),
            ("tsconfig.json", r#"{ "compilerOptions": { "experimentalDecorators": true } }"#),
        ],
        &["function decorate(decorators, target, key, description) {"],
    );
}

#[test]
fn using_declarations_are_lowered() {
    let code = code_of(&[("main.js", "{ using a = f(); }")]);
    assert!(code.contains("function usingCtx()") && !code.contains("using a"), "{code}");
}

#[test]
fn jsx_calls_what_the_tsconfig_names() {
    check_lines(
        &[
            ("main.tsx", "import { h, F } from './h';\nexport default <a x={1}><></></a>;"),
            ("h.ts", "export const F = 1, h = (...a: unknown[]) => a;"),
            (
                "tsconfig.json",
                r#"{ "compilerOptions": { "jsx": "react", "jsxFactory": "h", "jsxFragmentFactory": "F" } }"#,
            ),
        ],
        &["const main_default = h(\"a\", { x: 1 }, h(F, null));"],
    );
}

#[test]
fn jsx_imports_its_functions() {
    check_lines(
        &[
            ("main.jsx", "/** @jsxImportSource mini */\nexport default <a x={1}>text</a>;"),
            (
                "node_modules/mini/package.json",
                r#"{ "exports": { "./jsx-runtime": "./runtime.mjs" } }"#,
            ),
            ("node_modules/mini/runtime.mjs", "export const jsx = (...a) => a;"),
        ],
        &[
            "const jsx = (...a) => a;",
            "const main_default = jsx(\"a\", {",
            "export { main_default as default };",
        ],
    );
}

#[test]
fn common_js_modules_are_functions() {
    check_lines(
        &[
            (
                "main.js",
                "import def, { named } from './a.cjs';\nimport * as all from './a.cjs';\nexport default [def, named(), all.other, all];",
            ),
            ("a.cjs", "const b = require('./b.cjs');\nexports.named = () => b;"),
            ("b.cjs", "module.exports = { __filename, here: __dirname, global };"),
        ],
        &[
            "var a_exports, a_module, a_namespace;",
            "const require_a = __squall_commonjs(function(exports, module) {",
            "const b = require_b();",
            "const require_b = __squall_commonjs(function(exports, module) {",
            "__filename: \"/b.cjs\",",
            "here: \"/\",",
            "global: globalThis",
            "a_exports = require_a();",
            "a_module = __squall_default_of(a_exports);",
            "a_namespace ??= __squall_namespace_of(a_exports, false);",
            "a_module.default,",
            "(0, a_exports.named)(),",
            "a_exports.other,",
            "a_namespace",
        ],
    );
}

#[test]
fn node_js_modules_see_module_exports_as_the_default() {
    check_lines(
        &[
            ("main.mjs", "import def from './a.cjs';\nexport default def;"),
            ("a.cjs", "exports.x = 1;"),
        ],
        &["a_exports = require_a();", "const main_default = a_exports;"],
    );
}

#[test]
fn es_modules_can_be_required() {
    check_lines(
        &[
            (
                "main.js",
                "import { r } from './a.cjs';\nimport { v } from './b.js';\nexport default [r, v];",
            ),
            ("a.cjs", "exports.r = require('./b.js').v;"),
            ("b.js", "export const v = 1;"),
        ],
        &[
            "const run_b = __squall_module(() => {",
            "v = 1;",
            "function require_b() { run_b(); return b_required ??= __squall_exports_of(b_namespace); }",
            "a_exports = require_a();",
            "run_b();",
        ],
    );
}

#[test]
fn the_branch_of_the_other_mode_is_gone() {
    let code = code_of(&[(
        "main.cjs",
        "if (process.env.NODE_ENV !== 'production') { module.exports = require('./nowhere'); } else { module.exports = process.env.NODE_ENV === 'test' ? 1 : 2; }",
    )]);
    assert!(code.contains("module.exports = 2;") && !code.contains("nowhere"), "{code}");
}

#[test]
fn modules_that_may_be_missing_fail_when_they_are_reached() {
    check_lines(
        &[(
            "main.cjs",
            "try { require('optional'); } catch {}\nfunction later() { return require('fs'); }\nconst any = require(later());\nimport('gone').catch(later);",
        )],
        &[
            "__squall_missing(\"optional\");",
            "return __squall_missing(\"fs\");",
            "const any = __squall_require(later());",
            "__squall_missing_import(\"gone\").catch(later);",
        ],
    );
}

#[test]
fn data_is_imported() {
    check(
        &[
            (
                "main.ts",
                "import data, { version } from './data.json';\nimport query from './query.sql';\nimport raw from './data.json' with { type: 'text' };\nexport default [data, version, query, raw];",
            ),
            ("data.json", "{ \"version\": 1 }"),
            ("query.sql", "select 1"),
        ],
        r#"const data_default = JSON.parse("{ \"version\": 1 }");
        const query_default = "select 1";
        const data_default$1 = "{ \"version\": 1 }";
        const main_default = [
            data_default,
            data_default.version,
            query_default,
            data_default$1
        ];
        export { main_default as default };"#,
    );
}

#[test]
fn built_in_modules_stay_imports() {
    check(
        &[
            (
                "main.js",
                "import { Buffer } from 'buffer';\nimport events from 'node:events';\nimport * as workers from 'cloudflare:workers';\nimport { r } from './a.cjs';\nexport default [Buffer, events, workers, r];\nexport * from 'process';",
            ),
            ("a.cjs", "exports.r = require('events');"),
        ],
        "import * as workers$1 from \"cloudflare:workers\";
        import { Buffer } from \"node:buffer\";
        import { default as events$1 } from \"node:events\";
        import \"node:process\";
        function __squall_commonjs(body) {
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
        var a_exports;
        const require_a = __squall_commonjs(function(exports, module) {
            exports.r = events$1;
        });
        a_exports = require_a();
        const main_default = [
            Buffer,
            events$1,
            workers$1,
            a_exports.r
        ];
        export * from \"node:process\";
        export { main_default as default };",
    );
}
