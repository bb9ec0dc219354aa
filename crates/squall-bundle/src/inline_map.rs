//! A bundle and its source map in one file: the map follows in a comment, as ECMA-426 has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const COMMENT: &str = "//# sourceMappingURL=data:application/json;base64,";

/// The module with its map behind it.
#[must_use]
pub fn join_map(code: &str, map: &str) -> String {
    let end = if code.ends_with('\n') { "" } else { "\n" };
    format!("{code}{end}{COMMENT}{}\n", STANDARD.encode(map))
}

/// The module, and its map where there is one behind it that can be read.
#[must_use]
pub fn split_map(text: &str) -> (&str, Option<String>) {
    let Some(at) = text.rfind(COMMENT) else { return (text, None) };
    let map = STANDARD.decode(text[at + COMMENT.len()..].trim_end()).ok();
    match map.and_then(|map| String::from_utf8(map).ok()) {
        Some(map) => (&text[..at], Some(map)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_travels_behind_its_module() {
        let joined = join_map("export default 1;", "{\"version\":3}");
        assert_eq!(split_map(&joined), ("export default 1;\n", Some("{\"version\":3}".to_owned())));
        assert_eq!(split_map("export default 1;"), ("export default 1;", None));
        let not_a_map = format!("a;\n{COMMENT}???");
        assert_eq!(split_map(&not_a_map), (not_a_map.as_str(), None));
    }
}
