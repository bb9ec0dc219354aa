//! Reads the configuration of a Workers project (`wrangler.json`, `.jsonc` or `.toml`) and
//! makes a manifest of it. What has no meaning here is named, with what happens instead.
//!
//! Keys: the schema in npm's package wrangler, `config-schema.json` of version 4.164.

mod ignored;
mod keys;

use std::collections::BTreeMap;

use squall_types::manifest::{Assets, Function, Manifest};
use squall_types::{AppName, FunctionName, Limits};

use self::ignored::Ignored;
use self::keys::{Keys, list, table, text, whole_number};
use super::document::{Entry, Node, Value, Wrong};

/// What the only function of such an app is called: the key that names its entry file.
const FUNCTION: &str = "main";

/// In the order in which Wrangler looks for them.
pub(crate) const FILES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];

#[derive(Debug)]
pub(crate) struct Translation {
    pub(crate) manifest: Manifest,
    /// Names of secrets that the project says it needs.
    pub(crate) secrets: Vec<String>,
    /// Lines for a person: a key, and what happens instead.
    pub(crate) ignored: Vec<String>,
}

/// Makes a manifest of a document, or of its section `[env.ENVIRONMENT]`.
pub(crate) fn translate(document: &Node, environment: Option<&str>) -> Result<Translation, Wrong> {
    let mut keys = Keys::of(document, environment)?;
    let mut ignored = Ignored::default();
    let mut places = Places::default();

    let name = app_name(&mut keys, environment, document.at)?;
    let secrets = required_secrets(&mut keys, &mut ignored)?;
    let env = variables(&mut keys, &mut ignored, &mut places)?;
    let hosts = hosts(&mut keys, &mut ignored, &mut places)?;
    let assets = assets(&mut keys, &mut ignored, &mut places)?;
    let mut functions = BTreeMap::new();
    match keys.take("main") {
        Some(main) => {
            let function = function(main, &name, &mut keys, &mut ignored, &mut places)?;
            functions.insert(function_name(), function);
        }
        None if assets.is_none() => {
            return Err(Wrong::new(
                document.at,
                "there is neither main nor assets; add main = \"src/index.ts\"",
            ));
        }
        None => {}
    }
    for entry in keys.rest() {
        ignored.key(entry);
    }

    let manifest = Manifest { hosts, env, functions, assets, ..Manifest::named(name) };
    manifest
        .check()
        .map_err(|error| Wrong::new(places.find(&error.message, document.at), error.message))?;
    Ok(Translation { manifest, secrets, ignored: ignored.into_lines() })
}

fn function_name() -> FunctionName {
    FunctionName::parse(FUNCTION).expect("the name is fixed and right")
}

/// Where the keys of the manifest came from, for what the manifest's own check says.
#[derive(Default)]
struct Places(Vec<(String, usize)>);

impl Places {
    /// Whatever holds `part` of the message stands at `at`. The first that fits counts.
    fn add(&mut self, part: impl Into<String>, at: usize) {
        self.0.push((part.into(), at));
    }

    fn find(&self, message: &str, otherwise: usize) -> usize {
        let found = self.0.iter().find(|(part, _)| message.contains(part.as_str()));
        found.map_or(otherwise, |(_, at)| *at)
    }
}

fn app_name(keys: &mut Keys<'_>, environment: Option<&str>, at: usize) -> Result<AppName, Wrong> {
    let Some(entry) = keys.take("name") else {
        return Err(Wrong::new(at, "name is missing; add name = \"my-app\""));
    };
    let mut name = text(&entry.node, "name")?.to_owned();
    // A section without a name of its own is another app beside the first.
    if let Some(environment) = environment
        && !keys.is_own("name")
    {
        name = format!("{name}-{environment}");
    }
    AppName::parse(&name).map_err(|error| Wrong::new(entry.node.at, error.to_string()))
}

/// `secrets = { required = ["API_KEY"] }`.
fn required_secrets(keys: &mut Keys<'_>, ignored: &mut Ignored) -> Result<Vec<String>, Wrong> {
    let mut names = Vec::new();
    let Some(entry) = keys.take("secrets") else { return Ok(names) };
    for part in table(&entry.node, "secrets")? {
        if part.key == "required" {
            for name in list(&part.node, "secrets.required")? {
                names.push(text(name, "secrets.required")?.to_owned());
            }
        } else {
            ignored.unknown(part, "secrets");
        }
    }
    Ok(names)
}

