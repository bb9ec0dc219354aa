//! A deployment, from uploaded files to a live revision: check, store, compile, file,
//! switch. Every step can be repeated; nothing is visible before the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use squall_types::build::{BuildJob, Target};
use squall_types::manifest::{Code, Function, Manifest};
use squall_types::state::{Asset, kinds_of};
use squall_types::{AppName, ErrorCode};
use tokio::sync::mpsc;

use crate::Inner;
use crate::api::orphaned_plans;
use crate::api::problem::{Problem, ProblemBody};
use crate::store::{Component, Content};
use crate::upload::Uploaded;

/// What a deployment says of its progress, a line of JSON each. The last one is `live`
/// or `failed`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum DeployEvent {
    Uploaded {
        bytes: u64,
    },
    Compiling {
        function: String,
        component_bytes: u64,
    },
    Compiled {
        function: String,
        ms: u64,
        /// It had been compiled before.
        cached: bool,
    },
    /// The deployment goes on, but not everything is as the manifest says.
    Warning {
        message: String,
    },
    Live(Deployed),
    Failed {
        problem: ProblemBody,
    },
}

/// A finished deployment.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Deployed {
    pub app: String,
    pub revision: String,
    /// False when the same content had been deployed before.
    pub created: bool,
    /// Requests go to it now.
    pub active: bool,
    pub url: String,
    pub urls: Vec<String>,
    /// Not there where the app has no previews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview_url: Option<String>,
    pub took_ms: u64,
}

/// Runs a deployment whose files have arrived.
pub(crate) async fn run(
    inner: &Arc<Inner>,
    app: AppName,
    uploaded: Uploaded,
    activate: bool,
    events: &mpsc::Sender<DeployEvent>,
    began: Instant,
) -> Result<Deployed, Problem> {
    let say = async |event| {
        // A client that left does not stop a deployment half-way.
        let _ = events.send(event).await;
    };
    say(DeployEvent::Uploaded { bytes: uploaded.bytes }).await;
    let manifest = check_manifest(&app, &uploaded)?;
    if activate {
        // Once more when it is made live; nobody should wait for a build before.
        let (app, manifest, checking) = (app.clone(), manifest.clone(), inner.clone());
        crate::blocking(move || checking.check_claims(&app, &manifest)).await?;
    }

    for (name, function) in &manifest.functions {
        let lowered = function.limits.above(&inner.options.caps);
        if !lowered.is_empty() {
            let message = format!(
                "functions.{name}.limits: {} above this node's caps and lowered to them",
                lowered.join(", ")
            );
            say(DeployEvent::Warning { message }).await;
        }
    }

    // Compiling needs the files at their final place; blobs that no revision names are
    // swept later.
    let wanted = wanted_files(&manifest, &uploaded)?;
    let (blobs, uploaded) = {
        let inner = inner.clone();
        let wanted: Vec<String> = wanted.into_iter().collect();
        crate::blocking(move || {
            for path in &wanted {
                let staged = uploaded.files.get(path).expect("checked to be there");
                inner
                    .blobs
                    .adopt(staged)
                    .map_err(|error| Problem::storage("store a file", &error))?;
            }
            Ok((inner.blobs.clone(), uploaded))
        })
        .await?
    };

    let mut components = BTreeMap::new();
    for (name, function) in &manifest.functions {
        let staged = uploaded.files.get(&normal(function.code().path()));
        let staged = staged.expect("checked to be there");
        let target = target(&manifest, function);
        let cached = inner.options.build.is_built(&staged.id, &target);
        say(DeployEvent::Compiling { function: name.to_string(), component_bytes: staged.bytes })
            .await;
        let job = BuildJob {
            label: format!("{app}/{name}"),
            code: staged.id,
            code_path: blobs.path(&staged.id),
            target,
            secrets: inner.secret_names(&app),
        };
        let compiling = Instant::now();
        let built = inner.options.build.build(job).await.map_err(Problem::from)?;
        let ms = compiling.elapsed().as_millis() as u64;
        for warning in built.warnings {
            say(DeployEvent::Warning { message: format!("functions.{name}: {warning}") }).await;
        }
        say(DeployEvent::Compiled { function: name.to_string(), ms, cached }).await;
        let component = Component { blob: staged.id, bytes: staged.bytes, world: built.world };
        components.insert(name.to_string(), component);
    }
    let assets = match &manifest.assets {
        Some(assets) => {
            let folder = folder_prefix(&assets.dir);
            let of_folder = uploaded.files.iter().filter_map(|(path, staged)| {
                let below = path.strip_prefix(&folder)?;
                Some((format!("/{below}"), Asset { blob: staged.id, bytes: staged.bytes }))
            });
            of_folder.collect()
        }
        None => BTreeMap::new(),
    };
    let content = Content { manifest, components, assets };
    let revision = content.revision_id();

    let (created, orphaned) = {
        let (app, revision, checking) = (app.clone(), revision.clone(), inner.clone());
        inner
            .change(&app.clone(), move |store| {
                if activate {
                    checking.check_claims(&app, &content.manifest)?;
                }
                let orphaned = orphaned_plans(store, &app, &content.manifest)?;
                let created = store.deploy(&app, &revision, &content, activate)?;
                Ok((created, orphaned))
            })
            .await?
    };
    for message in orphaned {
        say(DeployEvent::Warning { message }).await;
    }
    drop(uploaded);
    let urls = inner.urls(&app);
    let preview_url = inner.preview_url(&app, &revision);
    Ok(Deployed {
        app: app.to_string(),
        revision: revision.to_string(),
        created,
        active: activate,
        url: preview_url.clone().filter(|_| !activate).unwrap_or_else(|| urls[0].clone()),
        urls,
        preview_url,
        took_ms: began.elapsed().as_millis() as u64,
    })
}

