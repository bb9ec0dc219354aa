//! Paths as they are shown: relative to the project, with forward slashes.

use std::path::{Component, Path};

/// `path` as seen from `root`, both absolute and free of `..`.
///
/// Files outside the root (a workspace sibling, a linked package) start with `../`: the name says
/// nothing of where the project lies on this machine.
pub(crate) fn relative(root: &Path, path: &Path) -> String {
    let root: Vec<Component> = root.components().collect();
    let path: Vec<Component> = path.components().collect();
    let common = root.iter().zip(&path).take_while(|(a, b)| a == b).count();

    let mut parts = vec!["..".to_owned(); root.len() - common];
    parts.extend(path[common..].iter().map(|part| part.as_os_str().to_string_lossy().into_owned()));
    parts.join("/")
}

/// The part of a file's name that says what it is, in lower case, without the dot.
pub(crate) fn extension(path: &Path) -> String {
    path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Whether the file belongs to an installed package rather than to the project.
pub(crate) fn in_package(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "node_modules")
}
