//! `/v1/me`, `/v1/users`, `/v1/tokens`: who may call.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::Shared;
use crate::api::extract::{Asked, Asking, At, Caller, IdempotencyKey, Listed, Name, Page};
use crate::api::once::{Begun, Created, Once};
use crate::api::problem::{Problem, Result};
use crate::bearer::Secret;
use crate::store;

/// Tokens a user may have at once.
const TOKENS: u32 = 100;

/// Somebody who may call this API.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    id: Uuid,
    #[schema(value_type = Name)]
    name: String,
    /// Whether it is of those who run the backend.
    is_operator: bool,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Since when it may do nothing; null for one that may.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
}

impl From<store::User> for User {
    fn from(user: store::User) -> User {
        User {
            id: user.id,
            name: user.name,
            is_operator: user.is_operator,
            created_at: user.created_at,
            disabled_at: user.disabled_at,
        }
    }
}

/// What makes a user.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    name: Name,
    /// Whether it shall be of those who run the backend.
    #[serde(default)]
    is_operator: bool,
}

/// A bearer token, without the token itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    id: Uuid,
    user_id: Uuid,
    #[schema(value_type = Name)]
    name: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends; null for one that does not.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
}

impl From<store::Token> for Token {
    fn from(token: store::Token) -> Token {
        Token {
            id: token.id,
            user_id: token.user_id,
            name: token.name,
            created_at: token.created_at,
            expires_at: token.expires_at,
        }
    }
}

/// A bearer token with the token itself: shown here, and never again.
#[derive(Debug, Serialize, ToSchema)]
pub struct ShownToken {
    #[serde(flatten)]
    about: Token,
    /// The token. Keep it: the backend does not.
    #[schema(pattern = "^mse_[A-Za-z0-9_-]{43}$")]
    token: String,
}

/// What makes a token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    name: Name,
    /// Days until it ends; absent for one that does not.
    #[schema(minimum = 1, maximum = 3650)]
    days: Option<u32>,
}

/// Who the caller is.
#[utoipa::path(get, path = "/v1/me", tag = "users", responses((status = 200, body = User)))]
pub async fn me(caller: Caller, State(shared): State<Arc<Shared>>) -> Result<Json<User>> {
    let user = shared.store.user(caller.user_id).await?;
    Ok(Json(user.ok_or_else(Problem::unauthorized)?.into()))
}

/// Makes a user. Operators only.
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = NewUser,
    responses((status = 201, body = User)))]
pub async fn create_user(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    key: IdempotencyKey,
    asked: Asked<NewUser>,
) -> Result<Response> {
    caller.require_operator()?;
    let now = store::now();
    let mut once = match Once::begin(&shared, &caller, &key, &asked.digest, now).await? {
        Begun::Before(created) => return Ok(created.into_response()),
        Begun::Now(once) => once,
    };
    let user = store::User {
        id: Uuid::new_v4(),
        name: asked.value.name.as_str().to_owned(),
        is_operator: asked.value.is_operator,
        created_at: now,
        disabled_at: None,
    };
    if !once.work.add_user(&user).await? {
        return Err(Problem::conflict(format!("there is a user named '{}'", user.name)));
    }
    let what = if user.is_operator { "an operator" } else { "a user" };
    once.work.note(now, Some(caller.user_id), None, "user.create", &user.id.to_string(), what).await?;
    let location = format!("/v1/users/{}", user.id);
    once.finish(Created::new(location, &User::from(user))).await
}

/// All users. Operators only.
#[utoipa::path(get, path = "/v1/users", tag = "users", params(Page),
    responses((status = 200, body = Listed<User>)))]
pub async fn list_users(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<User>>> {
    caller.require_operator()?;
    let users = shared.store.users(&page.after()?, page.fetch()).await?;
    Ok(Json(page.of(users, |user| (user.created_at, user.id.to_string()), User::from)))
}

/// One user: oneself, or any for an operator.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "users", params(("user" = Uuid, Path)),
    responses((status = 200, body = User)))]
pub async fn get_user(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(user): At<Uuid>,
) -> Result<Json<User>> {
    let found = shared.store.user(user).await?;
    match found.filter(|found| caller.is_operator || found.id == caller.user_id) {
        Some(user) => Ok(Json(user.into())),
        None => Err(Problem::not_found()),
    }
}

