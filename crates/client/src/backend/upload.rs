//! A package on its way to a backend: parts that are there already stay there, parts that broke off go on.
//!
//! Each part is an upload of its own under its SHA-256: announced (`PUT`, which shows one that is there), appended to in
//! pieces (`PATCH` at `Upload-Offset`), and complete with its last byte, when the backend checks the digest. The parts are
//! then put together (`POST .../assemble`), and the digest of the whole is checked again. What the backend says of how
//! much it has is believed as far as it costs nothing: it can make an upload fail, and it can not make it endless.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use http::Method;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::api::{Upload, hex32};
use super::session::json;
use super::wire::{Ask, ProblemKind, Wire};
use crate::error::Error;

/// How much is sent at once, in bytes: as often, progress is told.
pub(super) const PIECE: u64 = 4 * 1024 * 1024;

/// Most parts of a package.
const MOST_PARTS: usize = 1000;

/// For so many bytes, one more failure is put up with.
const BYTES_FOR_A_FAILURE: u64 = 64 * 1024 * 1024;

/// How long a piece may take, and the reading of the whole that may follow it.
const PATIENCE: Duration = Duration::from_secs(900);

const MEDIA_TYPE: &str = "application/offset+octet-stream";

/// What an upload took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes of the package.
    pub total: u64,
}

/// A part of the package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Part {
    #[serde(with = "hex32")]
    sha256: [u8; 32],
    size: u64,
    #[serde(skip)]
    offset: u64,
}

pub(super) fn upload(
    wire: &Wire,
    project: Uuid,
    path: &Path,
    cuts: &[u64],
    sha256: [u8; 32],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Uploaded, Error> {
    let file = outside::files::open(path).map_err(|source| Error::file("open", path, source))?;
    let total = file.metadata().map_err(|source| Error::file("read", path, source))?.len();
    let whole = Part { sha256, size: total, offset: 0 };
    let uploads = Uploads { wire, project, path, file };
    if uploads.find(&whole)?.is_some_and(|found| found.complete) {
        progress(total, total);
        return Ok(Uploaded { sent: 0, total });
    }
    let parts = uploads.parts(cuts, &whole)?;
    let mut way = Way { left: failures(wire, total), failed: 0, sent: 0, done: 0, total, progress };
    if parts.len() == 1 {
        uploads.send(&whole, &mut way)?;
        return Ok(Uploaded { sent: way.sent, total });
    }
    loop {
        way.done = 0;
        for part in &parts {
            uploads.send(part, &mut way)?;
            way.done += part.size;
        }
        match uploads.assemble(&whole, &parts, &mut way) {
            // A part was removed meanwhile.
            Err(error) if is_kind(&error, ProblemKind::Conflict) => way.endure(wire, error)?,
            other => return other.map(|()| Uploaded { sent: way.sent, total }),
        }
    }
}

/// How many failures an upload of so many bytes puts up with.
fn failures(wire: &Wire, total: u64) -> u32 {
    wire.pace.retries.saturating_add(u32::try_from(total / BYTES_FOR_A_FAILURE).unwrap_or(u32::MAX))
}

fn is_kind(error: &Error, kind: ProblemKind) -> bool {
    error.problem() == Some(kind)
}

/// How far it is, and how much more can go wrong.
struct Way<'a> {
    left: u32,
    /// Since something went right.
    failed: u32,
    sent: u64,
    /// Bytes of parts that are complete.
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Way<'_> {
    /// Waits after something that may pass; gives up where too much went wrong already.
    fn endure(&mut self, wire: &Wire, error: Error) -> Result<(), Error> {
        if self.left == 0 {
            return Err(error);
        }
        self.left -= 1;
        self.failed += 1;
        wire.pace.wait(self.failed);
        Ok(())
    }

    fn tell(&mut self, received: u64) {
        (self.progress)(self.done + received, self.total);
    }
}

/// The uploads of one project, and the package.
struct Uploads<'a> {
    wire: &'a Wire,
    project: Uuid,
    path: &'a Path,
    file: File,
}

