//! `/v1/projects/{project}/apps`, `/v1/apps`: what runs.
//!
//! What is said here of a node is the operator's word. Owners and users ask the node itself.

use std::io::Write;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use runtime::{NodeName, Runtime};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::extract::{Asked, Asking, At, Caller, Digest, IdempotencyKey, Limit, Listed, Name, Page};
use crate::api::once::{Begun, Created, Once};
use crate::api::problem::{Problem, Result};
use crate::api::projects::seen;
use crate::api::{FOLLOWERS_OF_ONE, Shared, wait_for_own, work};
use crate::lifecycle;
use crate::placement::Room;
use crate::reader::Refused;
use crate::store::{self, NewApp};
use crate::tls_mode::TlsMode;

/// How long an app runs whose maker says nothing of it.
const DAYS: i64 = 30;

/// The longest life of an app, in days.
const MOST_DAYS: i64 = 3650;

/// The end of the log that is shown, in bytes.
const LOG: usize = 1024 * 1024;

/// An app.
#[derive(Debug, Serialize, ToSchema)]
pub struct App {
    id: Uuid,
    project: Uuid,
    #[schema(value_type = Name)]
    name: String,
    /// Its plan's name.
    plan: String,
    /// Enclave size in MB.
    enclave_mb: u64,
    /// Processor cores.
    cores: u64,
    tls: TlsMode,
    /// SHA-256 of its package.
    #[schema(value_type = Digest)]
    package: String,
    /// What its owner wants.
    wanted: lifecycle::Wanted,
    /// How it is doing.
    state: lifecycle::State,
    /// The same in words: what it waits for, what went wrong.
    message: String,
    /// The name users call it by.
    domain: String,
    /// The name its owner configures it by.
    config_domain: String,
    /// The operator's word for the fingerprint; null before its node was made. Compare with your own.
    #[schema(required = true)]
    fingerprint: Option<String>,
    created_by: Uuid,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it became what it is.
    #[schema(value_type = String, format = DateTime)]
    changed_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    /// When it ended.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    stopped_at: Option<Timestamp>,
}

impl App {
    fn of(shared: &Shared, app: store::App) -> App {
        App {
            domain: app.domain.unwrap_or_else(|| shared.identity.domain_of(app.id)),
            config_domain: shared.identity.config_domain_of(app.id),
            id: app.id,
            project: app.project_id,
            name: app.name,
            plan: app.plan,
            enclave_mb: app.enclave_mb,
            cores: app.cores,
            tls: app.tls,
            package: app.package,
            wanted: app.wanted,
            state: app.actual,
            message: app.message,
            fingerprint: app.fingerprint,
            created_by: app.created_by,
            created_at: app.created_at,
            changed_at: app.changed_at,
            expires_at: app.expires_at,
            stopped_at: app.stopped_at,
        }
    }
}

/// What makes an app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppOrder {
    name: Name,
    /// The name of a plan on offer.
    plan: Name,
    /// SHA-256 of its package: a complete upload of the same project.
    package: Digest,
    /// Where users' TLS ends.
    #[serde(default)]
    tls: TlsMode,
    /// When it ends by itself; absent for 30 days from now. At most ten years from now.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// The name that users call it by, with `owner-certificate` and only then: not one of the operator's.
    #[schema(max_length = 253)]
    domain: Option<String>,
}

/// Which apps.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Which {
    /// Those too that have ended.
    #[param(required = false)]
    #[serde(default)]
    all: bool,
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = json!(50), required = false, value_type = u32)]
    #[serde(default)]
    limit: Limit,
    /// Where to go on: `next` of the page before.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$", required = false, value_type = String)]
    cursor: Option<super::extract::Cursor>,
}

/// An app that the caller may see.
async fn found(shared: &Shared, caller: &Caller, app: Uuid) -> Result<store::App> {
    let found = shared.store.app(app, caller.user_id, caller.is_operator).await?;
    found.ok_or_else(Problem::not_found)
}

/// Makes an app of a package that was uploaded. It starts when there is room for it, in the order of asking.
#[utoipa::path(post, path = "/v1/projects/{project}/apps", tag = "apps", params(("project" = Uuid, Path)),
    request_body = AppOrder, responses((status = 201, body = App)))]
