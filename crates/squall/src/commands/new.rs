//! `new`: a folder with an app that works at once.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::types;
use crate::cli::{FolderOptions, Global, NewOptions, Template};
use crate::failure::Failure;
use crate::output;
use crate::project::Project;

/// Files of a template: path, content. `{{name}}` is the app's name and `{{artifact}}`
/// the same with underscores, as Rust names its files.
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($($path:literal = $source:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../templates/", $source)))),*]
    };
}

const TS: Files = files!(
    "squall.toml" = "ts/squall.toml",
    "src/index.ts" = "ts/src/index.ts",
    "public/index.html" = "shared/index.html",
    "public/style.css" = "shared/style.css",
    "tsconfig.json" = "ts/tsconfig.json",
    "README.md" = "ts/README.md",
    ".gitignore" = "shared/gitignore",
);

const JS: Files = files!(
    "squall.toml" = "js/squall.toml",
    "src/index.js" = "js/src/index.js",
    "public/index.html" = "shared/index.html",
    "public/style.css" = "shared/style.css",
    "README.md" = "js/README.md",
    ".gitignore" = "shared/gitignore",
);

// Its package.json has another name here, so that no tool takes the template for a package.
const HONO: Files = files!(
    "squall.toml" = "hono/squall.toml",
    "package.json" = "hono/package.json.txt",
    "src/index.tsx" = "hono/src/index.tsx",
    "tsconfig.json" = "hono/tsconfig.json",
    "README.md" = "hono/README.md",
    ".gitignore" = "shared/gitignore",
);

const STATIC: Files = files!(
    "squall.toml" = "static/squall.toml",
    "public/index.html" = "static/public/index.html",
    "public/style.css" = "static/public/style.css",
    "public/404.html" = "static/public/404.html",
    "README.md" = "static/README.md",
    ".gitignore" = "static/gitignore",
);

// Its Cargo.toml has another name here, so that no tool takes the template for a package.
const RUST_COMPONENT: Files = files!(
    "squall.toml" = "rust-component/squall.toml",
    "Cargo.toml" = "rust-component/cargo.toml.txt",
    "src/lib.rs" = "rust-component/src/lib.rs",
    "README.md" = "rust-component/README.md",
    ".gitignore" = "rust-component/gitignore",
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
    match options.template {
        Template::RustComponent => {
            output::note("It needs the target once: rustup target add wasm32-wasip2");
        }
        Template::Hono => {
            output::note(&format!("It needs its packages once: cd {shown} && npm install"));
        }
        Template::Ts | Template::Js | Template::Static => {}
    }
    output::note(&format!(
        "Next: squall dev {shown} while you write it, squall deploy {shown} to put it live"
    ));
    Ok(())
}

fn create(name: &str, template: Template, dir: &Path) -> Result<Vec<String>, Failure> {
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
        Template::Ts => TS,
        Template::Js => JS,
        Template::Hono => HONO,
        Template::Static => STATIC,
        Template::RustComponent => RUST_COMPONENT,
    };
    let write = |path: &str, content: String| {
        let file = dir.join(path);
        let made = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&file, content))
            .map_err(|error| Failure::failed(&what, format!("{}: {error}", file.display())))
    };
    let mut written = Vec::new();
    for (path, content) in files {
        let content = content.replace("{{name}}", name);
        write(path, content.replace("{{artifact}}", &name.replace('-', "_")))?;
        written.push((*path).to_owned());
    }
    if files.iter().any(|(path, _)| *path == "tsconfig.json") {
        let folder = FolderOptions { dir: dir.to_owned(), environment: None };
        write(types::FILE, types::of_project(&Project::open(&folder)?))?;
        written.push(types::FILE.to_owned());
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Project {
        let folder = FolderOptions { dir: dir.to_owned(), environment: None };
        Project::open(&folder).unwrap()
    }

    #[test]
    fn every_template_makes_an_app_that_parses() {
        let templates =
            [Template::Ts, Template::Js, Template::Hono, Template::Static, Template::RustComponent];
        for template in templates {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("my-app");
            let written = create("my-app", template, &dir).unwrap();
            let project = open(&dir);
            assert_eq!(project.manifest.name.as_str(), "my-app");
            for path in &written {
                let content = std::fs::read_to_string(dir.join(path)).unwrap();
                assert!(!content.contains("{{"), "{path}: {content}");
            }
            match template {
                Template::Ts | Template::Js | Template::Static => {
                    assert_eq!(project.contents().unwrap().files.len(), 4);
                }
                Template::Hono => {
                    let failure = project.contents().unwrap_err().to_string();
                    let advice = format!("try: cd {} && npm install", dir.display());
                    assert!(failure.contains("Cannot find module \"hono\""), "{failure}");
                    assert!(failure.ends_with(&advice), "{failure}");
                }
                Template::RustComponent => {
                    let code = project.manifest.functions["api"].code();
                    assert_eq!(code.path(), "target/wasm32-wasip2/release/my_app.wasm");
                }
            }
            let again = create("my-app", template, &dir).unwrap_err();
            assert_eq!(again.exit, crate::failure::Exit::Invalid);
        }
    }

    #[test]
    fn typescript_knows_the_environment_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for template in [Template::Ts, Template::Hono] {
            let dir = folder.path().join(format!("{template:?}"));
            create("my-app", template, &dir).unwrap();
            let types = std::fs::read_to_string(dir.join(types::FILE)).unwrap();
            assert!(types.contains("  GREETING: string;\n"), "{types}");
        }
    }
}
