//! `/v1/projects/{project}/uploads`: bytes by digest, in as many pieces as it takes.
//!
//! `PUT` announces digest and size; `PATCH` appends at `Upload-Offset`, which is `received` of the last answer; with
//! the last byte the digest is checked. A connection that breaks keeps what had come: what is received goes into the
//! database every few megabytes, and at the end of whatever came.
//!
//! What is large and seldom changes, an image's layers, need not come twice: a package is uploaded in parts, and `POST
//! .../assemble` puts it together of those that are there.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::extract::{Asked, Asking, At, Caller, Digest, Listed, Page};
use crate::api::problem::{Problem, Result};
use crate::api::projects::seen;
use crate::api::{PIECES_OF_ONE, Shared, wait_for_own};
use crate::blobs::Append;
use crate::error::Error;
use crate::store;
use crate::turns::Turn;

/// The media type of a piece.
pub const PIECE: &str = "application/offset+octet-stream";

/// After so many bytes, what has come is noted.
const NOTED: u64 = 8 * 1024 * 1024;

/// How long the next bytes of a piece may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    #[schema(value_type = Digest)]
    sha256: String,
    /// Size of the whole, in bytes.
    size: u64,
    /// Bytes that have come: where to go on.
    received: u64,
    /// Whether all of it has come and the digest is right.
    complete: bool,
    created_by: Uuid,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<store::Upload> for Upload {
    fn from(upload: store::Upload) -> Upload {
        Upload {
            sha256: upload.sha256,
            size: upload.size,
            received: upload.received,
            complete: upload.completed_at.is_some(),
            created_by: upload.created_by,
            created_at: upload.created_at,
        }
    }
}

/// What announces an upload.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUpload {
    /// Size of the whole, in bytes.
    #[schema(minimum = 1, maximum = 1000000000000.0)]
    size: u64,
}

/// Announces an upload; one that is there already is shown.
#[utoipa::path(put, path = "/v1/projects/{project}/uploads/{sha256}", tag = "uploads",
    params(("project" = Uuid, Path), ("sha256" = Digest, Path)), request_body = NewUpload,
    responses((status = 200, body = Upload), (status = 201, body = Upload)))]
pub async fn announce_upload(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, sha256)): At<(Uuid, Digest)>,
    asked: Asked<NewUpload>,
) -> Result<Response> {
    let project = seen(&shared, &caller, project).await?;
    let size = asked.value.size;
    let most = shared.limits.upload_bytes;
    if size == 0 || size > most {
        return Err(Problem::invalid(format!("size: expected 1 to {most} bytes")));
    }
    let mut work = shared.store.begin().await?;
    let (upload, is_new) = begun(&mut work, &caller, project.id, sha256.as_str(), size).await?;
    if !is_new {
        return Ok(Json(Upload::from(upload)).into_response());
    }
    let detail = format!("{size} bytes");
    let user = Some(caller.user_id);
    work.note(upload.created_at, user, Some(project.id), "upload.announce", sha256.as_str(), &detail).await?;
    work.commit().await?;
    Ok((StatusCode::CREATED, Json(Upload::from(upload))).into_response())
}

/// The upload of this digest and size, begun now where there is none and the quota allows it; whether it was.
async fn begun(
    work: &mut store::Work,
    caller: &Caller,
    project: Uuid,
    sha256: &str,
    size: u64,
) -> Result<(store::Upload, bool)> {
    let quota = work.take_turn(project).await?.ok_or_else(Problem::not_found)?;
    if let Some(found) = work.upload(project, sha256).await? {
        if found.size != size {
            return Err(Problem::conflict(format!(
                "this digest was announced with {} bytes before; remove that upload first",
                found.size
            )));
        }
        return Ok((found, false));
    }
    let used = work.uploaded_bytes(project).await?;
    if used.saturating_add(size) > quota.max_upload_bytes {
        return Err(Problem::quota(format!(
            "expected uploads of at most {} bytes in this project; there are {used}, and this one has {size}",
            quota.max_upload_bytes
        )));
    }
    let upload = store::Upload {
        project_id: project,
        sha256: sha256.to_owned(),
        size,
        received: 0,
        created_by: caller.user_id,
        created_at: store::now(),
        completed_at: None,
    };
    work.add_upload(&upload).await?;
    Ok((upload, true))
}

