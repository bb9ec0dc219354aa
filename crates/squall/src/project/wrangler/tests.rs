use super::super::document::{parse_jsonc, parse_toml, position};
use super::*;

fn translated(text: &str, environment: Option<&str>) -> Translation {
    translate(&parse_toml(text).unwrap(), environment).unwrap()
}

const SHOP: &str = r#"
name = "shop"
main = "./src/index.ts"
compatibility_date = "2026-01-01"
routes = [
  { pattern = "shop.example.com", custom_domain = true },
  "www.example.com/*",
  "example.com/api/*",
]

[vars]
GREETING = "hello"
RETRIES = 3
FLAGS = { beta = true }

[assets]
directory = "./public/"
binding = "ASSETS"
not_found_handling = "single-page-application"

[[services]]
binding = "AUTH"
service = "auth"

[[services]]
binding = "SELF"
service = "shop"
entrypoint = "Admin"

[limits]
cpu_ms = 100
subrequests = 10

[triggers]
crons = ["0 * * * *"]

[[kv_namespaces]]
binding = "CACHE"
id = "1"

[durable_objects]
bindings = [{ name = "ROOMS", class_name = "Room" }]

[env.staging]
vars = { GREETING = "hi" }
limits = { cpu_ms = 50 }
"#;

#[test]
fn a_project_becomes_a_manifest() {
    let Translation { manifest, .. } = translated(SHOP, None);
    assert_eq!(manifest.name.as_str(), "shop");
    assert_eq!(manifest.hosts, ["shop.example.com", "www.example.com"]);
    assert_eq!(manifest.env["GREETING"], "hello");
    assert_eq!(manifest.env["RETRIES"], "3");
    assert_eq!(manifest.env["FLAGS"], "{\"beta\":true}");
    let function = &manifest.functions[FUNCTION];
    assert_eq!(function.source.as_deref(), Some("./src/index.ts"));
    assert_eq!(function.routes, ["/*"]);
    assert_eq!((function.limits.cpu_time_ms, function.limits.outbound_requests), (100, 10));
    assert_eq!(function.services["AUTH"], "auth/main");
    assert_eq!(function.services["SELF"], "main");
    let assets = manifest.assets.as_ref().unwrap();
    assert_eq!((assets.spa, assets.first), (true, true));
    assert_eq!(assets.binding.as_deref(), Some("ASSETS"));
    // It is sent to the node as a manifest of its own.
    let text = toml::to_string(&manifest).unwrap();
    assert_eq!(Manifest::parse(&text).unwrap(), manifest, "{text}");
}

#[test]
fn everything_without_a_meaning_is_named_in_the_order_of_the_file() {
    let ignored = translated(SHOP, None).ignored;
    let expected = [
        "outbound requests: fetch reaches every public host",
        "compatibility_date: there is one behaviour",
        "routes \"example.com/api/*\": the app answers",
        "vars.RETRIES: env.RETRIES is the text",
        "vars.FLAGS: env.FLAGS is the text",
        "services.entrypoint: the binding calls",
        "triggers: no schedule runs it yet",
        "kv_namespaces: not available yet; env.CACHE is undefined",
        "durable_objects: not available yet; env.ROOMS is undefined",
        "env: the top level is used; choose an environment with --env NAME (staging)",
    ];
    assert_eq!(ignored.len(), expected.len(), "{ignored:#?}");
    for (line, begins) in ignored.iter().zip(expected) {
        assert!(line.starts_with(begins), "{line} does not begin with {begins}");
    }
    let strange = "name = \"x\"\nmain = \"a.js\"\nmystery = 1\n[assets]\ndirectory = \"p\"\nodd = 1\nrun_worker_first = [\"/api/*\"]\n";
    let ignored = translated(strange, None).ignored.join("\n");
    for line in
        ["mystery: ignored; the key is not known", "assets.odd: ignored", "before the files"]
    {
        assert!(ignored.contains(line), "{ignored}");
    }
}

#[test]
fn an_environment_inherits_what_is_not_bound() {
    let staging = translated(SHOP, Some("staging"));
    assert_eq!(staging.manifest.name.as_str(), "shop-staging");
    assert_eq!(staging.manifest.env.len(), 1);
    assert_eq!(staging.manifest.env["GREETING"], "hi");
    let function = &staging.manifest.functions[FUNCTION];
    assert_eq!((function.limits.cpu_time_ms, function.services.len()), (50, 0));
    assert!(staging.manifest.assets.is_some());
    assert!(!staging.ignored.join("\n").contains("kv_namespaces"), "{:?}", staging.ignored);
    let missing = translate(&parse_toml(SHOP).unwrap(), Some("live")).unwrap_err();
    assert_eq!(missing.message, "no environment live: the environments are staging");
}

#[test]
fn files_alone_and_a_build_command() {
    let site = translated("name = \"site\"\n[assets]\ndirectory = \"dist\"\n", None);
    assert!(site.manifest.functions.is_empty() && site.ignored.is_empty());
    let text = "{ \"$schema\": \"x\", \"name\": \"b\", \"main\": \"out/b.js\", \"build\": { \"command\": \"make\", \"cwd\": \"it's\" }, \"secrets\": { \"required\": [\"KEY\"] }, \"assets\": { \"directory\": \"p\", \"run_worker_first\": true } }";
    let built = translate(&parse_jsonc(text).unwrap(), None).unwrap();
    let function = &built.manifest.functions[FUNCTION];
    assert_eq!(function.build.as_deref(), Some("cd 'it'\\''s' && make"));
    assert_eq!(built.secrets, ["KEY"]);
    assert!(!built.manifest.assets.unwrap().first);
    assert_eq!(built.ignored.len(), 1, "{:?}", built.ignored);
}

#[track_caller]
fn check_wrong(text: &str, line: usize, says: &str) {
    let node = parse_toml(text).unwrap();
    let wrong = translate(&node, None).expect_err("this configuration is wrong");
    assert_eq!(position(text, wrong.at).0, line, "{wrong:?}");
    assert!(wrong.message.contains(says), "{wrong:?} does not say {says:?}");
}

#[test]
fn mistakes_point_into_the_file() {
    check_wrong("main = \"a.js\"\n", 1, "name is missing");
    check_wrong("name = \"x\"\n", 1, "neither main nor assets");
    check_wrong("main = \"a.js\"\nname = \"My_App\"\n", 2, "only a-z");
    check_wrong("name = \"x\"\nmain = 3\n", 2, "main must be text, and is a number");
    check_wrong("name = \"x\"\n\nmain = \"../a.js\"\n", 3, "inside the manifest's folder");
    check_wrong("name = \"x\"\n[assets]\nbinding = \"A\"\n", 2, "assets.directory is missing");
    check_wrong("name = \"x\"\n[assets]\ndirectory = \"/etc\"\n", 3, "must be a path inside");
    let bound = "name = \"x\"\nmain = \"a.js\"\n[[services]]\nbinding = \"A-B\"\nservice = \"y\"\n";
    check_wrong(bound, 3, "can not be the name of a binding");
    check_wrong(&bound.replace("\"y\"", "\"Y\"").replace("A-B", "A"), 3, "is no function");
    check_wrong("name = \"x\"\nmain = \"a.js\"\n[limits]\ncpu_ms = 0\n", 4, "is 0");
    check_wrong("name = \"x\"\nmain = \"a.js\"\nroutes = [\"Shop.example\"]\n", 3, "lower case");
    check_wrong("name = \"x\"\nmain = \"a.js\"\nlimits = { cpu_ms = -1 }\n", 3, "a whole number");
}
