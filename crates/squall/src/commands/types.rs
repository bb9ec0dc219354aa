//! `types`: what TypeScript needs to know of an app's environment and of its handlers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use squall_types::bindings::Binding;
use squall_types::manifest::{Code, Manifest};

use super::text;
use crate::cli::{Global, TypesOptions};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::project::Project;
use crate::target::Target;

pub(super) const FILE: &str = "squall-env.d.ts";
const HANDLERS: &str = include_str!("../../templates/types/handlers.d.ts");

/// What a name in the environment stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Variable,
    Secret,
    Binding(Binding),
}

/// A name, and the functions that have it.
struct Member {
    kind: Kind,
    functions: BTreeSet<String>,
}

type Members = BTreeMap<String, Member>;

pub(super) async fn run(global: &Global, options: &TypesOptions) -> Result<(), Failure> {
    let project = Project::open(&options.folder)?;
    let app = project.manifest.name.as_str();
    let mut secrets: BTreeSet<String> = options.secrets.iter().cloned().collect();
    secrets.extend(project.secrets.iter().cloned());
    secrets.extend(project.dev_vars()?.into_iter().flat_map(|vars| vars.values.into_keys()));
    match secrets_of_node(global, app).await {
        Some(names) => secrets.extend(names),
        None => output::note(
            "No node answers, so secrets that are set on one are left out; name them with --secret NAME",
        ),
    }
    let members = members(&project.manifest, &secrets);
    let text = render(&members);

    let default = project.root.join(FILE);
    let file = options.out.as_deref().unwrap_or(&default);
    let to_stdout = file == Path::new("-");
    if to_stdout && !global.json {
        output::bytes(text.as_bytes());
        return Ok(());
    }
    if !to_stdout {
        std::fs::write(file, &text)
            .map_err(|error| Failure::failed(format!("writing {}", file.display()), error))?;
    }
    if global.json {
        output::json(&description(&members, (!to_stdout).then_some(file), &text));
    } else {
        let file = file.strip_prefix(".").unwrap_or(file).display();
        output::note(&format!("Wrote {file}: {}", summary(&members)));
    }
    Ok(())
}

/// The names of the app's secrets; `None` when no node can be asked.
async fn secrets_of_node(global: &Global, app: &str) -> Option<Vec<String>> {
    let client = Client::new(Target::find(global).ok()?).ok()?;
    let path = format!("/v1/apps/{app}/secrets");
    match client.get::<Value>("listing secrets", &path).await {
        Ok(list) => {
            let items = list["items"].as_array().into_iter().flatten();
            Some(items.map(|secret| text(secret, "name").to_owned()).collect())
        }
        // An app that was never deployed has none.
        Err(failure) if failure.code.as_deref() == Some(&unknown_app()) => Some(Vec::new()),
        Err(_) => None,
    }
}

fn unknown_app() -> String {
    squall_types::ErrorCode::UnknownApp.to_string()
}

/// The environments of all functions from source, as one.
fn members(manifest: &Manifest, secrets: &BTreeSet<String>) -> Members {
    let mut members = Members::new();
    for (function, settings) in &manifest.functions {
        if let Code::Component(_) = settings.code() {
            continue;
        }
        let variables = manifest.variables_of(settings).into_keys();
        let bindings = manifest.bindings_of(settings).into_iter();
        let all = variables
            .map(|name| (name, Kind::Variable))
            .chain(bindings.map(|(name, binding)| (name, Kind::Binding(binding))))
            // A secret covers a variable of the same name.
            .chain(secrets.iter().map(|name| (name.clone(), Kind::Secret)));
        for (name, kind) in all {
            let functions = BTreeSet::new();
            let member = members.entry(name).or_insert(Member { kind: kind.clone(), functions });
            member.kind = kind;
            member.functions.insert(function.to_string());
        }
    }
    members
}

/// The whole file for an app.
pub(super) fn of_project(project: &Project) -> String {
    render(&members(&project.manifest, &BTreeSet::new()))
}

fn render(members: &Members) -> String {
    let mut text = String::from(
        "// Written by `squall types`, which overwrites it. It goes with \"lib\": [\"webworker\"] in tsconfig.json.\n\n/** What handlers find in their environment. */\ninterface Env {\n",
    );
    let functions: BTreeSet<&String> =
        members.values().flat_map(|member| &member.functions).collect();
    for (name, member) in members {
        let everywhere = member.functions.len() == functions.len();
        let only: Vec<&str> = member.functions.iter().map(String::as_str).collect();
        let comment = match (&member.kind, everywhere) {
            (Kind::Secret, _) => Some("A secret: only handlers can read it.".to_owned()),
            (_, false) => Some(format!("Of functions.{} only.", only.join(", functions."))),
            (Kind::Binding(Binding::Assets), _) => Some("The static assets.".to_owned()),
            (Kind::Binding(Binding::Service { app, function }), _) => Some(match app {
                Some(app) => format!("The function {function} of the app {app}."),
                None => format!("functions.{function}."),
            }),
            (Kind::Variable, true) => None,
        };
        if let Some(comment) = comment {
            let _ = writeln!(text, "  /** {comment} */");
        }
        let optional = if everywhere { "" } else { "?" };
        let _ = writeln!(text, "  {}{optional}: {};", property(name), type_of(&member.kind));
    }
    text.push_str("}\n\n");
    text.push_str(HANDLERS);
    text
}

