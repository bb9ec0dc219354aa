//! Lists where a manifest has tables.
//!
//! serde fills a struct from a list, too: field by field, in the order of our source. So
//! `[[gateway]]` would be read, and as something else than what was meant. The schema knows
//! where lists belong.

use std::sync::LazyLock;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Manifest;

static SCHEMA: LazyLock<Value> = LazyLock::new(Manifest::json_schema);

/// The byte at which the first such list begins.
pub(super) fn in_place_of_a_table(text: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    in_table(document.get_ref(), &kinds(&SCHEMA))
}

fn in_table(table: &DeTable<'_>, kinds: &[&'static Value]) -> Option<usize> {
    table.iter().find_map(|(key, value)| {
        let one = |kind: &&'static Value| {
            let named = kind["properties"].get(&**key.get_ref());
            named.or_else(|| kind.get("additionalProperties").filter(|other| other.is_object()))
        };
        in_value(value, kinds.iter().find_map(one)?)
    })
}

fn in_value(value: &Spanned<DeValue<'_>>, schema: &'static Value) -> Option<usize> {
    let kinds = kinds(schema);
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, &kinds),
        DeValue::Array(array) => match kinds.iter().find(|kind| may_be(kind, "array")) {
            Some(list) => array.iter().find_map(|element| in_value(element, list.get("items")?)),
            None => kinds.iter().any(|kind| may_be(kind, "object")).then(|| value.span().start),
        },
        _ => None,
    }
}

/// What a value may be: references followed, alternatives in a row.
fn kinds(schema: &'static Value) -> Vec<&'static Value> {
    let target = schema.get("$ref").and_then(Value::as_str);
    if let Some(target) = target.and_then(|target| SCHEMA.pointer(target.strip_prefix('#')?)) {
        return kinds(target);
    }
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|name| schema[name].as_array());
    let mut all: Vec<_> = alternatives.flatten().flat_map(kinds).collect();
    all.push(schema);
    all
}

fn may_be(schema: &Value, kind: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == kind,
        Value::Array(several) => several.iter().any(|one| one == kind),
        _ => false,
    }
}
