//! What handlers take from a request: who asks, and what. Everything here is hostile until it came through.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Query, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use http::{HeaderMap, header};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::api::Shared;
use crate::api::problem::{Problem, Result};
use crate::bearer::{Secret, sha256};
use crate::store::{After, micros};

/// The longest JSON body, in bytes: a thousand parts of an upload fit in.
pub const BODY_LIMIT: usize = 128 * 1024;

/// How long a JSON body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(20);

/// The longest idempotency key, in bytes.
const KEY_LIMIT: usize = 255;

/// Who asks: the bearer of a token that holds, within its rate.
pub struct Caller {
    /// The user.
    pub user_id: Uuid,
    /// The token.
    pub token_id: Uuid,
    /// Whether the user is an operator.
    pub is_operator: bool,
    /// For answers that only this bearer shall read again.
    pub(crate) answer_key: Zeroizing<[u8; 32]>,
}

impl Caller {
    /// Refuses all but operators.
    pub fn require_operator(&self) -> Result<()> {
        if self.is_operator {
            return Ok(());
        }
        Err(Problem::forbidden("expected an operator's token; this one is a user's"))
    }
}

impl FromRequestParts<Arc<Shared>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Caller> {
        let peer = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| router::network(address.ip()));
        let now = Instant::now();
        // Who guesses tokens is slowed down before it is looked whether one holds.
        shared.strangers.look(peer, now).map_err(wait)?;
        let found = match secret(&parts.headers) {
            None => None,
            Some(secret) => {
                let bearer = shared.store.bearer(&secret.sha256(), Timestamp::now()).await?;
                bearer.map(|bearer| (bearer, secret.answer_key()))
            }
        };
        let Some((bearer, answer_key)) = found else {
            shared.strangers.take(peer, now).map_err(wait)?;
            return Err(Problem::unauthorized());
        };
        shared.callers.take(bearer.user_id, now).map_err(wait)?;
        tracing::Span::current().record("user", tracing::field::display(bearer.user_id));
        Ok(Caller {
            user_id: bearer.user_id,
            token_id: bearer.token_id,
            is_operator: bearer.is_operator,
            answer_key,
        })
    }
}

fn wait(time: Duration) -> Problem {
    Problem::too_many(time.as_secs().saturating_add(1))
}

fn secret(headers: &HeaderMap) -> Option<Secret> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::parse(token.trim()))?
}

/// A JSON body, with the digest of the request it is the body of.
pub struct Asked<T> {
    /// What was asked for.
    pub value: T,
    /// SHA-256 of method, address and body.
    pub digest: String,
}

impl<T: DeserializeOwned> FromRequest<Arc<Shared>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Asked<T>> {
        if !is_json(request.headers()) {
            return Err(Problem::media_type("application/json"));
        }
        let head = format!("{} {}\n", request.method(), request.uri().path());
        let body = tokio::time::timeout(BODY_TIME, Bytes::from_request(request, shared))
            .await
            .map_err(|_| Problem::too_slow())??;
        let digest = sha256(&[head.as_bytes(), &body].concat());
        let value: serde_json::Value = serde_json::from_slice(&body)
            .map_err(|error| Problem::malformed(format!("expected JSON: {error}")))?;
        // Serde would take a list for an object, by position.
        if !value.is_object() {
            return Err(Problem::invalid("expected a JSON object"));
        }
        // From the text, not from the value, which has forgotten what was given twice.
        let value = serde_json::from_slice(&body).map_err(|error| Problem::invalid(error.to_string()))?;
        Ok(Asked { value, digest })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The parts of the address; what does not parse is the address of nothing.
pub struct At<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<Shared>> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<At<T>> {
        let Path(value) = Path::from_request_parts(parts, shared).await?;
        Ok(At(value))
    }
}

