//! Errors of the admin API, as problems (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use squall_types::ErrorCode;
use squall_types::build::BuildError;

use crate::store::StoreError;

/// What went wrong and how to mend it. Who calls the admin API may know.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: ErrorCode,
    detail: String,
    status: u16,
}

/// A problem as it is sent.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProblemBody {
    /// `urn:squall:error:SQ0307`; docs/errors has a page for each.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    pub detail: String,
    pub code: String,
}

impl Problem {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), status: code.status() }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn storage(doing: &str, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            let detail = format!(
                "the node's disk is full: it could not {doing}; free some space and try again"
            );
            return Self::new(ErrorCode::StorageFull, detail);
        }
        Self::new(ErrorCode::StorageFailed, format!("the node could not {doing}: {error}"))
    }

    pub(crate) fn body(&self) -> ProblemBody {
        ProblemBody {
            kind: format!("urn:squall:error:{}", self.code),
            title: self.code.title().to_owned(),
            status: self.status,
            detail: self.detail.clone(),
            code: self.code.to_string(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let full = error.is_disk_full();
        let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageFailed };
        Self::new(code, error.to_string())
    }
}

impl From<BuildError> for Problem {
    fn from(error: BuildError) -> Self {
        Self::new(error.code, error.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status >= 500 {
            tracing::error!(code = %self.code, "{}", self.detail);
        }
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.body())).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
