//! The bytes of uploads, in files: `<data>/uploads/<project>/<sha256>`.
//!
//! How many bytes of a file count is in the database; whatever lies beyond them was never acknowledged, and the next
//! append cuts it off. A file is locked while it is written: one append at a time.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use ring::digest;
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::store::{self, Store};

/// Uploads that are removed in one go, at most.
const EXPIRED_AT_ONCE: u32 = 1000;

/// Where uploads are.
#[derive(Clone, Debug)]
pub struct Blobs {
    directory: PathBuf,
}

/// One file, open and locked for an append.
pub struct Append {
    file: File,
    path: PathBuf,
    length: u64,
}

impl Blobs {
    /// Under `<data>/uploads`, made if missing.
    pub fn open(data: &Path) -> Result<Blobs> {
        let directory = data.join("uploads");
        fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
        Ok(Blobs { directory })
    }

    /// Where an upload is. `sha256` is 64 hexadecimal digits: callers have checked it.
    pub fn path(&self, project: Uuid, sha256: &str) -> PathBuf {
        self.directory.join(project.to_string()).join(sha256)
    }

    /// Opens and locks an upload's file, made if missing; `None` while another append is at work. How many bytes
    /// count is to be asked after this, not before: see [`Append::cut`].
    pub fn lock(&self, project: Uuid, sha256: &str) -> Result<Option<Append>> {
        let path = self.path(project, sha256);
        let directory = self.directory.join(project.to_string());
        fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(Error::file("lock", &path)(source)),
        }
        let found = file.metadata().map_err(Error::file("look at", &path))?;
        // Between opening and locking it may have been removed: then these bytes would be nobody's.
        match fs::metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) == (found.dev(), found.ino()) => {}
            _ => return Ok(None),
        }
        Ok(Some(Append { file, path, length: found.len() }))
    }

    /// Removes an upload's file; one that is not there is no error.
    pub fn remove(&self, project: Uuid, sha256: &str) -> Result<()> {
        ignore_missing(fs::remove_file(self.path(project, sha256)), &self.path(project, sha256))
    }

    /// Removes all of a project's files.
    pub fn remove_project(&self, project: Uuid) -> Result<()> {
        let path = self.directory.join(project.to_string());
        ignore_missing(fs::remove_dir_all(&path), &path)
    }

    /// Removes the uploads that nothing has needed since `before`, row and file; how many these were. One that is being
    /// received is left for another time.
    pub async fn expire(&self, store: &Store, before: Timestamp) -> Result<usize> {
        let mut removed = 0;
        for upload in store.unused_uploads(before, EXPIRED_AT_ONCE).await? {
            let mut work = store.begin().await?;
            // Whoever makes an app of it takes the same turn.
            work.take_turn(upload.project_id).await?;
            if !work.expire_upload(&upload, before).await? {
                continue;
            }
            let Some(_held) = self.lock(upload.project_id, &upload.sha256)? else { continue };
            let (at, project) = (store::now(), Some(upload.project_id));
            work.note(at, None, project, "upload.expire", &upload.sha256, "unused").await?;
            // First the row: a file without one is swept, a row without its file would be a lie.
            work.commit().await?;
            self.remove(upload.project_id, &upload.sha256)?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes files that the database does not know: those of a backend that ended between the row and the file. And
    /// rows whose file is gone: the database was restored and the files were not.
    pub async fn sweep(&self, store: &Store) -> Result<()> {
        for project in names(&self.directory)? {
            let directory = self.directory.join(&project);
            let Ok(id) = project.parse::<Uuid>() else { continue };
            for digest in names(&directory)? {
                if store.upload(id, &digest).await?.is_none() {
                    self.remove(id, &digest)?;
                }
            }
            // Stays where something is left in it.
            let _ = fs::remove_dir(&directory);
        }
        for upload in store.all_uploads().await? {
            if upload.received > 0 && !self.path(upload.project_id, &upload.sha256).exists() {
                tracing::warn!(
                    sha256 = upload.sha256,
                    "the file of an upload is missing: it has to come again"
                );
                let mut work = store.begin().await?;
                work.remove_upload(upload.project_id, &upload.sha256).await?;
                work.commit().await?;
            }
        }
        Ok(())
    }
}

impl Append {
    /// Cuts off what is beyond the `received` bytes that count, and goes to the end. A file that has lost bytes is as
    /// long as [`Append::length`] says.
    pub fn cut(&mut self, received: u64) -> Result<()> {
        self.length = self.length.min(received);
        self.file.set_len(self.length).map_err(Error::file("cut", &self.path))?;
        self.file.seek(SeekFrom::End(0)).map_err(Error::file("seek in", &self.path))?;
        Ok(())
    }

    /// How many bytes there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes at the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::file("write", &self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Adds what another file holds.
    pub fn append(&mut self, other: &Path) -> Result<()> {
        let mut other_file = File::open(other).map_err(Error::file("open", other))?;
        // Where the file system can, nothing is copied.
        self.length += io::copy(&mut other_file, &mut self.file).map_err(Error::file("write", &self.path))?;
        Ok(())
    }

    /// Waits until all of it is on the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::file("write", &self.path))
    }

    /// SHA-256 of the whole, in hex.
    pub fn sha256(&mut self) -> Result<String> {
        self.file.seek(SeekFrom::Start(0)).map_err(Error::file("seek in", &self.path))?;
        let mut context = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match self.file.read(&mut buffer).map_err(Error::file("read", &self.path))? {
                0 => return Ok(hex::encode(context.finish())),
                n => context.update(&buffer[..n]),
            }
        }
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("list", directory))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

fn ignore_missing(done: std::io::Result<()>, path: &Path) -> Result<()> {
    match done {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_acknowledged_is_cut_off_and_one_appends_at_a_time() {
        let data = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(data.path()).unwrap();
        let project = Uuid::new_v4();
        let mut first = blobs.lock(project, "d").unwrap().unwrap();
        first.write(b"abcdef").unwrap();
        assert!(blobs.lock(project, "d").unwrap().is_none());
        drop(first);
        let mut second = blobs.lock(project, "d").unwrap().unwrap();
        assert_eq!(second.length(), 6);
        second.cut(3).unwrap();
        assert_eq!(second.length(), 3);
        second.write(b"XY").unwrap();
        assert_eq!(second.sha256().unwrap(), crate::bearer::sha256(b"abcXY"));
        drop(second);
        let mut third = blobs.lock(project, "d").unwrap().unwrap();
        third.cut(9).unwrap();
        assert_eq!(third.length(), 5);
        drop(third);
        blobs.remove(project, "d").unwrap();
        blobs.remove(project, "d").unwrap();
        blobs.remove_project(project).unwrap();
        assert!(!blobs.path(project, "d").exists());
    }

    #[test]
    fn files_without_a_row_are_swept() {
        crate::testing::on_each(|url| async move {
            let store = Store::open(&url).await.unwrap();
            let data = tempfile::tempdir().unwrap();
            let blobs = Blobs::open(data.path()).unwrap();
            let project = Uuid::new_v4();
            blobs.lock(project, "d").unwrap().unwrap().write(b"x").unwrap();
            blobs.sweep(&store).await.unwrap();
            assert!(!blobs.path(project, "d").parent().unwrap().exists());
        });
    }
}
