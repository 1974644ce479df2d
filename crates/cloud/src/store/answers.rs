//! Answers already given to requests with an idempotency key. What is kept is a digest of the key, a digest of the
//! request, and the answer encrypted: see [`crate::api::once`].

use jiff::Timestamp;
use uuid::Uuid;

use crate::error::Result;
use crate::store::{Columns, Work, micros};

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// SHA-256 of the request that it came with.
    pub request_sha256: String,
    /// The answer, encrypted, in base64.
    pub answer: String,
}

impl Work {
    /// Takes a key for this transaction: `None`, or what was answered before. Another transaction with the same
    /// key waits for the end of this one.
    pub async fn take_key(
        &mut self,
        token: Uuid,
        key_sha256: &str,
        request_sha256: &str,
        now: Timestamp,
    ) -> Result<Option<Answer>> {
        let done = sqlx::query(
            "INSERT INTO answers (token_id, key_sha256, request_sha256, answer, created_at) \
             VALUES ($1, $2, $3, '', $4) ON CONFLICT (token_id, key_sha256) DO NOTHING",
        )
        .bind(token.to_string())
        .bind(key_sha256)
        .bind(request_sha256)
        .bind(micros(now))
        .execute(self.on())
        .await?;
        if done.rows_affected() == 1 {
            return Ok(None);
        }
        let row =
            sqlx::query("SELECT request_sha256, answer FROM answers WHERE token_id = $1 AND key_sha256 = $2")
                .bind(token.to_string())
                .bind(key_sha256)
                .fetch_one(self.on())
                .await?;
        Ok(Some(Answer { request_sha256: row.text("request_sha256")?, answer: row.text("answer")? }))
    }

    /// Keeps the answer to the request whose key this transaction took.
    pub async fn keep_answer(&mut self, token: Uuid, key_sha256: &str, answer: &str) -> Result<()> {
        sqlx::query("UPDATE answers SET answer = $1 WHERE token_id = $2 AND key_sha256 = $3")
            .bind(answer)
            .bind(token.to_string())
            .bind(key_sha256)
            .execute(self.on())
            .await?;
        Ok(())
    }

    /// Forgets what was answered before `before`, and tokens that ended before it.
    pub async fn forget_answers(&mut self, before: Timestamp) -> Result<()> {
        sqlx::query("DELETE FROM answers WHERE created_at < $1")
            .bind(micros(before))
            .execute(self.on())
            .await?;
        sqlx::query("DELETE FROM tokens WHERE expires_at < $1")
            .bind(micros(before))
            .execute(self.on())
            .await?;
        Ok(())
    }
}
