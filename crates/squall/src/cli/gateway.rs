//! `gateway`: how requests reach an app.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use squall_types::AppName;

use super::{FolderOptions, parse_header};

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayCommand {
    /// Check the gateway's part of a manifest: routes, policies, upstreams, identity, plans
    #[command(
        after_help = "Examples:\n  squall gateway check\n  squall gateway check apps/shop --json"
    )]
    Check(FolderOptions),
    /// Compare a folder's gateway part with what is live
    #[command(
        after_help = "Ends with 0 when they are the same, and with 6 when they differ.\n\nExample:\n  squall gateway diff apps/shop"
    )]
    Diff(FolderOptions),
    /// Put a folder's gateway part live, without a build and without an upload
    #[command(
        after_help = "The functions and files that are live stay as they are. It makes a revision like any\nother, which squall rollback takes back.\n\nExample:\n  squall gateway apply apps/shop"
    )]
    Apply(FolderOptions),
    /// Print the gateway part that is live, as it would be written in squall.toml
    #[command(after_help = "Example:\n  squall gateway show shop")]
    Show { app: AppName },
    /// Tell which route a request would take, under which policies, and why
    #[command(
        after_help = "Examples:\n  squall gateway explain GET https://api.example.com/users/7 -H 'x-beta: 1'\n  squall gateway explain POST /orders --app shop\n  squall gateway explain GET /orders --file apps/shop"
    )]
    Explain(ExplainOptions),
    /// Show what routes do, live: rate, errors, latency, requests in flight
    #[command(
        after_help = "On a terminal the table is drawn again in place; elsewhere one is printed for each interval.\n\nExamples:\n  squall gateway top\n  squall gateway top --app shop --interval 5\n  squall gateway top --once --json"
    )]
    Top(TopOptions),
    /// Show the services behind the gateway: their targets, and how they are
    #[command(
        after_help = "Examples:\n  squall gateway upstreams\n  squall gateway upstreams --app shop --json"
    )]
    Upstreams {
        /// Upstreams of this app only
        #[arg(long, short)]
        app: Option<AppName>,
    },
    /// Print the hash of a password, for [identity.NAME.basic] users
    #[command(
        after_help = "The password is read from the terminal or from standard input.\n\nExample:\n  squall gateway hash-password"
    )]
    HashPassword,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainOptions {
    pub(crate) method: String,
    /// The whole URL; with --app or --file the path is enough
    pub(crate) url: String,
    /// A request header; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// As if the request had reached this app, whatever its host
    #[arg(long, conflicts_with = "file")]
    pub(crate) app: Option<AppName>,
    /// Go by the manifest in this folder rather than by what is live; speaks to no node
    #[arg(long, value_name = "DIR")]
    pub(crate) file: Option<PathBuf>,
    /// Address that the request comes from
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) client: Option<IpAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    /// Routes of this app only
    #[arg(long, short)]
    pub(crate) app: Option<AppName>,
    /// Seconds between two looks; rates and latencies are of the time in between
    #[arg(long = "interval", value_name = "S", default_value = "2", value_parser = parse_interval)]
    pub(crate) interval_s: f64,
    /// Print one table and end
    #[arg(long)]
    pub(crate) once: bool,
}

fn parse_interval(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("{text:?} is not a number of seconds from 0.1 to 3600")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_seconds() {
        assert_eq!(parse_interval("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "2s", "NaN", "inf", "4000"] {
            assert!(parse_interval(wrong).is_err(), "{wrong}");
        }
    }
}
