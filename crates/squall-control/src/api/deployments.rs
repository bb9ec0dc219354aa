//! Deployments: an archive comes in, progress goes out, a line of JSON each.

use std::io;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use squall_types::{AppName, ErrorCode};
use tokio::sync::mpsc;

use crate::api::door::Caller;
use crate::api::problem::Problem;
use crate::api::{Answer, Api, Path, Query};
use crate::deploy::{self, DeployEvent};
use crate::tokens::Scope;
use crate::upload;

#[derive(Debug, serde::Deserialize)]
pub(crate) struct Options {
    activate: Option<bool>,
}

pub(crate) async fn create(
    State(inner): Api,
    caller: Caller,
    Path(app): Path<String>,
    Query(options): Query<Options>,
    body: Body,
) -> Answer<Response> {
    caller.needs(Scope::Deploy)?;
    let began = Instant::now();
    let app = AppName::parse(&app)
        .map_err(|error| Problem::new(ErrorCode::InvalidManifest, error.to_string()))?;

    // The whole upload is taken in before a word of success is said, so that what is
    // wrong with it gets a status of its own.
    let (pieces, arriving) = mpsc::channel(8);
    let feeding = tokio::spawn(feed(body, pieces));
    let uploaded = {
        let inner = inner.clone();
        let bytes_max = inner.options.upload_bytes_max;
        let archive = Arriving { pieces: arriving, piece: Bytes::new() };
        crate::blocking(move || upload::receive(&inner.blobs, archive, bytes_max)).await
    };
    feeding.abort();
    let uploaded = uploaded?;

    let (events, progress) = mpsc::channel(16);
    let activate = options.activate.unwrap_or(true);
    // A task of its own: a deployment goes on when the client leaves.
    tokio::spawn(async move {
        let last = match deploy::run(&inner, app.clone(), uploaded, activate, &events, began).await
        {
            Ok(deployed) => {
                tracing::info!(app = deployed.app, revision = deployed.revision, "deployed");
                DeployEvent::Live(deployed)
            }
            Err(problem) => {
                let problem = problem.body();
                tracing::info!(%app, code = problem.code, "a deployment failed: {}", problem.detail);
                DeployEvent::Failed { problem }
            }
        };
        let _ = events.send(last).await;
    });
    let lines = futures_util::stream::unfold(progress, |mut progress| async move {
        let event = progress.recv().await?;
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(line), progress))
    });
    let kind = [("content-type", "application/x-ndjson"), ("cache-control", "no-store")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// Passes a body on to the thread that reads the archive, at that thread's pace.
async fn feed(mut body: Body, pieces: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().map_err(|_| ()),
            Err(error) => {
                let _ = pieces.send(Err(io::Error::other(error))).await;
                return;
            }
        };
        let Some(piece) = piece.ok().filter(|piece: &Bytes| !piece.is_empty()) else { continue };
        if pieces.send(Ok(piece)).await.is_err() {
            return;
        }
    }
    // An empty piece says that this was the end; a channel that just closes was cut off.
    let _ = pieces.send(Ok(Bytes::new())).await;
}

/// A body as a blocking reader sees it.
struct Arriving {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl io::Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) if piece.is_empty() => {
                    self.pieces.close();
                    return Ok(0);
                }
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Err(error),
                None if self.pieces.is_closed() => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let taken = self.piece.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.piece.split_to(taken));
        Ok(taken)
    }
}
