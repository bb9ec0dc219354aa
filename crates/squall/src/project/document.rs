//! A configuration file as a tree in which everything knows where it stands, whether it
//! was written in TOML or in JSON with comments.

mod jsonc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Deeper than any configuration, and shallow enough for the stack.
const DEEPEST: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Value,
    /// Byte offset in the text.
    pub(crate) at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Boolean(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key of a table and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: usize,
    pub(crate) node: Node,
}

/// What is wrong, and the byte offset where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) at: usize,
}

impl Wrong {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { message: message.into(), at }
    }
}

/// Reads JSON with comments and trailing commas.
pub(crate) fn parse_jsonc(text: &str) -> Result<Node, Wrong> {
    jsonc::parse(text)
}

/// Reads TOML.
pub(crate) fn parse_toml(text: &str) -> Result<Node, Wrong> {
    let table = DeTable::parse(text).map_err(|error| {
        Wrong::new(error.span().map_or(0, |span| span.start), error.message().trim())
    })?;
    table_node(table.get_ref(), 0, DEEPEST)
}

fn table_node(table: &DeTable<'_>, at: usize, depth: usize) -> Result<Node, Wrong> {
    if depth == 0 {
        return Err(Wrong::new(at, "tables are nested too deeply"));
    }
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table {
        let node = toml_node(value, depth - 1)?;
        entries.push(Entry { key: key.get_ref().to_string(), at: key.span().start, node });
    }
    // As they were written: messages name them in that order.
    entries.sort_by_key(|entry| entry.at);
    Ok(Node { value: Value::Table(entries), at })
}

fn toml_node(spanned: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Wrong> {
    let at = spanned.span().start;
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix());
            Value::Number(number.map_err(|_| Wrong::new(at, "the number is too large"))?.into())
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            Value::Number(number.ok_or_else(|| Wrong::new(at, "JSON has no such number"))?)
        }
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            if depth == 0 {
                return Err(Wrong::new(at, "lists are nested too deeply"));
            }
            let items = items.iter().map(|item| toml_node(item, depth - 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return table_node(table, at, depth),
    };
    Ok(Node { value, at })
}

impl Node {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Boolean(boolean) => (*boolean).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(Node::to_json).collect(),
            Value::Table(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect()
            }
        }
    }

    /// What a person calls a value of this type.
    pub(crate) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Boolean(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Line and column of a byte offset, both from 1.
pub(crate) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn toml_keeps_values_order_and_places() {
        let text = "name = \"x\"\ncount = 0x10\nhalf = 0.5\n[b]\nlist = [1, { c = true }]\n[a]\nday = 2026-01-02\n";
        let node = parse_toml(text).unwrap();
        assert_eq!(
            node.to_json(),
            json!({
                "name": "x", "count": 16, "half": 0.5,
                "b": { "list": [1, { "c": true }] }, "a": { "day": "2026-01-02" },
            })
        );
        let Value::Table(entries) = &node.value else { panic!("{node:?}") };
        let keys: Vec<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(keys, ["name", "count", "half", "b", "a"]);
        assert_eq!(position(text, entries[1].node.at), (2, 9));
        assert_eq!(position(text, entries[3].at), (4, 2));
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_place() {
        let text = "name = \"x\"\nmain = \n";
        let wrong = parse_toml(text).unwrap_err();
        assert_eq!(position(text, wrong.at).0, 2, "{wrong:?}");
        let deep = format!("a = {}{}", "[".repeat(70), "]".repeat(70));
        assert!(parse_toml(&deep).is_err());
        assert!(parse_toml("a = inf").unwrap_err().message.contains("no such number"));
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(position("aä\nöb", 6), (2, 2));
        assert_eq!(position("a", 100), (1, 2));
        assert_eq!(position("ä", 1), (1, 1));
    }
}
