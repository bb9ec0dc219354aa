use serde::{Deserialize, Serialize};

/// What a header or a query parameter must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "a value, \"*\" for any, or a table { regex = \"...\" }")]
pub enum ValueMatch {
    /// This value; `*` for any, if only it is there.
    Exact(String),
    Regex(RegexMatch),
}

/// A regular expression that the whole value must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegexMatch {
    pub regex: String,
}

impl ValueMatch {
    pub fn regex(&self) -> Option<&str> {
        match self {
            Self::Exact(_) => None,
            Self::Regex(pattern) => Some(&pattern.regex),
        }
    }
}
