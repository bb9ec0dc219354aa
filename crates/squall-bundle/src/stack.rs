//! From positions in a bundle back to the user's sources.

use oxc_sourcemap::SourceMap;

/// Maps the positions of a stack trace as QuickJS writes it, with lines such as
/// `    at handler (bundle.js:10:5)` and `    at bundle.js:10:5`.
///
/// Positions outside of the bundle, and of code that has no source, stay as they are; so does
/// everything when the map cannot be read.
#[must_use]
pub fn map_stack(stack: &str, bundle_name: &str, map: &str) -> String {
    let Ok(map) = SourceMap::from_json_string(map) else { return stack.to_owned() };
    let table = map.generate_lookup_table();
    let position = |line: u32, column: u32| {
        // Positions of the engine count from 1, those of a source map from 0.
        let token =
            map.lookup_source_view_token(&table, line.checked_sub(1)?, column.saturating_sub(1))?;
        let source = token.get_source()?;
        Some(format!("{source}:{}:{}", token.get_src_line() + 1, token.get_src_col() + 1))
    };
    stack
        .split_inclusive('\n')
        .map(|line| map_line(line, bundle_name, &position).unwrap_or_else(|| line.to_owned()))
        .collect()
}

fn map_line(
    line: &str,
    bundle_name: &str,
    position: &dyn Fn(u32, u32) -> Option<String>,
) -> Option<String> {
    let place = format!("{bundle_name}:");
    let start = line.rfind(&place)?;
    let before = line[..start].chars().next_back();
    if !matches!(before, None | Some('(' | ' ')) {
        return None;
    }
    let numbers = &line[start + place.len()..];
    let (number, rest) = digits(numbers)?;
    let (column, rest) = match rest.strip_prefix(':').and_then(digits) {
        Some((column, rest)) => (column, rest),
        // Some positions have no column.
        None => (1, rest),
    };
    Some(format!("{}{}{rest}", &line[..start], position(number, column)?))
}

fn digits(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}
