//! For those who run the backend, and for its clients' first question: `/healthz`, `/readyz`, `/metrics`,
//! `/v1/operator`, `/v1/audit`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::extract::{Asking, At, Caller, Listed, Page};
use crate::api::problem::{Problem, Result};
use crate::api::projects::seen;
use crate::api::{Shared, figures};
use crate::store;

/// A deed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deed {
    id: Uuid,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who; null for the backend itself.
    #[schema(required = true)]
    user_id: Option<Uuid>,
    /// In which project.
    #[schema(required = true)]
    project_id: Option<Uuid>,
    /// What, such as `app.create`.
    action: String,
    /// To what.
    object: String,
    /// In words.
    detail: String,
}

impl From<store::Entry> for Deed {
    fn from(entry: store::Entry) -> Deed {
        Deed {
            id: entry.id,
            at: entry.at,
            user_id: entry.user_id,
            project_id: entry.project_id,
            action: entry.action,
            object: entry.object,
            detail: entry.detail,
        }
    }
}

/// Who runs the backend, in its own words: what a client records when it logs in, and compares from then on.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Operator {
    /// Version of the backend.
    pub version: String,
    /// Apps are `<id>.<domain>`.
    pub domain: String,
    /// Where the public port is.
    pub router: String,
    /// MRSIGNER of every node here: SHA-256 of the signer's modulus, in hex.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub mrsigner: String,
    /// What makes quotes: `simulated` or `sgx`.
    pub platform: String,
    /// What starts nodes: `process` or `docker`.
    pub runtime: String,
    /// Where collateral for their quotes is, if not at Intel's service.
    #[schema(required = true)]
    pub pccs: Option<String>,
    /// The root of the simulator (PEM), where the platform is simulated. It proves nothing.
    #[schema(required = true)]
    pub simulated_root: Option<String>,
}

impl Operator {
    /// The name users call an app by.
    pub fn domain_of(&self, app: Uuid) -> String {
        format!("{}.{}", app.simple(), self.domain)
    }

    /// The name an app's owner configures it by.
    pub fn config_domain_of(&self, app: Uuid) -> String {
        format!("{}.config.{}", app.simple(), self.domain)
    }
}

/// Who runs this backend.
#[utoipa::path(get, path = "/v1/operator", tag = "operations", responses((status = 200, body = Operator)))]
pub async fn operator(_: Caller, State(shared): State<Arc<Shared>>) -> Json<Operator> {
    Json(shared.identity.clone())
}

/// Who did what, oldest first. Operators only.
#[utoipa::path(get, path = "/v1/audit", tag = "operations", params(Page),
    responses((status = 200, body = Listed<Deed>)))]
pub async fn audit(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Deed>>> {
    caller.require_operator()?;
    let entries = shared.store.audit(None, &page.after()?, page.fetch()).await?;
    Ok(Json(page.of(entries, |entry| (entry.at, entry.id.to_string()), Deed::from)))
}

/// Who did what in a project, oldest first.
#[utoipa::path(get, path = "/v1/projects/{project}/audit", tag = "projects",
    params(("project" = Uuid, Path), Page), responses((status = 200, body = Listed<Deed>)))]
pub async fn project_audit(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Deed>>> {
    let project = seen(&shared, &caller, project).await?;
    let entries = shared.store.audit(Some(project.id), &page.after()?, page.fetch()).await?;
    Ok(Json(page.of(entries, |entry| (entry.at, entry.id.to_string()), Deed::from)))
}

/// Whether the backend runs.
#[utoipa::path(get, path = "/healthz", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the backend can do its work: its database answers, apps are cared for, and it is not about to end.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()),
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8"),
        (status = 503, body = Problem, content_type = "application/problem+json")))]
pub async fn readyz(State(shared): State<Arc<Shared>>) -> Result<&'static str> {
    let ending = shared.ending.load(std::sync::atomic::Ordering::Relaxed);
    let cared_for = shared.pulse.is_alive(std::time::Instant::now());
    if ending || !cared_for || shared.store.ping().await.is_err() {
        return Err(Problem::unavailable());
    }
    Ok("ok\n")
}

/// Figures in the text format of Prometheus, version 0.0.4. Operators only.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, body = String, content_type = "text/plain; version=0.0.4; charset=utf-8")))]
pub async fn metrics(caller: Caller, State(shared): State<Arc<Shared>>) -> Result<Response> {
    caller.require_operator()?;
    let apps = shared.store.count_apps().await?;
    let taken = shared.store.taken().await?;
    let mut text = shared.figures.render(&apps, shared.capacity, taken.room);
    if let Some(router) = shared.public.get() {
        text.push_str(&figures::of_router(router.metrics()));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

/// This API, as an OpenAPI 3.1 document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "operations", security(()),
    responses((status = 200, body = Object, content_type = "application/json")))]
pub async fn document(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.document.clone()).into_response()
}
