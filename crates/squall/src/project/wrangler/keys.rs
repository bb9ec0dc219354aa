//! The keys of a document that count: those of the chosen environment over those of the
//! top level, which the environment inherits.

use super::{Entry, Node, Value, Wrong};

/// What an environment says for itself or not at all.
const NEVER_INHERITED: [&str; 20] = [
    "ai",
    "analytics_engine_datasets",
    "browser",
    "containers",
    "d1_databases",
    "define",
    "dispatch_namespaces",
    "durable_objects",
    "hyperdrive",
    "images",
    "kv_namespaces",
    "mtls_certificates",
    "queues",
    "r2_buckets",
    "secrets",
    "send_email",
    "services",
    "vars",
    "vectorize",
    "workflows",
];

pub(super) struct Keys<'a> {
    entries: Vec<&'a Entry>,
    /// Keys that stand in the environment's own section.
    own: Vec<&'a str>,
}

impl<'a> Keys<'a> {
    pub(super) fn of(document: &'a Node, environment: Option<&str>) -> Result<Self, Wrong> {
        let top = table(document, "the document")?;
        let Some(environment) = environment else {
            return Ok(Self { entries: top.iter().collect(), own: Vec::new() });
        };
        let sections = match top.iter().find(|entry| entry.key == "env") {
            Some(entry) => table(&entry.node, "env")?,
            None => &[],
        };
        let Some(section) = sections.iter().find(|section| section.key == environment) else {
            let names: Vec<&str> = sections.iter().map(|section| section.key.as_str()).collect();
            let known = match names.is_empty() {
                true => "there are no [env.NAME] sections".to_owned(),
                false => format!("the environments are {}", names.join(", ")),
            };
            return Err(Wrong::new(document.at, format!("no environment {environment}: {known}")));
        };
        let own = table(&section.node, &format!("env.{environment}"))?;
        let inherited = top.iter().filter(|entry| {
            entry.key != "env"
                && !NEVER_INHERITED.contains(&entry.key.as_str())
                && own.iter().all(|known| known.key != entry.key)
        });
        Ok(Self {
            entries: inherited.chain(own).collect(),
            own: own.iter().map(|entry| entry.key.as_str()).collect(),
        })
    }

    /// Removes a key, so that what is left in the end is what nobody knew.
    pub(super) fn take(&mut self, key: &str) -> Option<&'a Entry> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(self.entries.remove(index))
    }

    /// Whether the environment has this key itself.
    pub(super) fn is_own(&self, key: &str) -> bool {
        self.own.contains(&key)
    }

    pub(super) fn rest(self) -> Vec<&'a Entry> {
        self.entries
    }
}

fn expected(node: &Node, key: &str, kind: &str) -> Wrong {
    Wrong::new(node.at, format!("{key} must be {kind}, and is {}", node.kind()))
}

pub(super) fn text<'a>(node: &'a Node, key: &str) -> Result<&'a str, Wrong> {
    match &node.value {
        Value::Text(text) => Ok(text),
        _ => Err(expected(node, key, "text")),
    }
}

pub(super) fn list<'a>(node: &'a Node, key: &str) -> Result<&'a [Node], Wrong> {
    match &node.value {
        Value::List(items) => Ok(items),
        _ => Err(expected(node, key, "a list")),
    }
}

pub(super) fn table<'a>(node: &'a Node, key: &str) -> Result<&'a [Entry], Wrong> {
    match &node.value {
        Value::Table(entries) => Ok(entries),
        _ => Err(expected(node, key, "a table")),
    }
}

pub(super) fn whole_number(node: &Node, key: &str) -> Result<u64, Wrong> {
    match &node.value {
        Value::Number(number) if number.as_u64().is_some() => {
            Ok(number.as_u64().unwrap_or_default())
        }
        _ => Err(expected(node, key, "a whole number")),
    }
}