/// A part of what is assembled: a complete upload of the same project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    #[schema(value_type = Digest)]
    sha256: Digest,
    /// Its size, in bytes.
    #[schema(minimum = 1, maximum = 1000000000000.0)]
    size: u64,
}

/// What is put together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Assembly {
    /// The parts, in their order; one may be there more than once.
    #[schema(min_items = 1, max_items = 1000)]
    parts: Vec<Part>,
}

/// Most parts of an assembly.
const PARTS: usize = 1000;

/// Makes an upload of others, one after the other. Its digest is checked; the parts stay.
#[utoipa::path(post, path = "/v1/projects/{project}/uploads/{sha256}/assemble", tag = "uploads",
    params(("project" = Uuid, Path), ("sha256" = Digest, Path)), request_body = Assembly,
    responses((status = 200, body = Upload), (status = 201, body = Upload)))]
pub async fn assemble_upload(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, sha256)): At<(Uuid, Digest)>,
    asked: Asked<Assembly>,
) -> Result<Response> {
    let project = seen(&shared, &caller, project).await?;
    let parts = asked.value.parts;
    let most = shared.limits.upload_bytes;
    let size = parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size).filter(|sum| *sum <= most));
    let good = !parts.is_empty() && parts.len() <= PARTS && parts.iter().all(|part| part.size > 0);
    let Some(size) = size.filter(|_| good) else {
        return Err(Problem::invalid(format!(
            "parts: expected 1 to {PARTS} of together at most {most} bytes"
        )));
    };
    // Before the transaction, which holds up others.
    let turn = shared.files.take(caller.user_id, project.id).await.ok_or_else(wait_for_own)?;
    let mut work = shared.store.begin().await?;
    let (upload, _) = begun(&mut work, &caller, project.id, sha256.as_str(), size).await?;
    if upload.completed_at.is_some() {
        return Ok(Json(Upload::from(upload)).into_response());
    }
    // What is missing undoes the beginning: the transaction is not committed.
    for part in &parts {
        let there = work.upload(project.id, part.sha256.as_str()).await?;
        if there.is_none_or(|there| there.completed_at.is_none() || there.size != part.size) {
            return Err(Problem::conflict(format!(
                "there is no complete upload {} of {} bytes in this project",
                part.sha256.as_str(),
                part.size
            )));
        }
    }
    let now = store::now();
    let detail = format!("{} parts, {size} bytes", parts.len());
    work.note(now, Some(caller.user_id), Some(project.id), "upload.assemble", sha256.as_str(), &detail)
        .await?;
    work.commit().await?;
    // On a task of its own: a handler is dropped with its connection, and half an assembly is of no use.
    let assembled = tokio::spawn(assemble(shared, upload, parts, turn)).await.map_err(Error::from)??;
    Ok((StatusCode::CREATED, Json(assembled)).into_response())
}

async fn assemble(
    shared: Arc<Shared>,
    mut upload: store::Upload,
    parts: Vec<Part>,
    turn: Turn,
) -> Result<Upload> {
    let mut file = locked(&shared, &upload).await?;
    let (blobs, project) = (shared.blobs.clone(), upload.project_id);
    let copying = tokio::task::spawn_blocking(move || {
        file.cut(0)?;
        parts.iter().try_for_each(|part| file.append(&blobs.path(project, part.sha256.as_str())))?;
        file.sync()?;
        Ok(file)
    });
    let file = match copying.await.map_err(Error::from)? {
        Ok(file) => file,
        Err(Error::File { action: "open", .. }) => {
            return Err(Problem::conflict("a part was removed meanwhile"));
        }
        Err(error) => return Err(error.into()),
    };
    complete(&shared, &mut upload, file, turn).await?;
    Ok(upload.into())
}

