//! The commands that are the node rather than speak to it. They delegate and translate
//! errors, nothing else.

use crate::cli::{Global, UpOptions};
use crate::failure::{Exit, Failure, advice_for};
use squall_types::ErrorCode;

/// Runs the supervisor until it is told to stop; returns its exit code.
pub(crate) fn up(global: &Global, options: UpOptions) -> Result<i32, Failure> {
    let options = squall_node::UpOptions {
        data_dir: global.data_dir(),
        listen: options.listen,
        admin_listen: options.admin_listen,
        config: options.config,
        tls_development: options.tls_dev,
        quiet: options.quiet,
        json: global.json,
    };
    squall_node::up(options).map_err(|error| {
        let mut failure = Failure::failed("starting the node", &error);
        if let Some(code) = error.code() {
            if code == ErrorCode::InvalidConfig {
                failure.exit = Exit::Invalid;
            }
            failure = failure.code(code);
            failure.next = advice_for(code).map(str::to_owned);
        }
        failure
    })
}

/// Runs the server process that the supervisor started.
pub(crate) fn serve() -> i32 {
    squall_node::serve()
}

/// Compiles the component described on standard input.
pub(crate) fn build_child() -> Result<i32, Failure> {
    squall_node::build_child().map(|()| 0).map_err(|error| Failure::failed("building", error))
}
