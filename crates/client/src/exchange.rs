//! One HTTP/1.1 request to a node and its answer, with a limit to its length and its time (RFC 9112).
//!
//! The functions of this crate block: they drive their input and output on a runtime of their own, and must
//! not be called from inside another one.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

use crate::channel::{Channel, Peer};
use crate::error::Error;

/// A complete answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) peer: Peer,
}

/// What to ask, and how much to put up with.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Content type and bytes.
    pub(crate) body: Option<(&'static str, Bytes)>,
    /// What is waited for, as a verb, for the error message.
    pub(crate) what: &'static str,
    /// Time for everything together.
    pub(crate) limit: Duration,
    /// Bytes of the answer's body; without it the body is not read at all.
    pub(crate) longest: Option<usize>,
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::System { what: "a runtime", reason: error.to_string() })?.block_on(future)
}

/// Asks over a connection made for it.
pub(crate) fn ask(channel: &Channel, question: Question<'_>) -> Result<Answer, Error> {
    let (what, limit) = (question.what, question.limit);
    block_on(async {
        tokio::time::timeout(limit, ask_unhurried(channel, question))
            .await
            .unwrap_or_else(|_| Err(Error::TooSlow { target: channel.target().to_string(), what, limit }))
    })
}

async fn ask_unhurried(channel: &Channel, question: Question<'_>) -> Result<Answer, Error> {
    let broken = |reason: String| Error::Conversation { target: channel.target().to_string(), reason };
    let request = request(channel, &question).map_err(|error| broken(error.to_string()))?;
    let (stream, peer) = channel.connect().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
    let (head, body) = answer.into_parts();
    let body = match question.longest {
        None => Vec::new(),
        Some(limit) => Limited::new(body, limit)
            .collect()
            .await
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => Error::AnswerTooLong { target: channel.target().to_string(), limit },
                false => broken(error.to_string()),
            })?
            .to_bytes()
            .to_vec(),
    };
    connection.abort();
    Ok(Answer { status: head.status, headers: head.headers, body, peer })
}

fn request(channel: &Channel, question: &Question<'_>) -> http::Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(question.method.clone())
        .uri(question.path)
        .header(header::HOST, channel.target().authority())
        .header(header::USER_AGENT, concat!("mse/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    let body = match &question.body {
        Some((content_type, bytes)) => {
            request = request.header(header::CONTENT_TYPE, *content_type);
            bytes.clone()
        }
        None => Bytes::new(),
    };
    request.body(Full::new(body))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Response;

    use super::*;
    use crate::testing::{Identity, Server, ok};

    fn question(limit: Duration, longest: usize) -> Question<'static> {
        Question {
            method: Method::GET,
            path: "/x?y",
            body: None,
            what: "answer",
            limit,
            longest: Some(longest),
        }
    }

    #[test]
    fn name_and_path_arrive_and_the_answer_comes_back() {
        let identity = Identity::generate();
        let server = Server::start(&identity, async |request| {
            ok(format!("{:?} {}", request.headers().get("host").unwrap(), request.uri()))
        });
        let channel = Channel::attested(&identity.record(), &server.target());
        let answer = ask(&channel, question(Duration::from_secs(20), 100)).unwrap();
        let expected = format!("\"myapp.fr:{}\" /x?y", server.target().port());
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    }

    #[test]
    fn a_long_answer_is_cut_short() {
        let identity = Identity::generate();
        let server = Server::start(&identity, async |_| ok(vec![0; 101]));
        let channel = Channel::attested(&identity.record(), &server.target());
        let error = ask(&channel, question(Duration::from_secs(20), 100)).err().unwrap();
        assert!(matches!(error, Error::AnswerTooLong { limit: 100, .. }), "{error}");
        ask(&channel, question(Duration::from_secs(20), 101)).unwrap();
    }

    #[test]
    fn a_silent_peer_is_not_waited_for_without_end() {
        let identity = Identity::generate();
        let server = Server::start(&identity, async |_| std::future::pending::<Response<_>>().await);
        let channel = Channel::attested(&identity.record(), &server.target());
        let error = ask(&channel, question(Duration::from_millis(200), 100)).err().unwrap();
        assert!(matches!(error, Error::TooSlow { .. }), "{error}");
    }
}
