//! What a developer meets first: templates, the example, a Workers project, and `dev`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::{SQUALL, TestNode, wait_for};

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let file = folder.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    }
}

impl TestNode {
    /// A folder with what `squall new` makes.
    fn new_app(&self, name: &str, template: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        let dir = folder.to_str().unwrap();
        self.cli_json(&["new", name, "--template", template, "--dir", dir]);
        folder
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn deploy_folder(&self, folder: &Path) -> String {
        let output = self.cli(&["deploy", folder.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn templates_work_at_once() {
    let node = TestNode::start();
    for template in ["ts", "js"] {
        let folder = node.new_app(template, template);
        node.deploy_folder(&folder);
        let hello = node.get(template, "/api/hello?name=you").await;
        assert_eq!((hello.status, &hello.json()["greeting"]), (200, &json!("Hello, you!")));
        assert_eq!(node.get(template, "/api/nowhere").await.status, 404);
        let page = node.get(template, "/").await;
        assert!(page.text().contains(&format!("<h1>{template} is live</h1>")), "{}", page.text());
        let countdown = node.get(template, "/api/countdown").await;
        assert_eq!((countdown.text(), countdown.broken), ("3\n2\n1\n0\n", false));
        wait_for("what the function printed", || {
            node.logs(template).iter().any(|entry| {
                entry["message"] == "GET /api/hello"
                    && entry["level"] == "info"
                    && entry["trace_id"].as_str().is_some_and(|id| id.len() == 32)
            })
        });
    }
    let hono = node.new_app("hono", "hono");
    let said = node.fails(&["deploy", hono.to_str().unwrap()]);
    assert!(said.contains("src/index.tsx:4:22: Cannot find module \"hono\""), "{said}");
    assert!(said.contains("the folder node_modules is missing"), "{said}");
    assert!(said.trim_end().ends_with("&& npm install"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_answers_and_streams() {
    let node = TestNode::start();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello");
    node.deploy_folder(&example);
    assert_eq!(node.get("hello", "/api/hello").await.json()["greeting"], "Hello, world!");
    assert_eq!(node.request("POST", "hello", "/api/hello", &[], "").await.status, 405);
    // A browser that comes back says what it had.
    let from = [("last-event-id", "7")];
    let ticks = node.request("GET", "hello", "/api/ticks", &from, "").await;
    assert_eq!(ticks.headers["content-type"], "text/event-stream");
    let ids: Vec<&str> =
        ticks.text().lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!((ids.len(), ids[0], ids[19], ticks.broken), (20, "8", "27", false));
    // Its types are those that the command writes.
    let kept = std::fs::read_to_string(example.join("squall-env.d.ts")).unwrap();
    let written = node.cli(&["types", example.to_str().unwrap(), "--out", "-"]).stdout;
    assert_eq!(String::from_utf8(written).unwrap(), kept);
}

const WRANGLER: &str = r#"{
  "name": "ported",
  "main": "src/index.js",
  "compatibility_date": "2026-01-01", // Has no meaning here.
  "vars": { "PLACE": "here", "LIMITS": { "most": 3 } },
  "assets": { "directory": "public", "binding": "ASSETS" },
  "kv_namespaces": [{ "binding": "CACHE", "id": "1" }],
}
"#;

const PORTED: &str = r#"import { env } from "cloudflare:workers";
addEventListener("fetch", (event) => event.respondWith(answer()));
async function answer() {
  const page = await (await env.ASSETS.fetch("https://any.example/page.txt")).text();
  const most = JSON.parse(env.LIMITS).most;
  return Response.json({ place: env.PLACE, most, page, key: env.KEY, cache: typeof env.CACHE });
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_project_runs_from_its_own_configuration() {
    let node = TestNode::start();
    let folder = node.dir.path().join("ported");
    write(
        &folder,
        &[
            ("wrangler.jsonc", WRANGLER),
            ("src/index.js", PORTED),
            ("public/page.txt", "a page"),
            (".dev.vars", "KEY=sesame\n"),
        ],
    );
    let said = node.deploy_folder(&folder);
    for part in [
        "kv_namespaces: not available yet; env.CACHE is undefined",
        "compatibility_date: there is one behaviour",
        "vars.LIMITS: env.LIMITS is the text of its JSON",
        ".dev.vars is for squall dev and is not deployed",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let expected = json!({ "place": "here", "most": 3, "page": "a page", "cache": "undefined" });
    assert_eq!(node.get("ported", "/api").await.json(), expected);
    assert_eq!(node.get("ported", "/page.txt").await.text(), "a page", "files come first");

    write(&folder, &[("wrangler.jsonc", &WRANGLER.replace("\"src/index.js\"", "7"))]);
    let said = node.fails(&["check", folder.to_str().unwrap()]);
    assert!(said.contains("wrangler.jsonc:3:11: main must be text"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_know_the_secrets_of_the_node() {
    let node = TestNode::start();
    let folder = node.new_app("typed", "ts");
    node.deploy_folder(&folder);
    let secret = node.dir.path().join("secret");
    std::fs::write(&secret, "sesame").unwrap();
    let set = ["secrets", "set", "typed", "API_KEY", "--from-file", secret.to_str().unwrap()];
    assert!(node.cli(&set).status.success());
    let written = node.cli_json(&["types", folder.to_str().unwrap(), "--secret", "OTHER_KEY"]);
    assert_eq!(written["variables"], json!(["GREETING"]));
    assert_eq!(written["secrets"], json!(["API_KEY", "OTHER_KEY"]));
    let types = std::fs::read_to_string(folder.join("squall-env.d.ts")).unwrap();
    assert!(types.contains("  API_KEY: string;\n"), "{types}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_sources_point_at_the_line() {
    let node = TestNode::start();
    let folder = node.new_app("wrong", "ts");
    let place = folder.join("src/index.ts").display().to_string();
    for (source, says) in [
        ("const a: = 1;\n", format!("error[SQ0321]: {place}:1:10: ")),
        ("\nthrow new Error(\"no\");\n", format!("error[SQ0322]: {place}:2:11: Error: no")),
    ] {
        write(&folder, &[("src/index.ts", source)]);
        let said = node.fails(&["deploy", folder.to_str().unwrap()]);
        assert!(said.contains(&says), "{said}\ndoes not say\n{says}");
        let line = source.trim();
        assert!(said.contains(&format!("\n  {line}\n  ")) && said.contains("^\n"), "{said}");
    }
}

/// `squall dev` in a process of its own, and what it says.
pub(crate) struct Dev {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Dev {
    pub(crate) fn start(node: &TestNode, folder: &Path) -> Self {
        let mut child = Command::new(SQUALL)
            .arg("dev")
            .arg(folder)
            .env("SQUALL_DATA_DIR", node.data_dir())
            .env_remove("SQUALL_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = said.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    said.lock().unwrap().push_str(&(line + "\n"));
                }
            });
        }
        Self { child, said }
    }

    /// Waits until it has said all of these; forgets what it has said by then.
    #[track_caller]
    pub(crate) fn expect(&self, parts: &[&str]) {
        wait_for(&format!("{parts:?}"), || {
            let said = self.said.lock().unwrap();
            parts.iter().all(|part| said.contains(part))
        });
        self.said.lock().unwrap().clear();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- dev said ---\n{}", self.said.lock().unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_reloads_what_changed_and_keeps_the_last_good_revision() {
    let node = TestNode::start();
    let folder = node.new_app("live", "ts");
    let answer = |text: &str| {
        format!(
            "import {{ word }} from \"../lib/word\";\nexport default {{ fetch: (request, env) => {{ console.warn(\"asked\"); return new Response(`{text} ${{word}} ${{env.KEY}}`); }} }};\n"
        )
    };
    let source = |text: &str| write(&folder, &[("src/index.ts", text)]);
    write(&folder, &[("lib/word.ts", "export const word = \"one\";"), (".dev.vars", "KEY=a")]);
    source(&answer("first"));
    let dev = Dev::start(&node, &folder);
    dev.expect(&["waiting for changes", "Set from .dev.vars: KEY"]);
    assert_eq!(node.get("live", "/api").await.text(), "first one a");
    // The log may not be followed yet when the first requests come.
    for tries in 0.. {
        if dev.said.lock().unwrap().contains("WARN  live/api  asked trace=") {
            break;
        }
        assert!(tries < 1_000, "the log of the function is not shown");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        node.get("live", "/api").await;
    }

    source(&answer("second"));
    dev.expect(&["Reloaded api in "]);
    assert_eq!(node.get("live", "/api").await.text(), "second one a");

    // What is imported counts, wherever it is; so do the secrets of this machine.
    write(&folder, &[("lib/word.ts", "export const word = \"two\";")]);
    dev.expect(&["Reloaded api in "]);
    write(&folder, &[(".dev.vars", "KEY=b")]);
    dev.expect(&["Set from .dev.vars: KEY"]);
    assert_eq!(node.get("live", "/api").await.text(), "second two b");

    source("const = 1;\n");
    dev.expect(&["src/index.ts:1:7: ", "stays live"]);
    assert_eq!(node.get("live", "/api").await.text(), "second two b");
    // A file that was missing is found as soon as it is there.
    source("import \"../other/late\";\nexport default { fetch: () => new Response(\"third\") };\n");
    dev.expect(&["src/index.ts:1:8: Cannot find module", "stays live"]);
    write(&folder, &[("other/late.ts", "export {};")]);
    dev.expect(&["Reloaded api in "]);
    assert_eq!(node.get("live", "/api").await.text(), "third");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_can_be_invoked() {
    let node = TestNode::start();
    let folder = node.new_app("timed", "js");
    let source = "export default { scheduled(controller, env) { console.log(env.GREETING, controller.cron || \"by hand\"); } };\n";
    write(&folder, &[("src/index.js", source)]);
    node.deploy_folder(&folder);
    for line in [&["--scheduled"][..], &["--scheduled", "--cron", "0 * * * *"]] {
        let invoked = node.cli(&[&["invoke", "timed"], line, &["--fail"]].concat());
        assert!(invoked.status.success(), "{invoked:?}");
    }
    wait_for("what the handler printed", || {
        let logs = node.logs("timed");
        let said = |text: &str| logs.iter().any(|entry| entry["message"] == text);
        said("Hello by hand") && said("Hello 0 * * * *")
    });
}
