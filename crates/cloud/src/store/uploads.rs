//! What was uploaded into a project, by digest, and how far it has come. The bytes are in files: see
//! [`crate::blobs`]; this says how many of them count.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::error::Result;
use crate::store::{After, Columns, Store, Work, micros, signed};

/// One upload. Projects share nothing: the same bytes uploaded to two of them are two uploads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Whose it is.
    pub project_id: Uuid,
    /// SHA-256 of the whole, 64 hexadecimal digits.
    pub sha256: String,
    /// Size of the whole, in bytes.
    pub size: u64,
    /// How many bytes have come.
    pub received: u64,
    /// Who began it.
    pub created_by: Uuid,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When all of it had come and the digest was right.
    pub completed_at: Option<Timestamp>,
}

fn upload(row: &AnyRow) -> Result<Upload> {
    Ok(Upload {
        project_id: row.id("project_id")?,
        sha256: row.text("sha256")?,
        size: row.natural("size")?,
        received: row.natural("received")?,
        created_by: row.id("created_by")?,
        created_at: row.instant("created_at")?,
        completed_at: row.maybe_instant("completed_at")?,
    })
}

impl Store {
    /// One upload of a project.
    pub async fn upload(&self, project: Uuid, sha256: &str) -> Result<Option<Upload>> {
        let row = sqlx::query("SELECT * FROM uploads WHERE project_id = $1 AND sha256 = $2")
            .bind(project.to_string())
            .bind(sha256)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(upload).transpose()
    }

    /// A project's uploads in the order they were begun.
    pub async fn uploads(&self, project: Uuid, after: &After, limit: u32) -> Result<Vec<Upload>> {
        let rows = sqlx::query(
            "SELECT * FROM uploads WHERE project_id = $1 \
             AND (created_at > $2 OR (created_at = $2 AND sha256 > $3)) ORDER BY created_at, sha256 LIMIT $4",
        )
        .bind(project.to_string())
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(upload).collect()
    }

    /// Uploads that nothing has needed since `before`: begun or completed earlier, and no app was made of them that
    /// lives or has lived since.
    pub async fn unused_uploads(&self, before: Timestamp, limit: u32) -> Result<Vec<Upload>> {
        let sql = format!("SELECT * FROM uploads WHERE {UNUSED} ORDER BY created_at, sha256 LIMIT $2");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(micros(before))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(upload).collect()
    }

    /// Everything that was uploaded, whosever it is.
    pub async fn all_uploads(&self) -> Result<Vec<Upload>> {
        let rows = sqlx::query("SELECT * FROM uploads").fetch_all(&self.pool).await?;
        rows.iter().map(upload).collect()
    }
}

/// What nothing has needed since `$1`.
const UNUSED: &str = "COALESCE(completed_at, created_at) < $1 AND NOT EXISTS (\
     SELECT 1 FROM app_parts JOIN apps ON apps.id = app_parts.app_id \
     WHERE apps.project_id = uploads.project_id AND app_parts.sha256 = uploads.sha256 \
     AND (apps.actual <> 'stopped' OR COALESCE(apps.stopped_at, apps.changed_at) >= $1))";

impl Work {
    /// One upload of a project.
    pub async fn upload(&mut self, project: Uuid, sha256: &str) -> Result<Option<Upload>> {
        let row = sqlx::query("SELECT * FROM uploads WHERE project_id = $1 AND sha256 = $2")
            .bind(project.to_string())
            .bind(sha256)
            .fetch_optional(self.on())
            .await?;
        row.as_ref().map(upload).transpose()
    }

    /// The bytes that a project's uploads take or will take.
    pub async fn uploaded_bytes(&mut self, project: Uuid) -> Result<u64> {
        sqlx::query("SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS n FROM uploads WHERE project_id = $1")
            .bind(project.to_string())
            .fetch_one(self.on())
            .await?
            .natural("n")
    }

    /// Begins an upload; false where the project has one of that digest.
    pub async fn add_upload(&mut self, upload: &Upload) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO uploads (project_id, sha256, size, received, created_by, created_at) \
             VALUES ($1, $2, $3, 0, $4, $5) ON CONFLICT (project_id, sha256) DO NOTHING",
        )
        .bind(upload.project_id.to_string())
        .bind(&upload.sha256)
        .bind(signed(upload.size))
        .bind(upload.created_by.to_string())
        .bind(micros(upload.created_at))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes how far `upload` has come; false where it is not any more as it was then. One that was removed and
    /// announced again is another.
    pub async fn advance_upload(
        &mut self,
        upload: &Upload,
        received: u64,
        completed_at: Option<Timestamp>,
    ) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE uploads SET received = $1, completed_at = $2 WHERE project_id = $3 AND sha256 = $4 \
             AND received = $5 AND created_at = $6 AND completed_at IS NULL",
        )
        .bind(signed(received))
        .bind(completed_at.map(micros))
        .bind(upload.project_id.to_string())
        .bind(&upload.sha256)
        .bind(signed(upload.received))
        .bind(micros(upload.created_at))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether an app that is not stopped was made of this upload.
    pub async fn upload_in_use(&mut self, project: Uuid, sha256: &str) -> Result<bool> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n FROM app_parts JOIN apps ON apps.id = app_parts.app_id \
             WHERE apps.project_id = $1 AND app_parts.sha256 = $2 AND apps.actual <> 'stopped'",
        )
        .bind(project.to_string())
        .bind(sha256)
        .fetch_one(self.on())
        .await?;
        Ok(row.natural("n")? > 0)
    }

    /// Removes an upload; false where there is none.
    pub async fn remove_upload(&mut self, project: Uuid, sha256: &str) -> Result<bool> {
        let done = sqlx::query("DELETE FROM uploads WHERE project_id = $1 AND sha256 = $2")
            .bind(project.to_string())
            .bind(sha256)
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes an upload that nothing has needed since `before`; false where it is not so any more.
    pub async fn expire_upload(&mut self, upload: &Upload, before: Timestamp) -> Result<bool> {
        let sql = format!("DELETE FROM uploads WHERE {UNUSED} AND project_id = $2 AND sha256 = $3");
        let done = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(micros(before))
            .bind(upload.project_id.to_string())
            .bind(&upload.sha256)
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