/// Disables a user and ends its tokens. What it made stays with its projects. Operators only.
#[utoipa::path(delete, path = "/v1/users/{user}", tag = "users", params(("user" = Uuid, Path)),
    responses((status = 204)))]
pub async fn disable_user(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(user): At<Uuid>,
) -> Result<StatusCode> {
    caller.require_operator()?;
    if user == caller.user_id {
        return Err(Problem::conflict("nobody disables oneself; ask another operator"));
    }
    let now = store::now();
    let mut work = shared.store.begin().await?;
    if !work.disable_user(user, now).await? {
        return Err(Problem::not_found());
    }
    work.note(now, Some(caller.user_id), None, "user.disable", &user.to_string(), "").await?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a token for a user, who has none yet perhaps. Operators only.
#[utoipa::path(post, path = "/v1/users/{user}/tokens", tag = "users", params(("user" = Uuid, Path)),
    request_body = NewToken, responses((status = 201, body = ShownToken)))]
pub async fn create_user_token(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(user): At<Uuid>,
    key: IdempotencyKey,
    asked: Asked<NewToken>,
) -> Result<Response> {
    caller.require_operator()?;
    let enabled = shared.store.user(user).await?.is_some_and(|user| user.disabled_at.is_none());
    if !enabled {
        return Err(Problem::not_found());
    }
    make_token(&shared, &caller, user, &key, &asked).await
}

/// Makes a token for the caller.
#[utoipa::path(post, path = "/v1/tokens", tag = "users", request_body = NewToken,
    responses((status = 201, body = ShownToken)))]
pub async fn create_token(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    key: IdempotencyKey,
    asked: Asked<NewToken>,
) -> Result<Response> {
    make_token(&shared, &caller, caller.user_id, &key, &asked).await
}

async fn make_token(
    shared: &Shared,
    caller: &Caller,
    user_id: Uuid,
    key: &IdempotencyKey,
    asked: &Asked<NewToken>,
) -> Result<Response> {
    let days = asked.value.days;
    if days.is_some_and(|days| !(1..=3650).contains(&days)) {
        return Err(Problem::invalid("days: expected 1 to 3650"));
    }
    let now = store::now();
    let mut once = match Once::begin(shared, caller, key, &asked.digest, now).await? {
        Begun::Before(created) => return Ok(created.into_response()),
        Begun::Now(once) => once,
    };
    let secret = Secret::generate()?;
    let token = store::Token {
        id: Uuid::new_v4(),
        user_id,
        name: asked.value.name.as_str().to_owned(),
        created_at: now,
        expires_at: days.map(|days| now + SignedDuration::from_hours(24 * i64::from(days))),
    };
    if !once.work.add_token(&token, &secret.sha256(), TOKENS).await? {
        return Err(Problem::quota(format!("expected at most {TOKENS} tokens of one user")));
    }
    let id = token.id.to_string();
    let detail = format!("for the user {user_id}");
    once.work.note(now, Some(caller.user_id), None, "token.create", &id, &detail).await?;
    let shown = ShownToken { about: token.into(), token: secret.reveal().to_owned() };
    once.finish(Created::new(format!("/v1/tokens/{id}"), &shown)).await
}

/// The caller's tokens, without the tokens themselves.
#[utoipa::path(get, path = "/v1/tokens", tag = "users", params(Page),
    responses((status = 200, body = Listed<Token>)))]
pub async fn list_tokens(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    Asking(page): Asking<Page>,
) -> Result<Json<Listed<Token>>> {
    let tokens = shared.store.tokens(caller.user_id, &page.after()?, page.fetch()).await?;
    Ok(Json(page.of(tokens, |token| (token.created_at, token.id.to_string()), Token::from)))
}

/// Ends one of the caller's tokens, at once.
#[utoipa::path(delete, path = "/v1/tokens/{token}", tag = "users", params(("token" = Uuid, Path)),
    responses((status = 204)))]
pub async fn end_token(
    caller: Caller,
    State(shared): State<Arc<Shared>>,
    At(token): At<Uuid>,
) -> Result<StatusCode> {
    let mut work = shared.store.begin().await?;
    if !work.remove_token(caller.user_id, token).await? {
        return Err(Problem::not_found());
    }
    let now = store::now();
    work.note(now, Some(caller.user_id), None, "token.end", &token.to_string(), "").await?;
    work.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
