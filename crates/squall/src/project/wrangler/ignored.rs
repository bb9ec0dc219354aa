//! What is read and has no meaning here. Nothing is dropped without a word.

use super::{Entry, Node, Value};

/// Resources that a function of a Workers project finds in its environment.
const NOT_AVAILABLE_YET: [&str; 31] = [
    "agent_memory",
    "ai",
    "ai_search",
    "ai_search_namespaces",
    "analytics_engine_datasets",
    "artifacts",
    "browser",
    "connect",
    "d1_databases",
    "dispatch_namespaces",
    "durable_objects",
    "flagship",
    "hyperdrive",
    "images",
    "kv_namespaces",
    "media",
    "mtls_certificates",
    "pipelines",
    "queues",
    "r2_buckets",
    "ratelimits",
    "secrets_store_secrets",
    "send_email",
    "stream",
    "unsafe",
    "vectorize",
    "version_metadata",
    "vpc_networks",
    "vpc_services",
    "worker_loaders",
    "workflows",
];

/// Other keys, with what happens instead.
const INSTEAD: [(&str, &str); 34] = [
    ("account_id", "an app belongs to the node that it is deployed to"),
    ("alias", "imports mean what package.json and tsconfig.json say"),
    ("base_dir", "the bundler finds what the entry file imports"),
    ("build", "there is no main that it would build; run the command yourself"),
    ("cloudchamber", "containers are not available yet"),
    ("compatibility_date", "there is one behaviour, that of the standards"),
    ("compatibility_flags", "there is one behaviour; modules of node: need no flag"),
    ("containers", "not available yet"),
    ("define", "nothing is replaced; use vars"),
    ("dev", "squall dev serves on the address of its node"),
    ("find_additional_modules", "the bundler finds what the entry file imports"),
    ("jsx_factory", "tsconfig.json says how JSX is compiled"),
    ("jsx_fragment", "tsconfig.json says how JSX is compiled"),
    ("keep_names", "names are kept"),
    ("keep_vars", "variables are those of this file"),
    ("limits", "there is no main that they would limit"),
    ("logpush", "squall logs shows the log"),
    ("migrations", "durable objects are not available yet"),
    ("minify", "the bundle is sent as it is"),
    ("no_bundle", "sources are always bundled"),
    ("observability", "every request is logged and counted: squall logs, squall usage"),
    ("placement", "a function runs on the node that it is deployed to"),
    (
        "preview_urls",
        "every revision has a preview URL, unless squall.toml says [gateway] previews = false",
    ),
    (
        "rules",
        "JSON, .txt, .html and .sql files can be imported; others as text with { type: \"text\" }",
    ),
    ("send_metrics", "nothing is sent to anybody"),
    ("services", "there is no main that they would be bound to"),
    ("site", "use assets = { directory = \"public\" }"),
    ("streaming_tail_consumers", "squall logs -f follows the log"),
    ("tail_consumers", "squall logs -f follows the log"),
    ("tsconfig", "the nearest tsconfig.json of each source counts"),
    ("upload_source_maps", "stack traces in the log are always mapped"),
    ("usage_model", "squall usage shows what was used"),
    ("workers_dev", "the app answers on NAME.localhost and on its own hosts"),
    ("zone_id", "an app belongs to the node that it is deployed to"),
];

#[derive(Default)]
pub(super) struct Ignored(Vec<(usize, String)>);

impl Ignored {
    pub(super) fn say(&mut self, at: usize, key: String, instead: impl AsRef<str>) {
        self.0.push((at, format!("{key}: {}", instead.as_ref())));
    }

    /// A key inside of a table whose other keys are understood.
    pub(super) fn unknown(&mut self, entry: &Entry, inside: &str) {
        self.say(entry.at, format!("{inside}.{}", entry.key), "ignored");
    }

    /// A key of the top level that nobody took.
    pub(super) fn key(&mut self, entry: &Entry) {
        let (key, at) = (entry.key.as_str(), entry.at);
        let instead = match key {
            // For editors; it says nothing about the app.
            "$schema" => return,
            "env" => environments(&entry.node),
            "triggers" => {
                "no schedule runs it yet; try its handler with squall invoke --scheduled".to_owned()
            }
            "pages_build_output_dir" => {
                "use assets = { directory = \"...\" }; a functions folder is not read".to_owned()
            }
            _ if NOT_AVAILABLE_YET.contains(&key) => unavailable(entry),
            _ => {
                let known = INSTEAD.iter().find(|(known, _)| *known == key);
                known.map_or("ignored; the key is not known", |(_, instead)| instead).to_owned()
            }
        };
        self.say(at, key.to_owned(), instead);
    }

    /// In the order of the file.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        self.0.sort();
        self.0.into_iter().map(|(_, line)| line).collect()
    }
}

fn environments(node: &Node) -> String {
    let names = match &node.value {
        Value::Table(sections) => {
            sections.iter().map(|section| section.key.as_str()).collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    };
    format!("the top level is used; choose an environment with --env NAME ({names})")
}

fn unavailable(entry: &Entry) -> String {
    let mut names = Vec::new();
    let key = if entry.key == "durable_objects" { "name" } else { "binding" };
    find_texts(&entry.node, key, &mut names);
    match names.is_empty() {
        true => "not available yet".to_owned(),
        false => {
            let names: Vec<String> = names.iter().map(|name| format!("env.{name}")).collect();
            let verb = if names.len() == 1 { "is" } else { "are" };
            format!("not available yet; {} {verb} undefined", names.join(", "))
        }
    }
}

/// Everything that `wanted` holds, however deep it is.
fn find_texts<'a>(node: &'a Node, wanted: &str, found: &mut Vec<&'a str>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| find_texts(item, wanted, found)),
        Value::Table(entries) => {
            for entry in entries {
                match &entry.node.value {
                    Value::Text(text) if entry.key == wanted => found.push(text),
                    _ => find_texts(&entry.node, wanted, found),
                }
            }
        }
        _ => {}
    }
}
