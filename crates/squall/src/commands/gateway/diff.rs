//! `gateway diff`: two gateway parts key by key, in an order that does not depend on how
//! they were written.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};
use squall_types::gateway::{GatewayPart, Upstream};

use super::live;
use crate::cli::{FolderOptions, Global};
use crate::commands::connect;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::project::Project;

pub(super) async fn run(global: &Global, options: &FolderOptions) -> Result<(), Failure> {
    let project = Project::open(options)?;
    project.warn();
    let app = &project.manifest.name;
    let live = live(&connect(global)?, app).await?;
    let (revision, split, before) = match live {
        Some(live) => (Some(live.revision), live.split, live.part),
        None => (None, String::new(), GatewayPart::default()),
    };
    let differences = between(&before, &GatewayPart::of(&project.manifest));
    // An app that is not there differs, however little its folder says.
    let same = differences.is_empty() && revision.is_some();
    if global.json {
        output::json(&json!({
            "app": app, "revision": revision, "same": same, "changes": as_json(&differences),
        }));
    } else {
        if !split.is_empty() {
            output::note(&format!("The traffic of {app} is split: {split}."));
        }
        let against = revision.map_or_else(
            || "nothing, which is what is live".to_owned(),
            |id| format!("revision {id}"),
        );
        let verdict = if same { "is the same as" } else { "differs from" };
        output::note(&format!("The gateway part of {app} {verdict} {against}."));
        differences.iter().for_each(|difference| output::line(&difference.to_string()));
    }
    match same {
        true => Ok(()),
        false => Err(Failure::new(Exit::Different, format!("comparing {app}"), "it differs")),
    }
}

/// One key that is not the same on both sides. At least one of them is there.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    key: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "+ {key} = {}", inline(after)),
            (Some(before), None) => write!(f, "- {key} = {}", inline(before)),
            (Some(before), Some(after)) => {
                write!(f, "~ {key} = {} -> {}", inline(before), inline(after))
            }
            (None, None) => unreachable!("a difference has a side"),
        }
    }
}

pub(super) fn as_json(differences: &[Difference]) -> Value {
    let tell = |difference: &Difference| {
        let mut told = Map::new();
        told.insert("key".into(), difference.key.clone().into());
        let kind = match (&difference.before, &difference.after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "changed",
        };
        told.insert("change".into(), kind.into());
        told.extend(difference.before.clone().map(|before| ("before".to_owned(), before)));
        told.extend(difference.after.clone().map(|after| ("after".to_owned(), after)));
        Value::Object(told)
    };
    differences.iter().map(tell).collect()
}

/// Every difference, by key.
pub(super) fn between(before: &GatewayPart, after: &GatewayPart) -> Vec<Difference> {
    let (old, new) = (leaves_of(before), leaves_of(after));
    let removed = old.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(key, value)| {
        Difference { key: key.clone(), before: Some(value.clone()), after: None }
    });
    let others =
        new.iter().filter(|(key, value)| old.get(*key) != Some(value)).map(|(key, value)| {
            Difference {
                key: key.clone(),
                before: old.get(key).cloned(),
                after: Some(value.clone()),
            }
        });
    let mut differences: Vec<Difference> = removed.chain(others).collect();
    differences.extend(reordered(before, after));
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    differences
}

/// Among equally good matches the first route wins, so their order is a setting, too.
fn reordered(before: &GatewayPart, after: &GatewayPart) -> Option<Difference> {
    let (old, new) = (route_names(before), route_names(after));
    let kept = |names: &[String], others: &[String]| -> Vec<String> {
        names.iter().filter(|name| others.contains(name)).cloned().collect()
    };
    let (old, new) = (kept(&old, &new), kept(&new, &old));
    (old != new).then(|| Difference {
        key: "routes, in this order".to_owned(),
        before: Some(old.into()),
        after: Some(new.into()),
    })
}

fn route_names(part: &GatewayPart) -> Vec<String> {
    let routes = part.routes.iter().enumerate();
    routes
        .map(|(index, route)| route.name.clone().unwrap_or_else(|| format!("route-{}", index + 1)))
        .collect()
}

fn leaves_of(part: &GatewayPart) -> BTreeMap<String, Value> {
    let mut tree = serde_json::to_value(part).expect("a gateway part is plain data");
    for (name, route) in route_names(part).into_iter().zip(tables(&mut tree, "routes")) {
        route.insert("name".to_owned(), name.into());
    }
    for (name, upstream) in &part.upstreams {
        if let Some(written) = tree["upstreams"].get_mut(name) {
            leave_out_defaults(upstream, written);
        }
    }
    let mut leaves = BTreeMap::new();
    collect("", &tree, &mut leaves);
    leaves
}

fn tables<'t>(tree: &'t mut Value, key: &str) -> impl Iterator<Item = &'t mut Map<String, Value>> {
    let list = tree.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// An upstream is written with all that it has; a person wants to read what was chosen.
fn leave_out_defaults(upstream: &Upstream, written: &mut Value) {
    let targets = json!({ "targets": upstream.targets });
    let plain = serde_json::from_value::<Upstream>(targets.clone()).map(serde_json::to_value);
    if let Ok(Ok(plain)) = plain {
        without(written, &plain);
    }
    written["targets"] = targets["targets"].clone();
}

