//! Bundles an entry file for a deployment, and says what is wrong with its sources where
//! they can be mended.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use squall_bundle::Diagnostic;
use squall_types::ErrorCode;

use super::{SourceFile, made_file, shown};
use crate::failure::Failure;

/// The module that an entry file and its imports become, with its source map, and the
/// files that were read for it.
pub(super) fn bundle(root: &Path, entry: &str) -> Result<(SourceFile, Vec<PathBuf>), Failure> {
    let options = squall_bundle::Options::new(root, entry);
    let bundle = squall_bundle::bundle(&options).map_err(|errors| explain(root, &errors))?;
    let text = squall_bundle::join_map(&bundle.code, &bundle.map);
    Ok((made_file(entry.to_owned(), text), bundle.inputs))
}

/// The first error is the failure's own; the others follow it in the same form, so that
/// editors find the place of each. Packages that only have to be installed are one error.
fn explain(root: &Path, errors: &[Diagnostic]) -> Failure {
    let asked = asked_packages(root);
    let (missing, others): (Vec<_>, Vec<_>) = errors
        .iter()
        .partition(|error| missing_package(error).is_some_and(|name| asked.contains(name)));
    let first_missing = missing.first().map(|error| {
        let names: BTreeSet<&str> =
            missing.iter().filter_map(|&one| missing_package(one)).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        let why = match root.join("node_modules").is_dir() {
            true => "it is not installed",
            false => "the folder node_modules is missing",
        };
        let hint = Some(format!("package.json asks for {names}, but {why}."));
        Diagnostic { hint, ..(*error).clone() }
    });
    let shown = first_missing.iter().chain(others);
    let mut texts = shown.map(|error| (place(root, error), details(root, error)));
    let (what, mut why) = texts.next().unwrap_or_default();
    for (place, details) in texts {
        let _ = write!(why, "\n{place}: {details}");
    }
    let failure = Failure::invalid(what, why).code(ErrorCode::InvalidSource);
    match missing.is_empty() {
        true => failure,
        false => failure.next(install_command(root)),
    }
}

fn place(root: &Path, error: &Diagnostic) -> String {
    let file = shown(&root.join(&error.file));
    match error.line {
        0 => file,
        line => format!("{file}:{line}:{}", error.column),
    }
}

fn details(root: &Path, error: &Diagnostic) -> String {
    let mut text = error.message.clone();
    if !error.excerpt.is_empty() {
        let _ = write!(text, "\n  {}", error.excerpt);
    }
    if let Some(caret) = caret(root, error) {
        let _ = write!(text, "\n  {caret}");
    }
    if let Some(hint) = &error.hint {
        let _ = write!(text, "\n  {hint}");
    }
    text
}

/// A mark below the excerpt. Very long lines are shown in part, and have none.
fn caret(root: &Path, error: &Diagnostic) -> Option<String> {
    let line = line_of(root, &error.file, error.line)?;
    (line == error.excerpt).then(|| mark(&line, error.column)).flatten()
}

fn line_of(root: &Path, file: &str, number: u32) -> Option<String> {
    let text = std::fs::read_to_string(root.join(file)).ok()?;
    let line = text.lines().nth((number as usize).checked_sub(1)?)?;
    Some(line.trim_start_matches('\u{feff}').trim_end().to_owned())
}

/// A caret below a column, behind the same tabs as the line has.
fn mark(line: &str, column: u32) -> Option<String> {
    let before = line.chars().take((column as usize).checked_sub(1)?);
    let blanks = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect::<String>();
    Some(format!("{blanks}^"))
}

/// A node that ran top-level code tells a stack trace: shows the line of the project where
/// it went wrong.
pub(super) fn locate(root: &Path, mut failure: Failure) -> Failure {
    let is_of_source = [ErrorCode::InvalidSource, ErrorCode::TopLevelFailed]
        .iter()
        .any(|code| failure.code.as_deref() == Some(&code.to_string()));
    let found = failure.why.lines().filter(|_| is_of_source).find_map(|line| {
        let (file, line, column) = frame(line)?;
        Some((file, line, column, line_of(root, file, line)?))
    });
    let Some((file, line, column, text)) = found else { return failure };
    let place = format!("{}:{line}:{column}", shown(&root.join(file)));
    let (message, stack) = failure.why.split_once('\n').unwrap_or((&failure.why, ""));
    let mut why = message.to_owned();
    if text.chars().count() <= LONGEST_LINE
        && let Some(mark) = mark(&text, column)
    {
        let _ = write!(why, "\n  {text}\n  {mark}");
    }
    if !stack.is_empty() {
        let _ = write!(why, "\n{stack}");
    }
    failure.why = why;
    failure.what = place;
    failure
}

/// A line of a minified file is no help.
const LONGEST_LINE: usize = 160;

/// File, line and column of `    at name (src/index.ts:3:7)` or `    at src/index.ts:3:7`.
fn frame(line: &str) -> Option<(&str, u32, u32)> {
    let place = line.trim().strip_prefix("at ")?;
    let place = place.rsplit_once('(').map_or(place, |(_, place)| place);
    let (rest, column) = place.trim_end_matches(')').rsplit_once(':')?;
    let (file, line) = rest.rsplit_once(':')?;
    Some((file, line.parse().ok()?, column.parse().ok()?))
}

