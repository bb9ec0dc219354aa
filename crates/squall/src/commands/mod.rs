//! One file for each command or family of commands.

mod deploy;
mod dev;
mod new;

mod apps;
mod cache;
mod check;
mod clients;
mod doctor;
mod gateway;
mod invoke;
mod logs;
mod secrets;
mod tokens;
mod traffic;
mod types;
mod upgrade;
mod usage;

use clap::CommandFactory;

use crate::cli::{Cli, Command, Global};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::target::Target;

pub(crate) async fn run(global: &Global, command: Command) -> Result<(), Failure> {
    match command {
        Command::Dev(options) => dev::run(global, &options).await,
        Command::New(options) => new::run(global, &options),
        Command::Deploy(options) => deploy::run(global, &options).await,
        Command::Check(options) => check::run(global, &options),
        Command::Types(options) => types::run(global, &options).await,
        Command::Apps(options) => apps::list(global, &options).await,
        Command::Revisions(options) => apps::revisions(global, &options).await,
        Command::Delete(options) => apps::delete(global, &options).await,
        Command::Rollback(options) => traffic::rollback(global, &options).await,
        Command::Traffic(options) => traffic::run(global, &options).await,
        Command::Logs(options) => logs::run(global, &options).await,
        Command::Invoke(options) => invoke::run(global, &options).await,
        Command::Gateway(command) => gateway::run(global, command).await,
        Command::Cache(command) => cache::run(global, command).await,
        Command::Clients(command) => clients::run(global, command).await,
        Command::Secrets(command) => secrets::run(global, command).await,
        Command::Tokens(command) => tokens::run(global, command).await,
        Command::Usage(options) => usage::run(global, &options).await,
        Command::Doctor => doctor::run(global).await,
        Command::Upgrade => upgrade::run(global).await,
        Command::Schema => {
            let schema = squall_types::manifest::Manifest::json_schema();
            let text = serde_json::to_string_pretty(&schema);
            output::line(&text.expect("a schema is JSON"));
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "squall", &mut script);
            output::bytes(&script);
            Ok(())
        }
        Command::Up(_) | Command::Server | Command::Build => {
            unreachable!("main runs these outside of this runtime")
        }
    }
}

/// The node that the command line and the environment name.
fn connect(global: &Global) -> Result<Client, Failure> {
    let client = Client::new(Target::find(global)?)?;
    if client.is_exposed() {
        output::note("warning: the token travels to this node unencrypted; use https");
    }
    Ok(client)
}

/// A text field of an answer; empty when it is not there.
fn text<'a>(value: &'a serde_json::Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// The names in a list of an answer.
fn names(value: &serde_json::Value) -> String {
    let items = value.as_array().into_iter().flatten().filter_map(|name| name.as_str());
    items.collect::<Vec<_>>().join(", ")
}
