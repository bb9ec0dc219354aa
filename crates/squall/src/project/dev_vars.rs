//! `.dev.vars`: secrets for the developer's machine, in the form of a dotenv file. They are
//! never a part of a deployment.

use std::collections::BTreeMap;

use super::document::Wrong;

pub(crate) const FILE: &str = ".dev.vars";

/// Reads lines such as `KEY=value`, `export KEY="two\nlines"` and `# a comment`.
/// The later of two values counts. The rules are those of npm's package dotenv, but
/// what it would skip without a word is an error.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, String>, Wrong> {
    let mut values = BTreeMap::new();
    let mut at = 0;
    while at < text.len() {
        let line = text[at..].split('\n').next().unwrap_or_default();
        let start = at + (line.len() - line.trim_start().len());
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            at += line.len() + 1;
            continue;
        }
        let content = content.strip_prefix("export ").map_or(content, str::trim_start);
        let (name, rest) = content.split_once('=').ok_or_else(|| {
            Wrong::new(start, "this is no variable; write NAME=value, or # before a comment")
        })?;
        let name = name.trim_end();
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(good) {
            let why = format!("{name:?} is no name; use letters, digits and _ - .");
            return Err(Wrong::new(start, why));
        }
        // `rest` is trimmed at its end: find where it begins in the whole text, since a
        // value in quotes may go on in the next lines.
        let value_at = at + line.find('=').map_or(line.len(), |equals| equals + 1);
        let rest = rest.trim_start();
        let (value, end) = match rest.chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => quoted(text, value_at, quote)?,
            _ => (unquoted(rest).to_owned(), at + line.len()),
        };
        values.insert(name.to_owned(), value);
        // What follows a quoted value can only be a comment.
        at = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
    }
    Ok(values)
}

fn unquoted(value: &str) -> &str {
    value.split('#').next().unwrap_or_default().trim_end()
}

/// The value between quotes, and where the text goes on.
fn quoted(text: &str, from: usize, quote: char) -> Result<(String, usize), Wrong> {
    let open = from + text[from..].find(quote).unwrap_or_default();
    let mut escaped = false;
    let close = text[open + 1..].char_indices().find(|(_, character)| {
        let ends = *character == quote && !escaped;
        escaped = *character == '\\' && !escaped;
        ends
    });
    let (length, _) =
        close.ok_or_else(|| Wrong::new(open, format!("there is no closing {quote}")))?;
    let end = open + 1 + length + 1;
    let line_end = text[end..].find('\n').map_or(text.len(), |newline| end + newline);
    let after = text[end..line_end].trim();
    if !after.is_empty() && !after.starts_with('#') {
        return Err(Wrong::new(end, "only a comment may follow the value"));
    }
    let raw = text[open + 1..end - 1].replace("\r\n", "\n");
    let value = match quote {
        '"' => raw.replace("\\n", "\n").replace("\\r", "\r").replace("\\\"", "\""),
        _ => raw.replace(&format!("\\{quote}"), &quote.to_string()),
    };
    Ok((value, end))
}

#[cfg(test)]
mod tests {
    use super::super::document::position;
    use super::*;

    #[test]
    fn values_are_read_as_dotenv_has_them() {
        let text = "# Keys\n\nA=1\n export B = two words # why\nC='a # b' # c\nD=\"x\\ny\"\nE=`it's \"so\"`\nF=\nG=\"-----BEGIN\nkey\n-----END\"\nA=2\nH=a=b\r\nI-1.x=\"\"";
        let values = parse(text).unwrap();
        let expected = [
            ("A", "2"),
            ("B", "two words"),
            ("C", "a # b"),
            ("D", "x\ny"),
            ("E", "it's \"so\""),
            ("F", ""),
            ("G", "-----BEGIN\nkey\n-----END"),
            ("H", "a=b"),
            ("I-1.x", ""),
        ];
        let values: Vec<_> = values.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(values, expected);
    }

    #[test]
    fn what_would_be_skipped_is_an_error() {
        let cases = [
            ("A=1\nAPI_KEY\n", 2, "no variable"),
            ("A B=1", 1, "no name"),
            ("=1", 1, "no name"),
            ("A=1\nB=\"open\nC=2\n", 2, "no closing \""),
            ("A='1' 2", 1, "only a comment"),
        ];
        for (text, line, says) in cases {
            let wrong = parse(text).expect_err(text);
            assert_eq!(position(text, wrong.at).0, line, "{wrong:?}");
            assert!(wrong.message.contains(says), "{wrong:?}");
        }
    }
}
