//! The Build contract by child processes: `squall __build` compiles one component, or runs
//! the top-level code of one JavaScript function, under limits of time and memory, so that
//! a hostile or huge one can not hurt the node.
//!
//! An artifact is a cache entry in `artifacts/<engine key>/`. Beside it lies what the
//! build found out, written last: an artifact without it does not exist.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use squall_types::ErrorCode;
use squall_types::build::{Build, BuildError, BuildFuture, BuildJob, BuildOutput, Target};
use squall_types::manifest::InstanceMode;
use squall_types::state::BlobId;
use squall_wasm::engine::{EngineOptions, Engines};
use squall_wasm::js::build::{EngineFiles, make_engine};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

/// Longest compilation. A JavaScript engine of 13 MB takes a minute on two idle cores and
/// several on busy ones.
const BUILD_TIME_MAX: Duration = Duration::from_secs(600);
/// Writable memory of the child, as RLIMIT_DATA counts it.
const BUILD_MEMORY_MAX_BYTES: u64 = 6 << 30;

#[derive(Serialize, Deserialize)]
enum ChildJob {
    Function {
        job: BuildJob,
        output: PathBuf,
        /// The engine's settings follow from it.
        memory_bytes_max: u64,
        js_folder: PathBuf,
    },
    /// The engine of all JavaScript functions.
    JsEngine { folder: PathBuf },
}

/// Held by the one call that builds an artifact.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// Builds in children, one at a time for each artifact.
pub(crate) struct ChildBuilder {
    artifacts: PathBuf,
    engines: Arc<Engines>,
    options: EngineOptions,
    places: Semaphore,
    in_progress: Mutex<HashMap<PathBuf, Turn>>,
    /// Held while the JavaScript engine is built.
    js_turn: tokio::sync::Mutex<()>,
}

impl ChildBuilder {
    /// `artifacts` is a folder of the data directory; at most `parallel` children run.
    pub(crate) fn new(
        artifacts: PathBuf,
        engines: Arc<Engines>,
        options: EngineOptions,
        parallel: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            artifacts,
            engines,
            options,
            places: Semaphore::new(parallel.max(1)),
            in_progress: Mutex::default(),
            js_turn: tokio::sync::Mutex::default(),
        })
    }

    /// Where an artifact is, or will be.
    pub(crate) fn artifact_path(&self, code: &BlobId, target: &Target) -> PathBuf {
        let key = match target {
            Target::Component { mode } => self.engines.key(*mode),
            Target::JavaScript { .. } => self.engines.js.key(),
        };
        self.artifacts.join(key).join(target.artifact_name(code))
    }

    /// Whether the JavaScript engine only has to be mapped.
    pub(crate) fn js_is_compiled(&self) -> bool {
        EngineFiles::in_folder(&self.artifacts.join(self.engines.js.key())).exist()
    }

    /// Has the JavaScript engine compiled and mapped, which takes seconds the first time
    /// that this version runs on this CPU.
    pub(crate) async fn prepare_js(&self) -> Result<(), BuildError> {
        let js = &self.engines.js;
        if js.is_open() {
            return Ok(());
        }
        let _mine = self.js_turn.lock().await;
        let folder = self.artifacts.join(js.key());
        let files = EngineFiles::in_folder(&folder);
        if !files.exist() {
            std::fs::create_dir_all(&folder)
                .map_err(|error| storage_error("make", &folder, &error))?;
            let job = ChildJob::JsEngine { folder };
            self.run_child::<()>("the JavaScript engine", &job).await?;
        }
        js.open(&files.compiled, &files.base).map_err(build_failed)
    }

    /// Removes artifacts of other engines: of an earlier version, or another CPU. Called
    /// when everything is built for this one and no other server process needs them.
    pub(crate) fn sweep_other_engines(&self) -> std::io::Result<usize> {
        let keys = [
            self.engines.key(InstanceMode::PerRequest),
            self.engines.key(InstanceMode::Shared),
            self.engines.js.key(),
        ];
        let mut removed = 0;
        for entry in std::fs::read_dir(&self.artifacts)? {
            let entry = entry?;
            let name = entry.file_name();
            if !keys.iter().any(|key| name.to_str() == Some(key)) && entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn finished(&self, artifact: &Path) -> Option<BuildOutput> {
        let found = std::fs::read(artifact.with_extension("json")).ok()?;
        let output: BuildOutput = serde_json::from_slice(&found).ok()?;
        let bytes = std::fs::metadata(artifact).ok()?.len();
        (bytes == output.artifact_bytes).then_some(output)
    }

    async fn build_once(&self, job: BuildJob) -> Result<BuildOutput, BuildError> {
        if matches!(job.target, Target::JavaScript { .. }) {
            self.prepare_js().await?;
        }
        let artifact = self.artifact_path(&job.code, &job.target);
        let turn = {
            let mut turns = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(artifact.clone()).or_default().clone()
        };
        let result = {
            let _mine = turn.lock().await;
            match self.finished(&artifact) {
                Some(output) => Ok(output),
                None => self.make(job, &artifact).await,
            }
        };
        let mut turns = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        // Two holders: the map and this call. With more, others wait for their turn.
        if Arc::strong_count(&turn) == 2 {
            turns.remove(&artifact);
        }
        result
    }

    async fn make(&self, job: BuildJob, artifact: &Path) -> Result<BuildOutput, BuildError> {
        let folder = artifact.parent().expect("artifacts lie in a folder");
        std::fs::create_dir_all(folder).map_err(|error| storage_error("make", folder, &error))?;
        let label = job.label.clone();
        let job = ChildJob::Function {
            job,
            output: artifact.to_owned(),
            memory_bytes_max: self.options.memory_bytes_max,
            js_folder: self.artifacts.join(self.engines.js.key()),
        };
        let output: BuildOutput = self.run_child(&label, &job).await?;
        let found = serde_json::to_vec(&output)
            .map_err(|error| build_failed(format!("the result can not be written: {error}")))?;
        let beside = artifact.with_extension("json");
        crate::data_dir::write_atomically(&beside, &found)
            .map_err(|error| storage_error("write", &beside, &error))?;
        Ok(output)
    }

    async fn run_child<T: DeserializeOwned>(
        &self,
        label: &str,
        job: &ChildJob,
    ) -> Result<T, BuildError> {
        let _place = self.places.acquire().await.expect("the semaphore is never closed");
        let input = serde_json::to_vec(job)
            .map_err(|error| build_failed(format!("the job can not be written: {error}")))?;
        // The running executable even when its file was replaced: the same compiler.
        let mut child = tokio::process::Command::new("/proc/self/exe")
            .arg("__build")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| build_failed(format!("the build process did not start: {error}")))?;
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let conversation = async {
            // A child that died early closes the pipe; its exit status says more.
            let _ = stdin.write_all(&input).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let ended = match tokio::time::timeout(BUILD_TIME_MAX, conversation).await {
            Ok(ended) => {
                ended.map_err(|error| build_failed(format!("the build process failed: {error}")))?
            }
            Err(_) => {
                return Err(build_failed(format!(
                    "compiling {label} took longer than {} s and was stopped; a smaller component compiles faster (strip debug information, build with optimisation for size)",
                    BUILD_TIME_MAX.as_secs()
                )));
            }
        };
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
            return Err(build_failed(format!(
                "compiling {label} ended with {}; it may have reached its memory limit of {} GiB. It last said: {last}",
                ended.status,
                BUILD_MEMORY_MAX_BYTES >> 30
            )));
        }
        let result: Result<T, BuildError> = serde_json::from_slice(&ended.stdout)
            .map_err(|error| build_failed(format!("the build process gave no result: {error}")))?;
        result
    }
}

