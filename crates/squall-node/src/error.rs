//! Why a node does not start.

use squall_types::ErrorCode;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UpError {
    code: Option<ErrorCode>,
    message: String,
}

impl UpError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code: Some(code), message: message.into() }
    }
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into() }
    }
    /// The stable code, where the reason has one.
    pub fn code(&self) -> Option<ErrorCode> {
        self.code
    }
}
