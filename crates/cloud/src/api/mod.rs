//! The API: `/v1/...` over HTTPS, described by the document at `/v1/openapi.json`.
//!
//! One file per kind of thing. Every handler names its caller first, so that nothing of a request is looked at before
//! its token; what is another's is answered as what does not exist. Every answer that is no success is a
//! [`problem::Problem`].

mod apps;
mod document;
pub mod extract;
pub mod figures;
pub mod limits;
mod once;
mod operations;
mod people;
mod plans;
pub mod problem;
mod projects;
mod uploads;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::{HeaderValue, header};
use runtime::Runtime;
use tokio::sync::{Notify, Semaphore, oneshot};
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub use self::once::REMEMBERED;
pub use self::operations::Operator;
use crate::api::figures::Figures;
use crate::api::limits::{Buckets, Places, Rate};
use crate::api::problem::Problem;
use crate::blobs::Blobs;
use crate::error::Error;
use crate::placement::Room;
use crate::pulse::Pulse;
use crate::reader::PackageReader;
use crate::store::{Quota, Store};
use crate::turns::{Turn, Turns};

/// Packages opened, uploads put together or hashed, and logs read at once; of one user, and of one project, one each.
const PACKAGES: usize = 2;
const FILES: usize = 2;
const LOGS: usize = 4;

/// Pieces of uploads that one user sends at once.
const PIECES_OF_ONE: usize = 16;

/// Logs followed at once, by all and by one user.
const FOLLOWERS: usize = 64;
const FOLLOWERS_OF_ONE: usize = 16;

/// What clients may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How often one user may ask, with however many tokens.
    pub caller: Rate,
    /// How often one address may fail to show a token.
    pub stranger: Rate,
    /// Projects of one user.
    pub projects_per_user: u64,
    /// What a new project may use.
    pub project: Quota,
    /// The largest upload, in bytes.
    pub upload_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            caller: Rate { per_second: 50.0, burst: 200.0 },
            stranger: Rate { per_second: 1.0, burst: 20.0 },
            projects_per_user: 20,
            project: Quota { max_apps: 20, max_memory_mb: 64 * 1024, max_upload_bytes: 20 << 30 },
            upload_bytes: 8 << 30,
        }
    }
}

/// What all handlers share.
pub struct Shared {
    pub(crate) store: Store,
    pub(crate) blobs: Blobs,
    pub(crate) nodes: Arc<dyn Runtime>,
    pub(crate) identity: Operator,
    pub(crate) capacity: Room,
    pub(crate) limits: Limits,
    pub(crate) figures: Figures,
    /// Tells the reconciler that something is wanted.
    pub(crate) wake: Arc<Notify>,
    pub(crate) ending: AtomicBool,
    pub(crate) pulse: Arc<Pulse>,
    /// The public port, once there is one.
    pub(crate) public: OnceLock<router::Router>,
    callers: Buckets<Uuid>,
    strangers: Buckets<IpAddr>,
    reader: Arc<dyn PackageReader>,
    packages: Turns,
    files: Turns,
    logs: Turns,
    pieces: Places<Uuid>,
    followers: Arc<Semaphore>,
    following: Places<Uuid>,
    document: Bytes,
}

impl Shared {
    /// What handlers need.
    pub fn new(
        store: Store,
        blobs: Blobs,
        nodes: Arc<dyn Runtime>,
        reader: Arc<dyn PackageReader>,
        identity: Operator,
        capacity: Room,
        limits: Limits,
    ) -> Shared {
        Shared {
            store,
            blobs,
            nodes,
            identity,
            capacity,
            limits,
            figures: Figures::default(),
            wake: Arc::new(Notify::new()),
            ending: AtomicBool::new(false),
            pulse: Arc::default(),
            public: OnceLock::new(),
            callers: Buckets::new(limits.caller),
            strangers: Buckets::new(limits.stranger),
            reader,
            packages: Turns::new(PACKAGES),
            files: Turns::new(FILES),
            logs: Turns::new(LOGS),
            pieces: Places::default(),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            following: Places::default(),
            document: document::text().into(),
        }
    }

    /// What tells the reconciler that something is wanted.
    pub fn wake(&self) -> Arc<Notify> {
        self.wake.clone()
    }

    /// Figures of the public port are told from now on.
    pub fn has_public_port(&self, router: router::Router) {
        let _ = self.public.set(router);
    }

    /// Where the reconciler shows that it lives.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// From now on the backend says that it is not ready.
    pub fn end(&self) {
        self.ending.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Work on another thread that costs much, with its turn, which ends with the work. It is told when the request it is for
/// has ended, and may end early then.
async fn work<T: Send + 'static>(
    turn: Turn,
    act: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static,
) -> std::result::Result<T, Error> {
    // The receiver is dropped with the request.
    let (sender, _request) = oneshot::channel::<()>();
    let done = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        act(&|| sender.is_closed())
    });
    Ok(done.await?)
}

/// The answer to somebody of whom too much waits already.
fn wait_for_own() -> Problem {
    Problem::too_many(5)
}

/// Every route there is. None is added but with its description.
fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::with_openapi(document::head())
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::document))
        .routes(routes!(operations::operator))
        .routes(routes!(operations::audit))
        .routes(routes!(people::me))
        .routes(routes!(people::create_user, people::list_users))
        .routes(routes!(people::get_user, people::disable_user))
        .routes(routes!(people::create_user_token))
        .routes(routes!(people::create_token, people::list_tokens))
        .routes(routes!(people::end_token))
        .routes(routes!(plans::create_plan, plans::list_plans))
        .routes(routes!(plans::retire_plan))
        .routes(routes!(projects::create_project, projects::list_projects))
        .routes(routes!(projects::get_project, projects::remove_project))
        .routes(routes!(projects::set_quota))
        .routes(routes!(projects::list_members))
        .routes(routes!(projects::set_member, projects::remove_member))
        .routes(routes!(operations::project_audit))
        .routes(routes!(apps::create_app, apps::list_apps))
        .routes(routes!(apps::get_app))
        .routes(routes!(apps::stop_app))
        .routes(routes!(apps::app_logs))
        .routes(routes!(uploads::list_uploads))
        .routes(routes!(uploads::assemble_upload))
        .routes(routes!(
            uploads::announce_upload,
            uploads::get_upload,
            uploads::remove_upload,
            uploads::append_upload
        ))
        // Of JSON bodies. Pieces of uploads are counted by their handler.
        .layer(DefaultBodyLimit::max(extract::BODY_LIMIT))
}

/// The whole API.
pub fn router(shared: Arc<Shared>) -> Router {
    let (router, _) = routes().split_for_parts();
    router
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(middleware::from_fn_with_state(shared.clone(), around))
        .with_state(shared)
}

/// Around every request: a line in the log, a figure, headers, and an answer even where a handler panics.
async fn around(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().as_str().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let id = Uuid::new_v4();
    // The pattern, not the address: identifiers of things are nobody's business but their owners'.
    let span = tracing::info_span!("request", %id, %method, %route, user = tracing::field::Empty);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|_| {
        span.in_scope(|| tracing::error!("a handler panicked"));
        Problem::panicked().into_response()
    });
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert("x-request-id", id);
    }
    let (status, time) = (response.status().as_u16(), started.elapsed());
    span.in_scope(|| tracing::info!(status, milliseconds = time.as_millis() as u64, "answered"));
    // Methods are the client's own words; those that no route has are counted as one.
    let method = if route == "none" || status == 405 { "other" } else { method.as_str() };
    shared.figures.request(method, &route, status, time);
    response
}