/// The file of an upload that is as it was a moment ago, for this one alone.
async fn locked(shared: &Shared, upload: &store::Upload) -> Result<Append> {
    let locked = shared.blobs.lock(upload.project_id, &upload.sha256)?;
    let Some(file) = locked else {
        return Err(Problem::conflict("another piece of this upload is being received"));
    };
    // What was known before the file was locked may be old: nothing is cut by it.
    let Some(now) = shared.store.upload(upload.project_id, &upload.sha256).await? else {
        shared.blobs.remove(upload.project_id, &upload.sha256)?;
        return Err(Problem::not_found());
    };
    if now != *upload {
        return Err(Problem::conflict("another piece of this upload was received meanwhile"));
    }
    Ok(file)
}

/// The project's uploads.
#[utoipa::path(get, path = "/v1/projects/{project}/uploads", tag = "uploads",
    params(("project" = Uuid, Path), Page), responses((status = 200, body = Listed<Upload>)))]
pub async fn list_uploads(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Upload>>> {
    let project = seen(&shared, &caller, project).await?;
    let uploads = shared.store.uploads(project.id, &page.after()?, page.fetch()).await?;
    Ok(Json(page.of(uploads, |upload| (upload.created_at, upload.sha256.clone()), Upload::from)))
}

/// How far an upload has come.
#[utoipa::path(get, path = "/v1/projects/{project}/uploads/{sha256}", tag = "uploads",
    params(("project" = Uuid, Path), ("sha256" = Digest, Path)), responses((status = 200, body = Upload)))]
pub async fn get_upload(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, sha256)): At<(Uuid, Digest)>,
) -> Result<Json<Upload>> {
    let project = seen(&shared, &caller, project).await?;
    let found = shared.store.upload(project.id, sha256.as_str()).await?;
    Ok(Json(found.ok_or_else(Problem::not_found)?.into()))
}

/// Removes an upload of which no living app was made.
#[utoipa::path(delete, path = "/v1/projects/{project}/uploads/{sha256}", tag = "uploads",
    params(("project" = Uuid, Path), ("sha256" = Digest, Path)), responses((status = 204)))]
pub async fn remove_upload(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, sha256)): At<(Uuid, Digest)>,
) -> Result<StatusCode> {
    let project = seen(&shared, &caller, project).await?;
    let digest = sha256.as_str();
    let mut work = shared.store.begin().await?;
    // Whoever makes an app of it takes the same turn.
    work.take_turn(project.id).await?;
    if work.upload_in_use(project.id, digest).await? {
        return Err(Problem::conflict("an app was made of it; stop that first"));
    }
    if !work.remove_upload(project.id, digest).await? {
        return Err(Problem::not_found());
    }
    let now = store::now();
    work.note(now, Some(caller.user_id), Some(project.id), "upload.remove", digest, "").await?;
    let Some(_held) = shared.blobs.lock(project.id, digest)? else {
        return Err(Problem::conflict("a piece of this upload is being received"));
    };
    // First the row: a file without one is swept, a row without its file would be a lie.
    work.commit().await?;
    shared.blobs.remove(project.id, digest)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Appends a piece.
#[utoipa::path(patch, path = "/v1/projects/{project}/uploads/{sha256}", tag = "uploads",
    params(("project" = Uuid, Path), ("sha256" = Digest, Path),
        ("upload-offset" = u64, Header, description = "How many bytes have come before: `received`.")),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses((status = 200, body = Upload)))]
