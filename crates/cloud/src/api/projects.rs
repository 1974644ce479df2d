//! `/v1/projects`: what belongs together, who may touch it, and how much it may use.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Shared;
use crate::api::extract::{Asked, Asking, At, Caller, IdempotencyKey, Listed, Name, Page};
use crate::api::once::{Begun, Created, Once};
use crate::api::problem::{Problem, Result};
use crate::store::{self, Quota, Role};

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub struct Project {
    id: Uuid,
    #[schema(value_type = Name)]
    name: String,
    created_by: Uuid,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    quota: Quota,
    /// What the caller may do in it; null for an operator who does not belong to it.
    #[schema(required = true)]
    role: Option<Role>,
}

impl From<store::Project> for Project {
    fn from(project: store::Project) -> Project {
        Project {
            id: project.id,
            name: project.name,
            created_by: project.created_by,
            created_at: project.created_at,
            quota: project.quota,
            role: project.role,
        }
    }
}

/// What makes a project.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    name: Name,
}

/// Somebody who belongs to a project.
#[derive(Debug, Serialize, ToSchema)]
pub struct Member {
    user_id: Uuid,
    #[schema(value_type = Name)]
    name: String,
    role: Role,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// What a member may do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    role: Role,
}

/// A project that the caller may see: its own, or any for an operator.
pub(crate) async fn seen(shared: &Shared, caller: &Caller, project: Uuid) -> Result<store::Project> {
    let found = shared.store.project(project, caller.user_id, caller.is_operator).await?;
    found.ok_or_else(Problem::not_found)
}

/// A project that the caller may change as an owner does.
async fn owned(shared: &Shared, caller: &Caller, project: Uuid) -> Result<store::Project> {
    let project = seen(shared, caller, project).await?;
    if project.role == Some(Role::Owner) || caller.is_operator {
        return Ok(project);
    }
    Err(Problem::forbidden("expected an owner of the project; the caller is a member"))
}

/// Makes a project, and the caller its owner.
#[utoipa::path(post, path = "/v1/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, body = Project)))]
pub async fn create_project(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    key: IdempotencyKey,
    asked: Asked<NewProject>,
) -> Result<Response> {
    let now = store::now();
    let mut once = match Once::begin(&shared, &caller, &key, &asked.digest, now).await? {
        Begun::Before(created) => return Ok(created.into_response()),
        Begun::Now(once) => once,
    };
    let most = shared.limits.projects_per_user;
    if once.work.count_projects(caller.user_id).await? >= most {
        return Err(Problem::quota(format!("expected at most {most} projects of one user")));
    }
    let project = store::Project {
        id: Uuid::new_v4(),
        name: asked.value.name.as_str().to_owned(),
        created_by: caller.user_id,
        created_at: now,
        quota: shared.limits.project,
        role: Some(Role::Owner),
    };
    if !once.work.add_project(&project).await? {
        return Err(Problem::conflict(format!("the caller has a project named '{}'", project.name)));
    }
    let id = project.id.to_string();
    once.work.note(now, Some(caller.user_id), Some(project.id), "project.create", &id, &project.name).await?;
    once.finish(Created::new(format!("/v1/projects/{id}"), &Project::from(project))).await
}

/// The projects that the caller belongs to; all for an operator.
#[utoipa::path(get, path = "/v1/projects", tag = "projects", params(Page),
    responses((status = 200, body = Listed<Project>)))]
pub async fn list_projects(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Project>>> {
    let projects =
        shared.store.projects(caller.user_id, caller.is_operator, &page.after()?, page.fetch()).await?;
    Ok(Json(page.of(projects, |project| (project.created_at, project.id.to_string()), Project::from)))
}

/// One project.
#[utoipa::path(get, path = "/v1/projects/{project}", tag = "projects", params(("project" = Uuid, Path)),
    responses((status = 200, body = Project)))]
pub async fn get_project(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
) -> Result<Json<Project>> {
    Ok(Json(seen(&shared, &caller, project).await?.into()))
}

/// Removes a project in which there never was an app, and its uploads. Owners only.
#[utoipa::path(delete, path = "/v1/projects/{project}", tag = "projects", params(("project" = Uuid, Path)),
    responses((status = 204)))]