/// Takes out of a table what another has alike, in the tables below it as well.
fn without(table: &mut Value, other: &Value) {
    let (Some(table), Some(other)) = (table.as_object_mut(), other.as_object()) else { return };
    table.retain(|key, value| match other.get(key) {
        Some(same) if same == value => false,
        Some(other) => {
            without(value, other);
            true
        }
        None => true,
    });
}

fn collect(key: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    let below = |name: &str| match key {
        "" => quoted(name),
        _ => format!("{key}.{}", quoted(name)),
    };
    match value {
        // An empty table says something, but the whole being empty does not.
        Value::Object(table) if !table.is_empty() || key.is_empty() => {
            table.iter().for_each(|(name, value)| collect(&below(name), value, leaves));
        }
        // A list of tables with names is compared by name, wherever in it they stand.
        Value::Array(list)
            if !list.is_empty() && list.iter().all(|one| one["name"].is_string()) =>
        {
            for table in list {
                let name = table["name"].as_str().unwrap_or_default();
                let mut table = table.clone();
                table.as_object_mut().map(|table| table.remove("name"));
                collect(&below(name), &table, leaves);
            }
        }
        leaf => {
            leaves.insert(key.to_owned(), leaf.clone());
        }
    }
}

/// A part of a key, as TOML writes it.
fn quoted(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match !name.is_empty() && name.bytes().all(bare) {
        true => name.to_owned(),
        false => Value::from(name).to_string(),
    }
}

/// A value on one line, as TOML writes it.
fn inline(value: &Value) -> String {
    match value {
        Value::Array(list) => {
            format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", "))
        }
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let pairs =
                table.iter().map(|(key, value)| format!("{} = {}", quoted(key), inline(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use squall_types::manifest::Manifest;

    use super::*;

    const SHOP: &str = r#"
name = "shop"
hosts = ["shop.example.com"]
[functions.api]
source = "a.ts"
routes = ["/*"]
[gateway.policy]
rate_limits = [{ limit = 100, per = "second" }]
[upstreams.users]
targets = ["http://10.0.0.1"]
timeouts = { connect_ms = 100 }
[[routes]]
name = "users"
paths = ["/users/*"]
upstream = "users"
[[routes]]
name = "old"
paths = ["/old"]
response = { status = 410 }
"#;

    fn part(text: &str) -> GatewayPart {
        GatewayPart::of(&Manifest::parse(text).unwrap_or_else(|error| panic!("{error}")))
    }

    #[track_caller]
    fn check(change: (&str, &str), expected: &[&str]) {
        assert!(SHOP.contains(change.0), "{}", change.0);
        let changed = part(&SHOP.replace(change.0, change.1));
        let found: Vec<String> =
            between(&part(SHOP), &changed).iter().map(Difference::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_same_is_the_same_and_what_is_not_the_gateway_s_does_not_count() {
        check(("shop.example.com", "shop.example.com"), &[]);
        check(("source = \"a.ts\"", "source = \"b.ts\"\nlimits = { queue = 1 }"), &[]);
    }

    #[test]
    fn keys_are_added_removed_and_changed() {
        check(
            ("limit = 100", "limit = 200, burst = 7"),
            &[
                "+ gateway.policy.rate_limits.default.burst = 7",
                "~ gateway.policy.rate_limits.default.limit = 100 -> 200",
            ],
        );
        check(
            ("timeouts = { connect_ms = 100 }", ""),
            &["- upstreams.users.timeouts.connect_ms = 100"],
        );
        check(
            ("routes = [\"/*\"]", "routes = [\"/api/*\"]"),
            &["~ functions.api.routes = [\"/*\"] -> [\"/api/*\"]"],
        );
        check(
            (
                "[upstreams.users]",
                "[upstreams.\"a.b\"]\ntargets = [{ url = \"http://a\", weight = 2 }]\n[upstreams.users]",
            ),
            &["+ upstreams.\"a.b\".targets = [{ url = \"http://a\", weight = 2 }]"],
        );
    }

    #[test]
    fn routes_are_known_by_name_and_their_order_is_a_setting() {
        check(
            (
                "[[routes]]\nname = \"users\"",
                "[[routes]]\nname = \"new\"\nassets = false\nresponse = { status = 204 }\n[[routes]]\nname = \"users\"",
            ),
            &["+ routes.new.response.status = 204"],
        );
        let old = "[[routes]]\nname = \"old\"\npaths = [\"/old\"]\nresponse = { status = 410 }\n";
        let moved = SHOP
            .replace(old, "")
            .replace("[[routes]]\nname = \"users\"", &format!("{old}[[routes]]\nname = \"users\""));
        let found = between(&part(SHOP), &part(&moved));
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "~ routes, in this order = [\"users\", \"old\"] -> [\"old\", \"users\"]"
        );
    }

    #[test]
    fn programs_get_both_sides() {
        let changed = part(&SHOP.replace("410", "404"));
        let expected = json!([{
            "key": "routes.old.response.status", "change": "changed", "before": 410, "after": 404,
        }]);
        assert_eq!(as_json(&between(&part(SHOP), &changed)), expected);
        let added = as_json(&between(&GatewayPart::default(), &changed));
        assert_eq!(added[0]["change"], "added");
        assert!(added[0].get("before").is_none());
    }
}
