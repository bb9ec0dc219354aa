//! JSON (RFC 8259) with `//` and `/* */` comments and trailing commas.

use super::{DEEPEST, Entry, Node, Value, Wrong};

pub(super) fn parse(text: &str) -> Result<Node, Wrong> {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, at: start };
    reader.skip_blank()?;
    let node = reader.node(DEEPEST)?;
    reader.skip_blank()?;
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.wrong("nothing may follow the document")),
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self, message: &str) -> Wrong {
        Wrong::new(self.at, message)
    }

    fn skip_blank(&mut self) -> Result<(), Wrong> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n']);
            let blank = rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += blank + trimmed.find('\n').unwrap_or(trimmed.len());
            } else if let Some(comment) = trimmed.strip_prefix("/*") {
                let length = comment.find("*/");
                let length = length.ok_or_else(|| self.wrong("the comment has no end"))?;
                self.at += blank + "/*".len() + length + "*/".len();
            } else {
                self.at += blank;
                return Ok(());
            }
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Wrong> {
        if depth == 0 {
            return Err(self.wrong("values are nested too deeply"));
        }
        let at = self.at;
        let value = match self.peek() {
            Some(b'{') => self.table(depth - 1)?,
            Some(b'[') => self.list(depth - 1)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { value, at })
    }

    fn table(&mut self, depth: usize) -> Result<Value, Wrong> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            self.skip_blank()?;
            let at = self.at;
            match self.peek() {
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Table(entries));
                }
                Some(b'"') => {}
                None => return Err(self.wrong("the object has no end; add }")),
                Some(_) => return Err(self.wrong("a key in double quotes, or } belongs here")),
            }
            let key = self.string()?;
            if entries.iter().any(|entry| entry.key == key) {
                return Err(Wrong::new(at, format!("the key {key:?} is there twice")));
            }
            self.skip_blank()?;
            if self.peek() != Some(b':') {
                return Err(self.wrong("a colon belongs here"));
            }
            self.at += 1;
            self.skip_blank()?;
            let node = self.node(depth)?;
            entries.push(Entry { key, at, node });
            self.separator(b'}')?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Wrong> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            match self.peek() {
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::List(items));
                }
                None => return Err(self.wrong("the list has no end; add ]")),
                Some(_) => items.push(self.node(depth)?),
            }
            self.separator(b']')?;
        }
    }

    /// A comma, which may be missing before the end only.
    fn separator(&mut self, end: u8) -> Result<(), Wrong> {
        self.skip_blank()?;
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(())
            }
            Some(byte) if byte == end => Ok(()),
            _ => Err(self.wrong(&format!("a comma or {} belongs here", char::from(end)))),
        }
    }

    /// The text between quotes; serde_json reads its escapes.
    fn string(&mut self) -> Result<String, Wrong> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => {
                    return Err(Wrong::new(start, "the text has no closing quote"));
                }
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        serde_json::from_str(&self.text[start..=end]).map_err(|_| {
            Wrong::new(start, "the text has an escape or a character that JSON has not")
        })
    }

    fn number(&mut self) -> Result<Value, Wrong> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
        let length = self.rest().find(|c| !is_part(c)).unwrap_or(self.rest().len());
        let number = serde_json::from_str(&self.rest()[..length]);
        let number = number.map_err(|_| self.wrong("this is not a number"))?;
        self.at += length;
        Ok(Value::Number(number))
    }

    fn word(&mut self) -> Result<Value, Wrong> {
        let words = [
            ("true", Value::Boolean(true)),
            ("false", Value::Boolean(false)),
            ("null", Value::Null),
        ];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.wrong("a value belongs here"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::position;
    use super::*;

    #[test]
    fn comments_and_trailing_commas_are_taken() {
        let text = r#"// First.
{
  /* The
     name. */ "name": "a // no comment \"\u00e4", // Said.
  "list": [1, -2.5e3, true, null, {},],
  /**/ "last": { "deep": [[]] }, /*/ odd */
}
"#;
        let json = json!({
            "name": "a // no comment \"ä", "list": [1, -2500.0, true, null, {}],
            "last": { "deep": [[]] },
        });
        assert_eq!(parse(text).unwrap().to_json(), json);
        assert_eq!(parse("\u{feff}[]").unwrap().to_json(), json!([]));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let cases = [
            ("", 1, 1, "a value"),
            ("{\n  name: 1\n}", 2, 3, "in double quotes"),
            ("{\n  \"a\": 1\n  \"b\": 2\n}", 3, 3, "comma or }"),
            ("[1 2]", 1, 4, "comma or ]"),
            ("{\"a\" 1}", 1, 6, "a colon"),
            ("{\"a\": 1, \"a\": 2}", 1, 10, "twice"),
            ("{\"a\": \"b\n\"}", 1, 7, "no closing quote"),
            ("[\"\\x\"]", 1, 2, "escape"),
            ("[01]", 1, 2, "not a number"),
            ("[,]", 1, 2, "a value"),
            ("{} {}", 1, 4, "nothing may follow"),
            ("[] /* open", 1, 3, "no end"),
            ("[\"a\\", 1, 2, "no closing quote"),
            ("[1,", 1, 4, "add ]"),
            ("{", 1, 2, "add }"),
        ];
        for (text, line, column, says) in cases {
            let wrong = parse(text).expect_err(text);
            assert_eq!(position(text, wrong.at), (line, column), "{text}: {wrong:?}");
            assert!(wrong.message.contains(says), "{text}: {wrong:?}");
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().message.contains("too deeply"));
    }

    #[test]
    fn whatever_is_cut_off_is_refused_and_never_a_panic() {
        let text = "{ \"ä\": [1, \"\\u00e4\", true], /* c */ \"b\": null } // end";
        let whole = text.find("} //").unwrap() + 1;
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert_eq!(parse(&text[..end]).is_ok(), end >= whole && end != whole + 2, "{end}");
        }
    }
}