impl Uploads<'_> {
    /// Digests of the parts between `cuts`; the whole has to be what the caller says it is.
    fn parts(&self, cuts: &[u64], whole: &Part) -> Result<Vec<Part>, Error> {
        let refuse = |reason: String| Err(Error::Upload { path: self.path.to_owned(), reason });
        let ends = cuts.iter().skip(1).chain([&whole.size]);
        let in_order = cuts.first() == Some(&0) && cuts.iter().zip(ends.clone()).all(|(cut, end)| cut < end);
        if !in_order || cuts.len() > MOST_PARTS {
            return refuse(format!(
                "expected 1 to {MOST_PARTS} cuts of its {} bytes in rising order, the first at 0, found {cuts:?}",
                whole.size
            ));
        }
        let mut parts = Vec::new();
        let mut all = Sha256::new();
        let mut buffer = vec![0; 128 * 1024];
        for (&offset, &end) in cuts.iter().zip(ends) {
            let mut hash = Sha256::new();
            let mut at = offset;
            while at < end {
                let wanted = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
                self.read(&mut buffer[..wanted], at)?;
                hash.update(&buffer[..wanted]);
                all.update(&buffer[..wanted]);
                at += wanted as u64;
            }
            parts.push(Part { sha256: hash.finalize().into(), size: end - offset, offset });
        }
        let found: [u8; 32] = all.finalize().into();
        if found != whole.sha256 {
            let (expected, found) = (hex::encode(whole.sha256), hex::encode(found));
            return refuse(format!("expected the package with the SHA-256 {expected}, found {found}"));
        }
        Ok(parts)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|source| Error::file("read", self.path, source))
    }

    /// Sees to it that the project has the part.
    fn send(&self, part: &Part, way: &mut Way<'_>) -> Result<(), Error> {
        let mut known = None;
        loop {
            let upload = match known.take() {
                Some(upload) => upload,
                None => match self.announce(part) {
                    Err(error) if is_passing(&error) => {
                        way.endure(self.wire, error)?;
                        continue;
                    }
                    other => other?,
                },
            };
            way.tell(upload.received);
            if upload.complete {
                return Ok(());
            }
            // All is there, and was not counted: an empty piece has it counted, or nothing will.
            if upload.received == part.size {
                way.endure(
                    self.wire,
                    self.wire.odd("a complete upload", "one that has all bytes and is not"),
                )?;
            }
            match self.append(part, upload.received) {
                Ok(next) => {
                    way.failed = 0;
                    way.sent += next.received - upload.received;
                    known = Some(next);
                }
                // Another piece may still be on its way in, or be taken in already; or all of it was removed.
                Err(error)
                    if is_passing(&error)
                        || is_kind(&error, ProblemKind::Conflict)
                        || is_kind(&error, ProblemKind::NotFound) =>
                {
                    way.endure(self.wire, error)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends the next piece.
    fn append(&self, part: &Part, offset: u64) -> Result<Upload, Error> {
        let length = PIECE.min(part.size - offset);
        let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
        self.read(&mut piece, part.offset + offset)?;
        let mut ask = Ask::new(Method::PATCH, "take in the upload", self.place(part));
        ask.body = Some((MEDIA_TYPE, &piece));
        ask.again = false;
        let ask = ask.header("upload-offset", offset).within(PATIENCE);
        let upload = self.checked(part, self.wire.json(&ask)?)?;
        if upload.received != offset + length {
            let found = format!("{}", upload.received);
            return Err(self.wire.odd(format!("{} bytes received", offset + length), found));
        }
        Ok(upload)
    }

    fn announce(&self, part: &Part) -> Result<Upload, Error> {
        #[derive(Serialize)]
        struct NewUpload {
            size: u64,
        }
        let body = json(&NewUpload { size: part.size });
        let ask = Ask::new(Method::PUT, "take the upload", self.place(part)).json(&body);
        self.checked(part, self.wire.json(&ask)?)
    }

    /// What there is of it.
    fn find(&self, part: &Part) -> Result<Option<Upload>, Error> {
        match self.wire.json(&Ask::get("show the upload", self.place(part))) {
            Ok(upload) => self.checked(part, upload).map(Some),
            Err(error) if is_kind(&error, ProblemKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the whole made of its parts.
    fn assemble(&self, whole: &Part, parts: &[Part], way: &mut Way<'_>) -> Result<(), Error> {
        #[derive(Serialize)]
        struct Assembly<'a> {
            parts: &'a [Part],
        }
        let body = json(&Assembly { parts });
        loop {
            let place = format!("{}/assemble", self.place(whole));
            let mut ask =
                Ask::new(Method::POST, "put the parts together", place).json(&body).within(PATIENCE);
            ask.again = false;
            let failure = match self.wire.json(&ask).and_then(|upload| self.checked(whole, upload)) {
                Ok(upload) if upload.complete => return Ok(()),
                Ok(_) => self.wire.odd("a complete upload", "one that is not"),
                Err(error) if is_passing(&error) => error,
                Err(error) => return Err(error),
            };
            way.endure(self.wire, failure)?;
            // It may have been done although its answer was lost.
            if self.find(whole).ok().flatten().is_some_and(|found| found.complete) {
                return Ok(());
            }
        }
    }

    fn place(&self, part: &Part) -> String {
        format!("/v1/projects/{}/uploads/{}", self.project, hex::encode(part.sha256))
    }

    /// Whether it is about this part, and possible.
    fn checked(&self, part: &Part, upload: Upload) -> Result<Upload, Error> {
        let possible = upload.sha256 == part.sha256
            && upload.size == part.size
            && upload.received <= part.size
            && (!upload.complete || upload.received == part.size);
        if possible {
            return Ok(upload);
        }
        let words = |sha256: [u8; 32], size| format!("the upload {} of {size} bytes", hex::encode(sha256));
        let found = format!("{} with {} received", words(upload.sha256, upload.size), upload.received);
        Err(self.wire.odd(words(part.sha256, part.size), found))
    }
}

/// Whether it may go better a little later.
fn is_passing(error: &Error) -> bool {
    let kinds = [ProblemKind::Failed, ProblemKind::TooOften];
    error.is_passing() || error.problem().is_some_and(|kind| kinds.contains(&kind))
}
