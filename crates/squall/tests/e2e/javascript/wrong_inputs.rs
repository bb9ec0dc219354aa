//! Sources and programs that can not work: each is told what is wrong and where, at deploy
//! where it can be known.

use super::set_secret;
use crate::harness::{App, TestNode};

#[track_caller]
fn check_refused(node: &TestNode, app: &App, says: &[&str]) {
    let folder = node.write_app(app);
    let output = node.cli(&["deploy", folder.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "deployed: {said}");
    for part in says {
        assert!(said.contains(part), "{said}\ndoes not say {part:?}");
    }
}

#[test]
fn sources_that_can_not_be_bundled_are_refused_with_their_place() {
    let node = TestNode::start();
    for (source, says) in [
        (
            "export default {\n  fetch() { return new Response('a' };\n};\n",
            &["SQ0321", "src/index.ts:2:"][..],
        ),
        (
            "import { a } from './absent';\nexport default { fetch: () => a };\n",
            &["SQ0321", "src/index.ts:1:19", "./absent"],
        ),
        (
            "import { a } from 'not-installed';\nexport default { fetch: () => a };\n",
            &["SQ0321", "src/index.ts:1:19", "npm install not-installed"],
        ),
        (
            "import { b } from './lib';\nexport default { fetch: () => b };\n",
            &["SQ0321", "src/index.ts:1:10", "lib.ts", "a"],
        ),
        (
            "import fs from 'node:fs';\nexport default { fetch: () => fs };\n",
            &["SQ0321", "src/index.ts:1:16", "node:fs"],
        ),
    ] {
        check_refused(
            &node,
            &App::typescript("wrong", source).file("src/lib.ts", "export const a = 1;\n"),
            says,
        );
    }
    let apps = String::from_utf8(node.cli(&["apps", "--json"]).stdout).unwrap();
    assert!(!apps.contains("wrong"), "{apps}");
}

#[test]
fn top_level_code_that_can_not_run_is_refused_with_its_place() {
    let node = TestNode::start();
    node.deploy(&App::typescript("wrong", "export default { fetch: () => new Response('well') };"));
    set_secret(&node, "wrong", "API_KEY", "wind-and-rain");
    let handler = "export default { fetch: () => new Response(String(value)) };\n";
    for (source, says) in [
        (
            "const value =\n  await fetch('http://example.com/');\n",
            &["SQ0322", "fetch can not be used at top level", "src/index.ts:2:"][..],
        ),
        (
            "import { env } from 'cloudflare:workers';\nconst value = (env as any).API_KEY;\n",
            &["SQ0322", "The secret API_KEY can not be read at top level", "src/index.ts:2:"],
        ),
        (
            "const value = process.env.API_KEY;\n",
            &["SQ0322", "The secret API_KEY", "src/index.ts:1:"],
        ),
        (
            "const value = crypto.randomUUID();\n",
            &["SQ0322", "randomUUID can not be used at top level", "src/index.ts:1:"],
        ),
        (
            "const value = setTimeout(() => {}, 1);\n",
            &["SQ0322", "setTimeout can not be used at top level", "src/index.ts:1:"],
        ),
        (
            "const value = 1;\nfunction fails(): never { throw new RangeError('no good'); }\nfails();\n",
            &["SQ0322", "RangeError: no good", "fails (src/index.ts:2:", "src/index.ts:3:"],
        ),
        ("const value = 1;\nfor (;;);\n", &["SQ0322", "stopped"]),
        ("const value = 1;\nawait new Promise(() => {});\n", &["SQ0322", "never settles"]),
        (
            "const value: unknown[] = [];\nfor (;;) value.push(new Array(10_000).fill(1));\n",
            &["SQ0322", "MiB of memory"],
        ),
        (
            "const value = 1;\nfunction again(n: number): number { return again(n + 1) + 1; }\nagain(0);\n",
            &["SQ0322", "RangeError", "src/index.ts:2:"],
        ),
    ] {
        check_refused(&node, &App::typescript("wrong", &format!("{source}{handler}")), says);
    }
    for source in [
        "export const fetch = () => new Response();\n",
        "export default 5;\n",
        "console.log('no handler');\n",
    ] {
        let says = ["SQ0322", "no handler", "export default { fetch"];
        check_refused(&node, &App::typescript("wrong", source), &says);
    }
    // What was live is live.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(node.get("wrong", "/")).text(), "well");
}

#[test]
fn a_bundle_of_sixty_megabytes_is_refused_by_its_size() {
    let node = TestNode::start();
    let line = format!("  \"{}\",\n", "x".repeat(1000));
    let lines = line.repeat((60 << 20) / line.len());
    let source = format!(
        "const texts = [\n{lines}];\nexport default {{ fetch: () => Response.json(texts) }};\n"
    );
    check_refused(&node, &App::typescript("wrong", &source), &["SQ0321", "src/index.ts", "bytes"]);
    // Many files that are too large together.
    let part = format!("export const text = [\n{}];\n", line.repeat((6 << 20) / line.len()));
    let mut app = App::typescript("wrong", "");
    let mut entry = String::new();
    for n in 0..10 {
        app = app.file(&format!("src/part{n}.ts"), &part);
        entry.push_str(&format!("import {{ text as text{n} }} from './part{n}';\n"));
    }
    entry.push_str("export default { fetch: () => Response.json([");
    (0..10).for_each(|n| entry.push_str(&format!("text{n}, ")));
    entry.push_str("]) };\n");
    app.files[0].1 = entry;
    check_refused(&node, &app, &["SQ0321", "bytes", "src/part"]);
}

const EXTREMES: &str = "
    const nested = (open: string, close: string, n: number) => open.repeat(n) + close.repeat(n);
    const tests: Record<string, () => unknown> = {
      calls: () => { const again = (n: number): number => again(n + 1) + 1; return again(0); },
      parse: () => JSON.parse(nested('[', ']', 1_000_000)),
      objects: () => JSON.parse('{\"a\":'.repeat(1_000_000) + '1' + '}'.repeat(1_000_000)),
      stringify: () => { let value: unknown = 1; for (let n = 0; n < 200_000; n++) value = [value]; return JSON.stringify(value).length; },
      getter: () => { const value = { get a(): unknown { return this.a; } }; return value.a; },
      json: () => { const value = { toJSON(): unknown { return JSON.stringify(value); } }; return JSON.stringify(value); },
      text: () => { const value = { toString(): string { return `${value}`; } }; return `${value}`; },
      proxy: () => { const value: any = new Proxy({}, { get: (target, key) => value[key] }); return value.a; },
      expression: () => new RegExp(nested('(', ')', 100_000)).test('a'),
      matches: () => /(?:(?=a)|b)*$/.test('a'.repeat(10)) || /(?:a|b|(?:c|d)*)*e/.exec('abcd'.repeat(100_000)),
      sort: () => { const value: unknown[] = [3, 2, 1]; const by = (): number => { value.sort(by as any); return 0; }; return value.sort(by as any); },
      spread: () => { const value: any[] = []; value.push(value); return value.flat(Infinity); },
    };
    export default {
      async fetch(request: Request) {
        const name = new URL(request.url).pathname.slice(1);
        if (name === 'backtrack') return Response.json(/^(a+)+$/.test('a'.repeat(40) + 'b'));
        if (name === 'pending') await new Promise(() => {});
        if (name === 'names') return Response.json(Object.keys(tests));
        try {
          return Response.json({ value: String(tests[name]!()).length });
        } catch (error) {
          return Response.json({ error: (error as Error).name, message: (error as Error).message });
        }
      },
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recursion_of_every_kind_is_an_exception_that_can_be_caught() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        node.deploy(&App::typescript("deep", EXTREMES).with(&format!("instances = {mode:?}")));
        let names = node.get("deep", "/names").await.json();
        for name in names.as_array().unwrap() {
            let name = name.as_str().unwrap();
            let answer = node.get("deep", &format!("/{name}")).await;
            assert_eq!(answer.status, 200, "{mode} {name}: {answer:?}");
            let answer = answer.json();
            let ended_well = answer["value"].is_number() || answer["error"] == "RangeError";
            // A regular expression of such depth is refused when it is compiled.
            let refused = name == "expression" && answer["error"] == "SyntaxError";
            assert!(ended_well || refused, "{mode} {name}: {answer}");
            if ["calls", "parse", "getter", "json", "text", "proxy"].contains(&name) {
                assert_eq!(answer["error"], "RangeError", "{mode} {name}: {answer}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_can_not_end_is_ended_with_a_code() {
    let node = TestNode::start();
    for mode in ["per-request", "shared"] {
        let limits = "limits = { cpu_time_ms = 200, wall_time_ms = 3000 }";
        let app = App::typescript(mode, EXTREMES).with(&format!("instances = {mode:?}\n{limits}"));
        node.deploy(&app);
        // Where an instance serves others, one of them might settle the promise yet.
        let (pending, says) = match mode {
            "shared" => ((504, "SQ0201"), "limits.wall_time_ms"),
            _ => ((500, "SQ0204"), "its promise is pending"),
        };
        for (path, (status, code)) in [("/backtrack", (503, "SQ0202")), ("/pending", pending)] {
            let json = [("accept", "application/json")];
            let answer = node.request("GET", mode, path, &json, "").await;
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{mode} {path}");
            node.expect_log_code(mode, code);
        }
        node.expect_log_text(mode, says);
    }
}
