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

use crate::cli::{Cli, Command};
use crate::failure::{Exit, Failure};

#[global_allocator]
static ALLOCATOR: squall_node::Allocator = squall_node::Allocator;

fn main() {
    let cli = Cli::parse();
    let code = match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            if failure.exit != Exit::Different {
                output::note(&failure.to_string());
            }
            failure.exit as i32
        }
    };
    std::process::exit(code);
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