pub async fn append_upload(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, sha256)): At<(Uuid, Digest)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Upload>> {
    let project = seen(&shared, &caller, project).await?;
    let found = shared.store.upload(project.id, sha256.as_str()).await?.ok_or_else(Problem::not_found)?;
    let essence = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !essence.is_some_and(|essence| essence.eq_ignore_ascii_case(PIECE)) {
        return Err(Problem::media_type(PIECE));
    }
    let offset: u64 = headers
        .get("upload-offset")
        .and_then(|value| value.to_str().ok())
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Problem::malformed("expected the header Upload-Offset with a number of bytes"))?;
    if found.completed_at.is_some() {
        return Err(Problem::conflict("the upload is complete"));
    }
    let place = shared.pieces.enter(caller.user_id, PIECES_OF_ONE).ok_or_else(wait_for_own)?;
    // On a task of its own: a handler is dropped with its connection, and what has come shall count.
    let task = tokio::spawn(async move {
        let _place = place;
        receive(shared, found, offset, body, caller.user_id).await
    });
    task.await.map_err(Error::from)?.map(Json)
}

async fn receive(
    shared: Arc<Shared>,
    mut upload: store::Upload,
    offset: u64,
    body: Body,
    user: Uuid,
) -> Result<Upload> {
    let mut file = locked(&shared, &upload).await?;
    file.cut(upload.received)?;
    if file.length() < upload.received {
        note(&shared, &mut upload, &file, None).await?;
    }
    if offset != upload.received {
        let received = upload.received;
        return Err(Problem::conflict(format!("expected Upload-Offset: {received}, found {offset}")));
    }
    let outcome = fill(&shared, &mut upload, &mut file, body).await;
    if file.length() > upload.received {
        file.sync()?;
        if file.length() < upload.size {
            note(&shared, &mut upload, &file, None).await?;
        }
    }
    outcome?;
    if file.length() == upload.size {
        let turn = shared.files.take_patiently(user, upload.project_id).await;
        let turn = turn.ok_or_else(Problem::unavailable)?;
        complete(&shared, &mut upload, file, turn).await?;
    }
    Ok(upload.into())
}

async fn fill(shared: &Shared, upload: &mut store::Upload, file: &mut Append, body: Body) -> Result<()> {
    let mut pieces = body.into_data_stream();
    loop {
        let next = tokio::time::timeout(PATIENCE, pieces.next()).await.map_err(|_| Problem::too_slow())?;
        let Some(piece) = next else { return Ok(()) };
        let piece =
            piece.map_err(|_| Problem::malformed("expected a whole body; the connection ended before it"))?;
        if file.length() + piece.len() as u64 > upload.size {
            return Err(Problem::invalid(format!("expected {} bytes in all, found more", upload.size)));
        }
        tokio::task::block_in_place(|| file.write(&piece))?;
        let new = file.length() - upload.received;
        if new >= NOTED && file.length() < upload.size {
            tokio::task::block_in_place(|| file.sync())?;
            note(shared, upload, file, None).await?;
        }
    }
}

/// Notes how long the file is.
async fn note(
    shared: &Shared,
    upload: &mut store::Upload,
    file: &Append,
    completed_at: Option<Timestamp>,
) -> Result<()> {
    let mut work = shared.store.begin().await?;
    if !work.advance_upload(upload, file.length(), completed_at).await? {
        return Err(Problem::conflict("the upload was removed meanwhile"));
    }
    work.commit().await?;
    upload.received = file.length();
    upload.completed_at = completed_at;
    Ok(())
}

/// All has come: the digest decides.
async fn complete(shared: &Shared, upload: &mut store::Upload, file: Append, turn: Turn) -> Result<()> {
    let hash = tokio::task::spawn_blocking(move || {
        let (_turn, mut file) = (turn, file);
        file.sha256().map(|digest| (file, digest))
    });
    let (file, found) = hash.await.map_err(Error::from)??;
    if found == upload.sha256 {
        return note(shared, upload, &file, Some(store::now())).await;
    }
    let mut work = shared.store.begin().await?;
    work.remove_upload(upload.project_id, &upload.sha256).await?;
    shared.blobs.remove(upload.project_id, &upload.sha256)?;
    work.commit().await?;
    Err(Problem::invalid(format!(
        "expected bytes with the SHA-256 {}, found {found}; the upload was removed",
        upload.sha256
    )))
}
