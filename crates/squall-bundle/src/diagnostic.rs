//! What is wrong with the sources, said to the person who wrote them.

use std::fmt;

/// One error, with the place where it can be mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub message: String,
    /// The file, relative to the root of the project.
    pub file: String,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// The column in characters, from 1; 0 when the file as a whole is meant.
    pub column: u32,
    /// The line of the source, shortened when it is very long.
    pub excerpt: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Lines of minified files would fill a terminal.
const LONGEST_EXCERPT: usize = 160;

impl Diagnostic {
    /// An error about a whole file.
    pub(crate) fn of_file(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            file: file.into(),
            line: 0,
            column: 0,
            excerpt: String::new(),
            hint: None,
        }
    }

    /// An error at a byte offset of a source text.
    pub(crate) fn at(file: &str, source: &str, offset: usize, message: impl Into<String>) -> Self {
        let offset = floor_char_boundary(source, offset);
        let before = &source[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[offset..].find('\n').map_or(source.len(), |length| offset + length);
        let column = source[line_start..offset].chars().count();
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        Self {
            message: message.into(),
            file: file.to_owned(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column + 1).unwrap_or(u32::MAX),
            excerpt: excerpt(&source[line_start..line_end], column),
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file)?;
        if self.line > 0 {
            write!(formatter, ":{}:{}", self.line, self.column)?;
        }
        write!(formatter, ": {}", self.message)?;
        if !self.excerpt.is_empty() {
            write!(formatter, "\n  {}", self.excerpt)?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\n  {hint}")?;
        }
        Ok(())
    }
}

fn floor_char_boundary(source: &str, offset: usize) -> usize {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The line itself, or the part of it around the column.
fn excerpt(line: &str, column: usize) -> String {
    let line = line.trim_end();
    if line.chars().count() <= LONGEST_EXCERPT {
        return line.to_owned();
    }
    line.chars().skip(column.saturating_sub(LONGEST_EXCERPT / 2)).take(LONGEST_EXCERPT).collect()
}
