//! JavaScript and TypeScript functions, from their source to their answers.

mod handlers;

mod caches;
mod endurance;
mod environment;
mod failures;
mod fetch;
mod instances;
mod lifetimes;
mod services;
mod streams;
mod survival;
mod wrong_inputs;

mod exchange;

use crate::harness::TestNode;

#[track_caller]
fn set_secret(node: &TestNode, app: &str, name: &str, value: &str) {
    let file = node.dir.path().join("secret");
    std::fs::write(&file, value).unwrap();
    let set = node.cli(&["secrets", "set", app, name, "--from-file", file.to_str().unwrap()]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
}
