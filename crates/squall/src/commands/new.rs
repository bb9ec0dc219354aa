//! `new`: a folder with an app that works at once.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::{Global, NewOptions, Template};
use crate::failure::Failure;
use crate::output;

/// Files of a template: path, content. `{{name}}` is the app's name and `{{artifact}}`
/// the same with underscores, as Rust names its files.
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($folder:literal: $($path:literal = $source:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/", $folder, "/", $source)))),*]
    };
}

const STATIC: Files = files!("static":
    "squall.toml" = "squall.toml",
    "public/index.html" = "public/index.html",
    "public/style.css" = "public/style.css",
    "public/404.html" = "public/404.html",
    "README.md" = "README.md",
    ".gitignore" = "gitignore",
);

// Its Cargo.toml has another name here, so that no tool takes the template for a package.
const RUST_COMPONENT: Files = files!("rust-component":
    "squall.toml" = "squall.toml",
    "Cargo.toml" = "cargo.toml.txt",
    "src/lib.rs" = "src/lib.rs",
    "README.md" = "README.md",
    ".gitignore" = "gitignore",
);

pub(super) fn run(global: &Global, options: &NewOptions) -> Result<(), Failure> {
    let name = options.name.as_str();
    let dir = options.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    let written = create(name, options.template, &dir)?;
    if global.json {
        output::json(&json!({ "app": name, "dir": dir, "files": written }));
        return Ok(());
    }
    for file in &written {
        output::note(&format!("Made {}", dir.join(file).display()));
    }
    let shown = dir.display();
    if options.template == Template::RustComponent {
        output::note("It needs the target once: rustup target add wasm32-wasip2");
    }
    output::note(&format!(
        "Next: squall dev {shown} while you write it, squall deploy {shown} to put it live"
    ));
    Ok(())
}

fn create(name: &str, template: Template, dir: &Path) -> Result<Vec<&'static str>, Failure> {
    let what = format!("making {}", dir.display());
    let occupied = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::failed(what, error)),
    };
    if occupied {
        return Err(Failure::invalid(what, "the folder is there and not empty")
            .next(format!("squall new {name} --dir ANOTHER_FOLDER")));
    }
    let files = match template {
        Template::Static => STATIC,
        Template::RustComponent => RUST_COMPONENT,
    };
    for (path, content) in files {
        let file = dir.join(path);
        let content = content.replace("{{name}}", name);
        let content = content.replace("{{artifact}}", &name.replace('-', "_"));
        let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&file, content))
            .map_err(|error| Failure::failed(&what, format!("{}: {error}", file.display())))?;
    }
    Ok(files.iter().map(|(path, _)| *path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;

    #[test]
    fn every_template_makes_an_app_that_parses() {
        for template in [Template::Static, Template::RustComponent] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("my-app");
            let written = create("my-app", template, &dir).unwrap();
            let project = Project::open(&dir).unwrap();
            assert_eq!(project.manifest.name.as_str(), "my-app");
            for path in &written {
                let content = std::fs::read_to_string(dir.join(path)).unwrap();
                assert!(!content.contains("{{"), "{path}: {content}");
            }
            match template {
                Template::Static => assert_eq!(project.files().unwrap().len(), 4),
                Template::RustComponent => {
                    let code = project.manifest.functions["api"].code();
                    assert_eq!(code.path(), "target/wasm32-wasip2/release/my_app.wasm");
                }
            }
            let again = create("my-app", template, &dir).unwrap_err();
            assert_eq!(again.exit, crate::failure::Exit::Invalid);
        }
    }
}
