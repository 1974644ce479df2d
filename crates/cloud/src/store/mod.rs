//! The database: all state of the backend but what the runtime holds, in SQLite or PostgreSQL.
//!
//! The same statements and migrations run on both: `$1` parameters, which SQLite takes too, and nothing that only
//! one of them has. Whatever changes more than one row happens in a [`Work`]: one transaction, which takes effect
//! as a whole at [`Work::commit`] or not at all.
//!
//! Trusted: the database is the operator's own. What is read back is still checked for its type.

mod answers;
mod apps;
mod audit;
mod people;
mod placements;
mod plans;
mod projects;
mod uploads;

#[cfg(test)]
pub(crate) mod fuse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::path::Path;
use std::sync::{Arc, Once};
use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, Row, SqlStr, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};
use uuid::Uuid;

pub use self::apps::{App, AppChange, NewApp};
pub use self::audit::Entry;
pub use self::people::{Bearer, Token, User};
pub use self::placements::{Placement, Taken};
pub use self::plans::Plan;
pub use self::projects::{Member, Project, Quota, Role};
pub use self::uploads::Upload;
use crate::error::{Error, Result};

/// The migrations, oldest first. One that was released is never changed: another follows it.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "foundation", include_str!("migrations/0001_foundation.sql")),
    (2, "domains", include_str!("migrations/0002_domains.sql")),
];

/// How long a statement waits for another connection's transaction (SQLite).
const BUSY: Duration = Duration::from_secs(10);

/// Connections held at most.
const CONNECTIONS: u32 = 8;

/// Held by the one backend that works on a PostgreSQL database: "mse-clou" in ASCII.
const ADVISORY_LOCK: i64 = 0x6d73_652d_636c_6f75;

/// How often it is looked whether the lock is still held, and how long a look may take. In that time another backend
/// may take it.
const CLAIM_LOOK: Duration = Duration::from_millis(500);
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);

/// Which database it is, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
}

/// The database, opened and up to date. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    kind: Kind,
    /// SQLite has one writer at a time: here they queue in order, instead of asking again and again.
    writer: Arc<Mutex<()>>,
    #[cfg(test)]
    fuse: fuse::Fuse,
}

/// One transaction. Dropped without [`Work::commit`] it leaves nothing.
pub struct Work {
    transaction: Transaction<'static, Any>,
    _turn: Option<OwnedMutexGuard<()>>,
    #[cfg(test)]
    fuse: fuse::Fuse,
}

/// Where a page of a list begins: after the row of this instant and identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Its instant, in microseconds.
    pub at: i64,
    /// Its identifier.
    pub id: String,
}

impl After {
    /// Before everything.
    pub fn nothing() -> After {
        After { at: i64::MIN, id: String::new() }
    }
}

