//! What tests need: databases, packages, and a runtime that only pretends.
//!
//! Databases are SQLite always, PostgreSQL too where `MSE_TEST_POSTGRES` is the URL of a server on which databases
//! may be made.

pub(crate) mod nodes;
pub(crate) mod packages;
pub(crate) mod reader;

use std::future::Future;

use sqlx::AnyPool;
use tempfile::TempDir;
use uuid::Uuid;

use crate::store::Store;

/// A database of its own.
pub(crate) struct Database {
    pub(crate) url: String,
    made: Option<(String, String)>,
    _directory: TempDir,
}

impl Database {
    pub(crate) fn sqlite() -> Database {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mse.db");
        std::fs::write(&path, b"").unwrap();
        Database { url: format!("sqlite://{}", path.display()), made: None, _directory: directory }
    }

    async fn postgres(server: &str) -> Database {
        sqlx::any::install_default_drivers();
        let name = format!("mse_test_{}", Uuid::new_v4().simple());
        let pool = AnyPool::connect(server).await.unwrap();
        let sql = format!("CREATE DATABASE {name}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        pool.close().await;
        let (base, options) = server.split_once('?').unwrap_or((server, ""));
        let (base, _) = base.rsplit_once('/').unwrap();
        Database {
            url: format!("{base}/{name}?{options}"),
            made: Some((server.to_owned(), name)),
            _directory: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    async fn remove(self) {
        if let Some((server, name)) = self.made {
            let pool = AnyPool::connect(&server).await.unwrap();
            let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        }
    }
}

/// Runs a test on every kind of database.
pub(crate) fn on_each<F: Future<Output = ()>>(test: impl Fn(String) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let database = Database::sqlite();
        test(database.url.clone()).await;
        if let Ok(server) = std::env::var("MSE_TEST_POSTGRES") {
            let database = Database::postgres(&server).await;
            test(database.url.clone()).await;
            database.remove().await;
        }
    });
}
