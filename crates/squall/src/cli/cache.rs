//! `cache`: what the edge cache holds, and what is taken out of it.

use clap::{Args, Subcommand};
use squall_types::AppName;

use super::parse_header;

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// Show hits and misses of routes, and how full the cache is
    #[command(
        after_help = "Examples:\n  squall cache stats\n  squall cache stats --app shop --json"
    )]
    Stats {
        /// Routes of this app only
        #[arg(long, short)]
        app: Option<AppName>,
    },
    /// Take responses out of an app's cache, by URL, prefix, tag, or all of them
    #[command(
        after_help = "It ends when no later request gets what was purged, also after a restart.\n\nExamples:\n  squall cache purge https://shop.example.com/prices?currency=eur\n  squall cache purge --prefix https://shop.example.com/images/\n  squall cache purge --app shop --tag product-7 --soft\n  squall cache purge --app shop --all"
    )]
    Purge(PurgeOptions),
    /// Explain what the cache has for a URL, and why a response was or was not stored
    #[command(
        after_help = "Examples:\n  squall cache inspect https://shop.example.com/prices\n  squall cache inspect --app shop /prices -H 'accept-language: de'"
    )]
    Inspect(InspectOptions),
}

#[derive(Debug, Args)]
pub(crate) struct PurgeOptions {
    /// Whole URLs; with --app the path is enough
    pub(crate) urls: Vec<String>,
    /// Every URL that begins so; may be given several times
    #[arg(long = "prefix", value_name = "URL")]
    pub(crate) prefixes: Vec<String>,
    /// Every response with this tag in Cache-Tag or Surrogate-Key; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
    /// Everything that the app has stored
    #[arg(long, conflicts_with_all = ["urls", "prefixes", "tags"])]
    pub(crate) all: bool,
    /// Make it stale: it may answer once more while it is fetched anew
    #[arg(long)]
    pub(crate) soft: bool,
    /// Without it, the app that answers at the URL, or the only one
    #[arg(long, short)]
    pub(crate) app: Option<AppName>,
}

#[derive(Debug, Args)]
pub(crate) struct InspectOptions {
    /// The whole URL; with --app the path is enough
    pub(crate) url: String,
    /// A request header; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Without it, the app that answers at the URL
    #[arg(long, short)]
    pub(crate) app: Option<AppName>,
}
