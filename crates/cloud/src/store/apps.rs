//! Apps: what is wanted of them, and how they are doing.

use std::net::SocketAddr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::error::Result;
use crate::lifecycle::{State, Wanted};
use crate::store::{After, Columns, Store, Work, micros, signed};
use crate::tls_mode::TlsMode;

/// An app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its identifier: the first label of its domain, and the id that a configuration must name.
    pub id: Uuid,
    /// Whose it is.
    pub project_id: Uuid,
    /// Its name, unique among those of its project that are wanted.
    pub name: String,
    /// Its plan's name.
    pub plan: String,
    /// Enclave size in MB.
    pub enclave_mb: u64,
    /// Processor cores.
    pub cores: u64,
    /// Where users' TLS ends.
    pub tls: TlsMode,
    /// The name that its owner brought; `None` where it is called as the operator names it.
    pub domain: Option<String>,
    /// What its owner wants.
    pub wanted: Wanted,
    /// How it is doing.
    pub actual: State,
    /// The same in words.
    pub message: String,
    /// Who made it.
    pub created_by: Uuid,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it became what it is.
    pub changed_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it ended.
    pub stopped_at: Option<Timestamp>,
    /// Attempts that failed since it last ran well.
    pub failures: u32,
    /// When the next attempt is due; `None` where none is.
    pub retry_at: Option<Timestamp>,
    /// The runtime's name of its node.
    pub node: Option<String>,
    /// Where its node listens.
    pub address: Option<SocketAddr>,
    /// The fingerprint that the operator computed. Nobody else should believe it.
    pub fingerprint: Option<String>,
    /// SHA-256 of its package.
    pub package: String,
    /// The port it holds; `None` before it has a place and after it gave it up.
    pub port: Option<u16>,
}

/// What it takes to make an app.
#[derive(Clone, Debug)]
pub struct NewApp<'a> {
    /// Its identifier.
    pub id: Uuid,
    /// Whose it shall be.
    pub project_id: Uuid,
    /// Its name.
    pub name: &'a str,
    /// The plan.
    pub plan: &'a crate::store::Plan,
    /// Where users' TLS shall end.
    pub tls: TlsMode,
    /// The name that its owner brings.
    pub domain: Option<&'a str>,
    /// SHA-256 of its package, which was uploaded.
    pub package: &'a str,
    /// Who makes it.
    pub created_by: Uuid,
    /// Now.
    pub created_at: Timestamp,
    /// When it shall end by itself.
    pub expires_at: Timestamp,
}

/// How an app is doing from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppChange {
    /// Its state: not [`State::Stopped`], which only [`Work::finish_app`] sets.
    pub actual: State,
    /// The same in words.
    pub message: String,
    /// Attempts that failed since it last ran well.
    pub failures: u32,
    /// When the next attempt is due.
    pub retry_at: Option<Timestamp>,
    /// The runtime's name of its node.
    pub node: Option<String>,
    /// Where its node listens.
    pub address: Option<SocketAddr>,
    /// The fingerprint that the operator computed.
    pub fingerprint: Option<String>,
}

impl AppChange {
    /// What `app` is now.
    pub fn of(app: &App) -> AppChange {
        AppChange {
            actual: app.actual,
            message: app.message.clone(),
            failures: app.failures,
            retry_at: app.retry_at,
            node: app.node.clone(),
            address: app.address,
            fingerprint: app.fingerprint.clone(),
        }
    }
}

/// Every statement that reads apps reads them with this; `concat!` keeps it a constant.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT apps.*, plans.name AS plan, app_parts.sha256 AS package, placements.port AS port FROM apps \
             JOIN plans ON plans.id = apps.plan_id \
             JOIN app_parts ON app_parts.app_id = apps.id AND app_parts.name = 'package' \
             LEFT JOIN placements ON placements.app_id = apps.id AND placements.freed_at IS NULL ",
            $rest
        )
    };
}

fn app(row: &AnyRow) -> Result<App> {
    Ok(App {
        id: row.id("id")?,
        project_id: row.id("project_id")?,
        name: row.text("name")?,
        plan: row.text("plan")?,
        enclave_mb: row.natural("enclave_mb")?,
        cores: row.natural("cores")?,
        tls: row.named("tls", "a TLS mode")?,
        domain: row.maybe_text("domain")?,
        wanted: row.named("wanted", "running or stopped")?,
        actual: row.named("actual", "a state")?,
        message: row.text("message")?,
        created_by: row.id("created_by")?,
        created_at: row.instant("created_at")?,
        changed_at: row.instant("changed_at")?,
        expires_at: row.instant("expires_at")?,
        stopped_at: row.maybe_instant("stopped_at")?,
        failures: u32::try_from(row.natural("failures")?).unwrap_or(u32::MAX),
        retry_at: row.maybe_instant("retry_at")?,
        node: row.maybe_text("node")?,
        address: match row.maybe_text("address")? {
            None => None,
            Some(_) => Some(row.named("address", "an address and a port")?),
        },
        fingerprint: row.maybe_text("fingerprint")?,
        package: row.text("package")?,
        port: row.maybe_number("port")?.and_then(|port| u16::try_from(port).ok()),
    })
}

