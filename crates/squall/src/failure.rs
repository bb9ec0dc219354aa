//! What went wrong, said so that a person knows what to do next, and the exit code that
//! tells a script whose turn it is.

use std::fmt;

use serde::{Deserialize, Serialize};
use squall_types::ErrorCode;

/// Exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "i32")]
pub(crate) enum Exit {
    /// The node or something it depends on failed.
    Failed = 1,
    /// The command line makes no sense; clap uses the same number.
    Usage = 2,
    /// No node answers.
    Unreachable = 3,
    /// The token is missing, wrong or lacks the scope.
    Auth = 4,
    /// What was asked for or sent can not work as it is.
    Invalid = 5,
    /// What was compared differs, and was printed: an answer rather than an error.
    Different = 6,
}

impl From<Exit> for i32 {
    fn from(exit: Exit) -> Self {
        exit as Self
    }
}

/// A command's end that is not success.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// `SQ0123`, where one fits. A newer node may send codes that this binary does not know.
    pub(crate) code: Option<String>,
    /// What was being done, such as `deploying hello`.
    pub(crate) what: String,
    pub(crate) why: String,
    /// The command to type next.
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { exit, code: None, what: what.into(), why: why.to_string(), next: None }
    }

    pub(crate) fn failed(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, what, why)
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::new(Exit::Invalid, what, why)
    }

    #[must_use]
    pub(crate) fn code(mut self, code: ErrorCode) -> Self {
        self.code = Some(code.to_string());
        self
    }

    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error")?;
        if let Some(code) = &self.code {
            write!(f, "[{code}]")?;
        }
        write!(f, ": {}: {}", self.what, self.why)?;
        if let Some(next) = &self.next {
            write!(f, "\n  try: {next}")?;
        }
        Ok(())
    }
}

/// The problem document of the admin API (RFC 9457).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) title: String,
    pub(crate) detail: Option<String>,
    pub(crate) code: Option<String>,
}

impl Problem {
    pub(crate) fn into_failure(self, what: &str) -> Failure {
        let exit = match self.status {
            401 | 403 => Exit::Auth,
            400..=499 => Exit::Invalid,
            _ => Exit::Failed,
        };
        let why = match self.detail {
            Some(detail) if !detail.is_empty() => detail,
            _ if !self.title.is_empty() => self.title,
            _ => format!("the node answered with status {}", self.status),
        };
        let next = self.code.as_deref().and_then(advice).map(str::to_owned);
        // What callers of apps are told, no admin API says.
        let of_apps = [ErrorCode::NoRoute, ErrorCode::NothingDeployed].map(|code| code.to_string());
        if self.code.as_ref().is_some_and(|code| of_apps.contains(code)) {
            let why = format!("what answers is a gateway and no admin API; it says: {why}");
            let next =
                Some("the admin API's address in SQUALL_URL; its port is 8081 by default".into());
            return Failure { exit, code: self.code, what: what.to_owned(), why, next };
        }
        Failure { exit, code: self.code, what: what.to_owned(), why, next }
    }
}

/// The command that helps after a code, where there is one for everybody.
fn advice(code: &str) -> Option<&'static str> {
    let number = code.strip_prefix("SQ")?.parse().ok()?;
    Some(match ErrorCode::from_number(number)? {
        ErrorCode::InvalidManifest => "squall check",
        ErrorCode::TruncatedUpload => "squall deploy, once more",
        ErrorCode::UnknownApp | ErrorCode::UnknownFunction => "squall apps",
        ErrorCode::UnknownRevision | ErrorCode::NothingToRollBack => "squall revisions APP",
        ErrorCode::UnknownSecret => "squall secrets list APP",
        ErrorCode::UnknownToken => "squall tokens list",
        ErrorCode::UnknownClient => "squall clients list APP",
        ErrorCode::UnknownClientKey => "squall clients keys list APP CLIENT",
        ErrorCode::UnknownPlan => "squall gateway apply, with the plan in squall.toml",
        ErrorCode::FunctionsDiffer => "squall deploy",
        ErrorCode::TrafficIsSplit => "squall traffic APP REVISION=100",
        ErrorCode::InvalidTraffic => "squall traffic APP REVISION=90 REVISION=10",
        ErrorCode::Unauthorized => {
            "squall tokens create NAME --scope deploy on the node, and set SQUALL_TOKEN to what it prints"
        }
        ErrorCode::Forbidden => {
            "a token with a wider scope: squall tokens create NAME --scope deploy|admin"
        }
        ErrorCode::StorageFull
        | ErrorCode::StorageFailed
        | ErrorCode::DataDirLocked
        | ErrorCode::DataDirUnsafe => "squall doctor",
        ErrorCode::PortInUse => {
            "a free port: --listen for the gateway, --admin-listen for the admin API, or `listen` in server.toml"
        }
        ErrorCode::DataDirTooNew => "the newer squall, or another --data-dir",
        _ => return None,
    })
}

/// The advice for a code of this binary's own.
pub(crate) fn advice_for(code: ErrorCode) -> Option<&'static str> {
    advice(&code.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(problem: &str, exit: Exit, says: &str) {
        let problem: Problem = serde_json::from_str(problem).unwrap();
        let failure = problem.into_failure("deploying hello");
        assert_eq!(failure.exit, exit);
        assert_eq!(failure.to_string(), says);
    }

    #[test]
    fn problems_become_one_line_and_the_next_command() {
        check(
            r#"{"status":404,"title":"no such app","detail":"there is no app hello","code":"SQ0307"}"#,
            Exit::Invalid,
            "error[SQ0307]: deploying hello: there is no app hello\n  try: squall apps",
        );
        check(
            r#"{"status":503,"title":"busy","code":"SQ9999"}"#,
            Exit::Failed,
            "error[SQ9999]: deploying hello: busy",
        );
        check(
            "{\"status\":418}",
            Exit::Invalid,
            "error: deploying hello: the node answered with status 418",
        );
    }

    #[test]
    fn both_kinds_of_refused_tokens_exit_alike() {
        for status in [401, 403] {
            let problem = Problem { status, ..Problem::default() };
            assert_eq!(problem.into_failure("x").exit, Exit::Auth);
        }
    }
}