impl Store {
    /// Opens the database at `url` (`sqlite://PATH` or `postgres://...`) and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Store> {
        install_drivers();
        let kind = match url.split_once("://").map_or(url, |(scheme, _)| scheme) {
            "sqlite" => Kind::Sqlite,
            "postgres" | "postgresql" => Kind::Postgres,
            scheme => return Err(Error::DatabaseUrl { found: scheme.to_owned() }),
        };
        let options = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_secs(30))
            .after_connect(move |connection, _| Box::pin(prepare(connection, kind)));
        let pool = options.connect(url).await?;
        migrator().run(&pool).await?;
        Ok(Store {
            pool,
            kind,
            writer: Arc::new(Mutex::new(())),
            #[cfg(test)]
            fuse: fuse::Fuse::default(),
        })
    }

    /// Opens the SQLite database at `path`, made if missing, readable by its owner alone.
    pub async fn open_file(path: &Path) -> Result<Store> {
        use std::os::unix::fs::OpenOptionsExt;
        std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(Error::file("open", path))?;
        Store::open(&sqlite_url(path)?).await
    }

    /// Which database it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Makes this the one backend of a PostgreSQL database, until the value is dropped. (A SQLite database belongs
    /// to its data directory, which has a lock of its own.)
    pub async fn claim(&self) -> Result<Option<Claim>> {
        if self.kind == Kind::Sqlite {
            return Ok(None);
        }
        let mut connection = self.pool.acquire().await?.detach();
        let row = sqlx::query("SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END AS taken")
            .bind(ADVISORY_LOCK)
            .fetch_one(&mut connection)
            .await?;
        match row.try_get::<i32, _>("taken")? {
            1 => Ok(Some(Claim { connection })),
            _ => Err(Error::InUse { what: "the database".to_owned() }),
        }
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Result<Work> {
        #[cfg(test)]
        self.fuse.burn()?;
        let (turn, statement) = match self.kind {
            // Taken as a writer from the start: a reader that becomes one is refused when another came between.
            Kind::Sqlite => (Some(self.writer.clone().lock_owned().await), "BEGIN IMMEDIATE"),
            Kind::Postgres => (None, "BEGIN"),
        };
        let transaction = self.pool.begin_with(statement).await?;
        Ok(Work {
            transaction,
            _turn: turn,
            #[cfg(test)]
            fuse: self.fuse.clone(),
        })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// The lock on a PostgreSQL database: held by a connection of its own, and released with it.
pub struct Claim {
    connection: AnyConnection,
}

impl Claim {
    /// Returns when the connection that held the lock is gone, and the lock with it.
    pub async fn lost(mut self) {
        loop {
            tokio::time::sleep(CLAIM_LOOK).await;
            let look = sqlx::query("SELECT 1").execute(&mut self.connection);
            // A server that does not answer may have given the lock away.
            if !matches!(tokio::time::timeout(CLAIM_PATIENCE, look).await, Ok(Ok(_))) {
                return;
            }
        }
    }
}

impl Work {
    /// Makes all of it so.
    pub async fn commit(self) -> Result<()> {
        #[cfg(test)]
        self.fuse.burn()?;
        self.transaction.commit().await?;
        #[cfg(test)]
        self.fuse.burn()?;
        Ok(())
    }

    fn on(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

/// Makes both kinds of databases known to the database library; once is enough.
pub(crate) fn install_drivers() {
    static DRIVERS: Once = Once::new();
    DRIVERS.call_once(sqlx::any::install_default_drivers);
}

/// The URL of a database in a file that is there.
pub(crate) fn sqlite_url(path: &Path) -> Result<String> {
    let path = path.canonicalize().map_err(Error::file("find", path))?;
    let text = path.to_str().ok_or_else(|| Error::Configuration {
        what: "data directory",
        expected: "a path in UTF-8".to_owned(),
        found: path.display().to_string(),
    })?;
    let escaped: String = text
        .bytes()
        .map(|byte| match byte {
            b'/' | b'-' | b'_' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect();
    Ok(format!("sqlite://{escaped}"))
}

async fn prepare(connection: &mut AnyConnection, kind: Kind) -> std::result::Result<(), sqlx::Error> {
    if kind == Kind::Sqlite {
        let busy = format!("PRAGMA busy_timeout = {}", BUSY.as_millis());
        for pragma in [
            busy.as_str(),
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA foreign_keys = ON",
            "PRAGMA trusted_schema = OFF",
        ] {
            sqlx::query(sqlx::AssertSqlSafe(pragma.to_owned())).execute(&mut *connection).await?;
        }
    }
    Ok(())
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// The present, as exact as the database keeps it: what is answered before it was read back is the same afterwards.
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Microseconds since 1970, as the database keeps instants.
pub fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// What a row holds, with its type checked.
trait Columns {
    fn text(&self, name: &'static str) -> Result<String>;
    fn number(&self, name: &'static str) -> Result<i64>;
    fn maybe_text(&self, name: &'static str) -> Result<Option<String>>;
    fn maybe_number(&self, name: &'static str) -> Result<Option<i64>>;

    fn id(&self, name: &'static str) -> Result<Uuid> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Error::Row { what: name, expected: "a UUID", found: text })
    }

    fn natural(&self, name: &'static str) -> Result<u64> {
        let number = self.number(name)?;
        u64::try_from(number).map_err(|_| Error::Row {
            what: name,
            expected: "a number from 0 on",
            found: number.to_string(),
        })
    }

    fn instant(&self, name: &'static str) -> Result<Timestamp> {
        instant(name, self.number(name)?)
    }

    fn maybe_instant(&self, name: &'static str) -> Result<Option<Timestamp>> {
        self.maybe_number(name)?.map(|number| instant(name, number)).transpose()
    }

    fn named<T: std::str::FromStr>(&self, name: &'static str, expected: &'static str) -> Result<T> {
        let text = self.text(name)?;
        text.parse().map_err(|_| Error::Row { what: name, expected, found: text })
    }
}

fn instant(what: &'static str, micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|_| Error::Row {
        what,
        expected: "microseconds since 1970",
        found: micros.to_string(),
    })
}

impl Columns for AnyRow {
    fn text(&self, name: &'static str) -> Result<String> {
        Ok(self.try_get(name)?)
    }

    fn number(&self, name: &'static str) -> Result<i64> {
        Ok(self.try_get(name)?)
    }

    fn maybe_text(&self, name: &'static str) -> Result<Option<String>> {
        Ok(self.try_get(name)?)
    }

    fn maybe_number(&self, name: &'static str) -> Result<Option<i64>> {
        Ok(self.try_get(name)?)
    }
}

/// A number for the database. Those of this program come from configuration and plans, far below the limit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
