//! Projects, who belongs to them, and what they may use.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Result;
use crate::store::{After, Columns, Store, Work, micros, signed};

/// What a user may do in a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// All of it: members too, and the project's end.
    Owner,
    /// Apps and uploads.
    Member,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Owner => "owner",
            Role::Member => "member",
        })
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Role, ()> {
        match text {
            "owner" => Ok(Role::Owner),
            "member" => Ok(Role::Member),
            _ => Err(()),
        }
    }
}

/// What a project may use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Apps that are wanted running.
    #[schema(maximum = 1000000)]
    pub max_apps: u64,
    /// Their enclaves together, in MB.
    #[schema(maximum = 1000000000)]
    pub max_memory_mb: u64,
    /// Its uploads together, in bytes.
    #[schema(maximum = 1000000000000000.0)]
    pub max_upload_bytes: u64,
}

/// A project, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its identifier.
    pub id: Uuid,
    /// Its name, unique among those of its creator.
    pub name: String,
    /// Who made it.
    pub created_by: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it may use.
    pub quota: Quota,
    /// What the one who looks may do in it; `None` for an operator who does not belong to it.
    pub role: Option<Role>,
}

/// Somebody who belongs to a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user_id: Uuid,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
}

fn project(row: &AnyRow) -> Result<Project> {
    Ok(Project {
        id: row.id("id")?,
        name: row.text("name")?,
        created_by: row.id("created_by")?,
        created_at: row.instant("created_at")?,
        quota: Quota {
            max_apps: row.natural("max_apps")?,
            max_memory_mb: row.natural("max_memory_mb")?,
            max_upload_bytes: row.natural("max_upload_bytes")?,
        },
        role: match row.maybe_text("role")? {
            None => None,
            Some(_) => Some(row.named("role", "owner or member")?),
        },
    })
}

fn member(row: &AnyRow) -> Result<Member> {
    Ok(Member {
        user_id: row.id("user_id")?,
        name: row.text("name")?,
        role: row.named("role", "owner or member")?,
        created_at: row.instant("created_at")?,
    })
}

impl Store {
    /// A project that `viewer` may see: one it belongs to, or any for an operator. The same statement whether there
    /// is no such project or it is another's.
    pub async fn project(&self, id: Uuid, viewer: Uuid, is_operator: bool) -> Result<Option<Project>> {
        let row = sqlx::query(
            "SELECT projects.*, members.role AS role FROM projects \
             LEFT JOIN members ON members.project_id = projects.id AND members.user_id = $2 \
             WHERE projects.id = $1 AND (members.role IS NOT NULL OR $3 = 1)",
        )
        .bind(id.to_string())
        .bind(viewer.to_string())
        .bind(i64::from(is_operator))
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(project).transpose()
    }

    /// The projects that `viewer` may see, in the order they were made.
    pub async fn projects(
        &self,
        viewer: Uuid,
        is_operator: bool,
        after: &After,
        limit: u32,
    ) -> Result<Vec<Project>> {
        let rows = sqlx::query(
            "SELECT projects.*, members.role AS role FROM projects \
             LEFT JOIN members ON members.project_id = projects.id AND members.user_id = $1 \
             WHERE (members.role IS NOT NULL OR $2 = 1) \
             AND (projects.created_at > $3 OR (projects.created_at = $3 AND projects.id > $4)) \
             ORDER BY projects.created_at, projects.id LIMIT $5",
        )
        .bind(viewer.to_string())
        .bind(i64::from(is_operator))
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(project).collect()
    }

    /// Who belongs to a project, in the order they came.
    pub async fn members(&self, project: Uuid, after: &After, limit: u32) -> Result<Vec<Member>> {
        let rows = sqlx::query(
            "SELECT members.user_id, users.name, members.role, members.created_at FROM members \
             JOIN users ON users.id = members.user_id WHERE members.project_id = $1 \
             AND (members.created_at > $2 OR (members.created_at = $2 AND members.user_id > $3)) \
             ORDER BY members.created_at, members.user_id LIMIT $4",
        )
        .bind(project.to_string())
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(member).collect()
    }
}

