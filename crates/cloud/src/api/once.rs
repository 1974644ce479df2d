//! Creation at most once: with the header `Idempotency-Key`, the same request asked again gets the same answer, and
//! another request with the same key is refused.
//!
//! The answer is kept in the transaction that did the work, so that there is never one without the other. It may
//! hold a token in clear; so it is kept encrypted (AES-256-GCM) under a key made of the bearer token that asked,
//! which the database does not have. A key belongs to the token it came with, and is forgotten after a day.

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use ring::aead;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::api::Shared;
use crate::api::extract::{Caller, IdempotencyKey};
use crate::api::problem::{Problem, Result};
use crate::bearer::sha256;
use crate::error::Error;
use crate::store::Work;

/// How long a key is known.
pub const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);

/// What was created: the answer, and where it is.
#[derive(Serialize, Deserialize)]
pub(crate) struct Created {
    location: String,
    body: serde_json::Value,
}

impl Created {
    pub(crate) fn new(location: String, body: &impl Serialize) -> Created {
        Created { location, body: serde_json::to_value(body).unwrap_or_default() }
    }
}

impl IntoResponse for Created {
    fn into_response(self) -> Response {
        let headers = [(header::LOCATION, self.location), (header::CACHE_CONTROL, "no-store".to_owned())];
        (StatusCode::CREATED, headers, axum::Json(self.body)).into_response()
    }
}

/// One creation in progress.
pub(crate) struct Once<'a> {
    pub(crate) work: Work,
    caller: &'a Caller,
    key: Option<(String, &'a str)>,
}

/// What became of it.
pub(crate) enum Begun<'a> {
    /// It is to be done.
    Now(Once<'a>),
    /// It was done before.
    Before(Created),
}

impl<'a> Once<'a> {
    pub(crate) async fn begin(
        shared: &Shared,
        caller: &'a Caller,
        key: &IdempotencyKey,
        digest: &'a str,
        now: Timestamp,
    ) -> Result<Begun<'a>> {
        let mut work = shared.store.begin().await?;
        let Some(key) = &key.0 else { return Ok(Begun::Now(Once { work, caller, key: None })) };
        let key = sha256(key.as_bytes());
        match work.take_key(caller.token_id, &key, digest, now).await? {
            None => Ok(Begun::Now(Once { work, caller, key: Some((key, digest)) })),
            Some(found) if found.request_sha256 == digest => {
                let created = open(caller, &key, digest, &found.answer).ok_or(Error::Row {
                    what: "answer",
                    expected: "one that this token's bearer can read",
                    found: "another".to_owned(),
                })?;
                Ok(Begun::Before(created))
            }
            Some(_) => Err(Problem::invalid(
                "this Idempotency-Key came with another request before; expected a fresh one",
            )),
        }
    }

    /// Makes all of it so, and answers.
    pub(crate) async fn finish(mut self, created: Created) -> Result<Response> {
        if let Some((key, digest)) = &self.key {
            let answer = seal(self.caller, key, digest, &created)?;
            self.work.keep_answer(self.caller.token_id, key, &answer).await?;
        }
        self.work.commit().await?;
        Ok(created.into_response())
    }
}

fn cipher(caller: &Caller) -> Option<aead::LessSafeKey> {
    aead::UnboundKey::new(&aead::AES_256_GCM, caller.answer_key.as_ref()).ok().map(aead::LessSafeKey::new)
}

fn context(key: &str, digest: &str) -> aead::Aad<Vec<u8>> {
    aead::Aad::from(format!("{key} {digest}").into_bytes())
}

fn seal(caller: &Caller, key: &str, digest: &str, created: &Created) -> std::result::Result<String, Error> {
    let mut nonce = [0; aead::NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| Error::Random)?;
    let mut text = serde_json::to_vec(created).unwrap_or_default();
    cipher(caller)
        .and_then(|cipher| {
            let nonce = aead::Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, context(key, digest), &mut text).ok()
        })
        .ok_or(Error::Random)?;
    Ok(STANDARD.encode([nonce.as_slice(), &text].concat()))
}

fn open(caller: &Caller, key: &str, digest: &str, answer: &str) -> Option<Created> {
    let mut bytes = STANDARD.decode(answer).ok()?;
    let (nonce, text) = bytes.split_at_mut_checked(aead::NONCE_LEN)?;
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).ok()?;
    let plain = cipher(caller)?.open_in_place(nonce, context(key, digest), text).ok()?;
    serde_json::from_slice(plain).ok()
}