/// What is made of a function's code.
fn target(manifest: &Manifest, function: &Function) -> Target {
    match function.code() {
        Code::Component(_) => Target::Component { mode: function.instances },
        Code::Source(_) => Target::JavaScript {
            variables: manifest.variables_of(function),
            bindings: kinds_of(&manifest.bindings_of(function)),
        },
    }
}

/// `./build//api.wasm` is `build/api.wasm`, as in the archive.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

/// What the paths below a folder begin with; nothing for the root.
fn folder_prefix(folder: &str) -> String {
    let folder = normal(folder);
    if folder.is_empty() { folder } else { folder + "/" }
}

fn check_manifest(app: &AppName, uploaded: &Uploaded) -> Result<Manifest, Problem> {
    let manifest = Manifest::parse(&uploaded.manifest).map_err(|error| {
        let place = error
            .position
            .map_or_else(String::new, |(line, column)| format!("squall.toml:{line}:{column}: "));
        Problem::new(ErrorCode::InvalidManifest, format!("{place}{}", error.message))
    })?;
    if manifest.name != *app {
        return Err(Problem::new(
            ErrorCode::InvalidManifest,
            format!("the manifest's name is {}, but the upload is for {app}", manifest.name),
        ));
    }
    Ok(manifest)
}

/// The paths of the upload that the manifest needs.
fn wanted_files(
    manifest: &Manifest,
    uploaded: &Uploaded,
) -> Result<std::collections::BTreeSet<String>, Problem> {
    let mut wanted = std::collections::BTreeSet::new();
    for (name, function) in &manifest.functions {
        let code = function.code();
        if !uploaded.files.contains_key(&normal(code.path())) {
            return Err(Problem::new(
                ErrorCode::MissingFile,
                format!("functions.{name}.{} = {:?} is not in the upload", code.key(), code.path()),
            ));
        }
        wanted.insert(normal(code.path()));
    }
    if let Some(assets) = &manifest.assets {
        let folder = folder_prefix(&assets.dir);
        let before = wanted.len();
        wanted.extend(uploaded.files.keys().filter(|path| path.starts_with(&folder)).cloned());
        if wanted.len() == before {
            return Err(Problem::new(
                ErrorCode::MissingFile,
                format!("assets.dir = {:?} holds no file", assets.dir),
            ));
        }
    }
    Ok(wanted)
}
