//! Users and their tokens.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use uuid::Uuid;

use crate::error::Result;
use crate::store::{After, Columns, Store, Work, micros};

/// Somebody who may call the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its identifier.
    pub id: Uuid,
    /// Its name, unique here.
    pub name: String,
    /// Whether it is of those who run the backend.
    pub is_operator: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it may do nothing.
    pub disabled_at: Option<Timestamp>,
}

/// A bearer token, without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its identifier.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Whom a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The token.
    pub token_id: Uuid,
    /// Its user.
    pub user_id: Uuid,
    /// Whether that is an operator.
    pub is_operator: bool,
}

fn user(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: row.id("id")?,
        name: row.text("name")?,
        is_operator: row.number("is_operator")? == 1,
        created_at: row.instant("created_at")?,
        disabled_at: row.maybe_instant("disabled_at")?,
    })
}

fn token(row: &AnyRow) -> Result<Token> {
    Ok(Token {
        id: row.id("id")?,
        user_id: row.id("user_id")?,
        name: row.text("name")?,
        created_at: row.instant("created_at")?,
        expires_at: row.maybe_instant("expires_at")?,
    })
}

impl Store {
    /// Whom the token of this digest speaks for at `now`; nobody for one that is unknown, ended, or of a disabled user.
    /// The index is over digests: how long a look takes says nothing of a token.
    pub async fn bearer(&self, sha256: &str, now: Timestamp) -> Result<Option<Bearer>> {
        let row = sqlx::query(
            "SELECT tokens.id AS token_id, users.id AS user_id, users.is_operator AS is_operator \
             FROM tokens JOIN users ON users.id = tokens.user_id \
             WHERE tokens.sha256 = $1 AND users.disabled_at IS NULL \
             AND (tokens.expires_at IS NULL OR tokens.expires_at > $2)",
        )
        .bind(sha256)
        .bind(micros(now))
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(Bearer {
                token_id: row.id("token_id")?,
                user_id: row.id("user_id")?,
                is_operator: row.number("is_operator")? == 1,
            })
        })
        .transpose()
    }

    /// How many users there are.
    pub async fn count_users(&self) -> Result<u64> {
        sqlx::query("SELECT COUNT(*) AS n FROM users").fetch_one(&self.pool).await?.natural("n")
    }

    /// One user.
    pub async fn user(&self, id: Uuid) -> Result<Option<User>> {
        let row = sqlx::query("SELECT * FROM users WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Users in the order they were made.
    pub async fn users(&self, after: &After, limit: u32) -> Result<Vec<User>> {
        let rows = sqlx::query(
            "SELECT * FROM users WHERE created_at > $1 OR (created_at = $1 AND id > $2) \
             ORDER BY created_at, id LIMIT $3",
        )
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(user).collect()
    }

    /// A user's tokens in the order they were made.
    pub async fn tokens(&self, of: Uuid, after: &After, limit: u32) -> Result<Vec<Token>> {
        let rows = sqlx::query(
            "SELECT id, user_id, name, created_at, expires_at FROM tokens WHERE user_id = $1 \
             AND (created_at > $2 OR (created_at = $2 AND id > $3)) ORDER BY created_at, id LIMIT $4",
        )
        .bind(of.to_string())
        .bind(after.at)
        .bind(&after.id)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(token).collect()
    }
}

impl Work {
    /// Adds a user; false where the name is taken.
    pub async fn add_user(&mut self, user: &User) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO users (id, name, is_operator, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(user.id.to_string())
        .bind(&user.name)
        .bind(i64::from(user.is_operator))
        .bind(micros(user.created_at))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Disables a user and removes its tokens; false where there is none that is enabled.
    pub async fn disable_user(&mut self, id: Uuid, now: Timestamp) -> Result<bool> {
        let done = sqlx::query("UPDATE users SET disabled_at = $1 WHERE id = $2 AND disabled_at IS NULL")
            .bind(micros(now))
            .bind(id.to_string())
            .execute(self.on())
            .await?;
        sqlx::query("DELETE FROM tokens WHERE user_id = $1").bind(id.to_string()).execute(self.on()).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes a user's row, so that nobody else counts what is the user's until the end of this transaction.
    pub(super) async fn take_user(&mut self, id: Uuid) -> Result<()> {
        sqlx::query("UPDATE users SET is_operator = is_operator WHERE id = $1")
            .bind(id.to_string())
            .execute(self.on())
            .await?;
        Ok(())
    }

    /// Adds a token, known by its digest; false where the user is unknown or disabled, or has `most` already.
    pub async fn add_token(&mut self, token: &Token, sha256: &str, most: u32) -> Result<bool> {
        self.take_user(token.user_id).await?;
        let row = sqlx::query("SELECT COUNT(*) AS n FROM tokens WHERE user_id = $1")
            .bind(token.user_id.to_string())
            .fetch_one(self.on())
            .await?;
        if row.natural("n")? >= u64::from(most) {
            return Ok(false);
        }
        let done = sqlx::query(
            "INSERT INTO tokens (id, user_id, name, sha256, created_at, expires_at) \
             SELECT $1, users.id, $3, $4, $5, $6 FROM users WHERE users.id = $2 AND users.disabled_at IS NULL",
        )
        .bind(token.id.to_string())
        .bind(token.user_id.to_string())
        .bind(&token.name)
        .bind(sha256)
        .bind(micros(token.created_at))
        .bind(token.expires_at.map(micros))
        .execute(self.on())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes one of a user's tokens; false where it has no such one.
    pub async fn remove_token(&mut self, of: Uuid, id: Uuid) -> Result<bool> {
        let done = sqlx::query("DELETE FROM tokens WHERE id = $1 AND user_id = $2")
            .bind(id.to_string())
            .bind(of.to_string())
            .execute(self.on())
            .await?;
        Ok(done.rows_affected() == 1)
    }
}
