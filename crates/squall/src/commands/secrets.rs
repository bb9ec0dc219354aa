//! Secrets: written and listed, never read back.

use std::io::{BufRead, IsTerminal, Read};
use std::path::Path;

use http::Method;
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex};
use serde_json::{Value, json};

use super::{connect, text};
use crate::cli::{Global, SecretsCommand};
use crate::client::encode;
use crate::failure::Failure;
use crate::output::{self, Align, table};
use crate::time;

pub(super) async fn run(global: &Global, command: SecretsCommand) -> Result<(), Failure> {
    match command {
        SecretsCommand::Set { app, name, from_file } => {
            let what = format!("setting secret {name} of {app}");
            let client = connect(global)?;
            let value = match from_file {
                Some(file) => read_file(&what, &file)?,
                None => read_input(
                    &what,
                    &format!("Value of {name} (it is not shown; Enter ends it):"),
                    "a value on standard input, or --from-file FILE",
                )?,
            };
            let path = format!("/v1/apps/{app}/secrets/{}", encode(&name));
            client.send(&what, Method::PUT, &path, Some(&json!({ "value": value }))).await?;
            if global.json {
                output::json(&json!({ "app": app, "name": name, "set": true }));
            } else {
                output::note(&format!("Set {name} of {app}; requests see it from now on."));
            }
        }
        SecretsCommand::List { app } => {
            let what = format!("listing secrets of {app}");
            let list: Value =
                client_list(global, &what, &format!("/v1/apps/{app}/secrets")).await?;
            if global.json {
                output::json(&list);
                return Ok(());
            }
            let rows: Vec<_> = list["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|secret| {
                    let updated = time::local_minute(text(secret, "updated_at"));
                    vec![text(secret, "name").to_owned(), updated]
                })
                .collect();
            output::line(&table(&[("NAME", Align::Left), ("UPDATED", Align::Left)], &rows));
        }
        SecretsCommand::Delete { app, name } => {
            let path = format!("/v1/apps/{app}/secrets/{}", encode(&name));
            let what = format!("deleting secret {name} of {app}");
            connect(global)?.send(&what, Method::DELETE, &path, None).await?;
            if global.json {
                output::json(&json!({ "app": app, "name": name, "deleted": true }));
            } else {
                output::note(&format!("Deleted {name} of {app}."));
            }
        }
    }
    Ok(())
}

async fn client_list(global: &Global, what: &str, path: &str) -> Result<Value, Failure> {
    connect(global)?.get(what, path).await
}

/// The whole file: keys in PEM end with a line break that belongs to them.
fn read_file(what: &str, file: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(file)
        .map_err(|error| Failure::invalid(what, format!("reading {}: {error}", file.display())))?;
    as_text(what, bytes)
}

/// From the terminal, where it is not shown, or from standard input.
pub(super) fn read_input(what: &str, prompt: &str, otherwise: &str) -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        output::note(prompt);
        let typed = read_hidden()
            .map_err(|error| Failure::failed(what, format!("reading the terminal: {error}")))?;
        let typed = typed.ok_or_else(|| Failure::failed(what, "cancelled; nothing was set"))?;
        return as_text(what, typed).map_err(|failure| failure.next(otherwise));
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::failed(what, format!("reading standard input: {error}")))?;
    // `echo value | squall secrets set` means the value without echo's line break.
    as_text(what, without_line_break(bytes)).map_err(|failure| failure.next(otherwise))
}

fn without_line_break(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

fn as_text(what: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    if bytes.is_empty() {
        return Err(Failure::invalid(what, "the value is empty"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::invalid(what, "the value is not UTF-8 text; encode it, for example in base 64")
    })
}

/// Puts the terminal back as it was, however the reading ends.
struct Restore(termios::Termios);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Reads a line key by key without showing it. `None` when the person gave up. Signals
/// from the keyboard are off meanwhile, or Ctrl-C would leave the terminal mute.
fn read_hidden() -> std::io::Result<Option<Vec<u8>>> {
    let before = termios::tcgetattr(std::io::stdin())?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
    hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
    let restore = Restore(before);
    termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, &hidden)?;
    let line = read_keys(&mut std::io::stdin().lock());
    drop(restore);
    output::note("");
    line
}

fn read_keys(keys: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const BACKSPACE: u8 = 8;
    const CTRL_U: u8 = 21;
    const DELETE: u8 = 127;
    let mut line = Vec::new();
    for key in keys.bytes() {
        match key? {
            b'\n' | b'\r' | CTRL_D => break,
            CTRL_C => return Ok(None),
            CTRL_U => line.clear(),
            BACKSPACE | DELETE => {
                // A character is removed whole: first its continuation bytes.
                while line.pop().is_some_and(|byte: u8| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            key => line.push(key),
        }
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line_that_can_be_corrected() {
        let typed = |keys: &[u8]| read_keys(&mut &*keys).unwrap();
        assert_eq!(typed(b"secret\nrest"), Some(b"secret".to_vec()));
        assert_eq!(typed("aß\u{7f}b\r".as_bytes()), Some(b"ab".to_vec()));
        assert_eq!(typed(b"wrong\x15right\x04"), Some(b"right".to_vec()));
        assert_eq!(typed(b"abc\x03"), None);
    }

    #[test]
    fn one_line_break_is_taken_off_and_values_are_checked() {
        assert_eq!(without_line_break(b"a\r\n".to_vec()), b"a");
        assert_eq!(without_line_break(b"a\n\n".to_vec()), b"a\n");
        assert_eq!(as_text("x", b"value".to_vec()).unwrap(), "value");
        assert!(as_text("x", Vec::new()).is_err() && as_text("x", vec![0xff]).is_err());
    }
}
