//! Operations that only compute: URLs, encodings, compression, cryptography. The library
//! of squall-js performs them; here is where.

use squall_js::Value;

use super::host::{Denied, Host, Refusal};
use super::operations::OperationFuture;

fn absent(operation: u32) -> Denied {
    Refusal::new("NotSupportedError", format!("this node has no operation {operation}")).into()
}

/// At once, on the request's core.
pub(crate) fn perform(_: &mut Host, operation: u32, _: &[u8]) -> Result<Value, Denied> {
    Err(absent(operation))
}

/// On a thread for long computations, charged to the request.
pub(crate) fn begin(_: &mut Host, operation: u32, _: &[u8]) -> Result<OperationFuture, Denied> {
    Err(absent(operation))
}
