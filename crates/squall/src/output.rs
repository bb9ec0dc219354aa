//! What commands print: data on standard output, everything else on standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Exit, Failure};

/// Writes a line of data.
pub(crate) fn line(text: &str) {
    let mut stdout = io::stdout().lock();
    written(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
}

/// Writes raw data.
pub(crate) fn bytes(data: &[u8]) {
    let mut stdout = io::stdout().lock();
    written(stdout.write_all(data).and_then(|()| stdout.flush()));
}

/// A reader that has gone away ends the command without a word, as it does for every other
/// tool in a pipe. What could not be written for another reason is missing from the data.
fn written(done: io::Result<()>) {
    let Err(error) = done else { return };
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    note(&Failure::failed("writing to standard output", error).to_string());
    std::process::exit(Exit::Failed as i32);
}

/// Writes a failure as data for a program, which has its exit code in any case.
pub(crate) fn failure(failure: &Failure) {
    let text = serde_json::json!({ "error": failure });
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Writes a JSON document: indented for a person, on one line for a program.
pub(crate) fn json(value: &impl Serialize) {
    let text = if io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    line(&text.expect("a value made of maps with string keys is always JSON"));
}

/// Says something to the person in front of the terminal.
pub(crate) fn note(text: &str) {
    // There is nobody left to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says what a node has to warn of.
pub(crate) fn warn(warnings: &serde_json::Value) {
    for warning in warnings.as_array().into_iter().flatten() {
        note(&format!("warning: {}", warning.as_str().unwrap_or_default()));
    }
}

/// Whether a stream takes colours: a terminal, unless NO_COLOR or TERM say otherwise.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    stream.is_terminal() && !refused
}

/// Whether a table may be drawn again in place.
pub(crate) fn moves_cursor(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Which way a column's text leans.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with a header, two spaces between columns and no trailing blanks.
pub(crate) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let width = |index: usize| {
        let cells = rows.iter().map(|row| row[index].chars().count());
        cells.chain([columns[index].0.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let header: Vec<String> = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[index] - cell.chars().count());
            let gap = if index == 0 { "" } else { "  " };
            let _ = match columns[index].1 {
                Align::Left => write!(line, "{gap}{cell}{padding}"),
                Align::Right => write!(line, "{gap}{padding}{cell}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.truncate(text.trim_end_matches('\n').len());
    text
}

/// `64.2 kB`: decimal units, as disks and bills count.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 {
        format!("{value:.0} {}", units[unit])
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// `850 µs`, `12.3 ms`, `4.2 s`, `2 min 5 s`.
pub(crate) fn duration_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..100_000 if us.is_multiple_of(1_000) => format!("{} ms", us / 1_000),
        1_000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..60_000_000 => format!("{:.1} s", us as f64 / 1e6),
        60_000_000..3_600_000_000 => format!("{} min {} s", us / 60_000_000, us / 1_000_000 % 60),
        _ => format!("{} h {} min", us / 3_600_000_000, us / 60_000_000 % 60),
    }
}

/// `1,234,567`.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `3 files`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_end_without_blanks() {
        let rows =
            [vec!["a".to_owned(), "1".to_owned()], vec!["longer".to_owned(), "100".to_owned()]];
        let text = table(&[("NAME", Align::Left), ("N", Align::Right)], &rows);
        assert_eq!(text, "NAME      N\na         1\nlonger  100");
    }

    #[test]
    fn sizes_durations_and_counts_read_well() {
        let sizes = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (64_200, "64.2 kB"),
            (123_400_000, "123 MB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        let durations = [
            (850, "850 µs"),
            (12_340, "12.3 ms"),
            (12_000, "12 ms"),
            (4_200_000, "4.2 s"),
            (125_000_000, "2 min 5 s"),
        ];
        for (us, text) in durations {
            assert_eq!(duration_us(us), text);
        }
        assert_eq!(
            (count(0), count(1234), count(1_234_567)),
            ("0".into(), "1,234".into(), "1,234,567".into())
        );
    }
}
