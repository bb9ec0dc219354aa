//! Joins the bundler and the engine: what the code of a JavaScript function is to the
//! control plane, and where a position in it was written.
//!
//! That code is one module in a file, with its source map behind it in a comment. The
//! engine gets the module without the comment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use squall_bundle::split_map;
use squall_types::ErrorCode;
use squall_types::build::{BuildError, BuildJob, BuildOutput};
use squall_types::state::{BlobId, FunctionSpec};
use squall_wasm::js::Stacks;
use squall_wasm::js::build::{EngineFiles, LoadError, MODULE_NAME, SnapshotJob, make_snapshot};

/// Runs the top-level code of a function and files the snapshot. In the build child.
pub(crate) fn build(
    job: &BuildJob,
    variables: &BTreeMap<String, String>,
    bindings: &BTreeMap<String, String>,
    files: &EngineFiles,
    output: &Path,
) -> Result<BuildOutput, BuildError> {
    let invalid = |message| BuildError { code: ErrorCode::InvalidSource, message };
    let bytes = std::fs::read(&job.code_path).map_err(|error| BuildError {
        code: ErrorCode::StorageFailed,
        message: format!("the code of {} can not be read: {error}", job.label),
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| invalid(format!("the code of {} is not UTF-8", job.label)))?;
    let (source, map) = split_map(&text);
    let snapshot = SnapshotJob {
        source,
        variables: variables.clone().into_iter().collect(),
        bindings: bindings.clone().into_iter().collect(),
        secret_names: job.secrets.clone(),
    };
    let map_stack = |stack: &str| {
        let own = without_the_web_layer(stack);
        match &map {
            Some(map) => squall_bundle::map_stack(&own, MODULE_NAME, map),
            None => own,
        }
    };
    let mut built = make_snapshot(&snapshot, files, output).map_err(|error| match error {
        LoadError::Exception { title, stack } => {
            let code = match title.starts_with("SyntaxError: ") {
                true => ErrorCode::InvalidSource,
                false => ErrorCode::TopLevelFailed,
            };
            let stack = map_stack(stack.trim_end());
            let message = if stack.is_empty() { title } else { format!("{title}\n{stack}") };
            BuildError { code, message }
        }
        LoadError::Other(error) => error,
    })?;
    built.warnings.iter_mut().for_each(|warning| *warning = map_stack(warning));
    Ok(built)
}

/// Maps stack traces by the maps behind the code that is stored.
pub(crate) struct StoredMaps {
    pub(crate) blob_path: Arc<dyn Fn(&BlobId) -> PathBuf + Send + Sync>,
}

impl Stacks for StoredMaps {
    fn map(&self, function: &FunctionSpec, stack: &str) -> String {
        let stack = without_the_web_layer(stack);
        if !stack.contains(MODULE_NAME) {
            return stack;
        }
        let text = std::fs::read_to_string((self.blob_path)(&function.code));
        match text.as_deref().map(split_map) {
            Ok((_, Some(map))) => squall_bundle::map_stack(&stack, MODULE_NAME, &map),
            _ => stack,
        }
    }
}

/// The frames of a stack trace that are the program's own. What the web layer does inside, and how
/// it calls handlers, tells the program's author nothing.
fn without_the_web_layer(stack: &str) -> String {
    let is_ours = |line: &str| line.contains("(squall:web:") || line.ends_with("at call (native)");
    let own = stack.lines().filter(|line| !is_ours(line));
    own.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_trace_shows_the_program_alone() {
        let stack = "    at hello (bundle.js:23:3)\n    at map (native)\n    at fetch (bundle.js:11:63)\n    at call (native)\n    at invokeHandler (squall:web:20:37782)\n";
        assert_eq!(
            without_the_web_layer(stack),
            "    at hello (bundle.js:23:3)\n    at map (native)\n    at fetch (bundle.js:11:63)"
        );
        assert_eq!(without_the_web_layer(""), "");
    }
}