impl Build for ChildBuilder {
    fn build(&self, job: BuildJob) -> BuildFuture<'_, BuildOutput> {
        Box::pin(self.build_once(job))
    }

    fn is_built(&self, code: &BlobId, target: &Target) -> bool {
        self.finished(&self.artifact_path(code, target)).is_some()
    }
}

fn build_failed(message: String) -> BuildError {
    BuildError { code: ErrorCode::BuildFailed, message }
}

fn storage_error(doing: &str, path: &Path, error: &std::io::Error) -> BuildError {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { ErrorCode::StorageFull } else { ErrorCode::StorageFailed };
    BuildError { code, message: format!("could not {doing} {}: {error}", path.display()) }
}

/// `squall __build`: one job on standard input, its result on standard output.
pub fn run_child() -> anyhow::Result<()> {
    confine()?;
    let mut input = Vec::new();
    std::io::stdin().lock().read_to_end(&mut input)?;
    let result = match serde_json::from_slice(&input)? {
        ChildJob::Function { job, output, memory_bytes_max, js_folder } => {
            let built = match &job.target {
                Target::Component { mode } => {
                    let options = EngineOptions { memory_bytes_max, ..EngineOptions::default() };
                    squall_wasm::build::compile(&job, *mode, &options, &output)
                }
                Target::JavaScript { variables, bindings } => {
                    let files = EngineFiles::in_folder(&js_folder);
                    crate::javascript::build(&job, variables, bindings, &files, &output)
                }
            };
            serde_json::to_vec(&built)
        }
        ChildJob::JsEngine { folder } => {
            serde_json::to_vec(&make_engine(&EngineFiles::in_folder(&folder)))
        }
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&result?)?;
    stdout.flush()?;
    Ok(())
}

/// Lowers this process's limits and its claim on the CPU below the server's.
fn confine() -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let lower = |resource: Resource, to: u64| {
        let hard = getrlimit(resource).maximum;
        let limit = Some(hard.map_or(to, |hard| hard.min(to)));
        setrlimit(resource, Rlimit { current: limit, maximum: limit })
    };
    lower(Resource::Data, BUILD_MEMORY_MAX_BYTES)?;
    lower(Resource::Cpu, BUILD_TIME_MAX.as_secs() * 4)?;
    lower(Resource::Core, 0)?;
    // Failing to be nice is no reason not to build.
    let _ = rustix::process::nice(5);
    Ok(())
}
