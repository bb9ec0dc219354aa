//! The place of a key in the text of a manifest, for messages that name the key.

use std::ops::Range;

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

/// The path of the key or the table that is written at `offset`, in the words of
/// `of_message`; without its last part where that is a key itself rather than what it holds.
pub(super) fn path_at(text: &str, offset: usize) -> Option<String> {
    let document = DeTable::parse(text).ok()?;
    let mut found = Innermost { offset, path: Vec::new(), best: None };
    found.look_into(document.get_ref());
    found.best.map(|(_, path)| path).filter(|path| !path.is_empty())
}

/// The shortest piece of text around a place, and the path of what it says.
struct Innermost {
    offset: usize,
    path: Vec<String>,
    best: Option<(usize, String)>,
}

impl Innermost {
    fn look_into(&mut self, table: &DeTable<'_>) {
        for (key, value) in table {
            self.consider(&key.span());
            self.path.push(key.get_ref().to_string());
            self.consider(&value.span());
            match value.get_ref() {
                DeValue::Table(table) => self.look_into(table),
                DeValue::Array(array) => self.look_through(array),
                _ => {}
            }
            self.path.pop();
        }
    }

    fn look_through(&mut self, array: &DeArray<'_>) {
        let list = self.path.last().cloned().unwrap_or_default();
        for (index, element) in array.iter().enumerate() {
            let DeValue::Table(table) = element.get_ref() else {
                self.consider(&element.span());
                continue;
            };
            let own = match name_of(table) {
                Some(name) => format!("{list}.{name}"),
                None => format!("{list}[{}]", index + 1),
            };
            let outer = self.path.last_mut().map(|last| std::mem::replace(last, own));
            self.consider(&element.span());
            self.look_into(table);
            if let (Some(last), Some(outer)) = (self.path.last_mut(), outer) {
                *last = outer;
            }
        }
    }

    fn consider(&mut self, span: &Range<usize>) {
        let is_shorter = self.best.as_ref().is_none_or(|(length, _)| span.len() <= *length);
        if span.contains(&self.offset) && is_shorter {
            self.best = Some((span.len(), self.path.join(".")));
        }
    }
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
