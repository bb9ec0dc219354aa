//! `clients`: who calls an app's API by a key.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use squall_types::AppName;

#[derive(Debug, Subcommand)]
pub(crate) enum ClientsCommand {
    /// List an app's clients
    List { app: AppName },
    /// Create a client; make it a key afterwards
    #[command(
        after_help = "Example:\n  squall clients create shop acme --plan gold --scope orders:read --scope orders:write\n  squall clients keys create shop acme"
    )]
    Create(CreateClientOptions),
    /// Show a client with its keys
    Show {
        app: AppName,
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        client: String,
    },
    /// Change a client; what is not given stays
    #[command(
        after_help = "Examples:\n  squall clients update shop acme --plan silver\n  squall clients update shop acme --scope orders:read\n  squall clients update shop acme --disable"
    )]
    Update(UpdateClientOptions),
    /// Delete a client with its keys
    Delete {
        app: AppName,
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        client: String,
    },
    /// Create, list and revoke a client's keys
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Args)]
pub(crate) struct CreateClientOptions {
    pub(crate) app: AppName,
    /// Letters, digits and - _ . after the first
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) client: String,
    /// One of [plans] in the live manifest
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) plan: Option<String>,
    /// A scope; may be given several times
    #[arg(long = "scope", value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Refuse its keys until it is enabled
    #[arg(long)]
    pub(crate) disabled: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct UpdateClientOptions {
    pub(crate) app: AppName,
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) client: String,
    /// One of [plans] in the live manifest
    #[arg(long, group = "change", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) plan: Option<String>,
    /// Take it off its plan
    #[arg(long, conflicts_with = "plan", group = "change")]
    pub(crate) no_plan: bool,
    /// A scope, in place of all before; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", group = "change")]
    pub(crate) scopes: Vec<String>,
    /// Take all scopes from it
    #[arg(long, conflicts_with = "scopes", group = "change")]
    pub(crate) no_scopes: bool,
    /// Refuse its keys from now on
    #[arg(long, group = "change")]
    pub(crate) disable: bool,
    /// Take its keys again
    #[arg(long, conflicts_with = "disable", group = "change")]
    pub(crate) enable: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create a key; it is printed once
    #[command(
        after_help = "Example:\n  squall clients keys create shop acme --label production --expires 90d"
    )]
    Create {
        app: AppName,
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        client: String,
        /// For people
        #[arg(long)]
        label: Option<String>,
        /// How long it is valid, such as 90d or 12h [default: for ever]
        #[arg(long, value_name = "DURATION", value_parser = crate::time::parse_duration_s)]
        expires: Option<u64>,
    },
    /// List a client's keys; the keys themselves are not kept
    List {
        app: AppName,
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        client: String,
    },
    /// Make a key useless at once
    Revoke {
        app: AppName,
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        client: String,
        /// The part that is no secret, as the list shows it
        #[arg(value_parser = parse_key_prefix)]
        prefix: String,
    },
}

/// A whole key is taken as well; its secret stays on this machine.
fn parse_key_prefix(text: &str) -> Result<String, String> {
    let prefix = text.strip_prefix("sqk_").unwrap_or(text);
    let prefix = prefix.split('_').next().unwrap_or_default();
    match prefix.is_empty() {
        true => Err("write the letters after sqk_, as squall clients keys list shows them".into()),
        false => Ok(prefix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_named_by_what_is_no_secret() {
        for text in ["abc123", "sqk_abc123", "sqk_abc123_secret"] {
            assert_eq!(parse_key_prefix(text).unwrap(), "abc123");
        }
        assert!(parse_key_prefix("sqk_").is_err());
    }
}
