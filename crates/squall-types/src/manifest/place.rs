//! The place of a key in the text of a manifest, for messages that name the key.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The byte at which the key begins that a message starts with, such as
/// `routes.user.paths: …` or `functions.api has no code`; its nearest table where the key
/// itself is not written. `None` when the message starts with no key of this text.
pub(super) fn of_message(text: &str, message: &str) -> Option<usize> {
    let end = message.find([' ', ':']).unwrap_or(message.len());
    let document = DeTable::parse(text).ok()?;
    in_table(document.get_ref(), &message[..end])
}

fn in_table(table: &DeTable<'_>, path: &str) -> Option<usize> {
    // Keys may hold dots themselves: the longest one that the path begins with is meant.
    let fits = |key: &str| {
        path.strip_prefix(key).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let entries = table.iter().filter_map(|(key, value)| Some((key, value, fits(key.get_ref())?)));
    let (key, value, rest) = entries.min_by_key(|(_, _, rest)| rest.len())?;
    let inside = match value.get_ref() {
        DeValue::Table(table) => in_table(table, rest.strip_prefix('.').unwrap_or(rest)),
        DeValue::Array(array) => in_array(array, rest),
        _ => None,
    };
    Some(inside.unwrap_or(key.span().start))
}

/// `[2].paths`, or `.user.paths` for the element of that name.
fn in_array(array: &DeArray<'_>, path: &str) -> Option<usize> {
    let elements = array.iter().enumerate().filter_map(|(index, element)| {
        let DeValue::Table(table) = element.get_ref() else { return None };
        let rest = match name_of(table) {
            Some(name) => path.strip_prefix('.')?.strip_prefix(name),
            None => path.strip_prefix(&format!("[{}]", index + 1)),
        }?;
        let whole = rest.is_empty() || rest.starts_with('.');
        whole.then_some((element, table, rest))
    });
    let (element, table, rest) = elements.min_by_key(|(_, _, rest)| rest.len())?;
    Some(in_table(table, rest.strip_prefix('.').unwrap_or(rest)).unwrap_or(element.span().start))
}

fn name_of<'t>(table: &'t DeTable<'_>) -> Option<&'t str> {
    let (_, name) = table.iter().find(|(key, _)| key.get_ref() == "name")?;
    let name: &Spanned<DeValue<'_>> = name;
    name.get_ref().as_str()
}
