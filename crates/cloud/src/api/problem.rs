//! What a client is told when something is not done: `application/problem+json`, RFC 9457.
//!
//! The same for a thing that does not exist and for one that is another's: byte for byte.

use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::Error;

/// The media type.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Why something was not done.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is, for programs: `urn:mse:problem:` and a word.
    #[serde(rename = "type")]
    kind: String,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was expected, what was found.
    detail: String,
    #[serde(skip)]
    extra: Option<Box<(header::HeaderName, HeaderValue)>>,
}

/// Results of the API's handlers.
pub type Result<T> = std::result::Result<T, Problem>;

impl Problem {
    fn new(status: StatusCode, word: &str, title: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:mse:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            extra: None,
        }
    }

    /// 400: the request cannot be read.
    pub fn malformed(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "malformed", "The request cannot be read", detail)
    }

    /// 401: no token, or none that holds.
    pub fn unauthorized() -> Problem {
        let mut problem = Problem::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "A valid token is needed",
            "expected the header Authorization: Bearer with a token that exists and has not ended",
        );
        problem.extra = Some(Box::new((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))));
        problem
    }

    /// 403: something that only operators, or only owners, may do.
    pub fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail)
    }

    /// 404: no such thing, or another's.
    pub fn not_found() -> Problem {
        Problem::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such thing",
            "expected the address of something that exists and that this token may see",
        )
    }

    /// 405: the address is right, the method is not.
    pub fn method() -> Problem {
        let detail = "expected one of the methods in the header Allow";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method", "The method is not allowed here", detail)
    }

    /// 408: the request takes too long to arrive.
    pub fn too_slow() -> Problem {
        let detail = "expected the body of the request to arrive in time";
        Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", "The request took too long", detail)
    }

    /// 409: what exists stands in the way.
    pub fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, "conflict", "What exists stands in the way", detail)
    }

    /// 413: too large.
    pub fn too_large(limit: u64) -> Problem {
        let detail = format!("expected a body of at most {limit} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large", detail)
    }

    /// 415: not the media type that is needed.
    pub fn media_type(expected: &str) -> Problem {
        let detail = format!("expected the header Content-Type: {expected}");
        Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The media type is another", detail)
    }

    /// 422: readable, and not possible.
    pub fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The request is not possible", detail)
    }

    /// 422: more than the project or the user may have.
    pub fn quota(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "quota", "The quota is used up", detail)
    }

    /// 429: too often.
    pub fn too_many(seconds: u64) -> Problem {
        let detail = "expected fewer requests; the header Retry-After says when the next one may come";
        let mut problem =
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests", detail);
        problem.extra = Some(Box::new((header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))));
        problem
    }

    /// 500: the backend's own fault, of an unknown kind.
    pub fn panicked() -> Problem {
        let detail = "the backend could not do it; its operator finds the reason in the log";
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The backend failed", detail)
    }

    /// 500: the backend's own fault. What it was stays in the operator's log.
    pub fn internal(error: &Error) -> Problem {
        tracing::error!(%error, "a request failed");
        Problem::panicked()
    }

    /// 503: not now.
    pub fn unavailable() -> Problem {
        let detail = "expected a backend that is ready; try again later";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not ready", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if let Some((name, value)) = self.extra.map(|extra| *extra) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        Problem::internal(&error)
    }
}

/// An address whose parts are no identifiers is that of nothing.
impl From<PathRejection> for Problem {
    fn from(_: PathRejection) -> Problem {
        Problem::not_found()
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Problem {
        Problem::malformed(rejection.body_text())
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Problem {
        match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(super::extract::BODY_LIMIT as u64),
            _ => Problem::malformed("expected a whole body; the connection ended before it"),
        }
    }
}
