//! Hardware plans: what an app can ask for.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::error::Result;
use crate::store::{After, Columns, Store, Work, micros, signed};

/// A hardware plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its identifier.
    pub id: Uuid,
    /// Its name, unique among those offered.
    pub name: String,
    /// Enclave size in MB.
    pub enclave_mb: u64,
    /// Processor cores.
    pub cores: u64,
    /// What it costs, in words.
    pub price: String,
    /// When it was made.
    pub created_at: Timestamp,
}

fn plan(row: &AnyRow) -> Result<Plan> {
    Ok(Plan {
        id: row.id("id")?,
        name: row.text("name")?,
        enclave_mb: row.natural("enclave_mb")?,
        cores: row.natural("cores")?,
        price: row.text("price")?,
        created_at: row.instant("created_at")?,
    })
}

impl Store {
    /// The plans on offer, in the order they were made.
    pub async fn plans(&self, after: &After, limit: u32) -> Result<Vec<Plan>> {
        let rows = sqlx::query(
            "SELECT * FROM plans WHERE retired_at IS NULL \
             AND (created_at > $1 OR (created_at = $1 AND id > $2)) ORDER BY created_at, id LIMIT $3",
        )
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(plan).collect()
    }
}

impl Work {
    /// The plan on offer under a name.
    pub async fn plan_named(&mut self, name: &str) -> Result<Option<Plan>> {
        let row = sqlx::query("SELECT * FROM plans WHERE name = $1 AND retired_at IS NULL")
            .bind(name)
            .fetch_optional(self.on())
            .await?;
        row.as_ref().map(plan).transpose()
    }

    /// Adds a plan; false where one of that name is on offer.
    pub async fn add_plan(&mut self, plan: &Plan) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO plans (id, name, enclave_mb, cores, price, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT DO NOTHING",
        )
        .bind(plan.id.to_string())
        .bind(&plan.name)
        .bind(signed(plan.enclave_mb))
        .bind(signed(plan.cores))
        .bind(&plan.price)
        .bind(micros(plan.created_at))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes a plan off the offer; apps that have it keep what they were promised. False where it is not on offer.
    pub async fn retire_plan(&mut self, id: Uuid, now: Timestamp) -> Result<bool> {
        let done = sqlx::query("UPDATE plans SET retired_at = $1 WHERE id = $2 AND retired_at IS NULL")
            .bind(micros(now))
            .bind(id.to_string())
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