/// Variables are text here; what is not becomes its JSON, which is said.
fn variables(
    keys: &mut Keys<'_>,
    ignored: &mut Ignored,
    places: &mut Places,
) -> Result<BTreeMap<String, String>, Wrong> {
    let mut variables = BTreeMap::new();
    let Some(entry) = keys.take("vars") else { return Ok(variables) };
    for variable in table(&entry.node, "vars")? {
        let name = &variable.key;
        places.add(format!("env: {name:?}"), variable.at);
        let value = match &variable.node.value {
            Value::Text(text) => text.clone(),
            _ => {
                let instead = format!(
                    "env.{name} is the text of its JSON; read it with JSON.parse(env.{name})"
                );
                ignored.say(variable.at, format!("vars.{name}"), instead);
                variable.node.to_json().to_string()
            }
        };
        variables.insert(name.clone(), value);
    }
    Ok(variables)
}

/// Own domains: `routes` that mean every path of one host.
fn hosts(
    keys: &mut Keys<'_>,
    ignored: &mut Ignored,
    places: &mut Places,
) -> Result<Vec<String>, Wrong> {
    let mut patterns = Vec::new();
    if let Some(entry) = keys.take("route") {
        patterns.push((entry, &entry.node));
    }
    if let Some(entry) = keys.take("routes") {
        patterns.extend(list(&entry.node, "routes")?.iter().map(|node| (entry, node)));
    }
    let mut hosts = Vec::new();
    for (entry, node) in patterns {
        let key = &entry.key;
        let pattern = match &node.value {
            Value::Text(pattern) => pattern,
            _ => {
                let parts = table(node, key)?;
                let pattern = parts.iter().find(|part| part.key == "pattern");
                let pattern = pattern
                    .ok_or_else(|| Wrong::new(node.at, format!("{key}: pattern is missing")))?;
                text(&pattern.node, "pattern")?
            }
        };
        let host = pattern.strip_suffix("/*").unwrap_or(pattern);
        if host.contains(['*', '/', ':']) {
            ignored.say(
                node.at,
                format!("{key} {pattern:?}"),
                "the app answers every path on its own name",
            );
        } else if !hosts.iter().any(|known| known == host) {
            places.add(format!("hosts: {host:?}"), node.at);
            hosts.push(host.to_owned());
        }
    }
    Ok(hosts)
}

fn assets(
    keys: &mut Keys<'_>,
    ignored: &mut Ignored,
    places: &mut Places,
) -> Result<Option<Assets>, Wrong> {
    let Some(entry) = keys.take("assets") else { return Ok(None) };
    let mut dir = None;
    let mut assets = Assets {
        dir: String::new(),
        spa: false,
        // Workers look for a file before they run any code.
        first: true,
        binding: None,
        cache_control: BTreeMap::new(),
    };
    for part in table(&entry.node, "assets")? {
        let key = format!("assets.{}", part.key);
        match part.key.as_str() {
            "directory" => {
                dir = Some(text(&part.node, &key)?.to_owned());
                places.add("assets.dir", part.node.at);
            }
            "binding" => {
                let binding = text(&part.node, &key)?;
                places.add(format!("{binding:?} can not"), part.node.at);
                places.add(format!("named {binding} in"), part.node.at);
                assets.binding = Some(binding.to_owned());
            }
            "not_found_handling" => match text(&part.node, &key)? {
                "single-page-application" => assets.spa = true,
                // `/404.html` answers for what does not exist wherever there is one.
                "404-page" | "none" => {}
                other => {
                    let instead =
                        format!("{other:?} is no way that is known; unknown paths are a 404");
                    ignored.say(part.at, key, instead);
                }
            },
            "run_worker_first" => match &part.node.value {
                Value::Boolean(worker_first) => assets.first = !worker_first,
                _ => {
                    assets.first = false;
                    let instead = "the function runs before the files on every path; serve them with env.ASSETS.fetch(request)";
                    ignored.say(part.at, key, instead);
                }
            },
            "html_handling" if text(&part.node, &key)? == "auto-trailing-slash" => {}
            "html_handling" => ignored.say(
                part.at,
                key,
                "x.html answers for /x, and x/index.html for /x/; nothing is redirected",
            ),
            _ => ignored.unknown(part, "assets"),
        }
    }
    let missing = || Wrong::new(entry.at, "assets.directory is missing; name the folder of files");
    assets.dir = dir.ok_or_else(missing)?;
    Ok(Some(assets))
}

