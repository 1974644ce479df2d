//! What the configuration server answers to each request: `docs/reference/protocol.md`.

use std::convert::Infallible;

use http::header::{CONNECTION, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};

use super::connections::Ticket;
use super::{Phase, Shared, advance, body};
use crate::Refusal;
use crate::evidence::{self, Answer};

const STATUS_HEADER: HeaderName = HeaderName::from_static("mse-status");
const WAITING: HeaderValue = HeaderValue::from_static("Waiting");
const STARTING: HeaderValue = HeaderValue::from_static("Starting");

pub(super) async fn answer(
    shared: &Shared,
    ticket: &Ticket,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    ticket.set_asked();
    let limit = shared.limits.header_bytes;
    let answer = match (request.method(), request.uri().path()) {
        // The reader's own limit is on its buffer, which grows by more than a byte at a time.
        _ if head_size(&request) > limit => Answer::refused(&Refusal::HeadTooLarge { limit }),
        (&Method::GET | &Method::HEAD, "/") => welcome(shared),
        (&Method::POST, "/") => configure(shared, ticket, request.into_body()).await,
        (_, "/") => Answer::refused(&Refusal::Method("GET, POST")),
        (_, evidence::PATH) => quote(shared, ticket, &request).await,
        _ => Answer::refused(&Refusal::NotFound),
    };
    Ok(respond(shared, ticket, answer))
}

/// The bytes of the request line and the header fields, their separators and the empty line included.
fn head_size(request: &Request<Incoming>) -> usize {
    let uri = request.uri();
    let target = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len())
        + uri.authority().map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(1, |path| path.as_str().len());
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n".len();
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    line + fields.sum::<usize>() + "\r\n".len()
}

fn welcome(shared: &Shared) -> Answer {
    if *shared.phase.borrow() > Phase::Waiting {
        return Answer::refused(&Refusal::Starting);
    }
    Answer {
        status: 200,
        headers: vec![("Content-Type", "text/plain")],
        body: "Waiting for configuration\n".into(),
    }
}

async fn configure(shared: &Shared, ticket: &Ticket, body: Incoming) -> Answer {
    let body = match body::receive(shared, body).await {
        Ok(body) => body,
        Err(refusal) => return Answer::refused(&refusal),
    };
    let _at_work = ticket.at_work();
    let node = shared.node.clone();
    let judged = tokio::task::spawn_blocking(move || node.configure(&body.bytes)).await;
    match judged.unwrap_or(Err(Refusal::Internal)) {
        Ok(()) => {
            ticket.set_configured();
            advance(&shared.phase, Phase::Accepted);
            let headers = vec![("Content-Type", "text/plain")];
            Answer { status: 200, headers, body: "The configuration is accepted\n".into() }
        }
        Err(refusal) => Answer::refused(&refusal),
    }
}

async fn quote(shared: &Shared, ticket: &Ticket, request: &Request<Incoming>) -> Answer {
    let _at_work = ticket.at_work();
    let (node, method) = (shared.node.clone(), request.method().clone());
    let query = request.uri().query().unwrap_or_default().to_owned();
    let answer = tokio::task::spawn_blocking(move || node.answer_evidence(method.as_str(), &query)).await;
    answer.unwrap_or_else(|_| Answer::refused(&Refusal::Internal))
}

fn respond(shared: &Shared, ticket: &Ticket, answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let waiting = *shared.phase.borrow() == Phase::Waiting;
    headers.insert(STATUS_HEADER, if waiting { WAITING } else { STARTING });
    // A body that was refused may not have been read to its end, so the connection cannot go on either.
    if !waiting || ticket.has_configured() || matches!(answer.status, 408 | 413 | 431 | 503) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
