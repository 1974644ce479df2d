//! Backup and restore of the database in the data directory. (PostgreSQL has tools of its own: pg_dump, pg_restore.)
//!
//! A backup is a whole SQLite database, as of one moment, taken while the backend runs. It holds digests of tokens, and
//! no keys: those are files of the data directory, made once, and copied once. What a restored database knows of apps is
//! compared with what the runtime has, as at every start: nodes that it knows are adopted, others removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Row};

use crate::error::{Error, Result};
use crate::serve::{DATABASE, claim_directory};
use crate::store;

/// Saves the database of `data` to a new file, mode 0600. The backend may be running.
pub async fn save(data: &Path, to: &Path) -> Result<()> {
    let from = data.join(DATABASE);
    refuse_missing(&from)?;
    if to.symlink_metadata().is_ok() {
        return Err(Error::Content {
            path: to.to_owned(),
            expected: "a new file for the backup",
            found: "one that is there".to_owned(),
        });
    }
    let draft = draft_beside(to)?;
    let copy = draft.path().join(DATABASE);
    let pool = open(&from).await?;
    let saved = sqlx::query("VACUUM INTO $1").bind(text(&copy)?).execute(&pool).await;
    pool.close().await;
    saved?;
    check(&copy).await?;
    put(&copy, to)
}

/// Puts a backup in the place of the database of `data`, where no backend may be running. The one that was there is kept
/// beside it; its file.
pub async fn restore(data: &Path, from: &Path) -> Result<Option<PathBuf>> {
    refuse_missing(from)?;
    let _lock = claim_directory(data)?;
    let place = data.join(DATABASE);
    let draft = draft_beside(&place)?;
    let copy = draft.path().join(DATABASE);
    fs::copy(from, &copy).map_err(Error::file("copy", from))?;
    check(&copy).await?;
    let mut kept = None;
    if place.exists() {
        // What was written last may be in the log: it goes into the file first.
        let pool = open(&place).await?;
        let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&pool).await;
        pool.close().await;
        done?;
        let old = data.join(format!("{DATABASE}.before-{}", store::now().as_second()));
        fs::rename(&place, &old).map_err(Error::file("rename", &place))?;
        for log in ["-wal", "-shm"] {
            let _ = fs::remove_file(data.join(format!("{DATABASE}{log}")));
        }
        kept = Some(old);
    }
    put(&copy, &place)?;
    Ok(kept)
}

fn refuse_missing(path: &Path) -> Result<()> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(Error::Content {
            path: path.to_owned(),
            expected: "a database in a file",
            found: "something else".to_owned(),
        }),
        Err(error) => Err(Error::file("find", path)(error)),
    }
}

/// A directory that is gone afterwards, in the file system of `path`.
fn draft_beside(path: &Path) -> Result<tempfile::TempDir> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new()
        .prefix(".mse-backup-")
        .tempdir_in(folder)
        .map_err(Error::file("write into", folder))
}

fn put(copy: &Path, to: &Path) -> Result<()> {
    fs::set_permissions(copy, fs::Permissions::from_mode(0o600)).map_err(Error::file("protect", copy))?;
    fs::File::open(copy).and_then(|file| file.sync_all()).map_err(Error::file("write", copy))?;
    fs::rename(copy, to).map_err(Error::file("write", to))
}

/// Refuses what is no database of a backend, or a damaged one.
async fn check(path: &Path) -> Result<()> {
    let wrong = |found: String| Error::Content {
        path: path.to_owned(),
        expected: "a whole database of a backend (SQLite)",
        found,
    };
    let look = async {
        let pool = open(path).await?;
        let row = sqlx::query("PRAGMA integrity_check").fetch_one(&pool).await?;
        let state: String = row.try_get(0)?;
        let apps = sqlx::query("SELECT COUNT(*) AS n FROM apps").fetch_one(&pool).await.map(drop);
        pool.close().await;
        Ok::<_, Error>((state, apps))
    };
    let (state, apps) = look.await.map_err(|error| wrong(error.to_string()))?;
    if state != "ok" {
        return Err(wrong(state));
    }
    apps.map_err(|error| wrong(error.to_string()))
}

/// As it is: no schema is changed.
async fn open(path: &Path) -> Result<AnyPool> {
    store::install_drivers();
    let url = store::sqlite_url(path)?;
    Ok(AnyPoolOptions::new().max_connections(1).connect(&url).await?)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Content {
        path: path.to_owned(),
        expected: "a path in UTF-8",
        found: "other bytes".to_owned(),
    })
}
