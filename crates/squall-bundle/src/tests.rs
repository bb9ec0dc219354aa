//! Small projects, written into a temporary folder, and what becomes of them.

mod errors;
mod formats;
mod linking;
mod maps;
mod resolution;

use std::path::Path;

use crate::{Bundle, Diagnostic, Options, bundle};

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content) in files {
            project.write(name, content);
        }
        project
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn bundle(&self, entry: &str) -> Result<Bundle, Vec<Diagnostic>> {
        bundle(&Options::new(self.path(), entry))
    }
}

/// Bundles the first file.
fn bundle_of(files: &[(&str, &str)]) -> Bundle {
    match Project::new(files).bundle(files[0].0) {
        Ok(bundle) => bundle,
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            panic!("it should have been bundled:\n{}", errors.join("\n"));
        }
    }
}

fn code_of(files: &[(&str, &str)]) -> String {
    bundle_of(files).code
}

/// The whole output, without the lines' indentation.
fn check(files: &[(&str, &str)], expected: &str) {
    assert_eq!(dedent(&code_of(files)), dedent(expected));
}

/// The output holds these lines, in this order; others may stand between them.
fn check_lines(files: &[(&str, &str)], expected: &[&str]) {
    let code = code_of(files);
    let mut lines = code.lines().map(str::trim);
    for line in expected {
        assert!(lines.any(|found| found == *line), "no {line:?}, or not in its place, in\n{code}");
    }
}

fn errors_of(files: &[(&str, &str)]) -> Vec<Diagnostic> {
    match Project::new(files).bundle(files[0].0) {
        Ok(bundle) => panic!("it should have failed:\n{}", bundle.code),
        Err(errors) => errors,
    }
}

fn dedent(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}