pub async fn create_app(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
    key: IdempotencyKey,
    asked: Asked<AppOrder>,
) -> Result<Response> {
    let project = seen(&shared, &caller, project).await?;
    let new = &asked.value;
    let now = store::now();
    // What was made before is answered as it was, whatever became of its package since.
    if key.0.is_some()
        && let Begun::Before(created) = Once::begin(&shared, &caller, &key, &asked.digest, now).await?
    {
        return Ok(created.into_response());
    }
    let expires_at = new.expires_at.unwrap_or(now + SignedDuration::from_hours(24 * DAYS));
    if expires_at <= now || expires_at > now + SignedDuration::from_hours(24 * MOST_DAYS) {
        return Err(Problem::invalid("expires_at: expected a time to come, within ten years"));
    }
    check_domain(&shared, new)?;
    // Before the transaction, which holds up others: reading a package takes a while.
    check_package(&shared, &caller, project.id, new).await?;

    let mut once = match Once::begin(&shared, &caller, &key, &asked.digest, now).await? {
        Begun::Before(created) => return Ok(created.into_response()),
        Begun::Now(once) => once,
    };
    let work = &mut once.work;
    let quota = work.take_turn(project.id).await?.ok_or_else(Problem::not_found)?;
    let plan = work.plan_named(new.plan.as_str()).await?.ok_or_else(|| {
        Problem::invalid(format!("plan: no plan named '{}' is on offer", new.plan.as_str()))
    })?;
    let whole = shared.capacity;
    if !whole.holds(Room { memory_mb: plan.enclave_mb, cores: plan.cores }) {
        return Err(Problem::invalid(format!(
            "plan: '{}' is larger than all there is here: {} MB and {} cores",
            plan.name, whole.memory_mb, whole.cores
        )));
    }
    let (apps, memory_mb) = work.wanted_of_project(project.id).await?;
    if apps >= quota.max_apps || memory_mb.saturating_add(plan.enclave_mb) > quota.max_memory_mb {
        return Err(Problem::quota(format!(
            "expected at most {} apps of {} MB together in this project; there are {apps} of {memory_mb} MB",
            quota.max_apps, quota.max_memory_mb
        )));
    }
    // Once more, in turn: it may have been removed since.
    let upload = work.upload(project.id, new.package.as_str()).await?;
    if upload.is_none_or(|upload| upload.completed_at.is_none()) {
        return Err(no_package());
    }
    let app = NewApp {
        id: Uuid::new_v4(),
        project_id: project.id,
        name: new.name.as_str(),
        plan: &plan,
        tls: new.tls,
        domain: new.domain.as_deref(),
        package: new.package.as_str(),
        created_by: caller.user_id,
        created_at: now,
        expires_at,
    };
    if let Some(domain) = &new.domain
        && work.domain_in_use(domain).await?
    {
        return Err(Problem::conflict(format!("domain: '{domain}' leads to an app already")));
    }
    if !work.add_app(&app).await? {
        // An order for the same domain may have been faster, too.
        return Err(Problem::conflict(match app.domain {
            None => format!(
                "there is an app named '{}' in this project; stop it first, or choose another name",
                app.name
            ),
            Some(domain) => {
                format!("there is an app named '{}' in this project, or one for '{domain}'", app.name)
            }
        }));
    }
    let id = app.id.to_string();
    let detail = format!("{} on {}", app.name, plan.name);
    work.note(now, Some(caller.user_id), Some(project.id), "app.create", &id, &detail).await?;
    let made = work.app(app.id).await?.ok_or_else(Problem::not_found)?;
    let created = Created::new(format!("/v1/apps/{id}"), &App::of(&shared, made));
    let response = once.finish(created).await?;
    shared.wake.notify_one();
    Ok(response)
}

fn no_package() -> Problem {
    Problem::invalid("package: expected the digest of a complete upload of this project")
}

/// Whether the name that an owner brings can be one: a host name in its one form, and none of the operator's.
fn check_domain(shared: &Shared, new: &AppOrder) -> Result<()> {
    let Some(domain) = &new.domain else {
        return match new.tls {
            TlsMode::OwnerCertificate => {
                Err(Problem::invalid("domain: expected the name of the owner's certificate"))
            }
            _ => Ok(()),
        };
    };
    if new.tls != TlsMode::OwnerCertificate {
        return Err(Problem::invalid("domain: expected none but with 'owner-certificate'"));
    }
    let is_plain = domain.parse::<router::Name>().is_ok_and(|name| name.to_string() == *domain);
    if !is_plain || !domain.contains('.') {
        return Err(Problem::invalid("domain: expected a host name in lower case, with a dot in it"));
    }
    let own = shared.identity.domain.to_ascii_lowercase();
    let is_below = |name: &str, other: &str| {
        name == other || name.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'))
    };
    if is_below(domain, &own) || is_below(&own, domain) {
        return Err(Problem::invalid("domain: expected a name of the owner's, not one of the operator's"));
    }
    Ok(())
}

