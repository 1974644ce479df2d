//! The audit log: who did what, when, to what. Written in the same transaction as the deed.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::error::Result;
use crate::store::{After, Columns, Store, Work, micros};

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its identifier.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who; `None` for the backend itself.
    pub user_id: Option<Uuid>,
    /// In which project.
    pub project_id: Option<Uuid>,
    /// What, such as `app.create`.
    pub action: String,
    /// To what: an identifier or a digest.
    pub object: String,
    /// In words; never a secret.
    pub detail: String,
}

fn entry(row: &AnyRow) -> Result<Entry> {
    let maybe_id = |name| match row.maybe_text(name)? {
        None => Ok(None),
        Some(_) => row.id(name).map(Some),
    };
    Ok(Entry {
        id: row.id("id")?,
        at: row.instant("at")?,
        user_id: maybe_id("user_id")?,
        project_id: maybe_id("project_id")?,
        action: row.text("action")?,
        object: row.text("object")?,
        detail: row.text("detail")?,
    })
}

impl Store {
    /// The log from the oldest on; of one project where `project` is given.
    pub async fn audit(&self, project: Option<Uuid>, after: &After, limit: u32) -> Result<Vec<Entry>> {
        let rows = match project {
            None => {
                sqlx::query(
                    "SELECT * FROM audit WHERE at > $1 OR (at = $1 AND id > $2) ORDER BY at, id LIMIT $3",
                )
                .bind(after.at)
                .bind(&after.id)
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?
            }
            Some(project) => {
                sqlx::query(
                    "SELECT * FROM audit WHERE project_id = $4 AND (at > $1 OR (at = $1 AND id > $2)) \
                     ORDER BY at, id LIMIT $3",
                )
                .bind(after.at)
                .bind(&after.id)
                .bind(i64::from(limit))
                .bind(project.to_string())
                .fetch_all(&self.pool)
                .await?
            }
        };
        rows.iter().map(entry).collect()
    }
}

impl Work {
    /// Notes a deed of this transaction.
    pub async fn note(
        &mut self,
        now: Timestamp,
        user: Option<Uuid>,
        project: Option<Uuid>,
        action: &'static str,
        object: &str,
        detail: &str,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO audit (id, at, user_id, project_id, action, object, detail) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(Uuid::new_v4().to_string())
        .bind(micros(now))
        .bind(user.map(|id| id.to_string()))
        .bind(project.map(|id| id.to_string()))
        .bind(action)
        .bind(object)
        .bind(detail)
        .execute(self.on())
        .await?;
        Ok(())
    }
}