impl Work {
    /// How many projects a user has made. The user's row is taken first, so that two such counts never overlap.
    pub async fn count_projects(&mut self, by: Uuid) -> Result<u64> {
        self.take_user(by).await?;
        sqlx::query("SELECT COUNT(*) AS n FROM projects WHERE created_by = $1")
            .bind(by.to_string())
            .fetch_one(self.on())
            .await?
            .natural("n")
    }

    /// Adds a project and its creator as its owner; false where the creator has one of that name.
    pub async fn add_project(&mut self, project: &Project) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO projects (id, name, created_by, created_at, max_apps, max_memory_mb, max_upload_bytes) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (created_by, name) DO NOTHING",
        )
        .bind(project.id.to_string())
        .bind(&project.name)
        .bind(project.created_by.to_string())
        .bind(micros(project.created_at))
        .bind(signed(project.quota.max_apps))
        .bind(signed(project.quota.max_memory_mb))
        .bind(signed(project.quota.max_upload_bytes))
        .execute(self.on())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        self.set_member(project.id, project.created_by, Role::Owner, project.created_at).await
    }

    /// Changes what a project may use.
    pub async fn set_quota(&mut self, project: Uuid, quota: Quota) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE projects SET max_apps = $1, max_memory_mb = $2, max_upload_bytes = $3 WHERE id = $4",
        )
        .bind(signed(quota.max_apps))
        .bind(signed(quota.max_memory_mb))
        .bind(signed(quota.max_upload_bytes))
        .bind(project.to_string())
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Waits for whoever else counts against this project's quota, and holds off the next until the end of this
    /// transaction. The quota as it is then; `None` where the project is gone.
    pub async fn take_turn(&mut self, project: Uuid) -> Result<Option<Quota>> {
        sqlx::query("UPDATE projects SET turn = turn + 1 WHERE id = $1")
            .bind(project.to_string())
            .execute(self.on())
            .await?;
        let row = sqlx::query("SELECT max_apps, max_memory_mb, max_upload_bytes FROM projects WHERE id = $1")
            .bind(project.to_string())
            .fetch_optional(self.on())
            .await?;
        row.map(|row| {
            Ok(Quota {
                max_apps: row.natural("max_apps")?,
                max_memory_mb: row.natural("max_memory_mb")?,
                max_upload_bytes: row.natural("max_upload_bytes")?,
            })
        })
        .transpose()
    }

    /// Removes a project without apps, and its uploads' rows; false where apps were ever in it.
    pub async fn remove_project(&mut self, project: Uuid) -> Result<bool> {
        // An app that is being made at this moment is waited for, and then seen.
        self.take_turn(project).await?;
        let done = sqlx::query(
            "DELETE FROM projects WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM apps WHERE project_id = $1)",
        )
        .bind(project.to_string())
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Makes a user belong to a project, or changes its role; false where there is no such user.
    pub async fn set_member(
        &mut self,
        project: Uuid,
        user: Uuid,
        role: Role,
        now: Timestamp,
    ) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO members (project_id, user_id, role, created_at) \
             SELECT $1, users.id, $3, $4 FROM users WHERE users.id = $2 AND users.disabled_at IS NULL \
             ON CONFLICT (project_id, user_id) DO UPDATE SET role = excluded.role",
        )
        .bind(project.to_string())
        .bind(user.to_string())
        .bind(role.to_string())
        .bind(micros(now))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a user's belonging to a project; false where it did not belong to it.
    pub async fn remove_member(&mut self, project: Uuid, user: Uuid) -> Result<bool> {
        let done = sqlx::query("DELETE FROM members WHERE project_id = $1 AND user_id = $2")
            .bind(project.to_string())
            .bind(user.to_string())
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// How many owners a project has.
    pub async fn count_owners(&mut self, project: Uuid) -> Result<u64> {
        sqlx::query("SELECT COUNT(*) AS n FROM members WHERE project_id = $1 AND role = 'owner'")
            .bind(project.to_string())
            .fetch_one(self.on())
            .await?
            .natural("n")
    }
}