/// The query.
pub struct Asking<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Shared>> for Asking<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Asking<T>> {
        let Query(value) = Query::from_request_parts(parts, shared).await?;
        Ok(Asking(value))
    }
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// How many at most.
    #[param(minimum = 1, maximum = 100, default = json!(50), required = false, value_type = u32)]
    #[serde(default)]
    pub(crate) limit: Limit,
    /// Where to go on: `next` of the page before.
    #[param(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_-]+$", required = false, value_type = String)]
    pub(crate) cursor: Option<Cursor>,
}

/// How many at most: 1 to 100.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "u32")]
pub struct Limit(pub(crate) u32);

impl Default for Limit {
    fn default() -> Limit {
        Limit(50)
    }
}

impl TryFrom<u32> for Limit {
    type Error = &'static str;

    fn try_from(limit: u32) -> std::result::Result<Limit, &'static str> {
        if (1..=100).contains(&limit) { Ok(Limit(limit)) } else { Err("expected a limit from 1 to 100") }
    }
}

/// Where a page begins: opaque to clients, base64url of an instant and an identifier.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Cursor(String);

impl TryFrom<String> for Cursor {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Cursor, &'static str> {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if plain && (1..=128).contains(&text.len()) {
            return Ok(Cursor(text));
        }
        Err("expected 1 to 128 characters of base64url")
    }
}

impl Cursor {
    fn place(&self) -> Option<After> {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(&self.0).ok()?).ok()?;
        let (at, id) = plain.split_once(' ')?;
        let known = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        known.then_some(After { at: at.parse().ok()?, id: id.to_owned() })
    }
}

impl Page {
    /// Where the page begins; refuses a cursor that no earlier page gave.
    pub(crate) fn after(&self) -> Result<After> {
        let Some(cursor) = &self.cursor else { return Ok(After::nothing()) };
        cursor.place().ok_or_else(|| Problem::invalid("cursor: expected one that an earlier page gave"))
    }

    /// One more than is shown: whether there is a next page.
    pub(crate) fn fetch(&self) -> u32 {
        self.limit.0 + 1
    }

    /// Makes the page of what was fetched.
    pub(crate) fn of<R, T: ToSchema>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> (Timestamp, String),
        show: impl Fn(R) -> T,
    ) -> Listed<T> {
        let limit = self.limit.0 as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| {
            let (at, id) = key(row);
            URL_SAFE_NO_PAD.encode(format!("{} {id}", micros(at)))
        });
        Listed { items: rows.into_iter().map(show).collect(), next }
    }
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Listed<T: ToSchema> {
    /// What there is, oldest first.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last one.
    #[schema(required = true)]
    pub next: Option<String>,
}

/// The header `Idempotency-Key`, where there is one.
pub struct IdempotencyKey(pub(crate) Option<String>);

impl FromRequestParts<Arc<Shared>> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<IdempotencyKey> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(IdempotencyKey(None)) };
        let bytes = value.as_bytes();
        let good = (1..=KEY_LIMIT).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        if !good || values.next().is_some() {
            return Err(Problem::malformed(
                "expected one Idempotency-Key of 1 to 255 visible ASCII characters",
            ));
        }
        Ok(IdempotencyKey(value.to_str().ok().map(str::to_owned)))
    }
}

/// Names in the database's sense of unique, for programs and people: `a-z 0-9 - _ .`, first a letter or digit, at
/// most 63.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 63, pattern = "^[a-z0-9][a-z0-9._-]*$", example = "my-app")]
pub struct Name(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Name, &'static str> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let first = text.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if first && text.len() <= 63 && text.chars().all(allowed) {
            return Ok(Name(text));
        }
        Err("expected a name: a-z, 0-9, '.', '_' and '-', a letter or digit first, at most 63")
    }
}

/// SHA-256: 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 64, max_length = 64, pattern = "^[0-9a-f]{64}$")]
pub struct Digest(String);

impl Digest {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Digest, &'static str> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Digest(text)) } else { Err("expected 64 lower-case hexadecimal digits") }
    }
}