/// Whether the upload is complete, and a package that was made for this TLS mode.
async fn check_package(shared: &Shared, caller: &Caller, project: Uuid, new: &AppOrder) -> Result<()> {
    let sha256 = new.package.as_str();
    let upload = shared.store.upload(project, sha256).await?;
    if upload.is_none_or(|upload| upload.completed_at.is_none()) {
        return Err(no_package());
    }
    // What the node is made of depends on the size, too; an unknown plan is refused later on.
    let plan = shared.store.begin().await?.plan_named(new.plan.as_str()).await?;
    let size_mb = plan.map_or(package::fingerprint::SIZES[0], |plan| plan.enclave_mb);
    let path = shared.blobs.path(project, sha256);
    let turn = shared.packages.take(caller.user_id, project).await.ok_or_else(wait_for_own)?;
    let reader = shared.reader.clone();
    let opened = work(turn, move |given_up| reader.read(&path, size_mb, given_up));
    match opened.await? {
        Ok(found) if found.tls_mode == new.tls.measured() => Ok(()),
        Ok(_) => Err(Problem::invalid(format!(
            "tls: expected a package that was made for '{}'; the mode is measured",
            new.tls
        ))),
        Err(refused) if refused.is_of_package() => Err(Problem::invalid(format!("package: {refused}"))),
        Err(Refused::GivenUp) => Err(Problem::unavailable()),
        Err(broken) => {
            tracing::error!(%broken, "a package could not be read");
            Err(Problem::panicked())
        }
    }
}

/// A project's apps.
#[utoipa::path(get, path = "/v1/projects/{project}/apps", tag = "apps",
    params(("project" = Uuid, Path), Which), responses((status = 200, body = Listed<App>)))]
pub async fn list_apps(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
    Asking(which): Asking<Which>,
) -> Result<Json<Listed<App>>> {
    let project = seen(&shared, &caller, project).await?;
    let page = Page { limit: which.limit, cursor: which.cursor };
    let apps = shared.store.apps(project.id, which.all, &page.after()?, page.fetch()).await?;
    Ok(Json(page.of(apps, |app| (app.created_at, app.id.to_string()), |app| App::of(&shared, app))))
}

/// One app.
#[utoipa::path(get, path = "/v1/apps/{app}", tag = "apps", params(("app" = Uuid, Path)),
    responses((status = 200, body = App)))]
pub async fn get_app(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(app): At<Uuid>,
) -> Result<Json<App>> {
    let app = found(&shared, &caller, app).await?;
    Ok(Json(App::of(&shared, app)))
}

/// Stops an app, for good; one that is stopped stays so. Its node and its state are removed.
#[utoipa::path(post, path = "/v1/apps/{app}/stop", tag = "apps", params(("app" = Uuid, Path)),
    responses((status = 202, body = App)))]
pub async fn stop_app(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(app): At<Uuid>,
) -> Result<(StatusCode, Json<App>)> {
    let app = found(&shared, &caller, app).await?;
    let mut work = shared.store.begin().await?;
    if work.want_stopped(app.id).await? {
        let (user, project) = (Some(caller.user_id), Some(app.project_id));
        work.note(store::now(), user, project, "app.stop", &app.id.to_string(), &app.name).await?;
    }
    let app = work.app(app.id).await?.ok_or_else(Problem::not_found)?;
    work.commit().await?;
    shared.wake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(App::of(&shared, app))))
}

/// How much of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct HowMuch {
    /// All of it, and then what is added, until the node ends.
    #[param(required = false)]
    #[serde(default)]
    follow: bool,
}