fn function(
    main: &Entry,
    app: &AppName,
    keys: &mut Keys<'_>,
    ignored: &mut Ignored,
    places: &mut Places,
) -> Result<Function, Wrong> {
    let source = text(&main.node, "main")?.to_owned();
    places.add(format!("functions.{FUNCTION}.source"), main.node.at);
    let services = services(app, keys, ignored, places)?;
    let limits = limits(keys, ignored, places)?;
    let build = build_command(keys, ignored)?;
    ignored.say(
        main.at,
        "outbound requests".to_owned(),
        "fetch reaches every public host, as there; a squall.toml narrows that with allowed_hosts",
    );
    Ok(Function {
        component: None,
        source: Some(source),
        build,
        routes: vec!["/*".to_owned()],
        instances: squall_types::manifest::InstanceMode::default(),
        shared: squall_types::manifest::SharedInstances::default(),
        limits,
        allowed_hosts: vec!["*".to_owned()],
        allow_private: false,
        env: BTreeMap::new(),
        fall_through: false,
        services,
        policy: squall_types::gateway::Policy::default(),
    })
}

/// A service is another app, whose function has the name that this one has.
fn services(
    app: &AppName,
    keys: &mut Keys<'_>,
    ignored: &mut Ignored,
    places: &mut Places,
) -> Result<BTreeMap<String, String>, Wrong> {
    let mut services = BTreeMap::new();
    let Some(entry) = keys.take("services") else { return Ok(services) };
    for item in list(&entry.node, "services")? {
        let (mut binding, mut service) = (None, None);
        for part in table(item, "services")? {
            match part.key.as_str() {
                "binding" => binding = Some(text(&part.node, "services.binding")?),
                "service" => service = Some(text(&part.node, "services.service")?),
                "entrypoint" => ignored.say(
                    part.at,
                    "services.entrypoint".to_owned(),
                    "the binding calls the default export's fetch",
                ),
                _ => ignored.unknown(part, "services"),
            }
        }
        let (Some(binding), Some(service)) = (binding, service) else {
            return Err(Wrong::new(item.at, "a service has a binding and a service"));
        };
        places.add(format!("services.{binding} ="), item.at);
        places.add(format!("{binding:?} can not"), item.at);
        places.add(format!("named {binding} in"), item.at);
        let target = match service == app.as_str() {
            true => FUNCTION.to_owned(),
            false => format!("{service}/{FUNCTION}"),
        };
        services.insert(binding.to_owned(), target);
    }
    Ok(services)
}

fn limits(
    keys: &mut Keys<'_>,
    ignored: &mut Ignored,
    places: &mut Places,
) -> Result<Limits, Wrong> {
    let mut limits = Limits::default();
    let Some(entry) = keys.take("limits") else { return Ok(limits) };
    for part in table(&entry.node, "limits")? {
        let key = format!("limits.{}", part.key);
        match part.key.as_str() {
            "cpu_ms" => {
                limits.cpu_time_ms = whole_number(&part.node, &key)?;
                places.add("limits.cpu_time_ms", part.node.at);
            }
            "subrequests" => {
                let wanted = whole_number(&part.node, &key)?;
                limits.outbound_requests = u32::try_from(wanted).unwrap_or(u32::MAX);
            }
            _ => ignored.unknown(part, "limits"),
        }
    }
    Ok(limits)
}

/// `build = { command = "npm run build", cwd = "app" }`.
fn build_command(keys: &mut Keys<'_>, ignored: &mut Ignored) -> Result<Option<String>, Wrong> {
    let Some(entry) = keys.take("build") else { return Ok(None) };
    let (mut command, mut folder) = (None, None);
    for part in table(&entry.node, "build")? {
        match part.key.as_str() {
            "command" => command = Some(text(&part.node, "build.command")?.to_owned()),
            "cwd" => folder = Some(text(&part.node, "build.cwd")?.to_owned()),
            "watch_dir" => ignored.say(
                part.at,
                "build.watch_dir".to_owned(),
                "squall dev watches the whole folder",
            ),
            _ => ignored.unknown(part, "build"),
        }
    }
    Ok(match (command, folder) {
        (Some(command), Some(folder)) => Some(format!("cd {} && {command}", shell_word(&folder))),
        (command, _) => command,
    })
}

/// POSIX, Shell Command Language, section 2.2.2.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