impl Store {
    /// An app that `viewer` may see: of a project it belongs to, or any for an operator. The same statement whether
    /// there is no such app or it is another's.
    pub async fn app(&self, id: Uuid, viewer: Uuid, is_operator: bool) -> Result<Option<App>> {
        let row = sqlx::query(select!(
            "WHERE apps.id = $1 AND ($3 = 1 OR apps.project_id IN \
             (SELECT project_id FROM members WHERE user_id = $2))"
        ))
        .bind(id.to_string())
        .bind(viewer.to_string())
        .bind(i64::from(is_operator))
        .fetch_optional(&self.pool)
        .await?;
        row.as_ref().map(app).transpose()
    }

    /// The apps of a project in the order they were made; those that have ended too where `all`.
    pub async fn apps(&self, project: Uuid, all: bool, after: &After, limit: u32) -> Result<Vec<App>> {
        let rows = sqlx::query(select!(
            "WHERE apps.project_id = $1 AND ($2 = 1 OR apps.actual <> 'stopped') \
             AND (apps.created_at > $3 OR (apps.created_at = $3 AND apps.id > $4)) \
             ORDER BY apps.created_at, apps.id LIMIT $5"
        ))
        .bind(project.to_string())
        .bind(i64::from(all))
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(app).collect()
    }

    /// All apps that have not ended, in the order they were made: what the reconciler cares for, and what a router
    /// routes.
    pub async fn living_apps(&self) -> Result<Vec<App>> {
        let rows = sqlx::query(select!("WHERE apps.actual <> 'stopped' ORDER BY apps.created_at, apps.id"))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(app).collect()
    }

    /// How many apps are in each state.
    pub async fn count_apps(&self) -> Result<Vec<(State, u64)>> {
        let rows = sqlx::query("SELECT actual, COUNT(*) AS n FROM apps GROUP BY actual")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((row.named("actual", "a state")?, row.natural("n")?))).collect()
    }
}

impl Work {
    /// One app, as this transaction sees it.
    pub async fn app(&mut self, id: Uuid) -> Result<Option<App>> {
        let row =
            sqlx::query(select!("WHERE apps.id = $1")).bind(id.to_string()).fetch_optional(self.on()).await?;
        row.as_ref().map(app).transpose()
    }

    /// What a project's wanted apps are together: their number, and their memory in MB.
    pub async fn wanted_of_project(&mut self, project: Uuid) -> Result<(u64, u64)> {
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(enclave_mb), 0) AS BIGINT) AS mb FROM apps \
             WHERE project_id = $1 AND actual <> 'stopped'",
        )
        .bind(project.to_string())
        .fetch_one(self.on())
        .await?;
        Ok((row.natural("n")?, row.natural("mb")?))
    }

    /// Whether an app that has not ended, of whatever project, is called by this name.
    pub async fn domain_in_use(&mut self, domain: &str) -> Result<bool> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM apps WHERE domain = $1 AND actual <> 'stopped'")
            .bind(domain)
            .fetch_one(self.on())
            .await?;
        Ok(row.natural("n")? > 0)
    }

    /// Adds an app, wanted running; false where the project has one of that name that is wanted, or its domain is in
    /// use.
    pub async fn add_app(&mut self, new: &NewApp<'_>) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO apps (id, project_id, name, plan_id, enclave_mb, cores, tls, wanted, actual, message, \
             created_by, created_at, changed_at, expires_at, domain) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'running', 'spawning', 'waits for its turn', $8, $9, $9, $10, $11) \
             ON CONFLICT DO NOTHING",
        )
        .bind(new.id.to_string())
        .bind(new.project_id.to_string())
        .bind(new.name)
        .bind(new.plan.id.to_string())
        .bind(signed(new.plan.enclave_mb))
        .bind(signed(new.plan.cores))
        .bind(new.tls.to_string())
        .bind(new.created_by.to_string())
        .bind(micros(new.created_at))
        .bind(micros(new.expires_at))
        .bind(new.domain)
        .execute(self.on())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("INSERT INTO app_parts (app_id, name, sha256) VALUES ($1, 'package', $2)")
            .bind(new.id.to_string())
            .bind(new.package)
            .execute(self.on())
            .await?;
        Ok(true)
    }

    /// Wants an app stopped; false where that is so already.
    pub async fn want_stopped(&mut self, id: Uuid) -> Result<bool> {
        let done = sqlx::query("UPDATE apps SET wanted = 'stopped' WHERE id = $1 AND wanted = 'running'")
            .bind(id.to_string())
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes how an app is doing; false where it has ended meanwhile.
    pub async fn change_app(&mut self, id: Uuid, change: &AppChange, now: Timestamp) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE apps SET changed_at = CASE WHEN actual = $1 THEN changed_at ELSE $2 END, actual = $1, \
             message = $3, failures = $4, retry_at = $5, node = $6, address = $7, fingerprint = $8 \
             WHERE id = $9 AND actual <> 'stopped'",
        )
        .bind(change.actual.name())
        .bind(micros(now))
        .bind(&change.message)
        .bind(i64::from(change.failures))
        .bind(change.retry_at.map(micros))
        .bind(change.node.as_deref())
        .bind(change.address.map(|address| address.to_string()))
        .bind(change.fingerprint.as_deref())
        .bind(id.to_string())
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that an app has ended, and frees its place; false where that was done before.
    pub async fn finish_app(&mut self, id: Uuid, message: &str, now: Timestamp) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE apps SET wanted = 'stopped', actual = 'stopped', message = $1, changed_at = $2, \
             stopped_at = $2, retry_at = NULL, address = NULL WHERE id = $3 AND actual <> 'stopped'",
        )
        .bind(message)
        .bind(micros(now))
        .bind(id.to_string())
        .execute(self.on())
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        self.free(id, now).await?;
        Ok(true)
    }
}