/// The package whose module was not found.
fn missing_package(error: &Diagnostic) -> Option<&str> {
    let specifier = error.message.strip_prefix("Cannot find module \"")?.strip_suffix('"')?;
    Some(package_name(specifier))
}

/// The names in the project's `package.json`.
fn asked_packages(root: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root.join("package.json")).unwrap_or_default();
    let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    ["dependencies", "devDependencies", "peerDependencies", "optionalDependencies"]
        .iter()
        .filter_map(|kind| package[kind].as_object())
        .flat_map(|packages| packages.keys().cloned())
        .collect()
}

/// By the lock file that the project keeps.
fn install_command(root: &Path) -> String {
    let lock_files = [
        ("pnpm-lock.yaml", "pnpm install"),
        ("yarn.lock", "yarn install"),
        ("bun.lock", "bun install"),
        ("bun.lockb", "bun install"),
    ];
    let locked = lock_files.iter().find(|(file, _)| root.join(file).is_file());
    let command = locked.map_or("npm install", |(_, command)| command);
    match root == Path::new(".") {
        true => command.to_owned(),
        false => format!("cd {} && {command}", shown(root)),
    }
}

/// `hono` of `hono/jsx`, `@scope/name` of `@scope/name/part`.
fn package_name(specifier: &str) -> &str {
    let parts = if specifier.starts_with('@') { 2 } else { 1 };
    let end = specifier.match_indices('/').nth(parts - 1).map_or(specifier.len(), |(at, _)| at);
    &specifier[..end]
}

#[cfg(test)]
mod tests {
    use super::super::tests::folder;
    use super::*;

    #[track_caller]
    fn check(files: &[(&str, &str)], says: &[&str]) -> String {
        let folder = folder(files);
        let failure = bundle(folder.path(), "src/index.ts").expect_err("the sources are wrong");
        let text = failure.to_string().replace(&format!("{}/", folder.path().display()), "");
        let text = text.replace(&folder.path().display().to_string(), "DIR");
        for part in says {
            assert!(text.contains(part), "{text}\ndoes not say\n{part}");
        }
        text
    }

    #[test]
    fn errors_show_the_line_and_the_place_in_it() {
        check(
            &[("src/index.ts", "import './a';\n\n\tconst b: = 2;\n")],
            &["error[SQ0321]: src/index.ts:3:11: ", "\n  \tconst b: = 2;\n  \t         ^"],
        );
        check(
            &[("src/index.ts", "import './a';\nimport './b';\nexport default {};\n")],
            &["error[SQ0321]: src/index.ts:1:8: Cannot find", "\nsrc/index.ts:2:8: Cannot find"],
        );
        let long = format!("const a = '{}'; const b: = 2;", "x".repeat(200));
        let text = check(&[("src/index.ts", &long)], &["src/index.ts:1:"]);
        assert!(!text.contains('^'), "{text}");
    }

    #[test]
    fn failures_of_a_node_show_the_line_of_the_source() {
        let folder = folder(&[("src/a.ts", "f();\n\tthrow new Error('no');\n")]);
        let why = "Error: no\n    at native\n    at run (node_modules/x/gone.js:1:1)\n    at <anonymous> (src/a.ts:2:8)";
        let told = Failure::invalid("deploying x", why).code(ErrorCode::TopLevelFailed);
        let text = locate(folder.path(), told.clone()).to_string();
        let place = format!("error[SQ0322]: {}/src/a.ts:2:8: Error: no\n", folder.path().display());
        assert!(text.starts_with(&place), "{text}");
        assert!(
            text.contains("\n  \tthrow new Error('no');\n  \t      ^\n    at native"),
            "{text}"
        );
        let other = Failure { code: Some("SQ0307".to_owned()), ..told };
        assert_eq!(locate(folder.path(), other.clone()).to_string(), other.to_string());
        let bare = Failure::invalid("x", "it is so").code(ErrorCode::InvalidSource);
        assert_eq!(locate(folder.path(), bare).to_string(), "error[SQ0321]: x: it is so");
    }

    #[test]
    fn missing_packages_come_with_the_command_that_installs_them() {
        let source = (
            "src/index.ts",
            "import './a';\nimport { Hono } from 'hono/tiny';\nimport '@h/b/c';\nf(Hono);",
        );
        let package = ("package.json", r#"{"dependencies":{"hono":"^4","@h/b":"1"}}"#);
        let says = "package.json asks for @h/b, hono, but the folder node_modules is missing.\nsrc/index.ts:1:8: Cannot find module \"./a\"";
        let text = check(&[source, package], &[says]);
        assert!(text.ends_with("\n  try: cd DIR && npm install"), "{text}");
        assert_eq!(text.matches("Cannot find module").count(), 2, "{text}");
        let installed = [source, package, ("pnpm-lock.yaml", ""), ("node_modules/x/a.js", "")];
        check(&installed, &["but it is not installed", "&& pnpm install"]);
        let text = check(&[source], &["npm install hono"]);
        assert!(!text.contains("try:"), "{text}");
        assert_eq!(package_name("@a/b/c"), "@a/b");
    }
}
