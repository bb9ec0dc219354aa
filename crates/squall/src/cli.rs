//! The command line: names, flags and help texts.

mod cache;
mod clients;
mod gateway;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use squall_types::{AppName, FunctionName, RevisionId};

pub(crate) use cache::{CacheCommand, InspectOptions, PurgeOptions};
pub(crate) use clients::{ClientsCommand, CreateClientOptions, KeysCommand, UpdateClientOptions};
pub(crate) use gateway::{ExplainOptions, GatewayCommand, TopOptions};

pub(crate) const DEFAULT_DATA_DIR: &str = ".squall";

/// Run functions and static sites on a machine of your own, in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "squall",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "First steps:\n  squall up                               start a node\n  squall new hello                        make an app in TypeScript\n  squall deploy hello                     put it live, and print its URL\n\nA remote node: set SQUALL_URL and SQUALL_TOKEN.\nExit codes: 0 ok, 1 failed, 2 usage, 3 node unreachable, 4 token refused, 5 invalid input, 6 different."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Folder of the node's state; also names the local node to speak to
    /// [env: SQUALL_DATA_DIR] [default: ./.squall]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print data as JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Global {
    pub(crate) fn data_dir(&self) -> PathBuf {
        let named = self.data_dir.clone().or_else(|| {
            std::env::var_os("SQUALL_DATA_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from)
        });
        named.unwrap_or_else(|| PathBuf::from(DEFAULT_DATA_DIR))
    }

    /// The remote node to speak to, unless a folder was named on the command line.
    pub(crate) fn remote_url(&self) -> Option<String> {
        if self.data_dir.is_some() {
            return None;
        }
        std::env::var("SQUALL_URL").ok().filter(|url| !url.is_empty())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node in the foreground
    #[command(
        after_help = "Examples:\n  squall up\n  squall up --tls-dev\n  squall up --data-dir /var/lib/squall --listen 0.0.0.0:80 --config server.toml"
    )]
    Up(UpOptions),
    /// Run an app while you write it: watch, rebuild, reload, show logs
    #[command(after_help = "Examples:\n  squall dev\n  squall dev apps/shop --data-dir /tmp/shop")]
    Dev(DevOptions),
    /// Make a new app from a template
    #[command(
        after_help = "Examples:\n  squall new shop\n  squall new site --template static\n  squall new api --template hono --dir services/api"
    )]
    New(NewOptions),
    /// Build, upload and activate an app
    #[command(
        after_help = "Examples:\n  squall deploy\n  squall deploy apps/shop --no-activate\n  SQUALL_URL=https://admin.example.com SQUALL_TOKEN=sqt_... squall deploy"
    )]
    Deploy(DeployOptions),
    /// Check an app's folder without running its build commands or deploying it
    #[command(after_help = "Examples:\n  squall check\n  squall check apps/shop --json")]
    Check(FolderOptions),
    /// Write TypeScript types of an app's environment and of its handlers
    #[command(
        after_help = "Examples:\n  squall types\n  squall types apps/shop --secret API_KEY\n  squall types --out -"
    )]
    Types(TypesOptions),
    /// List apps, or show one
    #[command(after_help = "Examples:\n  squall apps\n  squall apps shop --json")]
    Apps(AppsOptions),
    /// List an app's revisions, newest first
    #[command(after_help = "Example:\n  squall revisions shop")]
    Revisions(AppOptions),
    /// Go back to what was live before, or to a given revision
    #[command(after_help = "Examples:\n  squall rollback shop\n  squall rollback shop kqzfw3x2ab")]
    Rollback(RollbackOptions),
    /// Show or set how an app's traffic is split between revisions
    #[command(
        after_help = "Examples:\n  squall traffic shop\n  squall traffic shop kqzfw3x2ab=90 hdy2oa5tqe=10"
    )]
    Traffic(TrafficOptions),
    /// Show log lines and finished requests
    #[command(
        after_help = "Examples:\n  squall logs -f\n  squall logs --app shop --level warn -n 50\n  squall logs --app shop --status 5xx --json"
    )]
    Logs(LogsOptions),
    /// Call a function through the admin API
    #[command(
        after_help = "Examples:\n  squall invoke shop /api/health\n  squall invoke shop /orders -X POST -H 'content-type: application/json' -d @order.json\n  squall invoke shop / --revision kqzfw3x2ab\n  squall invoke shop --scheduled --cron '0 * * * *'"
    )]
    Invoke(InvokeOptions),
    /// Check, compare, apply, explain and watch how requests reach an app
    #[command(subcommand)]
    Gateway(GatewayCommand),
    /// Count, purge and look into the edge cache
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Create, list, change and delete an app's API clients and their keys
    #[command(
        subcommand,
        after_help = "Changes hold for the next request, without a deploy. Keys are shown once and kept as hashes."
    )]
    Clients(ClientsCommand),
    /// Set, list and delete an app's secrets
    #[command(
        subcommand,
        after_help = "Secrets reach functions as environment variables at once, without a deploy.\nNobody can read them back."
    )]
    Secrets(SecretsCommand),
    /// Create, list and revoke access tokens
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Delete an app with its revisions and secrets
    #[command(after_help = "Example:\n  squall delete shop --yes")]
    Delete(DeleteOptions),
    /// Sum up what functions used
    #[command(
        after_help = "Examples:\n  squall usage\n  squall usage --app shop --since 2026-01-01 --until 2026-01-31 --by function"
    )]
    Usage(UsageOptions),
    /// Check this machine and the node on it
    #[command(after_help = "Ends with 1 when a check fails; warnings do not count.")]
    Doctor,
    /// Hand over to the binary that is installed now, without a dropped request
    #[command(
        after_help = "Install the new binary over the old one first, at the path that the node was started from."
    )]
    Upgrade,
    /// Print the JSON Schema of squall.toml, for editors
    #[command(after_help = "Example:\n  squall schema > squall.schema.json")]
    Schema,
    /// Print completions for a shell
    #[command(
        after_help = "Example:\n  squall completions bash > ~/.local/share/bash-completion/completions/squall"
    )]
    Completions { shell: clap_complete::Shell },
    #[command(name = "__server", hide = true)]
    Server,
    #[command(name = "__build", hide = true)]
    Build,
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let wanted = "write an address and a port, such as 127.0.0.1:8080 or [::]:8080";
    text.parse().map_err(|_| wanted.to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    /// Address of the public listener [default: 127.0.0.1:8080, or the next free port]
    #[arg(long, value_name = "ADDRESS", value_parser = socket_address)]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the admin listener; keep it on loopback
    #[arg(long, value_name = "ADDRESS", value_parser = socket_address)]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Settings of the node
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Serve HTTPS too, with certificates of an authority that is made for this node
    #[arg(long)]
    pub(crate) tls_dev: bool,
    /// Say nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct FolderOptions {
    /// Folder with squall.toml, or with the Wrangler configuration of a Workers project
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Section [env.NAME] of a Wrangler configuration
    #[arg(long = "env", value_name = "NAME")]
    pub(crate) environment: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DevOptions {
    #[command(flatten)]
    pub(crate) folder: FolderOptions,
}

#[derive(Debug, Args)]
pub(crate) struct TypesOptions {
    #[command(flatten)]
    pub(crate) folder: FolderOptions,
    /// Where to write, or - for standard output [default: DIR/squall-env.d.ts]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// A secret that the app reads; may be given several times
    #[arg(long = "secret", value_name = "NAME")]
    pub(crate) secrets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NewOptions {
    /// Name of the app: a-z, 0-9 and single dashes
    pub(crate) name: AppName,
    #[arg(long, short, value_enum, default_value = "ts")]
    pub(crate) template: Template,
    /// Where to make it [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// A function in TypeScript, with a page that calls it
    Ts,
    /// The same in JavaScript
    Js,
    /// A function in TypeScript with the framework hono, from npm
    Hono,
    /// A static site
    Static,
    /// A function in Rust, as a WebAssembly component
    RustComponent,
}

#[derive(Debug, Args)]
pub(crate) struct DeployOptions {
    #[command(flatten)]
    pub(crate) folder: FolderOptions,
    /// Upload and compile, but leave the traffic where it is
    #[arg(long)]
    pub(crate) no_activate: bool,
    /// Build, and list what would be uploaded; speak to no node
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AppsOptions {
    pub(crate) app: Option<AppName>,
}

#[derive(Debug, Args)]
pub(crate) struct AppOptions {
    pub(crate) app: AppName,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackOptions {
    pub(crate) app: AppName,
    /// The revision to go to [default: what was live before]
    pub(crate) revision: Option<RevisionId>,
}

#[derive(Debug, Args)]
pub(crate) struct TrafficOptions {
    pub(crate) app: AppName,
    /// Shares that add up to 100
    #[arg(value_name = "REVISION=PERCENT", value_parser = parse_share)]
    pub(crate) shares: Vec<(RevisionId, u8)>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsOptions {
    /// Go on with new lines as they come
    #[arg(long, short)]
    pub(crate) follow: bool,
    #[arg(long, short)]
    pub(crate) app: Option<AppName>,
    #[arg(long)]
    pub(crate) function: Option<FunctionName>,
    /// This level or a graver one
    #[arg(long, value_enum)]
    pub(crate) level: Option<LevelName>,
    /// Of finished requests: 404, or a class such as 5xx
    #[arg(long, value_parser = parse_status)]
    pub(crate) status: Option<String>,
    /// Trace id: 32 hexadecimal digits
    #[arg(long, value_name = "ID", value_parser = parse_trace)]
    pub(crate) trace: Option<String>,
    /// How many older lines to show
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) lines: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum LevelName {
    Debug,
    Info,
    Warn,
    Error,
}

impl LevelName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LevelName::Debug => "debug",
            LevelName::Info => "info",
            LevelName::Warn => "warn",
            LevelName::Error => "error",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct InvokeOptions {
    pub(crate) app: AppName,
    /// Path and query
    #[arg(default_value = "/", value_parser = parse_path)]
    pub(crate) path: String,
    /// [default: GET, or POST with a body]
    #[arg(long, short = 'X')]
    pub(crate) method: Option<String>,
    /// A request header; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub(crate) headers: Vec<(String, String)>,
    /// Request body: text, @FILE, or - for standard input
    #[arg(long, short = 'd', value_name = "BODY")]
    pub(crate) data: Option<String>,
    /// The function to call; needed where an app has several
    #[arg(long)]
    pub(crate) function: Option<FunctionName>,
    /// The revision to call [default: by the app's traffic split]
    #[arg(long)]
    pub(crate) revision: Option<RevisionId>,
    /// Run the scheduled handler, as if its time had come
    #[arg(long, conflicts_with_all = ["path", "method", "headers", "data", "include"])]
    pub(crate) scheduled: bool,
    /// The schedule that the handler is told
    #[arg(long, value_name = "EXPR", requires = "scheduled")]
    pub(crate) cron: Option<String>,
    /// Print the response headers, too
    #[arg(long, short)]
    pub(crate) include: bool,
    /// End with 1 when the status is 400 or more
    #[arg(long, short)]
    pub(crate) fail: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Set a secret, read from the terminal or standard input
    #[command(
        after_help = "Examples:\n  squall secrets set shop API_KEY\n  pass show shop/key | squall secrets set shop API_KEY\n  squall secrets set shop TLS_KEY --from-file key.pem"
    )]
    Set {
        app: AppName,
        name: String,
        /// Take the whole file, its last line break included
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// List the names of secrets
    List { app: AppName },
    /// Delete a secret
    Delete { app: AppName, name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensCommand {
    /// Create a token; it is printed once
    #[command(after_help = "Example:\n  squall tokens create ci --scope deploy --expires 90d")]
    Create {
        name: String,
        #[arg(long, value_enum, default_value = "read")]
        scope: Scope,
        /// How long it is valid, such as 90d or 12h [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = crate::time::parse_duration_s)]
        expires: Option<u64>,
    },
    /// List tokens; their values are not kept
    List,
    /// Make a token useless at once
    Revoke {
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        id: String,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scope {
    /// See everything but secrets
    Read,
    /// Deploy, split traffic, roll back, set secrets, call functions
    Deploy,
    /// Delete apps, manage tokens
    Admin,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Deploy => "deploy",
            Scope::Admin => "admin",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct DeleteOptions {
    pub(crate) app: AppName,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UsageOptions {
    #[arg(long, short)]
    pub(crate) app: Option<AppName>,
    /// Of this API client only
    #[arg(long, value_name = "ID")]
    pub(crate) client: Option<String>,
    /// First day, in UTC
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::time::parse_day)]
    pub(crate) since: Option<String>,
    /// Last day, in UTC
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = crate::time::parse_day)]
    pub(crate) until: Option<String>,
    /// What to sum by [default: app and day; with --json every row as it is kept]
    #[arg(long, value_enum)]
    pub(crate) by: Option<UsageBy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageBy {
    Day,
    App,
    /// Functions, and upstreams beside them
    Function,
    /// API clients; all callers without one are a row of their app
    Client,
}

fn parse_share(text: &str) -> Result<(RevisionId, u8), String> {
    let (revision, percent) =
        text.split_once('=').ok_or("write REVISION=PERCENT, such as kqzfw3x2ab=90")?;
    let revision = RevisionId::parse(revision).map_err(|error| error.to_string())?;
    let percent = percent.strip_suffix('%').unwrap_or(percent);
    match percent.parse::<u8>() {
        Ok(percent) if percent <= 100 => Ok((revision, percent)),
        _ => Err(format!("{percent:?} is not a percentage from 0 to 100")),
    }
}

fn parse_status(text: &str) -> Result<String, String> {
    let good = match text.as_bytes() {
        [b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => true,
        [b'1'..=b'9', rest @ ..] => rest.len() == 2 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if good { Ok(text.to_ascii_lowercase()) } else { Err("write 404 or 5xx".to_owned()) }
}

fn parse_trace(text: &str) -> Result<String, String> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err("a trace id has 32 hexadecimal digits".to_owned())
}

fn parse_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("begin the path with /".to_owned())
    }
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write 'name: value'")?;
    let name = http::HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| format!("{name:?} is not a header name"))?;
    let value = value.trim();
    http::HeaderValue::from_str(value).map_err(|_| format!("{value:?} is not a header value"))?;
    Ok((name.as_str().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_are_taken_before_and_after_the_command() {
        for line in [["squall", "--json", "apps"], ["squall", "apps", "--json"]] {
            assert!(Cli::try_parse_from(line).unwrap().global.json);
        }
    }

    #[test]
    fn values_are_checked_while_they_are_read() {
        assert_eq!(parse_share("kqzfw3x2ab=90%").unwrap().1, 90);
        for wrong in ["kqzfw3x2ab", "kqzfw3x2ab=101", "kqzfw3x2ab=-1", "x=1"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_status("5XX").unwrap(), "5xx");
        assert!(parse_status("404").is_ok() && parse_status("4x4").is_err());
        assert_eq!(parse_header("X-A:  b ").unwrap(), ("x-a".to_owned(), "b".to_owned()));
        assert!(parse_header("nothing").is_err() && parse_header("a b: c").is_err());
        assert!(parse_trace(&"0a".repeat(16)).is_ok() && parse_trace("0a").is_err());
    }
}
