//! The `squall` binary: the command line of the platform, and the node itself when it is
//! asked to be one.
//!
//! Commands print data on standard output and everything said to a person on standard
//! error. They speak to a node through its admin API only and never touch the data
//! directory's contents beyond `node.json` and `admin.token`.

mod cli;
mod commands;
mod node;

mod archive;
mod client;
mod project;
mod target;

mod base64;
mod failure;
mod output;
mod process;
mod time;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: squall_node::Allocator = squall_node::Allocator;

fn main() {
    let cli = Cli::try_parse().unwrap_or_else(|error| suggesting_for_people(error).exit());
    let as_json = cli.global.json;
    let code = match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            // What differs was printed; it is no error.
            if failure.exit != Exit::Different {
                output::note(&failure.to_string());
                if as_json {
                    output::failure(&failure);
                }
            }
            failure.exit as i32
        }
    };
    std::process::exit(code);
}

/// A command that only the binary itself uses is no suggestion.
fn suggesting_for_people(mut error: clap::Error) -> clap::Error {
    let kind = ContextKind::SuggestedSubcommand;
    if let Some(ContextValue::Strings(mut names)) = error.remove(kind) {
        names.retain(|name| !name.starts_with("__"));
        if !names.is_empty() {
            error.insert(kind, ContextValue::Strings(names));
        }
    }
    error
}

fn run(cli: Cli) -> Result<i32, Failure> {
    let Cli { global, command } = cli;
    match command {
        // These block and make runtimes of their own.
        Command::Up(options) => return node::up(&global, options),
        Command::Server => return Ok(node::serve()),
        Command::Build => return node::build_child(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("starting", error))?;
    let result = runtime.block_on(commands::run(&global, command));
    // A thread that still packs an upload which the node refused is not waited for.
    runtime.shutdown_background();
    result.map(|()| 0)
}