pub async fn remove_project(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
) -> Result<StatusCode> {
    let project = owned(&shared, &caller, project).await?;
    let now = store::now();
    let mut work = shared.store.begin().await?;
    if !work.remove_project(project.id).await? {
        return Err(Problem::conflict("there are, or were, apps in it, and their record stays"));
    }
    let id = project.id.to_string();
    work.note(now, Some(caller.user_id), Some(project.id), "project.remove", &id, &project.name).await?;
    work.commit().await?;
    shared.blobs.remove_project(project.id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what a project may use. Operators only.
#[utoipa::path(put, path = "/v1/projects/{project}/quota", tag = "projects",
    params(("project" = Uuid, Path)), request_body = Quota, responses((status = 200, body = Project)))]
pub async fn set_quota(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
    asked: Asked<Quota>,
) -> Result<Json<Project>> {
    caller.require_operator()?;
    let quota = asked.value;
    let within = quota.max_apps <= 1_000_000
        && quota.max_memory_mb <= 1_000_000_000
        && quota.max_upload_bytes <= 1_000_000_000_000_000;
    if !within {
        return Err(Problem::invalid(
            "quota: expected at most 1000000 apps, 1000000000 MB and 1000000000000000 bytes",
        ));
    }
    let mut work = shared.store.begin().await?;
    if !work.set_quota(project, quota).await? {
        return Err(Problem::not_found());
    }
    let detail = format!(
        "{} apps, {} MB, {} bytes of uploads",
        quota.max_apps, quota.max_memory_mb, quota.max_upload_bytes
    );
    let id = project.to_string();
    work.note(store::now(), Some(caller.user_id), Some(project), "project.quota", &id, &detail).await?;
    work.commit().await?;
    Ok(Json(seen(&shared, &caller, project).await?.into()))
}

/// Who belongs to a project.
#[utoipa::path(get, path = "/v1/projects/{project}/members", tag = "projects",
    params(("project" = Uuid, Path), Page), responses((status = 200, body = Listed<Member>)))]
pub async fn list_members(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(project): At<Uuid>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Member>>> {
    let project = seen(&shared, &caller, project).await?;
    let members = shared.store.members(project.id, &page.after()?, page.fetch()).await?;
    let show = |member: store::Member| Member {
        user_id: member.user_id,
        name: member.name,
        role: member.role,
        created_at: member.created_at,
    };
    Ok(Json(page.of(members, |member| (member.created_at, member.user_id.to_string()), show)))
}

/// Makes a user belong to a project, or changes what it may do there. Owners only.
#[utoipa::path(put, path = "/v1/projects/{project}/members/{user}", tag = "projects",
    params(("project" = Uuid, Path), ("user" = Uuid, Path)), request_body = NewRole,
    responses((status = 204)))]
pub async fn set_member(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, user)): At<(Uuid, Uuid)>,
    asked: Asked<NewRole>,
) -> Result<StatusCode> {
    let project = owned(&shared, &caller, project).await?;
    let now = store::now();
    let mut work = shared.store.begin().await?;
    // Owners are counted one transaction at a time.
    work.take_turn(project.id).await?;
    if !work.set_member(project.id, user, asked.value.role, now).await? {
        return Err(Problem::not_found());
    }
    require_an_owner(&mut work, project.id).await?;
    let detail = asked.value.role.to_string();
    let id = user.to_string();
    work.note(now, Some(caller.user_id), Some(project.id), "member.set", &id, &detail).await?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a user's belonging to a project. Owners only, or oneself.
#[utoipa::path(delete, path = "/v1/projects/{project}/members/{user}", tag = "projects",
    params(("project" = Uuid, Path), ("user" = Uuid, Path)), responses((status = 204)))]
pub async fn remove_member(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At((project, user)): At<(Uuid, Uuid)>,
) -> Result<StatusCode> {
    let project = match user == caller.user_id {
        true => seen(&shared, &caller, project).await?,
        false => owned(&shared, &caller, project).await?,
    };
    let mut work = shared.store.begin().await?;
    work.take_turn(project.id).await?;
    if !work.remove_member(project.id, user).await? {
        return Err(Problem::not_found());
    }
    require_an_owner(&mut work, project.id).await?;
    let now = store::now();
    work.note(now, Some(caller.user_id), Some(project.id), "member.remove", &user.to_string(), "").await?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn require_an_owner(work: &mut store::Work, project: Uuid) -> Result<()> {
    if work.count_owners(project).await? > 0 {
        return Ok(());
    }
    Err(Problem::conflict("a project needs an owner; name another one first"))
}