/// What the operator sees of an app's log: at most the last MiB, unless it is followed. Empty before its node was made
/// and after it ended.
#[utoipa::path(get, path = "/v1/apps/{app}/logs", tag = "apps", params(("app" = Uuid, Path), HowMuch),
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8")))]
pub async fn app_logs(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(app): At<Uuid>,
    Asking(how_much): Asking<HowMuch>,
) -> Result<Response> {
    let app = found(&shared, &caller, app).await?;
    let name = app.node.and_then(|node| node.parse::<NodeName>().ok());
    // What the application printed may be anything.
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    let nodes = shared.nodes.clone();
    if how_much.follow {
        let own = shared.following.enter(caller.user_id, FOLLOWERS_OF_ONE).ok_or_else(|| {
            Problem::quota(format!("expected at most {FOLLOWERS_OF_ONE} logs that one user follows at once"))
        })?;
        let place = shared.followers.clone().try_acquire_owned().map_err(|_| Problem::unavailable())?;
        let (reader, mut out) = Follower::pair();
        tokio::task::spawn_blocking(move || {
            let _places = (own, place);
            // However it ends, the reader sees the end of the log.
            name.map(|name| nodes.logs(&name, true, &mut out))
        });
        return Ok((headers, Body::from_stream(reader)).into_response());
    }
    let turn = shared.logs.take(caller.user_id, app.project_id).await.ok_or_else(wait_for_own)?;
    let log = work(turn, move |given_up| tail(nodes.as_ref(), name, given_up)).await?;
    let log = log.map_err(crate::Error::from)?;
    Ok((headers, String::from_utf8_lossy(&log).into_owned()).into_response())
}

/// Hands on what is written, as text, to somebody who may be gone.
struct Follower(mpsc::Sender<std::io::Result<Bytes>>);

impl Follower {
    /// What is written to the second is read from the first. A reader that is slow holds up the writer.
    fn pair() -> (impl Stream<Item = std::io::Result<Bytes>>, Follower) {
        let (sender, receiver) = mpsc::channel(16);
        let reader = stream::unfold(receiver, |mut receiver| async move {
            let next = receiver.recv().await?;
            Some((next, receiver))
        });
        (reader, Follower(sender))
    }

    fn gone() -> std::io::Error {
        std::io::ErrorKind::BrokenPipe.into()
    }
}

impl Write for Follower {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.0.blocking_send(Ok(text.into())).map_err(|_| Follower::gone())?;
        Ok(bytes.len())
    }

    /// Called also where nothing is written: the reader may be gone.
    fn flush(&mut self) -> std::io::Result<()> {
        if self.0.is_closed() { Err(Follower::gone()) } else { Ok(()) }
    }
}

fn tail(
    nodes: &dyn Runtime,
    name: Option<NodeName>,
    given_up: &dyn Fn() -> bool,
) -> std::result::Result<Vec<u8>, runtime::Error> {
    let mut tail = Tail { end: Vec::new(), given_up };
    match name.map(|name| nodes.log_end(&name, LOG as u64, &mut tail)) {
        None | Some(Ok(()) | Err(runtime::Error::NoSuchNode { .. })) => Ok(tail.end()),
        Some(Err(error)) => Err(error),
    }
}

/// Keeps the end of what is written, until nobody waits for it any more.
struct Tail<'a> {
    end: Vec<u8>,
    given_up: &'a dyn Fn() -> bool,
}

impl Tail<'_> {
    fn end(mut self) -> Vec<u8> {
        self.end.split_off(self.end.len().saturating_sub(LOG))
    }
}

impl Write for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.given_up)() {
            return Err(Follower::gone());
        }
        self.end.extend_from_slice(bytes);
        if self.end.len() > 4 * LOG {
            self.end.drain(..self.end.len() - LOG);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let mut tail = Tail { end: Vec::new(), given_up: &|| false };
        for n in 0..10u8 {
            tail.write_all(&vec![n; LOG]).unwrap();
            assert!(tail.end.len() <= 5 * LOG);
        }
        assert_eq!(tail.end(), vec![9; LOG]);
        assert!(Tail { end: Vec::new(), given_up: &|| true }.write_all(b"x").is_err(), "nobody waits");
    }

    #[test]
    fn a_log_is_followed_until_one_end_is_gone() {
        use futures_util::StreamExt;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (reader, mut out) = Follower::pair();
        let writer = std::thread::spawn(move || {
            out.write_all(b"one ").unwrap();
            out.flush().unwrap();
            out.write_all("tw\u{f6}".as_bytes()).unwrap();
        });
        let pieces: Vec<_> = runtime.block_on(reader.collect());
        writer.join().unwrap();
        let text: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        assert_eq!(text, "one tw\u{f6}".as_bytes());

        let (reader, mut out) = Follower::pair();
        drop(reader);
        assert!(out.flush().is_err(), "nobody reads, though nothing is written");
        assert!(out.write(b"x").is_err());
    }
}
