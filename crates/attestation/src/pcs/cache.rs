//! The cache of answers: one JSON file for each address, in a directory of the caller's.
//!
//! Files hold what the server sent, so a kept answer goes through the same reader as a fresh one, and is trusted as
//! little. A cache that cannot be read or written costs a request and nothing else, so neither is an error. Files
//! are written beside their place and renamed, so that a reader never sees half of one.

use super::answer::{Answer, Part};
use super::{Document, MAX_ANSWER_BYTES};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use url::Url;

const VERSION: u32 = 1;

#[derive(Clone, Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// A kept answer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The present time when it was fetched.
    pub(super) fetched_at: Timestamp,
    /// What it says.
    pub(super) part: Part,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    url: String,
    fetched_at: Timestamp,
    /// Base64.
    chain: String,
    /// Base64.
    body: String,
}

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The kept answer for this address, if there is one that can be read.
    pub(super) fn load(&self, document: Document, url: &Url) -> Option<Entry> {
        let file = std::fs::File::open(self.place(url)).ok()?;
        let mut json = Vec::new();
        // Base64 makes 4 bytes of 3; chain and names are small beside the body.
        file.take(2 * MAX_ANSWER_BYTES as u64).read_to_end(&mut json).ok()?;
        let file: File = serde_json::from_slice(&json).ok()?;
        if file.version != VERSION || file.url != url.as_str() {
            return None;
        }
        let answer =
            Answer { body: STANDARD.decode(file.body).ok()?, chain: STANDARD.decode(file.chain).ok()? };
        Some(Entry { fetched_at: file.fetched_at, part: answer.read(document).ok()? })
    }

    /// Keeps an answer.
    pub(super) fn store(&self, url: &Url, answer: &Answer, at: Timestamp) {
        let file = File {
            version: VERSION,
            url: url.to_string(),
            fetched_at: at,
            chain: STANDARD.encode(&answer.chain),
            body: STANDARD.encode(&answer.body),
        };
        if let Ok(json) = serde_json::to_vec(&file) {
            // What is not kept is fetched again: nobody needs to know.
            let _ = write_whole(&self.directory, &self.place(url), &json);
        }
    }

    fn place(&self, url: &Url) -> PathBuf {
        self.directory.join(format!("{}.json", hex::encode(Sha256::digest(url.as_str()))))
    }
}

fn write_whole(directory: &Path, place: &Path, content: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.persist(place)?;
    Ok(())
}