fn type_of(kind: &Kind) -> &'static str {
    match kind {
        Kind::Variable | Kind::Secret => "string",
        Kind::Binding(Binding::Assets | Binding::Service { .. }) => "Fetcher",
    }
}

/// A name as it stands in an interface.
fn property(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if plain { name.to_owned() } else { Value::from(name).to_string() }
}

fn names_of(members: &Members, wanted: impl Fn(&Kind) -> bool) -> Vec<&str> {
    let found = members.iter().filter(|(_, member)| wanted(&member.kind));
    found.map(|(name, _)| name.as_str()).collect()
}

fn summary(members: &Members) -> String {
    let kinds = [
        ("variable", names_of(members, |kind| *kind == Kind::Variable)),
        ("secret", names_of(members, |kind| *kind == Kind::Secret)),
        ("binding", names_of(members, |kind| matches!(kind, Kind::Binding(_)))),
    ];
    let parts = kinds.iter().filter(|(_, names)| !names.is_empty());
    let parts: Vec<String> = parts
        .map(|(noun, names)| {
            format!("{} ({})", output::plural(names.len(), noun), names.join(", "))
        })
        .collect();
    if parts.is_empty() { "an empty environment".to_owned() } else { parts.join(", ") }
}

fn description(members: &Members, file: Option<&Path>, text: &str) -> Value {
    let mut description = json!({
        "variables": names_of(members, |kind| *kind == Kind::Variable),
        "secrets": names_of(members, |kind| *kind == Kind::Secret),
        "bindings": names_of(members, |kind| matches!(kind, Kind::Binding(_))),
    });
    match file {
        Some(file) => description["file"] = file.display().to_string().into(),
        None => description["text"] = text.into(),
    }
    description
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = r#"
name = "shop"
[env]
GREETING = "hello"
"odd-name" = "x"
[functions.api]
source = "api.ts"
routes = ["/api/*"]
env = { LIMIT = "3" }
services = { AUTH = "auth", PAY = "money/pay" }
[functions.auth]
source = "auth.ts"
routes = []
[functions.old]
component = "old.wasm"
routes = ["/old"]
env = { UNSEEN = "1" }
[assets]
dir = "public"
binding = "ASSETS"
"#;

    #[test]
    fn the_environment_of_an_app_becomes_an_interface() {
        let manifest = Manifest::parse(TWO).unwrap();
        let secrets = ["API_KEY", "GREETING"].map(str::to_owned).into();
        let members = members(&manifest, &secrets);
        let text = render(&members);
        let env = &text[text.find("interface Env {").unwrap()..=text.find("\n}").unwrap() + 1];
        let expected = r#"interface Env {
  /** A secret: only handlers can read it. */
  API_KEY: string;
  /** The static assets. */
  ASSETS: Fetcher;
  /** Of functions.api only. */
  AUTH?: Fetcher;
  /** A secret: only handlers can read it. */
  GREETING: string;
  /** Of functions.api only. */
  LIMIT?: string;
  /** Of functions.api only. */
  PAY?: Fetcher;
  "odd-name": string;
}"#;
        assert_eq!(env, expected);
        assert!(text.contains("interface ExportedHandler<E = Env>"));
        assert_eq!(
            summary(&members),
            "2 variables (LIMIT, odd-name), 2 secrets (API_KEY, GREETING), 3 bindings (ASSETS, AUTH, PAY)"
        );
        let described = description(&members, None, "text");
        assert_eq!(described["bindings"], json!(["ASSETS", "AUTH", "PAY"]));
    }

    #[test]
    fn one_function_names_what_its_services_are() {
        let text = TWO.replace("[functions.auth]\nsource = \"auth.ts\"\nroutes = []\n", "");
        let manifest = Manifest::parse(&text.replace("AUTH = \"auth\", ", "")).unwrap();
        let text = render(&members(&manifest, &BTreeSet::new()));
        assert!(text.contains("  /** The function pay of the app money. */\n  PAY: Fetcher;\n"));
        let nothing = Manifest::parse("name = \"x\"\n[assets]\ndir = \"p\"\n").unwrap();
        let members = members(&nothing, &BTreeSet::new());
        assert_eq!(summary(&members), "an empty environment");
        assert!(render(&members).contains("interface Env {\n}\n"));
    }
}
